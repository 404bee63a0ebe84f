package console

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// member is what a callback has under a name, as text; empty: nothing.
func (h *house) member(id int64, name string) string {
	h.t.Helper()
	var members map[string]json.RawMessage
	h.must(json.Unmarshal([]byte(h.tell("GET", fmt.Sprintf("/companies/acme/config/callbacks/%d", id), "")), &members))
	return string(members[name])
}

// beside is what a page says is wrong with a field, and what the field holds.
func (a answer) beside(t *testing.T, id string) (said, holds string) {
	t.Helper()
	for n := range elements(a.parse(t), "") {
		switch attribute(n, "id") {
		case id + "-fault":
			said = textOf(n)
		case id:
			if holds = attribute(n, "value"); n.Data == "textarea" {
				holds = strings.TrimPrefix(fieldText(n), "\n")
			}
			for option := range elements(n, "option") {
				if _, chosen := has(option, "selected"); chosen {
					holds = attribute(option, "value")
				}
			}
		}
	}
	return said, holds
}

// folded reports whether a field stands in a part of its page that is folded.
func (a answer) folded(t *testing.T, id string) bool {
	t.Helper()
	for n := range elements(a.parse(t), "") {
		if attribute(n, "id") != id {
			continue
		}
		for up := range n.Ancestors() {
			if _, open := has(up, "open"); up.Type == html.ElementNode && up.Data == "details" && !open {
				return true
			}
		}
	}
	return false
}

// Operators have the same forms, and their pages lead to nothing that only the portal has.
func TestOperatorsHaveTheForms(t *testing.T) {
	h := newHouse(t)
	v := h.showing("acme operator")
	const company = "/console/companies/acme"
	v.get(company).want(t, http.StatusOK, company+"/new")
	made := v.submit(v.get(company+"/new"), company+"/new", url.Values{"callback_type": {"payment_proof"}, "url": {h.partner + "/well"}, "ed25519": {"", yes}, "batch": {"", yes}})
	made.want(t, http.StatusOK, "is registered", "whsec_").wantSound(t)
	of := fmt.Sprintf("%s/callbacks/%d", company, 3)
	page := v.get(of).want(t, http.StatusOK, of+"/edit", of+"/secret", of+"/signing-key", "up to 100 events")
	v.submit(v.get(of+"/edit"), of+"/edit", url.Values{"batch": {""}, "ordering_key": {"/requestId"}}).want(t, http.StatusSeeOther)
	if batch, ordering := h.member(3, "batch"), h.member(3, "ordering"); batch != "" || ordering != `{"key":"/requestId"}` {
		t.Errorf("batch %s, ordering %s", batch, ordering)
	}
	rotated := v.submit(v.get(of+"/secret"), of+"/secret", nil).want(t, http.StatusOK, "has a new secret")
	v.submit(v.get(of+"/signing-key"), of+"/signing-key", nil).want(t, http.StatusSeeOther)
	for _, a := range []answer{made, page, rotated, v.get(of + "/edit")} {
		if strings.Contains(a.text, "verification") || strings.Contains(a.text, "/portal/") {
			t.Errorf("a page of the console leads to the portal: %s", a.text)
		}
	}
	viewer := h.showing("viewer")
	if page := viewer.get(of).want(t, http.StatusOK); strings.Contains(page.text, of+"/edit") {
		t.Error("a viewer is offered to edit")
	}
	viewer.submit(viewer.get(of+"/edit"), of+"/edit", url.Values{"ordering_key": {""}}).want(t, http.StatusForbidden)
}

