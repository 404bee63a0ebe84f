package console

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/ringback/ringback/registry"
)

// paths are all pages of the console, by pattern, with what the house has in the place of names.
func (h *house) paths(method string) map[string]string {
	h.t.Helper()
	names := strings.NewReplacer("{company}/replays/{replay}", "acme/replays/"+h.replay(), "{company}", "acme", "{callback}", fmt.Sprint(h.bad), "{delivery}", path.Base(h.delivery(h.waits)), "{event}", h.event,
		"{replay}", h.bulk(), "{name}", "payment_proof", "{$}", "", "{key}", registryID(h.has["partner"]))
	all := map[string]string{}
	for pattern := range (&door{}).routes() {
		if verb, at, _ := strings.Cut(pattern, " "); verb == method {
			all[pattern] = Root + names.Replace(at)
		}
	}
	return all
}

// replay is the id of a replay of nothing.
func (h *house) replay() string {
	h.t.Helper()
	return idIn(h.tell("POST", fmt.Sprintf("/companies/acme/config/callbacks/%d/replay", h.waits), `{"states":["cancelled"]}`))
}

// bulk is the id of a replay of nothing over companies.
func (h *house) bulk() string {
	h.t.Helper()
	return idIn(h.tell("POST", "/replays", `{"states":["cancelled"],"dry_run":true}`))
}

// idIn is the id of the replay that the API told of.
func idIn(said string) string {
	_, rest, _ := strings.Cut(said, `"replay_id":"`)
	id, _, _ := strings.Cut(rest, `"`)
	return id
}

// Every page stands for operators and viewers, as a document that everybody can use. A viewer's pages have no button that changes anything.
func TestEveryPageStands(t *testing.T) {
	h := newHouse(t)
	for pattern, at := range h.paths(http.MethodGet) {
		if strings.HasSuffix(pattern, "/live") || strings.HasSuffix(pattern, "/payload") { // no pages: see TestListsGoLive and TestPayloads
			continue
		}
		for _, actor := range []string{"operator", "viewer"} {
			a := h.showing(actor).get(at)
			switch {
			case actor == "viewer" && (pattern == "GET /audit" || strings.HasPrefix(pattern, "GET /keys")):
				a.want(t, http.StatusForbidden)
			default:
				a.want(t, http.StatusOK)
			}
			a.wantSound(t)
			if actor == "operator" || changes(at) {
				continue // a viewer who asks for a page with a form gets it, and the form is refused
			}
			for n := range elements(a.parse(t), "") {
				href := attribute(n, "href") + attribute(n, "action")
				if changes(href) || attribute(n, "method") == "post" {
					t.Errorf("%s shows a viewer a button: %s", pattern, href)
				}
			}
		}
	}
}

// changes reports whether an address is that of a page which changes something, once it was asked.
func changes(href string) bool {
	at, _, _ := strings.Cut(href, "?")
	return slices.Contains([]string{"pause", "resume", "cancel", "test", "replay", "start", "revoke", "verify", "now", "new", "edit", "secret", "signing-key"}, path.Base(at))
}

func (a answer) want(t *testing.T, status int, words ...string) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.text)
	}
	for _, w := range words {
		if !strings.Contains(strings.ReplaceAll(a.text, "<wbr>", ""), w) {
			t.Errorf("%q is not on the page: %s", w, a.text)
		}
	}
	return a
}

// What partners send and write is shown as text.
func TestPartnersWordsAreText(t *testing.T) {
	h := newHouse(t)
	v := h.showing("operator")
	v.get("/console"+h.delivery(h.bad)).want(t, http.StatusOK, "&lt;script&gt;alert(&#34;the partner&#39;s&#34;)&lt;/script&gt;", "Answered 503 Service Unavailable")
	v.get(fmt.Sprintf("/console/companies/acme/callbacks/%d", h.bad)).want(t, http.StatusOK, "&lt;b&gt;bold&lt;/b&gt;", "token=s3cr3t")
	if a := h.showing("viewer").get(fmt.Sprintf("/console/companies/acme/callbacks/%d", h.bad)); strings.Contains(a.text, "s3cr3t") {
		t.Error("a viewer reads the URL's query")
	}
	if strings.Contains(h.log.text.String(), "page failed") {
		t.Error(h.log.text.String())
	}
}

