package httpapi

import (
	"net/http"
	"strings"
	"testing"

	"github.com/ringback/ringback/payloads"
)

func TestAnIdempotencyKeyIsTheEventsID(t *testing.T) {
	h := newHouse(t)
	h.register("acme")
	h.register("other")
	const path = "/companies/acme/events"
	anonymous := strings.Replace(event("x"), `"event_id":"x",`, "", 1)
	send := func(body, key string) answer {
		return h.call("producer", "POST", path, body, header{"Idempotency-Key": key})
	}
	for key, id := range map[string]string{
		"order-4711": "order-4711", `"order-4712"`: "order-4712", strings.Repeat("k", 128): strings.Repeat("k", 128),
		`"order 4711/é"`: "", "order/4711": "idem_iqltdau1e3a69g0bg8l0c83essgame4v5prg0uau0qf26sitlie0", "..": "*", strings.Repeat("k", 129): "*", `"a \"b\" \\ c"`: "*",
	} {
		first := send(anonymous, key)
		if id == "" {
			first.wantProblem(http.StatusUnprocessableEntity)
			continue
		}
		m := first.want(http.StatusAccepted).json()
		if got, _ := m["event_id"].(string); got != id && id != "*" || !payloads.ValidEventID(got) {
			t.Errorf("%s: event_id = %q, want %q", key, got, id)
		}
		again := send(anonymous, key).want(http.StatusOK).json()
		if again["duplicate"] != true || again["event_id"] != m["event_id"] {
			t.Errorf("%s: again it is %v", key, again)
		}
		send(strings.Replace(anonymous, `"payload":{`, `"payload":{ `, 1), key).wantProblem(http.StatusConflict)
	}
	// The two ways to write a key are one key, and the id in the body is the stronger.
	if again := send(anonymous, `"order-4711"`).want(http.StatusOK).json(); again["duplicate"] != true {
		t.Errorf("in quotes it is another: %v", again)
	}
	if m := send(event("e1"), "order-4711").want(http.StatusAccepted).json(); m["event_id"] != "e1" {
		t.Errorf("event_id = %v", m["event_id"])
	}
	send(anonymous, "").wantFault("header.Idempotency-Key") // its caller counts on it
	// Another company's key is another.
	h.call("operator", "POST", "/companies/other/events", anonymous, header{"Idempotency-Key": "order-4711"}).want(http.StatusAccepted)
	h.call("producer", "POST", path, anonymous).want(http.StatusAccepted)
}

func TestReadIdempotencyKey(t *testing.T) {
	for header, want := range map[string]string{
		"a": "a", `"a"`: "a", `"a b"`: "a b", `"\"\\"`: `"\`, "a,b;c=d": "a,b;c=d", strings.Repeat("a", 255): strings.Repeat("a", 255),
		`""`: "", `"a`: "", `"a" `: "", `"a";v=1`: "", `"a", "b"`: "", `"\a"`: "", `"a\`: "", "a b": "", `a"b`: "", `a\b`: "", "a\x7f": "", "é": "", "\"a\tb\"": "", strings.Repeat("a", 256): "",
	} {
		if got, ok := readIdempotencyKey(header); ok != (want != "") || ok && got != want {
			t.Errorf("%q is read as %q, %v; want %q", header, got, ok, want)
		}
	}
}

func FuzzReadIdempotencyKey(f *testing.F) {
	f.Add(`"a \"b\" \\"`)
	f.Add("order-4711")
	f.Fuzz(func(t *testing.T, header string) {
		id, err := eventIDOf(header)
		if (err == nil && header != "") != (id != "") || id != "" && !payloads.ValidEventID(id) {
			t.Errorf("%q, %v", id, err)
		}
		key, ok := readIdempotencyKey(header)
		if quoted, back := readIdempotencyKey(`"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(key) + `"`); ok && (!back || quoted != key) {
			t.Errorf("%q comes back as %q", key, quoted)
		}
	})
}