// Every field sets what it stands for, changes it, and takes it away. The steps of a row are those of one callback's life.
func TestFormsSetChangeAndClear(t *testing.T) {
	h := newHouse(t)
	v := h.showing("partner")
	type step struct {
		fill url.Values
		want string // of the member
	}
	for _, tt := range []struct {
		member string
		field  string
		steps  []step
	}{
		{"filter", "e-filter", []step{
			{url.Values{"filter": {`{"pointer": "/status", "op": "equals", "value": "<OK & so>"}`}}, `{"pointer":"/status","op":"equals","value":"<OK & so>"}`},
			{url.Values{"filter": {`{"any": [{"pointer": "/requestId", "op": "in", "value": ["1", "2"]}]}`}}, `{"any":[{"pointer":"/requestId","op":"in","value":["1","2"]}]}`},
			{url.Values{"filter": {""}}, ""},
		}},
		{"template", "e-template", []step{
			{url.Values{"template": {`{"z": 1.0, "a": {"$pointer": "/requestId"}}`}}, `{"z":1.0,"a":{"$pointer":"/requestId"}}`},
			{url.Values{"template": {"[\r\n  1\r\n]"}}, `[1]`},
			{url.Values{"template": {""}}, ""},
		}},
		{"envelope", "e-envelope", []step{
			{url.Values{"envelope": {"cloudevents-structured"}}, `"cloudevents-structured"`},
			{url.Values{"envelope": {"cloudevents-binary"}}, `"cloudevents-binary"`},
			{url.Values{"envelope": {""}}, ""},
		}},
		{"header_style", "e-style", []step{
			{url.Values{"header_style": {"stripe"}}, `"stripe"`},
			{url.Values{"header_style": {"svix"}}, `"svix"`},
			{url.Values{"header_style": {"github"}}, `"github"`},
			{url.Values{"header_style": {""}}, ""},
		}},
		{"batch", "e-batch-events", []step{
			{url.Values{"batch": {"", yes}}, `{"max_events":100,"max_bytes":262144,"max_wait":"5s","element":"payload","results":false,"rate_limit":"requests"}`},
			{
				url.Values{"max_events": {"20"}, "max_bytes": {"4096"}, "max_wait": {"1m0s"}, "element": {"envelope"}, "batch_rate": {"events"}, "results": {"", yes}},
				`{"max_events":20,"max_bytes":4096,"max_wait":"60s","element":"envelope","results":true,"rate_limit":"events"}`,
			},
			{url.Values{"max_events": {""}, "element": {""}, "results": {""}, "batch_rate": {""}}, `{"max_events":100,"max_bytes":4096,"max_wait":"60s","element":"payload","results":false,"rate_limit":"requests"}`},
			{url.Values{"batch": {""}}, ""},
		}},
		{"ordering", "e-order-key", []step{
			{url.Values{"ordering_key": {"/requestId"}, "skip_after": {"24h"}}, `{"key":"/requestId","skip_after":"24h"}`},
			{url.Values{"ordering_key": {"/status"}, "skip_after": {""}}, `{"key":"/status"}`},
			{url.Values{"skip_after": {"90s"}}, `{"key":"/status","skip_after":"90s"}`},
			{url.Values{"ordering_key": {""}}, ""},
		}},
	} {
		id := h.register("acme", h.partner+"/well", `"description":"of a row"`)
		at := fmt.Sprintf("/portal/companies/acme/callbacks/%d/edit", id)
		if form := v.get(at); !form.folded(t, tt.field) {
			t.Errorf("%s: the form is long where nothing is set", tt.member)
		}
		for _, s := range tt.steps {
			form := v.get(at)
			v.submit(form, at, s.fill).want(t, http.StatusSeeOther)
			if got := h.member(id, tt.member); got != s.want {
				t.Errorf("%s after %v: %s, want %s", tt.member, s.fill, got, s.want)
			}
			form = v.get(at)
			if form.wantSound(t); s.want != "" && form.folded(t, tt.field) {
				t.Errorf("%s is set, and its field is folded", tt.member)
			}
			v.submit(form, at, url.Values{"description": {"of a row, after " + s.want}}).want(t, http.StatusSeeOther)
			if got := h.member(id, tt.member); got != s.want {
				t.Errorf("an edit of something else made %s of %s", got, s.want)
			}
		}
	}
}