// A delivery that travelled in a batch shows the whole request, and leads to the others. One whose event was erased leads nowhere.
func TestABatchOnAPage(t *testing.T) {
	h := newHouse(t)
	batched := h.register("acme", h.partner+"/well", `"batch":{"max_events":2}`)
	pages := map[string]string{}
	for _, id := range []string{"one", "two"} {
		h.tell("POST", "/companies/acme/events", `{"event_type":"payment_proof","event_id":"`+id+`","payload":{"requestId":"r-`+id+`","status":"OK"}}`)
		h.event = id
		pages[id] = h.delivery(batched)
	}
	h.await(func() bool { return strings.Contains(h.tell("GET", pages["one"], ""), `"state":"delivered"`) })
	v := h.showing("operator")
	v.get("/console"+pages["one"]).want(t, http.StatusOK, `[{&#34;requestId&#34;:&#34;r-one&#34;`, "Deliveries in this batch: 2", `href="/console`+pages["two"]+`"`)
	h.tell("DELETE", "/companies/acme/events/two", "")
	if a := v.get("/console"+pages["one"]).want(t, http.StatusOK, "of its 2 elements one is missing", "its event was erased", `{&#34;requestId&#34;:&#34;r-one&#34;`); strings.Contains(a.text, pages["two"]) {
		t.Error("it tells of what was erased")
	}
}

