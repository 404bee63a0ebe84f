package registry_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

const pulled = `{"callback_type":"payment_proof","destination":{"pull":true}}`

// TestPulledCallbacks: the gate of a callback whose partner fetches never opens, under whatever closes it besides; and it looks enabled.
func TestPulledCallbacks(t *testing.T) {
	h := newHouse(t).verifying()
	ctx := t.Context()
	cb := h.create("acme", pulled)
	gate := registry.GateKey("acme", cb.ID)
	want := func(what string, status registry.Status, closed ...string) {
		t.Helper()
		got := h.get("acme", cb.ID) //nolint:contextcheck // the test's
		text := h.redis.Get(ctx, gate).Val()
		for _, piece := range closed {
			if !strings.Contains(text, `"status":"`+piece+`"`) {
				t.Errorf("%s: the gate is %s", what, text)
			}
		}
		if got.Status != status || strings.Count(text, `"status"`) != len(closed) || !got.Destination.Pull {
			t.Errorf("%s: %s, and the gate is %s", what, got.Status, text)
		}
	}
	want("new", registry.Enabled, "pull")
	if cb.Moved || cb.Destination.Host() != "" {
		t.Error("it is to be challenged, or has a host")
	}
	do := func(_ *registry.Callback, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(h.Resume(ctx, "acme", cb.ID))
	want("resumed without being paused", registry.Enabled, "pull")
	do(h.Pause(ctx, "acme", cb.ID))
	do(h.Pause(ctx, "acme", cb.ID))
	want("paused", registry.Paused, "paused", "pull")
	do(h.Patch(ctx, "acme", cb.ID, []byte(`{"description":"mine","destination":{"pull":true}}`)))
	want("changed while it is paused", registry.Paused, "paused", "pull")
	do(h.Resume(ctx, "acme", cb.ID))
	want("resumed", registry.Enabled, "pull")
	shown, err := json.Marshal(h.get("acme", cb.ID))
	if err != nil || !strings.Contains(string(shown), `"destination":{"pull":true}`) || !strings.Contains(string(shown), `"status":"enabled"`) {
		t.Errorf("it is shown as %s, %v", shown, err)
	}
	var said []string
	for _, line := range h.redis.XRange(ctx, registry.AuditKey("acme"), "-", "+").Val() {
		for _, v := range line.Values {
			said = append(said, v.(string))
		}
	}
	trail := strings.Join(said, "\n")
	if strings.Count(trail, `"paused"`) != 2 || strings.Contains(trail, `"pull"`) || strings.Contains(trail, `"unverified"`) {
		t.Errorf("the audit trail says\n%s", trail)
	}
	if _, matched, err := h.Match(ctx, "acme", "payment_proof", nil, cb.CreatedAt, nil); err != nil || len(matched) != 1 {
		t.Errorf("it is matched %v, %v", matched, err)
	}
}

// TestWhatPullingRules out: nothing is sent, so nothing that says how. And a callback is of one kind for good.
func TestWhatPullingRulesOut(t *testing.T) {
	h := newHouse(t)
	sent, fetched := h.create("acme", plain), h.create("acme", pulled)
	for _, test := range []struct {
		of   *registry.Callback // nil: a new one
		body string
		want []string // the faults' locations, in order
	}{
		{
			nil, `{"callback_type":"payment_proof","destination":{"pull":true,"url":"https://x.example/","method":"PUT","content_type":"application/json"}}`,
			[]string{"body.destination.content_type", "body.destination.method", "body.destination.url"},
		},
		{nil, `{"callback_type":"payment_proof","destination":{"pull":"yes"}}`, []string{"body.destination.pull"}},
		{nil, `{"callback_type":"payment_proof","destination":{"pull":false}}`, []string{"body.destination.url"}},
		{nil, `{"callback_type":"payment_proof","destination":{"pull":true,"uri":"x"}}`, []string{"body.destination.uri"}},
		{
			nil, `{"callback_type":"payment_proof","destination":{"pull":true},"trace":true,"timeout":"20s","headers":{"X-A":"b"},"auth":{"type":"bearer","token":"t"},"rate_limit":{"per_second":1,"burst":1},"retry":{"max_attempts":3}}`,
			[]string{"body.auth", "body.headers", "body.rate_limit", "body.retry", "body.timeout", "body.trace"},
		},
		{sent, `{"destination":{"pull":true}}`, []string{"body.destination.pull"}},
		{sent, `{"destination":{"pull":true,"url":null,"method":null,"content_type":null}}`, []string{"body.destination.pull"}},
		{fetched, `{"destination":{"pull":null,"url":"https://x.example/"}}`, []string{"body.destination.pull"}},
		{fetched, `{"destination":{"url":"https://x.example/"}}`, []string{"body.destination.url"}},
		{fetched, `{"timeout":"15s","retry":{"max_attempts":15},"destination":{"pull":true}}`, nil},
	} {
		var err error
		if test.of == nil {
			_, err = h.Create(t.Context(), "acme", []byte(test.body))
		} else {
			_, err = h.Patch(t.Context(), "acme", test.of.ID, []byte(test.body))
		}
		var got []string
		if invalid, ok := errors.AsType[*payloads.InvalidError](err); ok {
			for _, f := range invalid.Fields {
				got = append(got, f.Location)
			}
		} else if err != nil {
			t.Fatal(err)
		}
		if strings.Join(got, " ") != strings.Join(test.want, " ") {
			t.Errorf("%s: %v (%v); want %v", test.body, got, err, test.want)
		}
	}
	if got := h.get("acme", sent.ID); got.Destination.Pull || got.Destination.URL == "" {
		t.Errorf("it is %+v", got.Destination)
	}
}
