package client_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/client"
)

// wantStatus is about an error that must be the server's, with that status.
func wantStatus(t *testing.T, what string, err error, status int) {
	t.Helper()
	if e, ok := errors.AsType[*client.APIError](err); !ok || e.Status != status {
		t.Errorf("%s: %v, want status %d", what, err, status)
	}
}

// A callback is changed only as its caller knows it, by every call that can. Every answer that shows it alone has its ETag.
func TestIfMatchOfCallbacks(t *testing.T) {
	h := newHouse(t)
	keyed := registration
	keyed.Signature = &client.Signature{Ed25519: true}
	cb, err := h.client.CreateCallback(t.Context(), "acme", keyed)
	must(t, err)
	first, id := cb.ETag, cb.CallbackID
	calls := map[string]func(context.Context) (*client.Callback, error){
		"patch": func(ctx context.Context) (*client.Callback, error) {
			return h.client.PatchCallback(ctx, "acme", id, map[string]any{"description": time.Now()})
		},
		"secret": func(ctx context.Context) (*client.Callback, error) {
			return h.client.RotateSecret(ctx, "acme", id, 0)
		},
		"secret to": func(ctx context.Context) (*client.Callback, error) {
			return h.client.RotateSecretTo(ctx, "acme", id, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 0)
		},
		"key": func(ctx context.Context) (*client.Callback, error) {
			return h.client.RotateKey(ctx, "acme", id, time.Hour, 0)
		},
		"do": func(ctx context.Context) (*client.Callback, error) {
			_, err := h.client.Do(ctx, http.MethodPatch, "/companies/acme/config/callbacks/1", nil, []byte(`{"description":"done"}`))
			if err != nil {
				return nil, err
			}
			return h.client.Callback(t.Context(), "acme", id) //nolint:contextcheck // the condition is for the change alone
		},
	}
	stale, tag := first, ""
	for name, call := range calls {
		cb, err := h.client.Callback(t.Context(), "acme", id)
		must(t, err)
		if tag = cb.ETag; !strings.HasPrefix(tag, `"`) {
			t.Fatalf("before %s the ETag is %s", name, tag)
		}
		if stale != tag {
			_, err = call(client.WithIfMatch(t.Context(), stale))
			wantStatus(t, name, err, http.StatusPreconditionFailed)
		}
		next, err := call(client.WithIfMatch(t.Context(), tag))
		must(t, err)
		if next.ETag == tag || next.ETag == "" {
			t.Errorf("%s: the ETag was %s, and is %s", name, tag, next.ETag)
		}
		stale = tag
	}
	for name, still := range map[string]func() (*client.Callback, error){
		"pause":  func() (*client.Callback, error) { return h.client.PauseCallback(t.Context(), "acme", id) },
		"resume": func() (*client.Callback, error) { return h.client.ResumeCallback(t.Context(), "acme", id, false) },
	} {
		now, err := h.client.Callback(t.Context(), "acme", id)
		must(t, err)
		if cb, err := still(); err != nil || cb.ETag != now.ETag {
			t.Errorf("%s: %v, %v", name, cb, err)
		}
		tag = now.ETag
	}
	wantStatus(t, "delete", h.client.DeleteCallback(client.WithIfMatch(t.Context(), first), "acme", id), http.StatusPreconditionFailed)
	must(t, h.client.DeleteCallback(client.WithIfMatch(t.Context(), `"1", `+tag), "acme", id))
}

// A callback type is replaced and deleted only as its caller knows it.
func TestIfMatchOfTypes(t *testing.T) {
	h := newHouse(t)
	_, err := h.client.PutType(client.WithIfMatch(t.Context(), "*"), "order.placed", client.TypeDefinition{})
	wantStatus(t, "one that is not there", err, http.StatusPreconditionFailed)
	first, err := h.client.PutType(t.Context(), "order.placed", client.TypeDefinition{Description: "first"})
	must(t, err)
	if shown, err := h.client.Type(t.Context(), "order.placed"); err != nil || shown.ETag != first.ETag || first.ETag == "" {
		t.Errorf("put as %s, and shown as %v, %v", first.ETag, shown, err)
	}
	second, err := h.client.PutType(client.WithIfMatch(t.Context(), first.ETag), "order.placed", client.TypeDefinition{Description: "second"})
	must(t, err)
	_, err = h.client.PutType(client.WithIfMatch(t.Context(), first.ETag), "order.placed", client.TypeDefinition{Description: "third"})
	wantStatus(t, "another's", err, http.StatusPreconditionFailed)
	wantStatus(t, "delete", h.client.DeleteType(client.WithIfMatch(t.Context(), first.ETag), "order.placed"), http.StatusPreconditionFailed)
	must(t, h.client.DeleteType(client.WithIfMatch(t.Context(), second.ETag), "order.placed"))
}