// A form is taken from a page of the same origin with the token of the visit, and of nobody else.
func TestFormsFromElsewhereAreRefused(t *testing.T) {
	h := newHouse(t)
	operator, viewer := h.loggedIn("operator"), h.loggedIn("viewer")
	pause := fmt.Sprintf("/console/companies/acme/callbacks/%d/pause", h.waits)
	token := func(v *visitor) string {
		for n := range elements(v.get("/console/types").parse(t), "input") {
			if attribute(n, "name") == "token" {
				return attribute(n, "value")
			}
		}
		t.Fatal("no token")
		return ""
	}
	for name, tt := range map[string]struct {
		token, origin, site string
	}{
		"no token":               {"", "http://example.com", "same-origin"},
		"another visitor's":      {token(viewer), "http://example.com", "same-origin"},
		"another site":           {token(operator), "http://evil.example", "cross-site"},
		"another site, old":      {token(operator), "http://evil.example", ""},
		"a site beside this one": {token(operator), "http://www.example.com", "same-site"},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, pause, strings.NewReader(url.Values{"token": {tt.token}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", tt.origin)
		if tt.site != "" {
			r.Header.Set("Sec-Fetch-Site", tt.site)
		}
		if a := operator.do(r); a.status != http.StatusForbidden {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
	}
	if said := h.tell("GET", fmt.Sprintf("/companies/acme/config/callbacks/%d", h.waits), ""); !strings.Contains(said, `"status":"enabled"`) {
		t.Errorf("a forged form was taken: %s", said)
	}
	for pattern, at := range h.paths(http.MethodPost) {
		for _, v := range []*visitor{operator, h.showing("operator")} {
			if a := v.send(at, url.Values{"token": {"AAAA"}}); a.status != http.StatusForbidden {
				t.Errorf("%s without a token: %d", pattern, a.status)
			}
		}
	}
	operator.send(pause, url.Values{"token": {token(operator)}}).want(t, http.StatusSeeOther)
}

// A viewer who sends a form all the same is refused by the API, whose sentence is the page's message; nothing changes.
func TestViewersChangeNothing(t *testing.T) {
	h := newHouse(t)
	v := h.loggedIn("viewer")
	form := url.Values{"token": {tokenOn(t, v.get("/console/types"))}, "state": {"dead"}, "do": {"start"}}
	for pattern, at := range h.paths(http.MethodPost) {
		if pattern == "POST /logout" {
			continue
		}
		a := v.send(at, form)
		a.want(t, http.StatusForbidden, "viewer key may not do this")
		a.wantSound(t)
	}
	if said := h.tell("GET", "/audit", ""); strings.Contains(said, `"actor":"`+registryID(h.has["viewer"])) {
		t.Errorf("a viewer changed something: %s", said)
	}
}

func registryID(secret string) string { return secret[:12] }

// tokenOn is the token of a page's forms.
func tokenOn(t *testing.T, a answer) string {
	t.Helper()
	for n := range elements(a.parse(t), "input") {
		if attribute(n, "name") == "token" {
			return attribute(n, "value")
		}
	}
	t.Fatalf("no form: %s", a.text)
	return ""
}

// Whoever is of another company sees nothing of acme: each page is as that of a company that never was.
func TestCompaniesDoNotSeeEachOther(t *testing.T) {
	h := newHouse(t)
	v := h.showing("other operator")
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		for pattern, at := range h.paths(method) {
			asksNothing := slices.Contains([]string{"new", "pause", "replay", "start"}, path.Base(pattern)) // a form, and what it sends is refused
			if !strings.Contains(pattern, "{company}") || strings.HasSuffix(pattern, "/live") || asksNothing && method == http.MethodGet {
				continue
			}
			get := func(at string) answer {
				if method == http.MethodGet {
					return v.get(at)
				}
				return v.send(at, url.Values{"token": {tokenOf(v.key)}, "state": {"dead"}})
			}
			a, never := get(at), get(strings.Replace(at, "/acme", "/never", 1))
			if a.status != http.StatusNotFound || never.status != http.StatusNotFound || a.text != strings.ReplaceAll(never.text, "never", "acme") {
				t.Errorf("%s: %d, and %d for a company that never was\n%s\n%s", pattern, a.status, never.status, a.text, never.text)
			}
		}
	}
	if a := v.get("/console/"); a.status != http.StatusSeeOther || a.header.Get("Location") != "/console/companies/other" {
		t.Errorf("the visit begins at %d %s", a.status, a.header.Get("Location"))
	}
	for _, actor := range []string{"partner", "producer"} {
		a := h.showing(actor).get("/console/companies/acme")
		a.want(t, http.StatusForbidden, "These pages are for operators and viewers")
	}
}

// A login begins a session of its own, and the key is not in the cookie. The session ends with the logout, and with its key.
func TestLogin(t *testing.T) {
	h := newHouse(t)
	nobody := &visitor{h, "", map[string]string{}}
	a := nobody.get("/console/types?a=b")
	a.want(t, http.StatusUnauthorized, `name="next" value="/console/types?a=b"`)
	a.wantSound(t)
	nobody.get("/console/login").want(t, http.StatusOK).wantSound(t)

	for given, want := range map[string]struct {
		status int
		says   string
	}{
		"":                {http.StatusUnauthorized, "Give an API key"},
		"no key at all":   {http.StatusUnauthorized, "Give an API key"},
		"rbk_unknown":     {http.StatusUnauthorized, "The API key is unknown or was revoked"},
		h.has["partner"]:  {http.StatusForbidden, "for operators and viewers"},
		h.has["producer"]: {http.StatusForbidden, "for operators and viewers"},
	} {
		a := nobody.send("/console/login", url.Values{"key": {given}})
		a.want(t, want.status, want.says).wantSound(t)
		if len(nobody.cookies) > 0 || given != "" && strings.Contains(a.text, given) {
			t.Errorf("%d: cookies %v, or the page repeats the key", want.status, nobody.cookies)
		}
	}
	for _, to := range []string{
		"https://evil.example/", "//evil.example/", "/console//evil.example", `/console/\evil.example`, "/monitoring/", "/console/login",
		"/console/../monitoring/", "/console/types/../../monitoring/", "/console/./types", "/console/%2e%2e/monitoring/", "/console/types/.%2E/..", "/console/..", "/console/%zz", "/console/types//", "/console/%6cogin",
	} {
		v := &visitor{h, "", map[string]string{}}
		if a := v.send("/console/login", url.Values{"key": {h.has["viewer"]}, "next": {to}}); a.header.Get("Location") != "/console/" {
			t.Errorf("after the login on to %q: %s", to, a.header.Get("Location"))
		}
	}

	for _, to := range []string{"/console/", "/console/types?a=b", "/console/companies/acme/events/a%20..b", "/console/companies/acme?status=enabled&callback_type=a..b"} {
		v := &visitor{h, "", map[string]string{}}
		if a := v.send("/console/login", url.Values{"key": {h.has["viewer"]}, "next": {to}}); a.header.Get("Location") != to {
			t.Errorf("after the login on to %q: %s", to, a.header.Get("Location"))
		}
	}

	v := h.loggedIn("operator")
	cookie := v.cookies["ringback_console"]
	if strings.Contains(cookie, h.has["operator"]) {
		t.Error("the key is in the cookie")
	}
	for _, as := range []string{cookie, h.has["operator"]} { // the API reads no cookie, and a session is no key
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/egress", nil)
		r.AddCookie(&http.Cookie{Name: "ringback_console", Value: as})
		w := httptest.NewRecorder()
		if h.api.ServeHTTP(w, r); w.Code != http.StatusUnauthorized {
			t.Errorf("the API takes a cookie: %d", w.Code)
		}
	}
	(&visitor{h, cookie, map[string]string{}}).get("/console/types").want(t, http.StatusUnauthorized)
	v.submit(v.get("/console/types"), "/console/logout", nil).want(t, http.StatusSeeOther)
	v.cookies["ringback_console"] = cookie
	v.get("/console/types").want(t, http.StatusUnauthorized, "Your visit has ended")

	v = h.loggedIn("acme viewer")
	h.must(h.keys.Revoke(t.Context(), registryID(h.has["acme viewer"])))
	v.get("/console/types").want(t, http.StatusUnauthorized)
}

// Whoever guesses keys has to wait, also on the login page; whoever has one does not.
func TestGuessersWait(t *testing.T) {
	h := newHouse(t)
	v := &visitor{h, "", map[string]string{}}
	var last answer
	for range 110 {
		last = v.send("/console/login", url.Values{"key": {"rbk_guess"}})
	}
	last.want(t, http.StatusTooManyRequests, "Too many wrong API keys")
	if last.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	h.loggedIn("operator")
}

// On-call finds the bad callback, sees why, pauses it, resumes it, and sends again, with no script at all.
func TestOnCallWithoutScript(t *testing.T) {
	h := newHouse(t)
	v := h.loggedIn("operator")
	callback := fmt.Sprintf("/console/companies/acme/callbacks/%d", h.waits)
	v.get("/console/companies/acme").want(t, http.StatusOK, callback+`"`, "1 pending", "Answered 503 Service Unavailable")
	v.get(callback).want(t, http.StatusOK, "retrying", callback+"/pause")

	ask := v.get(callback+"/pause").want(t, http.StatusOK, "1 delivery on the way")
	v.follow(v.submit(ask, callback+"/pause", nil)).want(t, http.StatusOK, "paused", callback+"/resume", "is paused.")
	page := v.get(callback)
	if strings.Contains(page.text, `role="status"`) {
		t.Error("the note is shown twice")
	}
	v.cookies["ringback_note"] = "eyJUb25lIjoiZ29vZCIsIlRleHQiOiJmb3JnZWQifQ.AAAA"
	if page = v.get(callback); strings.Contains(page.text, "Forged") {
		t.Error("a forged note is shown")
	}

	h.event = "proof-2"
	h.tell("POST", "/companies/acme/events", `{"event_type":"payment_proof","event_id":"proof-2","payload":{"requestId":"r-2","status":"OK"}}`)
	ask = v.get(callback+"/resume").want(t, http.StatusOK, "1 delivery in its room", "What is held (1)")
	v.follow(v.submit(ask, callback+"/resume", url.Values{"held": {"skip"}})).want(t, http.StatusOK, "enabled", "is cancelled")
	delivery := "/console" + h.delivery(h.waits)
	page = v.get(delivery).want(t, http.StatusOK, "cancelled")
	v.follow(v.submit(page, delivery+"/replay", nil)).want(t, http.StatusOK, "goes out again")
	h.await(func() bool { return strings.Contains(v.get(delivery).text, "Attempt 1 ") })
	ask = v.get(delivery+"/cancel").want(t, http.StatusOK)
	v.follow(v.submit(ask, delivery+"/cancel", nil)).want(t, http.StatusOK, "cancelled")
	v.submit(ask, delivery+"/cancel", nil).want(t, http.StatusConflict, "Conflict").wantSound(t)

	tests := v.get(callback+"/test").want(t, http.StatusOK)
	v.submit(tests, callback+"/test", nil).want(t, http.StatusOK, "What came back", "HTTP 503")
}

// Many deliveries go out again only after their number was shown, and what is counted is what goes out.
func TestReplaysAreCountedFirst(t *testing.T) {
	h := newHouse(t)
	v := h.loggedIn("operator")
	at := fmt.Sprintf("/console/companies/acme/callbacks/%d/replay", h.bad)
	form := v.get(at).want(t, http.StatusOK)
	v.submit(form, at, url.Values{"state": {"delivered"}}).want(t, http.StatusOK, "No delivery fits")
	v.submit(form, at, url.Values{"state": nil}).want(t, http.StatusUnprocessableEntity, "choose one at least").wantSound(t)
	v.submit(form, at, url.Values{"since": {"yesterday noon"}}).want(t, http.StatusUnprocessableEntity, "must be a span back from now")
	ask := v.submit(form, at, url.Values{"since": {"1h"}}).want(t, http.StatusOK, "This is 1 delivery: dead.")
	v.get("/console/companies/acme/replays").want(t, http.StatusOK, "There is none")
	shown := v.follow(v.submit(ask, at, nil)).want(t, http.StatusOK, "1 delivery go out again", "Replay</span>")
	if shown.wantSound(t); !strings.Contains(v.get("/console/companies/acme/replays").text, "/console/companies/acme/replays/rpl_") {
		t.Error("the replay is not listed")
	}
}

// Everything that goes out stops once somebody has said so twice, and goes on again.
func TestEgressStopsFromAPage(t *testing.T) {
	h := newHouse(t)
	v := h.loggedIn("operator")
	v.get("/console/operations").want(t, http.StatusOK, "/console/operations/pause", "/monitoring/queues/ringback-0", "what is held", "what is dead")
	ask := v.get("/console/operations/pause").want(t, http.StatusOK, "<dt>Waiting</dt>", "<dt>Workers</dt>", "<dt>Us or them</dt>")
	v.follow(v.submit(ask, "/console/operations/pause", nil)).want(t, http.StatusOK, "Nothing goes out, of any company", "/console/operations/resume")
	v.follow(v.submit(v.get("/console/operations/resume"), "/console/operations/resume", nil)).want(t, http.StatusOK, "Deliveries go out.")
}

// The box on top leads to what an id names.
func TestFind(t *testing.T) {
	h := newHouse(t)
	h.tell("POST", "/companies/acme/events", `{"event_type":"payment_proof","event_id":"1","payload":{"requestId":"r-2","status":"OK"}}`)
	v, replay, bulk := h.showing("viewer"), h.replay(), h.bulk()
	delivery := path.Base(h.delivery(h.bad))
	for id, page := range map[string]string{ // whose it is, the console finds out
		h.event: "/companies/acme/events/" + h.event, delivery: "/companies/acme/deliveries/" + delivery, "elsewhere": "/companies/other/events/elsewhere",
		bulk: "/replays/" + bulk, "": "/find",
	} {
		a := v.get("/console/find?" + url.Values{"company": {""}, "id": {id}}.Encode())
		if want := "/console" + page; a.status != http.StatusSeeOther || a.header.Get("Location") != want {
			t.Errorf("%q of any company leads to %d %s, want %s", id, a.status, a.header.Get("Location"), want)
		}
	}
	if a := v.get("/console/find?company=acme&id=" + bulk); a.header.Get("Location") != "/console/replays/"+bulk {
		t.Errorf("a replay over companies is not found from one of them: %d %s", a.status, a.header.Get("Location"))
	}
	for id, page := range map[string]string{
		h.event: "/events/" + h.event, delivery: "/deliveries/" + delivery, replay: "/replays/" + replay, fmt.Sprint(h.waits): "/callbacks/" + fmt.Sprint(h.waits), "": "", " " + h.event + " ": "/events/" + h.event,
	} {
		a := v.get("/console/find?" + url.Values{"company": {"acme"}, "id": {id}}.Encode())
		if want := "/console/companies/acme" + page; a.status != http.StatusSeeOther || a.header.Get("Location") != want {
			t.Errorf("%q leads to %d %s, want %s", id, a.status, a.header.Get("Location"), want)
		}
	}
	v.get("/console/find?company=acme&id=1").want(t, http.StatusOK, "/console/companies/acme/events/1", "/console/companies/acme/callbacks/1").wantSound(t)
	v.get("/console/find?company=acme&id=nothing").want(t, http.StatusNotFound, "has no event", `name="id" value="nothing"`).wantSound(t)
	v.get("/console/find?company=&id=nothing").want(t, http.StatusNotFound, "No company has an event").wantSound(t)
	if a := h.showing("acme viewer").get("/console/find?id=" + h.event); a.header.Get("Location") != "/console/companies/acme/events/"+h.event {
		t.Errorf("a caller of one company is asked for it: %d", a.status)
	}
}

// Filters and pages of a list are those of the API, and its faults are shown where they are mended.
func TestListsAreFilteredAndPaged(t *testing.T) {
	h := newHouse(t)
	v := h.showing("operator")
	const list = "/console/companies/acme/deliveries"
	v.get(list+"?state=dead").want(t, http.StatusOK, "checked", h.event)
	v.get(list+"?state=delivered").want(t, http.StatusOK, "None fits the filter")
	v.get(list+"?since=1h&event_type=payment_proof").want(t, http.StatusOK, h.event)
	v.get(list+"?until=1h").want(t, http.StatusOK, "None fits")
	v.get(list+"?since=soon").want(t, http.StatusUnprocessableEntity, "must be a span back", `value="soon"`).wantSound(t)
	v.get(list+"?state=lost").want(t, http.StatusOK, h.event) // a state that the form does not have is none
	v.get(list+"?callback_id=x").want(t, http.StatusUnprocessableEntity, "callback_id must be").wantSound(t)
	v.get(list+"?cursor=junk").want(t, http.StatusUnprocessableEntity)
	for i := range 51 {
		h.tell("POST", "/companies/acme/events", fmt.Sprintf(`{"event_type":"payment_proof","event_id":"more-%d","payload":{"requestId":"r","status":"OK"}}`, i))
	}
	seen := map[string]bool{}
	for at := list + fmt.Sprintf("?callback_id=%d", h.waits); at != ""; {
		page := v.get(at).want(t, http.StatusOK)
		at = ""
		for n := range elements(page.parse(t), "a") {
			href := attribute(n, "href")
			if attribute(n, "rel") == "next" {
				at = list + href
			}
			if strings.HasPrefix(href, list+"/") {
				if seen[href] {
					t.Errorf("%s is on two pages", href)
				}
				seen[href] = true
			}
		}
	}
	if len(seen) != 52 {
		t.Errorf("the pages list %d deliveries, want 52", len(seen))
	}
}

// A list goes on by itself: the stream is the API's, for those who may see the company.
func TestListsGoLive(t *testing.T) {
	h := newHouse(t)
	server := httptest.NewServer(h.pages)
	t.Cleanup(server.Close)
	page := h.showing("viewer").get(fmt.Sprintf("/console/companies/acme/callbacks/%d", h.bad))
	var at strings.Builder
	for n := range elements(page.parse(t), "div") {
		at.WriteString(attribute(n, "data-live"))
	}
	if want := fmt.Sprintf("/console/companies/acme/live?callback_id=%d", h.bad); at.String() != want {
		t.Fatalf("the list follows %q, want %q", at.String(), want)
	}
	if page := h.showing("viewer").get("/console/companies/acme/deliveries?since=1h"); strings.Contains(page.text, "data-live") {
		t.Error("a list of the past goes live")
	}
	open := func(actor string) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+at.String(), nil)
		h.must(err)
		r.Header.Set("Authorization", "Bearer "+h.has[actor])
		resp, err := server.Client().Do(r)
		h.must(err)
		t.Cleanup(func() { _ = resp.Body.Close() })
		return resp
	}
	if resp := open("other operator"); resp.StatusCode != http.StatusNotFound { //nolint:bodyclose // open closes it
		t.Errorf("another company's stream: %s", resp.Status)
	}
	resp := open("viewer") //nolint:bodyclose // open closes it
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s %v", resp.Status, resp.Header)
	}
	h.tell("POST", "/companies/acme/events", `{"event_type":"payment_proof","event_id":"fresh","payload":{"requestId":"r-3","status":"OK"}}`)
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() && !strings.Contains(lines.Text(), `"event_id":"fresh"`) {
	}
	if !strings.Contains(lines.Text(), `"fresh"`) {
		t.Errorf("the stream ends without the delivery: %v", lines.Err())
	}
}