// Signatures by keys are had and given up by three boxes.
func TestFormsOfSignatures(t *testing.T) {
	h := newHouse(t)
	v := h.by("acme", "")
	id := h.register("acme", h.partner+"/well", `"description":"signed"`)
	of := fmt.Sprintf("/portal/companies/acme/callbacks/%d", id)
	signs := func() string {
		var s struct{ HMAC, Ed25519, RFC9421 bool }
		if text := h.member(id, "signature"); text != "" {
			h.must(json.Unmarshal([]byte(text), &s))
		}
		return fmt.Sprint(s)
	}
	for _, tt := range []struct {
		fill url.Values
		want string
	}{
		{url.Values{"ed25519": {"", yes}}, "{true true false}"},
		{url.Values{"hmac": {""}, "rfc9421": {"", yes}}, "{false true true}"},
		{url.Values{"hmac": {"", yes}, "ed25519": {""}}, "{true false true}"},
		{url.Values{"description": {"still signed"}}, "{true false true}"},
	} {
		v.submit(v.get(of+"/edit"), of+"/edit", tt.fill).want(t, http.StatusSeeOther)
		if got := signs(); got != tt.want {
			t.Errorf("after %v: %s, want %s", tt.fill, got, tt.want)
		}
	}
	none := v.submit(v.get(of+"/edit"), of+"/edit", url.Values{"hmac": {""}, "rfc9421": {""}}).want(t, http.StatusUnprocessableEntity)
	if said, _ := none.beside(t, "e-hmac"); !strings.Contains(said, "requests are always signed") {
		t.Errorf("no signature at all: %q", said)
	}
	v.submit(v.get(of+"/edit"), of+"/edit", url.Values{"rfc9421": {""}}).want(t, http.StatusSeeOther)
	if got := signs(); got != "{false false false}" && got != "{true false false}" { // a key that was retired is shown for a while
		t.Errorf("keys sign that were given up: %s", got)
	}
}

// A new key is announced from the callback's page. While one is, another one is refused, with the sentence that says until when.
func TestNewKeysAreAnnounced(t *testing.T) {
	h := newHouse(t)
	v := h.by("acme", "")
	id := h.register("acme", h.partner+"/well", `"signature":{"ed25519":true}`)
	of := fmt.Sprintf("/portal/companies/acme/callbacks/%d", id)
	v.get(of).want(t, http.StatusOK, of+"/signing-key")
	if other := v.get(fmt.Sprintf("/portal/companies/acme/callbacks/%d", h.waits)); strings.Contains(other.text, "/signing-key") {
		t.Error("a callback that signs by no key is offered a new one")
	}
	ask := v.get(of+"/signing-key").want(t, http.StatusOK, "signs nothing yet")
	ask.wantSound(t)
	v.follow(v.submit(ask, of+"/signing-key", url.Values{"announce": {"6m"}, "overlap": {"1h"}})).want(t, http.StatusOK, "has a new key, which signs from", "announced")
	again := v.submit(v.get(of+"/signing-key"), of+"/signing-key", url.Values{"overlap": {"168h"}}).want(t, http.StatusUnprocessableEntity)
	again.wantSound(t)
	if said, _ := again.beside(t, "key-announce"); !strings.Contains(said, "a key is announced already") {
		t.Errorf("a second new key: %q", said)
	}
	if _, holds := again.beside(t, "key-overlap"); holds != "168h" {
		t.Errorf("what was chosen is lost: %q", holds)
	}
}

