package httpapi

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher"
)

// awkwardPayload is one that any rewriting would change.
const awkwardPayload = "{ \"requestId\":\"\\u00e9<script>\" ,\"status\": \"OK\",  \"n\":1.0 }"

// TestThePayloadsBytes are what came in, for those who send and receive it. No browser takes them for a page.
func TestThePayloadsBytes(t *testing.T) {
	h := newHouse(t)
	h.call("producer", "POST", "/companies/acme/events", `{"event_type":"payment_proof","event_id":"a:b","payload":`+awkwardPayload+`}`).want(http.StatusAccepted)
	const route = "/companies/acme/events/a:b/payload"
	for _, actor := range []string{"operator", "acme operator", "producer", "all producer", "partner"} {
		a := h.call(actor, "GET", route, "").want(http.StatusOK)
		if string(a.body) != awkwardPayload {
			t.Errorf("the %s gets %q", actor, a.body)
		}
		for name, want := range map[string]string{
			"Content-Type": "application/json", "Content-Disposition": `attachment; filename="a:b.json"`, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
			"Repr-Digest": "sha-256=:dSX/oGMmUs7hwXVeMW0uRG13dJ2/UIebCG7+WWQ+ExY=:",
		} {
			if got := a.header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	}
	for _, actor := range []string{"viewer", "acme viewer"} {
		h.call(actor, "GET", route, "").wantProblem(http.StatusForbidden)
	}
	for _, actor := range []string{"other operator", "other producer", "other partner", "other viewer"} {
		h.call(actor, "GET", route, "").wantProblem(http.StatusNotFound)
	}
	h.call("operator", "GET", "/companies/acme/events/nobodys/payload", "").wantProblem(http.StatusNotFound)
	h.must(h.rdb.HDel(t.Context(), "{acme}:ev:a:b", "b", "z").Err())
	if p := h.call("operator", "GET", route, "").wantProblem(http.StatusGone); !strings.Contains(p.Detail, "--body-retention") {
		t.Errorf("%+v", p)
	}
}

// A sentDoc is a delivery with its requests, as the API shows it.
type sentDoc struct {
	Attempts []struct {
		Request *struct {
			Method, URL  string
			Headers      map[string]string
			Body         *string
			BodyEncoding string    `json:"body_encoding"`
			BodyMissing  string    `json:"body_missing"`
			SentAt       time.Time `json:"sent_at"`
		}
		RequestMissing string `json:"request_missing"`
		Timing         *struct {
			Total     float64 `json:"total_ms"`
			FirstByte float64 `json:"first_byte_ms"`
		}
	}
}

// TestTheRequestThatWasSent is shown where it is asked for: to viewers without payload and query, to others as it went out.
func TestTheRequestThatWasSent(t *testing.T) {
	h := newHouse(t)
	got := make(chan http.Header, 1)
	partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		got <- r.Header.Clone()
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(partner.Close)
	h.call("partner", "POST", "/companies/acme/config/callbacks", fmt.Sprintf(`{"callback_type":"payment_proof","destination":{"url":%q},"headers":{"X-Key":"canary-own"},"auth":{"type":"bearer","token":"canary-bearer"}}`,
		partner.URL+"/hook?key=canary-query")).want(http.StatusCreated)
	h.work()
	receipt := h.call("producer", "POST", "/companies/acme/events", `{"event_type":"payment_proof","event_id":"e","payload":`+awkwardPayload+`}`).want(http.StatusAccepted).json()
	route := "/companies/acme/deliveries/" + receipt["deliveries"].([]any)[0].(map[string]any)["delivery_id"].(string)
	received := <-got
	for h.call("operator", "GET", route, "").want(http.StatusOK).json()["state"] != "delivered" {
		<-time.After(10 * time.Millisecond)
	}
	if a := h.call("operator", "GET", route, "").want(http.StatusOK); strings.Contains(string(a.body), "request") && strings.Contains(string(a.body), "timing") {
		t.Errorf("nobody asked for it: %s", a.body)
	}
	for actor := range actors {
		a := h.call(actor, "GET", route+"?include=request", "")
		if strings.HasPrefix(actor, "other") {
			a.wantProblem(http.StatusNotFound)
			continue
		}
		if strings.Contains(string(a.want(http.StatusOK).body), "canary") {
			t.Errorf("the %s sees a secret: %s", actor, a.body)
		}
		var doc sentDoc
		h.must(json.Unmarshal(a.body, &doc))
		r, viewer := doc.Attempts[0].Request, strings.HasSuffix(actor, "viewer")
		query := map[bool]string{true: "?***", false: "?key=***"}[viewer]
		if r == nil || r.Method != "POST" || r.URL != partner.URL+"/hook"+query || doc.Attempts[0].Timing == nil || doc.Attempts[0].Timing.FirstByte <= 0 || r.SentAt.IsZero() {
			t.Fatalf("the %s sees %s", actor, a.body)
		}
		for _, name := range []string{"Webhook-Signature", "Webhook-Timestamp", "Webhook-Id", "User-Agent", "Ringback-Attempt", "Ringback-Event-Id", "Ringback-Event-Type", "Content-Type"} {
			if r.Headers[name] != received.Get(name) {
				t.Errorf("%s: %q is shown, and %q came", name, r.Headers[name], received.Get(name))
			}
		}
		if r.Headers["X-Key"] != "***" || r.Headers["Authorization"] != "***" {
			t.Errorf("the %s sees %v", actor, r.Headers)
		}
		switch {
		case viewer && (r.Body != nil || r.BodyMissing == ""):
			t.Errorf("the %s sees %q, missing %q", actor, *r.Body, r.BodyMissing)
		case !viewer && (r.Body == nil || *r.Body != awkwardPayload):
			t.Errorf("the %s sees %v", actor, r.Body)
		}
	}
	h.call("operator", "GET", route+"?include=nonsense", "").wantFault("query.include")
	h.call("partner", "POST", path.Dir(path.Dir(route))+"/config/callbacks/1/test", "").want(http.StatusOK)
	<-got
}

// TestTheRequestOfABatch is shown whole at each of its deliveries, and what is missing is named. Viewers see which deliveries those are.
func TestTheRequestOfABatch(t *testing.T) {
	h := newHouse(t)
	got := make(chan string, 1)
	partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- string(body)
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(partner.Close)
	h.call("partner", "POST", "/companies/acme/config/callbacks", fmt.Sprintf(`{"callback_type":"payment_proof","destination":{"url":%q},"batch":{"max_events":2}}`, partner.URL)).want(http.StatusCreated)
	h.work()
	var ids []string
	for _, id := range []string{"a", "b"} {
		receipt := h.call("producer", "POST", "/companies/acme/events", `{"event_type":"payment_proof","event_id":"`+id+`","payload":`+awkwardPayload+`}`).want(http.StatusAccepted).json()
		ids = append(ids, receipt["deliveries"].([]any)[0].(map[string]any)["delivery_id"].(string))
	}
	received, route := <-got, "/companies/acme/deliveries/"+ids[1]
	for h.call("operator", "GET", route, "").want(http.StatusOK).json()["state"] != "delivered" {
		<-time.After(10 * time.Millisecond)
	}
	request := func(actor string) map[string]any {
		return h.call(actor, "GET", route+"?include=request", "").want(http.StatusOK).json()["attempts"].([]any)[0].(map[string]any)["request"].(map[string]any)
	}
	elements := func(r map[string]any) string {
		text, _ := json.Marshal(r["elements"])
		return string(text)
	}
	both := fmt.Sprintf(`[{"delivery_id":%q,"event_id":"a"},{"delivery_id":%q,"event_id":"b"}]`, ids[0], ids[1])
	if r := request("partner"); r["body"] != received || elements(r) != both {
		t.Errorf("it shows %v, and %s", r, elements(r))
	}
	if r := request("viewer"); r["body"] != nil || r["body_missing"] == nil || elements(r) != both {
		t.Errorf("a viewer sees %v, and %s", r, elements(r))
	}
	h.call("other operator", "GET", route+"?include=request", "").wantProblem(http.StatusNotFound)
	h.call("operator", "DELETE", "/companies/acme/events/a", "").want(http.StatusOK)
	const missing = "its event was erased, or is no longer kept"
	if r := request("operator"); r["body"] != nil || r["body_missing"] != "of its 2 elements one is missing: "+missing ||
		r["elements"].([]any)[0].(map[string]any)["missing"] != missing || r["elements"].([]any)[1].(map[string]any)["body"] != awkwardPayload {
		t.Errorf("it shows %v, and %s", r, elements(r))
	}
}

// TestABodyThatIsNoTextIsBase64 in JSON.
func TestABodyThatIsNoTextIsBase64(t *testing.T) {
	text, err := json.Marshal(dispatcher.Request{Body: []byte("\xff\x00")})
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Body     string
		Encoding string `json:"body_encoding"`
	}
	if err := json.Unmarshal(text, &doc); err != nil || doc.Encoding != "base64" || doc.Body != base64.StdEncoding.EncodeToString([]byte("\xff\x00")) {
		t.Errorf("%s, %v", text, err)
	}
}
