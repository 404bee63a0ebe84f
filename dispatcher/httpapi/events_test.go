package httpapi

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/payloads"
)

func TestAnEventIsAcceptedOnce(t *testing.T) {
	h := newHouse(t)
	h.register("acme")
	const path = "/companies/acme/events"
	first := h.call("producer", "POST", path, event("e1")).want(http.StatusAccepted)
	if got := first.header.Get("Location"); got != path+"/e1" {
		t.Errorf("Location = %q", got)
	}
	m := first.json()
	for _, member := range []string{"event_id", "event_type", "accepted_at", "deliveries"} {
		if m[member] == nil {
			t.Errorf("no %s: %s", member, first.body)
		}
	}
	again := h.call("producer", "POST", path, event("e1")).want(http.StatusOK).json()
	if again["duplicate"] != true {
		t.Errorf("not called a duplicate: %v", again)
	}
	delete(again, "duplicate")
	if diff := cmp.Diff(m, again); diff != "" {
		t.Errorf("the second answer differs: %s", diff)
	}
	// A single space more is other content: bytes count.
	h.call("producer", "POST", path, strings.Replace(event("e1"), `"payload":{`, `"payload":{ `, 1)).wantProblem(http.StatusConflict)
	// Outside the payload it is not.
	h.call("producer", "POST", path, strings.Replace(event("e1"), `"payload":{`, ` "payload" : {`, 1)).want(http.StatusOK)

	made := h.call("producer", "POST", path, `{"event_type":"wallet_item_install","event_id":null,"occurred_at":null,"payload":`+payload+`}`).want(http.StatusAccepted).json()
	if !strings.HasPrefix(made["event_id"].(string), "evt_") {
		t.Errorf("event_id = %v", made["event_id"])
	}
}

func TestDecodeEvent(t *testing.T) {
	at := time.Date(2026, 1, 31, 23, 59, 59, 500e6, time.UTC)
	for _, c := range []struct {
		body string
		want payloads.Event
	}{
		{`{"event_type":"t","payload":{}}`, payloads.Event{Type: "t", Payload: []byte(`{}`)}},
		{`{"payload":{"a":1.0, "b" : "\u00e9"},"event_type":"t"}`, payloads.Event{Type: "t", Payload: []byte(`{"a":1.0, "b" : "\u00e9"}`)}},
		{"{ \"payload\" :\t\n{ } ,\"event_type\":\"t\" } \n", payloads.Event{Type: "t", Payload: []byte(`{ }`)}},
		{`{"event_type":"t","payload":{"a":1,"a":2}}`, payloads.Event{Type: "t", Payload: []byte(`{"a":1,"a":2}`)}},
		{`{"event_type":"t","payload":[1E+2,-0,0.10,123456789012345678901234567890,1e400]}`, payloads.Event{Type: "t", Payload: []byte(`[1E+2,-0,0.10,123456789012345678901234567890,1e400]`)}},
		{`{"event_type":"t","payload":"<&>\/\ud83d\ude00"}`, payloads.Event{Type: "t", Payload: []byte(`"<&>\/\ud83d\ude00"`)}},
		{`{"\u0065vent_type":"t","payload":0}`, payloads.Event{Type: "t", Payload: []byte(`0`)}},
		{`{"event_type":"t","event_id":"e","occurred_at":"2026-01-31t23:59:59.5z","payload":0}`, payloads.Event{Type: "t", ID: "e", OccurredAt: at, Payload: []byte(`0`)}},
		{`{"event_type":"t","occurred_at":"2026-02-01T01:59:59.5+02:00","payload":0}`, payloads.Event{Type: "t", OccurredAt: at, Payload: []byte(`0`)}},
	} {
		c.want.Company = "acme"
		body := []byte(c.body)
		got, err := decodeEvent("acme", body)
		if err != nil {
			t.Errorf("%s: %v", c.body, err)
			continue
		}
		clear(body) // the buffer is used again for other requests
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", c.body, diff)
		}
	}
}

func FuzzDecodeEvent(f *testing.F) {
	f.Add([]byte(event("e1")))
	f.Add([]byte(`{"payload":{"a":1.0, "b" : "\u00e9"},"event_type":"t"}`))
	f.Add([]byte(`{"event_id":7} x`))
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := decodeEvent("acme", body)
		if err != nil {
			if p, _ := explain(err); p.Status != 400 && p.Status != 422 {
				t.Errorf("status %d for %q", p.Status, body)
			}
			return
		}
		if e.Payload != nil && !strings.Contains(string(body), string(e.Payload)) {
			t.Errorf("payload %q does not stand in %q", e.Payload, body)
		}
	})
}