// What the registry refuses is said beside the field, what was typed is kept, and nothing is changed.
func TestFormsSayWhatIsRefused(t *testing.T) {
	h := newHouse(t)
	v := h.showing("partner")
	id := h.register("acme", h.partner+"/well", `"description":"as it was"`)
	at := fmt.Sprintf("/portal/companies/acme/callbacks/%d/edit", id)
	before := h.member(id, "updated_at")
	form := v.get(at)
	for _, tt := range []struct {
		fill  url.Values
		field string
		says  string
	}{
		{url.Values{"filter": {"{\n\"pointer\": /x\n}"}}, "e-filter", "Is no JSON: invalid character '/' looking for beginning of value, in line 2"},
		{url.Values{"filter": {`{"all": [{"pointer": "status", "op": "equals", "value": 1}]}`}}, "e-filter", "filter.all[0].pointer must be a JSON Pointer"},
		{url.Values{"template": {`{"$nonsense": 1}`}}, "e-template", "$"},
		{url.Values{"batch": {"", yes}, "max_events": {"many"}}, "e-batch-events", "Must be a whole number from 1 to 1000"},
		{url.Values{"batch": {"", yes}, "max_wait": {"2h"}}, "e-batch-wait", "Must be a duration"},
		{url.Values{"max_events": {"7"}}, "e-batch-events", "Does nothing without “Send deliveries together"},
		{url.Values{"skip_after": {"7h"}}, "e-order-skip", "Does nothing without “In order by”"},
		{url.Values{"ordering_key": {"customer"}}, "e-order-key", "Must be"},
		{url.Values{"ordering_key": {"/requestId"}, "batch": {"", yes}}, "e-order-key", "does not go with batch: a batch goes out and ends as one"},
		{url.Values{"content_type": {"application/x-www-form-urlencoded"}, "batch": {"", yes}}, "e-batch", "does not go with destination.content_type"},
		{url.Values{"content_type": {"application/x-www-form-urlencoded"}, "envelope": {"cloudevents-structured"}}, "e-envelope", "a structured event is JSON throughout"},
		{url.Values{"batch": {"", yes}, "envelope": {"cloudevents-binary"}}, "e-batch", "take cloudevents-structured"},
		{url.Values{"ed25519": {"", yes}, "header_style": {"github"}}, "e-hmac", "receivers of that style verify by the secret"},
		{url.Values{"match": {"campaign_token"}, "skip_after": {"7h"}}, "e-match", "Must have a line for each attribute"},
		{url.Values{"match": {"campaign_token"}, "skip_after": {"7h"}}, "e-order-skip", "Does nothing without"},
		{url.Values{"match": {"campaign_token=x"}}, "e-match", "Is not an attribute"},
		{url.Values{"max_attempts": {"0"}, "per_second": {"fast"}}, "e-rate", "Must be a number"},
	} {
		a := v.submit(form, at, tt.fill).want(t, http.StatusUnprocessableEntity)
		a.wantSound(t)
		if said, _ := a.beside(t, tt.field); !strings.Contains(said, tt.says) {
			t.Errorf("%v: beside %s it says %q, not %q", tt.fill, tt.field, said, tt.says)
		}
		if a.folded(t, tt.field) {
			t.Errorf("%v: what is wrong is folded away", tt.fill)
		}
		for name, texts := range tt.fill {
			if _, holds := a.beside(t, settingOf(name).id); holds != texts[len(texts)-1] && holds != yes {
				t.Errorf("%v: %s holds %q", tt.fill, name, holds)
			}
		}
	}
	if after := h.member(id, "updated_at"); after != before {
		t.Errorf("something was changed: %s", h.tell("GET", strings.TrimSuffix(strings.Replace(at, "/portal/companies/acme/callbacks", "/companies/acme/config/callbacks", 1), "/edit"), ""))
	}
}

// A form of a version before has not all fields: what it does not have stays.
func TestOlderFormsKeepWhatTheyDoNotHave(t *testing.T) {
	h := newHouse(t)
	v := h.by("acme", "")
	id := h.register("acme", h.partner+"/well", `"filter":{"pointer":"/status","op":"exists"},"batch":{"results":true},"signature":{"hmac":false,"rfc9421":true}`)
	of := fmt.Sprintf("/portal/companies/acme/callbacks/%d", id)
	v.send(of+"/edit", url.Values{"token": {tokenOn(t, v.get(of+"/edit"))}, "description": {"old"}}).want(t, http.StatusSeeOther)
	for name, want := range map[string]string{"description": `"old"`, "filter": `"exists"`, "batch": `"results":true`, "signature": `"hmac":false`} {
		if got := h.member(id, name); !strings.Contains(got, want) {
			t.Errorf("%s is %s", name, got)
		}
	}
}