// An id that leads to the API's stream is no page: a stream has no end.
func TestStreamsAreNoPages(t *testing.T) {
	h := newHouse(t)
	const at = "/companies/acme/deliveries/stream/cancel"
	h.showing("operator").get("/console"+at).want(t, http.StatusNotFound, "There is no page here").wantSound(t)
	h.by("acme", "").get("/portal"+at).want(t, http.StatusNotFound, "There is no page here").wantSound(t)
	if strings.Contains(h.log.text.String(), "page failed") {
		t.Error(h.log.text.String())
	}
}

// While Redis is away, pages say so, with the API's words and status.
func TestRedisAway(t *testing.T) {
	h := newHouse(t)
	header, session := h.showing("operator"), h.loggedIn("viewer")
	header.get("/console/types").want(t, http.StatusOK)
	h.redis.Kill()
	a := header.get("/console/companies/acme")
	a.want(t, http.StatusServiceUnavailable, "The store behind Ringback does not answer").wantSound(t)
	a = session.get("/console/companies/acme")
	a.want(t, http.StatusServiceUnavailable, "The store behind Ringback does not answer").wantSound(t)
}

// Files have a hash in their name and are kept for good; another name is nowhere.
func TestFiles(t *testing.T) {
	h := newHouse(t)
	v := h.showing("operator")
	page := v.get("/console/types")
	for _, name := range []string{"style.css", "console.js", "icon.svg"} {
		at := "/console/static/" + hashed(name)
		if !strings.Contains(page.text, at) {
			t.Errorf("the page does not name %s", at)
		}
		a := (&visitor{h, "", map[string]string{}}).get(at)
		if a.want(t, http.StatusOK); !strings.Contains(a.header.Get("Cache-Control"), "immutable") || a.header.Get("Content-Type") == "" {
			t.Errorf("%s: %v", name, a.header)
		}
		v.get("/console/static/"+name).want(t, http.StatusNotFound)
	}
	v.get("/console/nowhere").want(t, http.StatusNotFound, "There is no page here").wantSound(t)
	if files := slices.Collect(func(yield func(string) bool) {
		for name, f := range files {
			if strings.Contains(string(f.bytes), "http://") && !strings.HasSuffix(name, ".svg") || strings.Contains(string(f.bytes), "https://") {
				yield(name)
			}
		}
	}); len(files) > 0 {
		t.Errorf("%v load from strangers", files)
	}
}

func TestNewRefusesNonsense(t *testing.T) {
	if _, err := New(Config{}); err == nil || !strings.Contains(err.Error(), "Config.API") {
		t.Error(err)
	}
	if _, err := New(Config{API: http.NotFoundHandler()}); err == nil || !strings.Contains(err.Error(), "Config.Sessions") {
		t.Error(err)
	}
	if _, err := New(Config{API: http.NotFoundHandler(), Sessions: registry.NewSessions(nil)}); err != nil {
		t.Error(err)
	}
}