// A change whose answer is lost is not asked for again, for its own success would refuse it. With an Idempotency-Key a rotation is, and gets the answer that was lost.
func TestIfMatchAndLostAnswers(t *testing.T) {
	h := newHouse(t)
	cb, err := h.client.CreateCallback(t.Context(), "acme", registration)
	must(t, err)
	h.wire.tear = func(resp *http.Response) (*http.Response, error) {
		h.wire.tear = nil
		_ = resp.Body.Close()
		return nil, errors.New("the line is dead")
	}
	before := h.wire.count()
	_, err = h.client.PatchCallback(client.WithIfMatch(t.Context(), cb.ETag), "acme", 1, map[string]any{"description": "mine"})
	if _, ok := errors.AsType[*client.UnreachableError](err); !ok || h.wire.count() != before+1 {
		t.Errorf("after %d tries: %v", h.wire.count()-before, err)
	}
	cb, err = h.client.Callback(t.Context(), "acme", 1)
	must(t, err)
	if cb.Description != "mine" {
		t.Fatal("the change whose answer was lost was not made: the test shows nothing")
	}
	h.wire.tear = func(resp *http.Response) (*http.Response, error) {
		h.wire.tear = nil
		_ = resp.Body.Close()
		return nil, errors.New("the line is dead")
	}
	before = h.wire.count()
	rotated, err := h.client.RotateSecret(client.WithIfMatch(client.WithIdempotencyKey(t.Context(), "k1"), cb.ETag), "acme", 1, 0)
	if err != nil || h.wire.count() != before+2 || rotated.Secret == "" || rotated.ETag == cb.ETag || rotated.ETag == "" {
		t.Errorf("after %d tries: %+v, %v", h.wire.count()-before, rotated, err)
	}
	if now, err := h.client.Callback(t.Context(), "acme", 1); err != nil || now.ETag != rotated.ETag {
		t.Errorf("%+v, %v, but it answered %s", now, err, rotated.ETag)
	}
}

// What could not be heeded is refused before anything is asked: If-Match on other calls, and an ETag that is none. A proxy that compresses makes an ETag weak, which
// If-Match does not take.
func TestIfMatchThatCannotBeHeeded(t *testing.T) {
	h := newHouse(t)
	_, err := h.client.CreateCallback(t.Context(), "acme", registration)
	must(t, err)
	page, err := h.client.Callbacks(t.Context(), "acme", client.CallbacksQuery{})
	must(t, err)
	before := h.wire.count()
	for _, tag := range []string{page.Callbacks[0].ETag, "\"1\"\r\nX-Other: 1"} {
		if _, err := h.client.PatchCallback(client.WithIfMatch(t.Context(), tag), "acme", 1, map[string]any{}); err == nil || !strings.Contains(err.Error(), "needs an ETag") {
			t.Errorf("%q: %v", tag, err)
		}
	}
	ctx := client.WithIfMatch(t.Context(), "*")
	for name, call := range map[string]func() error{
		"pause":   func() error { _, err := h.client.PauseCallback(ctx, "acme", 1); return err },
		"create":  func() error { _, err := h.client.CreateCallback(ctx, "acme", registration); return err },
		"read":    func() error { _, err := h.client.Callback(ctx, "acme", 1); return err },
		"send":    func() error { _, err := h.client.Send(ctx, "acme", event("e")); return err },
		"company": func() error { return h.client.DeleteCompanyTLS(ctx, "acme") },
	} {
		if err := call(); err == nil || !strings.Contains(err.Error(), "this is none") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if h.wire.count() != before {
		t.Errorf("%d requests were made", h.wire.count()-before)
	}

	h.wire.tear = func(resp *http.Response) (*http.Response, error) {
		resp.Header.Set("ETag", "W/"+resp.Header.Get("ETag"))
		return resp, nil
	}
	cb, err := h.client.Callback(t.Context(), "acme", 1)
	must(t, err)
	_, err = h.client.PatchCallback(client.WithIfMatch(t.Context(), cb.ETag), "acme", 1, map[string]any{"description": "mine"})
	must(t, err)
}
