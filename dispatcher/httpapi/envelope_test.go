package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/payloads/npmtest"
	"github.com/ringback/ringback/registry"
)

// An arrival is a request as a partner got it.
type arrival struct {
	path   string
	header http.Header
	body   []byte
}

// mailbox is a partner that keeps what it gets. Behind /echo it answers 500 with the body.
func mailbox(t *testing.T) (base string, got chan arrival) {
	t.Helper()
	got = make(chan arrival, 100)
	partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- arrival{r.URL.Path, r.Header.Clone(), body}
		if r.URL.Path == "/echo" {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write(body)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(partner.Close)
	return partner.URL, got
}

// registered makes a callback of acme's and returns its address and its signing secret.
func (h *house) registered(to, more string) (path string, secret payloads.Secret) {
	h.t.Helper()
	made := h.call("partner", "POST", "/companies/acme/config/callbacks", fmt.Sprintf(`{"destination":{"url":%q},%s}`, to, more)).want(http.StatusCreated).json()
	secret, err := payloads.ParseSecret(made["secret"].(string))
	h.must(err)
	return made["url"].(string), secret
}

// asSDK is a request as the SDK wants it.
func (a arrival) asSDK() map[string]any {
	headers := map[string]string{}
	for name := range a.header {
		headers[strings.ToLower(name)] = a.header.Get(name)
	}
	return map[string]any{"headers": headers, "body": string(a.body)}
}

// longestID is the longest event id, with all that one may hold.
const longestID = "A.Z_a-z:0123456789_______________________________________________________________________________________________________-------"

// TestCloudEvents: what partners get is an event to the SDK of CloudEvents, in both modes, with the data that came in. Each attempt and each replay is the same
// event, and the signature is over what is sent.
func TestCloudEvents(t *testing.T) {
	h := newHouse(t)
	base, got := mailbox(t)
	const payload = `{ "requestId":"\u00e9 Nómina 😀 <&>\"%", "status":"OK", "n":1.0, "big":12345678901234567890, "items":[null,true,"+ %41"] }`
	const form = `requestId=%C3%A9+N%C3%B3mina+%F0%9F%98%80+%3C%26%3E%22%25&status=OK&n=1.0&big=12345678901234567890&items%5B0%5D=&items%5B1%5D=true&items%5B2%5D=%2B+%2541`
	modes := map[string]struct{ members, contentType, dataType string }{
		"/structured": {`"envelope":"cloudevents-structured"`, "application/cloudevents+json", "application/json"},
		"/binary":     {`"envelope":"cloudevents-binary"`, "application/json", "application/json"},
		"/form":       {`"envelope":"cloudevents-binary"`, payloads.ContentTypeForm, payloads.ContentTypeForm},
		"/stamped":    {`"envelope":"cloudevents-structured","callback_type":"entry_code.*"`, "application/cloudevents+json", "application/json"},
	}
	secrets, routes := map[string]payloads.Secret{}, map[string]string{}
	for path, m := range modes {
		members := m.members
		if !strings.Contains(members, "callback_type") {
			members += `,"callback_type":"payment_proof"`
		}
		routes[path], secrets[path] = h.registered(base+path, members)
	}
	h.call("partner", "PATCH", routes["/form"], `{"destination":{"content_type":"application/x-www-form-urlencoded"}}`).want(http.StatusOK)
	h.work() // it announces itself nowhere, and would pass for one of a version before
	receipt := h.call("producer", "POST", "/companies/acme/events", fmt.Sprintf(`{"event_type":"payment_proof","event_id":%q,"payload":%s}`, longestID, payload)).want(http.StatusAccepted).json()
	h.call("producer", "POST", "/companies/acme/events", `{"event_type":"entry_code.validation_failed","event_id":"door-1","payload":{"entryCode":"é"}}`).want(http.StatusAccepted)
	var all []arrival
	for range modes {
		all = append(all, <-got)
	}
	for _, d := range receipt["deliveries"].([]any) { // once more
		route := "/companies/acme/deliveries/" + d.(map[string]any)["delivery_id"].(string)
		h.until(route, func(m map[string]any) bool { return m["state"] == "delivered" })
		h.call("partner", "POST", route+"/replay", "").want(http.StatusAccepted)
		all = append(all, <-got)
	}
	h.call("partner", "POST", routes["/binary"]+"/test", "").want(http.StatusOK)
	all = append(all, <-got)

	var requests []map[string]any
	for _, a := range all {
		requests = append(requests, a.asSDK())
		if err := payloads.Verify(a.header, a.body, time.Now(), secrets[a.path]); err != nil {
			t.Errorf("%s: %v", a.path, err)
		}
		if got := a.header.Get("Content-Type"); got != modes[a.path].contentType {
			t.Errorf("%s: Content-Type is %s", a.path, got)
		}
	}
	var events []struct {
		Fault, SpecVersion, ID, Source, Type, Subject, DataContentType string
		Time                                                           time.Time
		Data                                                           json.RawMessage
	}
	h.must(json.Unmarshal(npmtest.Run(t, "cloudevents.mjs", requests, "cloudevents@10.0.0"), &events))
	accepted, err := time.Parse(time.RFC3339, receipt["accepted_at"].(string))
	h.must(err)
	for i, e := range events {
		a, id, typ := all[i], longestID, "payment_proof"
		switch {
		case a.path == "/stamped":
			id, typ = "door-1", "entry_code.validation_failed"
		case a.header.Get("Ringback-Test") != "":
			id = a.header.Get("Webhook-Id")
		}
		if a.path == "/structured" && !bytes.Contains(a.body, []byte(payload)) {
			t.Errorf("the payload's bytes changed: %s", a.body)
		}
		if e.Fault != "" || e.SpecVersion != "1.0" || e.ID != id || e.Source != "urn:ringback:company:acme" || e.Type != typ || e.Subject != "" {
			t.Errorf("%s: %+v", a.path, e)
		}
		if typ == "payment_proof" && id == longestID && !e.Time.Equal(accepted) {
			t.Errorf("%s: time is %s, want %s", a.path, e.Time, accepted)
		}
		var text string
		_ = json.Unmarshal(e.Data, &text)
		switch data := string(e.Data); {
		case id != longestID && id != "door-1": // an example
		case a.path == "/form" && text != form:
			t.Errorf("data is %s", data)
		case a.path == "/stamped" && (!strings.Contains(data, `"entryCode":"é"`) || !strings.Contains(data, `"timeOfIssue":"20`)):
			t.Errorf("data is %s", data)
		case (a.path == "/structured" || a.path == "/binary") && !strings.Contains(data, `"requestId":"é Nómina 😀 <&>\"%"`):
			t.Errorf("%s: data is %s", a.path, data)
		}
	}
}

// swapped is a text with its sixth character another one.
func swapped(text string) string {
	other := "A"
	if text[5] == 'A' {
		other = "B"
	}
	return text[:5] + other + text[6:]
}

// ticketOf is the path of a thin body's address.
func (h *house) ticketOf(a arrival) string {
	h.t.Helper()
	var doc struct{ ID, Type, URL, DataRef string }
	if err := json.Unmarshal(a.body, &doc); err != nil {
		values, err := url.ParseQuery(string(a.body))
		h.must(err)
		doc.URL = values.Get("url")
	}
	path, ok := strings.CutPrefix(doc.URL+doc.DataRef, "https://ringback.example.com")
	if !ok || !strings.HasPrefix(path, "/payloads/") {
		h.t.Fatalf("%s has no address: %s", a.path, a.body)
	}
	return path
}

// TestThinBodies: a thin body says where the payload is had, whoever has the address gets the very bytes, and the address ends with all it hangs on.
func TestThinBodies(t *testing.T) {
	h := newHouse(t)
	base, got := mailbox(t)
	const thin = `"body":"thin","callback_type":`
	full := `{ "requestId":"é 😀", "status":"OK" }`
	routes := map[string]string{}
	for path, members := range map[string]string{
		"/json": thin + `"payment_proof"`, "/form": thin + `"payment_proof"`, "/event": `"envelope":"cloudevents-structured",` + thin + `"payment_proof"`,
		"/stamped": thin + `"entry_code.*"`, "/shaped": thin + `"payment_proof","template":{"proof":{"$pointer":"/requestId"}}`, "/echo": thin + `"payment_proof"`,
	} {
		routes[path], _ = h.registered(base+path, members)
	}
	h.call("partner", "PATCH", routes["/form"], `{"destination":{"content_type":"application/x-www-form-urlencoded"}}`).want(http.StatusOK)
	h.work() // it announces itself nowhere, and would pass for one of a version before
	receipt := h.call("producer", "POST", "/companies/acme/events", `{"event_type":"payment_proof","event_id":"e-1","payload":`+full+`}`).want(http.StatusAccepted).json()
	h.call("producer", "POST", "/companies/acme/events", `{"event_type":"entry_code.validation_failed","event_id":"door-1","payload":{"entryCode":"é"}}`).want(http.StatusAccepted)
	all := map[string]arrival{}
	for range routes {
		a := <-got
		all[a.path] = a
		if bytes.Contains(a.body, []byte("é")) || a.header.Get("Content-Type") == "" {
			t.Errorf("%s is not thin: %s", a.path, a.body)
		}
	}
	doc := answer{t, 200, nil, all["/json"].body}.json()
	if doc["id"] != "e-1" || doc["type"] != "payment_proof" || doc["time"] != receipt["accepted_at"] || len(doc) != 4 {
		t.Errorf("%s", all["/json"].body)
	}
	for path, want := range map[string]string{"/json": full, "/event": full, "/form": "requestId=%C3%A9+%F0%9F%98%80&status=OK", "/shaped": `{"proof":"é 😀"}`, "/stamped": `"timeOfIssue":"20`} {
		a := h.call("", "GET", h.ticketOf(all[path]), "").want(http.StatusOK)
		if path == "/stamped" && !strings.Contains(string(a.body), want) || path != "/stamped" && string(a.body) != want {
			t.Errorf("%s leads to %s", path, a.body)
		}
		if a.header.Get("Cache-Control") != "no-store" || a.header.Get("X-Content-Type-Options") != "nosniff" || (a.header.Get("Content-Type") == payloads.ContentTypeForm) != (path == "/form") {
			t.Errorf("%s: %v", path, a.header)
		}
	}
	var event []map[string]any
	h.must(json.Unmarshal(npmtest.Run(t, "cloudevents.mjs", []any{all["/event"].asSDK()}, "cloudevents@10.0.0"), &event))
	if event[0]["dataref"] != "https://ringback.example.com"+h.ticketOf(all["/event"]) || event[0]["data"] != nil {
		t.Errorf("%v", event)
	}
	h.call("partner", "POST", routes["/shaped"]+"/verify", "").want(http.StatusOK)
	for a := range got {
		if strings.HasPrefix(a.header.Get("Webhook-Id"), "chl_") {
			if !bytes.HasPrefix(a.body, []byte(`{"challenge":"`)) {
				t.Errorf("the challenge is %s", a.body)
			}
			break
		}
	}
	dry := string(h.call("partner", "POST", routes["/json"]+"/dry-run", "").want(http.StatusOK).body)
	if !strings.Contains(dry, `https://ringback.example.com/payloads/***`) {
		t.Errorf("a dry run shows %s", dry)
	}
	h.thinIsHidden(receipt, all)
	h.thinEnds(got, routes, all)
}

// thinIsHidden: nobody but the partner sees a ticket, whatever the partner answers.
func (h *house) thinIsHidden(receipt map[string]any, all map[string]arrival) {
	h.t.Helper()
	for _, d := range receipt["deliveries"].([]any) {
		route := "/companies/acme/deliveries/" + d.(map[string]any)["delivery_id"].(string)
		h.until(route, func(m map[string]any) bool { return len(m["attempts"].([]any)) > 0 })
		for _, actor := range []string{"operator", "partner", "viewer"} {
			body := string(h.call(actor, "GET", route+"?include=request", "").want(http.StatusOK).body)
			for path, a := range all {
				if strings.Contains(body, strings.TrimPrefix(h.ticketOf(a), "/payloads/")) {
					h.t.Errorf("the %s sees the ticket of %s: %s", actor, path, body)
				}
			}
			if actor == "partner" && !strings.Contains(body, `/payloads/***`) && !strings.Contains(body, `%2Fpayloads%2F***`) {
				h.t.Errorf("the partner does not see the body: %s", body)
			}
		}
	}
	for path, a := range all {
		ticket := strings.TrimPrefix(h.ticketOf(a), "/payloads/")
		if strings.Contains(h.log.String(), ticket) {
			h.t.Errorf("the log has the ticket of %s", path)
		}
		for key, value := range h.snapshot("acme") {
			if strings.Contains(value, ticket) {
				h.t.Errorf("%s holds the ticket of %s", key, path)
			}
		}
	}
}

// expired is where a ticket leads that has so long yet.
func (h *house) expired(path string, left time.Duration) string {
	h.t.Helper()
	p, ok := registry.ParseTicket(strings.TrimPrefix(path, "/payloads/"))
	if !ok {
		h.t.Fatalf("%s is no ticket's", path)
	}
	cb, err := h.api.Registry.Get(h.t.Context(), p.Company, p.Callback)
	h.must(err)
	p.Expires = time.Now().Add(left)
	return "/payloads/" + cb.Ticket(p.Ticket)
}

// thinEnds: a ticket is good for one delivery, in all its attempts, until its secret, its callback or its event is gone.
func (h *house) thinEnds(got chan arrival, routes map[string]string, all map[string]arrival) {
	h.t.Helper()
	t := h.t
	path := h.ticketOf(all["/json"])
	again := func() arrival {
		route := "/companies/acme/deliveries/" + all["/json"].header.Get("Webhook-Id")
		h.until(route, func(m map[string]any) bool { return m["state"] == "delivered" })
		h.call("partner", "POST", route+"/replay", "").want(http.StatusAccepted)
		for a := range got {
			if a.path == "/json" {
				return a
			}
		}
		panic("unreachable")
	}
	if a := again(); !bytes.Equal(a.body, all["/json"].body) {
		t.Errorf("the replay's body is %s, want %s", a.body, all["/json"].body)
	}
	for _, wrong := range []string{path[:len(path)-4] + "AAAA", path[:40], "/payloads/x", "/payloads/" + swapped(path[len("/payloads/"):])} {
		h.call("", "GET", wrong, "").wantProblem(http.StatusNotFound)
	}
	h.call("partner", "POST", routes["/json"]+"/secret", `{"overlap":"1h"}`).want(http.StatusOK)
	h.call("", "GET", path, "").want(http.StatusOK)
	renewed := h.ticketOf(again())
	h.call("", "GET", renewed, "").want(http.StatusOK)
	h.call("partner", "POST", routes["/json"]+"/secret", `{"overlap":"0s"}`).want(http.StatusOK)
	h.call("", "GET", path, "").wantProblem(http.StatusNotFound)
	h.call("", "GET", renewed, "").wantProblem(http.StatusNotFound)

	h.call("partner", "POST", routes["/json"]+"/test", "").want(http.StatusOK)
	for a := range got {
		if a.header.Get("Ringback-Test") != "" {
			if body := h.call("", "GET", h.ticketOf(a), "").want(http.StatusOK).body; !bytes.Contains(body, []byte("requestId")) {
				t.Errorf("the test leads to %s", body)
			}
			break
		}
	}

	form := h.ticketOf(all["/form"])
	h.call("", "GET", h.expired(form, time.Minute), "").want(http.StatusOK)
	h.call("", "GET", h.expired(form, -time.Second), "").wantProblem(http.StatusGone)
	h.call("operator", "DELETE", "/companies/acme/events/e-1", "").want(http.StatusOK)
	h.call("", "GET", form, "").wantProblem(http.StatusGone)
	h.call("producer", "POST", "/companies/acme/events", `{"event_type":"payment_proof","event_id":"e-1","payload":{"requestId":"another","status":"OK"}}`).want(http.StatusAccepted)
	h.call("", "GET", form, "").wantProblem(http.StatusGone) // it is of the event that was erased
	stamped := h.ticketOf(all["/stamped"])
	h.call("partner", "DELETE", routes["/stamped"], "").want(http.StatusNoContent)
	h.call("", "GET", stamped, "").wantProblem(http.StatusNotFound)
	h.guesses()
	for range wrongKeys {
		h.call("", "GET", "/payloads/x", "")
	}
	if p := h.call("", "GET", "/payloads/x", "").wantProblem(http.StatusTooManyRequests); !strings.Contains(p.Detail, "too many unknown addresses") {
		t.Errorf("%+v", p)
	}
	h.call("", "GET", form, "").wantProblem(http.StatusGone) // a ticket is no guess
}