// A secret of one's own signs from the registration on, or from a rotation, and is on no page.
func TestOwnSecrets(t *testing.T) {
	h := newHouse(t)
	v := h.by("acme", "")
	const company, own, next = "/portal/companies/acme", "a text that Stripe made", "another text of Stripe’s"
	form := v.get(company+"/new").want(t, http.StatusOK)
	fill := url.Values{"callback_type": {"payment_proof"}, "url": {h.partner + "/well"}, "secret": {own}}
	refused := v.submit(form, company+"/new", fill).want(t, http.StatusUnprocessableEntity)
	refused.wantSound(t)
	if said, _ := refused.beside(t, "e-secret"); !strings.Contains(said, "Cannot sign:") || !strings.Contains(said, "no page gives back a secret") {
		t.Errorf("a secret that is none: %q", said)
	}
	fill.Set("header_style", "stripe")
	made := v.submit(form, company+"/new", fill).want(t, http.StatusSeeOther)
	of := made.header.Get("Location")
	page := v.follow(made).want(t, http.StatusOK, "signed with the secret that you gave", "stripe")
	rotate := v.get(of+"/secret").want(t, http.StatusOK, "A secret of your own")
	rotate.wantSound(t)
	short := v.submit(rotate, of+"/secret", url.Values{"secret": {"short"}, "overlap": {"1h"}}).want(t, http.StatusUnprocessableEntity)
	short.wantSound(t)
	if said, _ := short.beside(t, "secret-own"); !strings.Contains(said, "Cannot sign:") {
		t.Errorf("a secret that is too short: %q", said)
	}
	if !strings.Contains(short.text, `value="1h" checked`) {
		t.Error("how long the secret before signs is no longer chosen")
	}
	rotated := v.follow(v.submit(rotate, of+"/secret", url.Values{"secret": {next}, "overlap": {"1h"}})).want(t, http.StatusOK, "has the secret that you gave")
	v.get(of+"/secret").want(t, http.StatusOK, "At the moment a secret before signs, too, until")
	for _, a := range []answer{refused, page, short, rotated} {
		if strings.Contains(a.text, own) || strings.Contains(a.text, next) || strings.Contains(a.text, `value="short"`) {
			t.Errorf("the secret is on a page: %s", a.text)
		}
	}
	v.submit(v.get(of+"/edit"), of+"/edit", url.Values{"header_style": {"github"}}).want(t, http.StatusUnprocessableEntity, "carries one signature")
	v.submit(v.get(of+"/secret"), of+"/secret", url.Values{"overlap": {"0s"}}).want(t, http.StatusOK, "has a new secret", "whsec_")
	v.submit(v.get(of+"/edit"), of+"/edit", url.Values{"header_style": {"github"}}).want(t, http.StatusSeeOther)
	v.submit(v.get(of+"/secret"), of+"/secret", url.Values{"overlap": {"24h"}}).want(t, http.StatusUnprocessableEntity, "carries one signature").wantSound(t)
}

// A callback that is fetched is registered by a form that asks nothing about requests. Its page says how it is fetched.
func TestFormOfWhatIsFetched(t *testing.T) {
	h := newHouse(t)
	v := h.by("acme", "")
	const at = "/portal/companies/acme/new"
	v.get(at).want(t, http.StatusOK, at+"?pull")
	form := v.get(at+"?pull").want(t, http.StatusOK, "until you fetch it")
	form.wantSound(t)
	for _, s := range settings {
		if asks := strings.Contains(form.text, `id="`+s.id+`"`); asks == s.requests {
			t.Errorf("the form asks for %s: %v", s.name, asks)
		}
	}
	refused := v.submit(form, at, url.Values{"callback_type": {"payment_proof"}, "envelope": {"cloudevents-binary"}, "filter": {`{"pointer":"/status","op":"exists"}`}})
	refused.want(t, http.StatusUnprocessableEntity, "nothing is sent that could have its headers").wantSound(t)
	if _, holds := refused.beside(t, "e-envelope"); holds != "cloudevents-binary" {
		t.Errorf("what was chosen is lost: %q", holds)
	}
	made := v.submit(refused, at, url.Values{"envelope": {"cloudevents-structured"}}).want(t, http.StatusSeeOther)
	page := v.follow(made).want(t, http.StatusOK, "waits until you fetch it", "/poll?wait=30s", "/ack", "fetched by the partner")
	page.wantSound(t)
	if strings.Contains(page.text, "whsec_") {
		t.Error("a secret is shown that signs nothing")
	}
}