// What a producer sends is what the partner gets, to the byte; through the real dispatcher and over real HTTP.
func TestPayloadsTravelByteForByte(t *testing.T) {
	h := newHouse(t)
	got := make(chan string, 1)
	partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got <- string(b)
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(partner.Close)
	h.work()
	h.call("partner", "POST", "/companies/acme/config/callbacks",
		fmt.Sprintf(`{"callback_type":"wallet_item_install","destination":{"url":%q}}`, partner.URL+"/hook")).want(http.StatusCreated)

	odd := "{ \"a\":1.0, \"a\":2, \"b\" : \"\\u00e9\\/<&>\u2028\", \"n\":[ 1E+2 , -0,0.10,123456789012345678901234567890 ],\n\t" + payload[1:len(payload)-1] + " }"
	h.call("producer", "POST", "/companies/acme/events", `{"payload": `+odd+` ,"event_type":"wallet_item_install"}`).want(http.StatusAccepted)
	if body := <-got; body != odd {
		t.Errorf("sent     %q\nreceived %q", odd, body)
	}
}

func TestListsAreNeverNull(t *testing.T) {
	h := newHouse(t)
	h.call("producer", "POST", "/companies/acme/events", event("lonely")).want(http.StatusAccepted)
	for path, want := range map[string]string{
		"/companies/acme/config/callbacks": `"callbacks":[]`,
		"/companies/acme/deliveries":       `"deliveries":[]`,
		"/companies/acme/events/lonely":    `"callbacks":[]`,
	} {
		if a := h.call("operator", "GET", path, "").want(200); !strings.Contains(string(a.body), want) {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	if a := h.call("producer", "POST", "/companies/acme/events", event("lonely")).want(200); !strings.Contains(string(a.body), `"deliveries":[]`) {
		t.Errorf("%s", a.body)
	}
	delivery := func() string { h.register("acme"); return h.send("acme", "e") }()
	if a := h.call("operator", "GET", delivery, "").want(200); !strings.Contains(string(a.body), `"attempts":[]`) {
		t.Errorf("%s", a.body)
	}
}

// The life of a callback and of a delivery, as a partner leads it.
func TestWalkThrough(t *testing.T) {
	h := newHouse(t)
	created := h.call("partner", "POST", "/companies/acme/config/callbacks", hook).want(http.StatusCreated)
	m := created.json()
	callback := created.header.Get("Location")
	if m["url"] != callback || !strings.HasPrefix(m["secret"].(string), "whsec_") {
		t.Errorf("created: %s (at %s)", created.body, callback)
	}
	if shown := h.call("partner", "GET", callback, "").want(200).json(); shown["secret"] != nil || shown["status"] != "enabled" {
		t.Errorf("shown: %v", shown)
	}
	if paused := h.call("partner", "POST", callback+"/pause", "").want(200).json(); paused["status"] != "paused" {
		t.Errorf("paused: %v", paused)
	}
	if list := h.call("partner", "GET", "/companies/acme/config/callbacks?status=paused", "").want(200).json(); len(list["callbacks"].([]any)) != 1 {
		t.Errorf("list: %v", list)
	}

	delivery := h.send("acme", "e1")
	if d := h.call("partner", "GET", delivery, "").want(200).json(); d["state"] != "held" || d["summary"] == "" {
		t.Errorf("delivery: %v", d)
	}
	if x := h.call("producer", "GET", "/companies/acme/events/e1?callback_id=1", "").want(200).json(); len(x["callbacks"].([]any)) != 1 {
		t.Errorf("explanation: %v", x)
	}
	if x := h.call("producer", "GET", "/companies/acme/events/e1?callback_id=9", "").want(200).json(); len(x["callbacks"].([]any)) != 0 {
		t.Errorf("explanation for nobody: %v", x)
	}
	h.call("partner", "POST", delivery+"/replay", "").wantProblem(http.StatusConflict)
	if d := h.call("partner", "POST", delivery+"/cancel", "").want(200).json(); d["state"] != "cancelled" {
		t.Errorf("cancelled: %v", d)
	}
	h.call("partner", "POST", delivery+"/cancel", "").wantProblem(http.StatusConflict)
	h.call("partner", "POST", delivery+"/replay", "").want(http.StatusAccepted)
	if d := h.call("partner", "GET", "/companies/acme/deliveries?state=held,pending&callback_id=1&event_type=wallet_item_install", "").want(200).json(); len(d["deliveries"].([]any)) != 1 {
		t.Errorf("deliveries: %v", d)
	}
	if cb := h.call("partner", "POST", callback+"/resume", `{"skip_held":true}`).want(200).json(); cb["status"] != "enabled" {
		t.Errorf("resumed: %v", cb)
	}
	if cb := h.call("partner", "PATCH", callback, `{"description":"ours"}`).want(200).json(); cb["description"] != "ours" || cb["secret"] != nil {
		t.Errorf("patched: %v", cb)
	}
	if a := h.call("partner", "DELETE", callback, "").want(http.StatusNoContent); len(a.body) > 0 {
		t.Errorf("a body with 204: %s", a.body)
	}
	h.call("partner", "GET", callback, "").wantProblem(http.StatusNotFound)
	h.call("partner", "DELETE", callback, "").wantProblem(http.StatusNotFound)
}

func TestListsHavePages(t *testing.T) {
	h := newHouse(t)
	for range 3 {
		h.register("acme")
	}
	h.send("acme", "e")
	for path, list := range map[string]string{
		"/companies/acme/config/callbacks": "callbacks",
		"/companies/acme/deliveries":       "deliveries",
		"/companies/acme/events/e":         "callbacks",
	} {
		seen := map[string]bool{}
		next := ""
		for range 10 {
			page := h.call("operator", "GET", path+"?limit=2&cursor="+next, "").want(200).json()
			for _, entry := range page[list].([]any) {
				seen[fmt.Sprint(entry)] = true
			}
			next, _ = page["next_cursor"].(string)
			if next == "" {
				break
			}
		}
		if len(seen) != 3 || next != "" {
			t.Errorf("%s: %d different entries, want 3; next %q", path, len(seen), next)
		}
	}
}

func TestCallbackTypes(t *testing.T) {
	h := newHouse(t)
	list := h.call("producer", "GET", "/callback-types", "").want(200).json()["callback_types"].([]any)
	if want := len(payloads.Builtin().Types()); len(list) != want {
		t.Errorf("%d types, want %d", len(list), want)
	}
	one := h.call("producer", "GET", "/callback-types/wallet_item_install", "").want(200).json()
	for _, member := range []string{"name", "description", "match", "match_blocks", "success", "schema", "example"} {
		if one[member] == nil {
			t.Errorf("no %s", member)
		}
	}
}

// TestUnknownTypesAreToldWhatIsNear: wherever a type is named that is none, the answer says what may have been meant, and how to add one.
func TestUnknownTypesAreToldWhatIsNear(t *testing.T) {
	h := newHouse(t)
	h.call("operator", "PUT", "/callback-types/order.placed", `{}`).want(http.StatusCreated)
	for name, near := range map[string]string{
		"wallet_install": "near: wallet_item_install",
		"order.place":    "near: order.placed",
		"nope":           "GET /callback-types lists",
	} {
		for _, r := range []struct{ key, method, path, body string }{
			{"operator", "GET", "/callback-types/" + name, ""},
			{"producer", "POST", "/companies/acme/events", `{"event_type": "` + name + `", "payload": {}}`},
			{"partner", "POST", "/companies/acme/config/callbacks", `{"callback_type": "` + name + `", "destination": {"url": "https://x.example/"}}`},
		} {
			status := http.StatusUnprocessableEntity
			if r.method == "GET" {
				status = http.StatusNotFound
			}
			said := h.call(r.key, r.method, r.path, r.body).wantProblem(status).Detail
			if !strings.Contains(said, "no such") || !strings.Contains(said, near) || len(said) > 200 {
				t.Errorf("%s %s of %s: %s", r.method, r.path, name, said)
			}
			if status == http.StatusUnprocessableEntity && !strings.Contains(said, "an operator adds one with `ringback types put`") {
				t.Errorf("%s %s of %s does not say how to add one: %s", r.method, r.path, name, said)
			}
		}
	}
}