// A form that is tried says what an event would meet, and changes nothing.
func TestFormsAreTried(t *testing.T) {
	h := newHouse(t)
	v := h.by("acme", "")
	const company = "/portal/companies/acme"
	fill := url.Values{
		"do": {"try"}, "callback_type": {"payment_proof"}, "url": {h.partner + "/well"}, "template": {`{"was": {"$pointer": "/requestId"}}`}, "header_style": {"github"},
		"filter": {`{"pointer": "/status", "op": "equals", "value": "OK"}`}, "sample": {`{"requestId": "<r-7>", "status": "OK"}`},
	}
	list := h.tell("GET", "/companies/acme/config/callbacks", "")
	tried := v.submit(v.get(company+"/new"), company+"/new", fill).want(t, http.StatusOK, "matched", "{&#34;was&#34;:&#34;&lt;r-7&gt;&#34;}", "X-Hub-Signature-256", `&#34;requestId&#34;: &#34;&lt;r-7&gt;&#34;`)
	tried.wantSound(t)
	fill.Set("sample", `{"status": "OK", "requestId": "`+strings.Repeat("€", 9000)+`"}`) // nine bytes each, in a form
	v.submit(v.get(company+"/new"), company+"/new", fill).want(t, http.StatusOK, "matched")
	fill.Set("sample", `{"requestId": "r-7", "status": "ERROR"}`)
	v.submit(v.get(company+"/new"), company+"/new", fill).want(t, http.StatusOK, "not matched", "/status")
	for field, tt := range map[string]struct{ name, text, says string }{
		"e-sample":      {"sample", `{"requestId": 7}`, "payload.requestId must be a string"},
		"e-sample-type": {"sample_type", "payment_prof", "payment_proof"},
		"e-filter":      {"filter", `{"pointer": "x"}`, "filter.pointer must be"},
	} {
		bad := maps.Clone(fill)
		bad.Set(tt.name, tt.text)
		a := v.submit(v.get(company+"/new"), company+"/new", bad).want(t, http.StatusUnprocessableEntity)
		a.wantSound(t)
		if said, holds := a.beside(t, field); !strings.Contains(said, tt.says) || holds != tt.text {
			t.Errorf("%s: %q, and it holds %q", field, said, holds)
		}
	}
	v.submit(v.get(company+"/new"), company+"/new", url.Values{"do": {"try"}, "callback_type": {"payment_*"}, "url": {h.partner}, "sample": {"{"}}).want(t, http.StatusUnprocessableEntity, "is no JSON")
	if now := h.tell("GET", "/companies/acme/config/callbacks", ""); now != list {
		t.Errorf("a form that was tried changed something: %s", now)
	}

	bounded := h.by("acme", fmt.Sprintf(`{"callback_ids":[%d]}`, h.waits))
	of := fmt.Sprintf("%s/callbacks/%d/edit", company, h.waits)
	v.submit(v.get(of), of, url.Values{"do": {"try"}}).want(t, http.StatusOK, "matched", "Webhook-Signature")
	bounded.submit(bounded.get(of), of, url.Values{"do": {"try"}, "template": {`["mine"]`}}).want(t, http.StatusOK, "[&#34;mine&#34;]").wantSound(t)
	if got := h.member(h.waits, "template"); got != "" {
		t.Errorf("a form that was tried set the template to %s", got)
	}
	bounded.submit(bounded.get(company+"/new"), company+"/new", fill).want(t, http.StatusForbidden)
}
