package dispatcher

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// verifying makes the house want proof of control.
func (h *house) verifying() {
	h.t.Helper()
	var err error
	h.registry, err = registry.New(registry.Config{Redis: h.rdb, Catalogue: payloads.Builtin(), Keyset: h.keyset, Logger: testLog(h.t), VerifyDestinations: true})
	h.must(err)
	h.must(h.client.Close())
	h.cfg.Registry = h.registry
	h.client, err = New(h.cfg)
	h.must(err)
	h.announce()
}

func (h *house) verify(id int64) *ChallengeResult {
	h.t.Helper()
	r, err := h.client.Verify(h.t.Context(), acme, id)
	h.must(err)
	return r
}

// echoing answers challenges as whoever wants to be called does, and no handshake.
func echoing(r *http.Request, _ int) reply {
	body, _ := io.ReadAll(r.Body)
	switch {
	case r.Method == http.MethodOptions:
		return reply{status: 405}
	case r.Header.Get("Ringback-Event-Type") == TypeChallenge:
		return reply{status: 200, header: http.Header{"Content-Type": {"application/json"}}, body: string(body)}
	}
	return reply{status: 204}
}

// TestChallengeAnswers: what proves that an endpoint wants to be called, and what is said of what does not.
func TestChallengeAnswers(t *testing.T) {
	said := func(status int, body func(token string) string) func(*http.Request, int) reply {
		return func(r *http.Request, _ int) reply {
			if r.Method == http.MethodOptions {
				return reply{status: 404}
			}
			text, _ := io.ReadAll(r.Body)
			return reply{status: status, body: body(strings.TrimSuffix(strings.TrimPrefix(string(text), `{"challenge":"`), `"}`))}
		}
	}
	allowing := func(status int, origins ...string) func(*http.Request, int) reply {
		return func(r *http.Request, _ int) reply {
			if r.Method != http.MethodOptions {
				return reply{status: 204}
			}
			return reply{status: status, header: http.Header{"Webhook-Allowed-Origin": origins}}
		}
	}
	echo := func(token string) string { return `{"challenge": "` + token + `"}` }
	for name, tt := range map[string]struct {
		answer   func(*http.Request, int) reply
		verified bool
		reason   Reason
		detail   string
	}{
		"echoed":                 {said(200, echo), true, "", "said the challenge's token back"},
		"echoed with more":       {said(201, func(token string) string { return `{"ok": true, "challenge": "` + token + `"}` }), true, "", "201"},
		"echoed with an error":   {said(400, echo), false, "status_400", "answered 400"},
		"echoed as text":         {said(200, func(token string) string { return token }), false, verdict.ReasonChallengeFailed, "without the challenge's token"},
		"echoed within":          {said(200, func(token string) string { return `{"data": {"challenge": "` + token + `"}}` }), false, verdict.ReasonChallengeFailed, ""},
		"echoed in a list":       {said(200, func(token string) string { return `{"challenge": ["` + token + `"]}` }), false, verdict.ReasonChallengeFailed, ""},
		"echoed in other case":   {said(200, func(token string) string { return `{"challenge": "` + strings.ToUpper(token) + `"}` }), false, verdict.ReasonChallengeFailed, ""},
		"echoed too late":        {said(200, func(token string) string { return strings.Repeat(" ", challengeBody) + echo(token) }), false, verdict.ReasonChallengeFailed, ""},
		"no content":             {said(204, func(string) string { return "" }), false, verdict.ReasonChallengeFailed, "answered 204"},
		"any JSON":               {said(200, func(string) string { return `{"success": true}` }), false, verdict.ReasonChallengeFailed, ""},
		"not wanted":             {said(410, echo), false, "status_410", "does not want to be called"},
		"handshake":              {allowing(200, "events.example.com"), true, "", "handshake of CloudEvents"},
		"handshake, any case":    {allowing(204, " Events.Example.COM "), true, "", "handshake"},
		"handshake for all":      {allowing(200, "*"), true, "", "handshake"},
		"handshake for another":  {allowing(200, "other.example.com"), false, verdict.ReasonChallengeFailed, ""},
		"handshake with refusal": {allowing(403, "*"), false, verdict.ReasonChallengeFailed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(h *house) {
				h.verifying()
				h.partner.answers(tt.answer)
				cb := h.register("payment_proof", `"success": "any_response", "headers": {"X-Key": "s3cr3t-s3cr3t"}`)
				got := h.verify(cb.ID)
				status := registry.Unverified
				if tt.verified {
					status = registry.Enabled
				}
				if got.Verified != tt.verified || got.Callback.Status != status || got.Reason != tt.reason || !strings.Contains(got.Detail, tt.detail) || got.Callback.UnverifiedReason != string(tt.reason) {
					t.Errorf("%+v, callback %s (%s)", got, got.Callback.Status, got.Callback.UnverifiedReason)
				}
				for _, r := range h.partner.challenges {
					if r.id == "" { // a handshake: it has nothing that is the partner's
						if r.header.Get("X-Key") != "" || r.header.Get("Webhook-Signature") != "" || r.header.Get("Webhook-Request-Origin") != "events.example.com" || r.body != "" {
							t.Errorf("a handshake with %v %s", r.header, r.body)
						}
						continue
					}
					if r.verified != nil || r.id != got.DeliveryID || r.header.Get("Ringback-Event-Type") != TypeChallenge || r.header.Get("X-Key") == "" {
						t.Errorf("a challenge with %v: %v", r.header, r.verified)
					}
				}
				h.check()
			}, func(c *Config) { c.Origin = "events.example.com" })
		})
	}
}

// TestUnverifiedIsHeld: nothing but challenges goes to an endpoint that has not proved itself, and what waited goes out once it has.
func TestUnverifiedIsHeld(t *testing.T) {
	inBubble(t, func(h *house) {
		h.verifying()
		ctx := h.t.Context()
		h.partner.answers(answering(204))
		cb := h.register("payment_proof", "")
		ids := eventIDs("p", 20)
		for _, id := range ids {
			h.send(proof(id))
		}
		h.drain()
		if got := h.verify(cb.ID); got.Verified || got.Reason != verdict.ReasonChallengeFailed {
			t.Errorf("verified by a 204: %+v", got)
		}
		if _, err := h.registry.Resume(ctx, acme, cb.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := h.client.Test(ctx, acme, cb.ID, ""); !isState(err) {
			t.Errorf("tested: %v", err)
		}
		h.drain()
		if n := len(h.partner.requests()); n != 0 {
			t.Fatalf("%d requests to an unverified callback", n)
		}
		d, err := h.client.Delivery(ctx, acme, ledger.Ref{Company: acme, Event: "p0", Callback: cb.ID}.DeliveryID())
		h.must(err)
		if d.State != ledger.Held || d.HeldReason != "unverified" || !strings.Contains(d.Summary, "challenge_failed") {
			t.Errorf("held as %s %q: %s", d.State, d.HeldReason, d.Summary)
		}
		h.partner.answers(echoing)
		if got := h.verify(cb.ID); !got.Verified || got.Callback.Status != registry.Enabled {
			t.Errorf("not verified: %+v", got)
		}
		defer h.work()()
		h.awaitAll(time.Minute)
		if n := len(h.partner.requests()); n != len(ids) {
			t.Errorf("%d of %d arrived", n, len(ids))
		}
		h.check()
	})
}

func isState(err error) bool {
	_, ok := errors.AsType[*StateError](err)
	return ok
}

// TestAMovedCallbackIsHeldAtOnce: an attempt that had begun before the URL changed does not go to the new one, costs no budget, and what it was
// for waits. A 410 of the old endpoint says nothing about the new one.
func TestAMovedCallbackIsHeldAtOnce(t *testing.T) {
	inBubble(t, func(h *house) {
		h.verifying()
		ctx := h.t.Context()
		h.partner.answers(echoing)
		cb := h.register("payment_proof", "")
		h.verify(cb.ID)
		move := func(path string) *registry.Callback {
			moved, err := h.registry.Patch(ctx, acme, cb.ID, fmt.Appendf(nil, `{"destination": {"url": %q}}`, h.partner.url(path)))
			h.must(err)
			return moved
		}
		var moved atomic.Bool
		h.client.failpoint = func(point string) {
			if point == "granted" && moved.CompareAndSwap(false, true) {
				move("elsewhere")
				_, _, err := h.registry.List(ctx, acme, registry.Filter{}) // whoever asks meanwhile brings the news here
				h.must(err)
			}
		}
		r := h.send(proof("one"))
		stop := h.work()
		defer stop()
		time.Sleep(20 * time.Second)
		for _, got := range h.partner.requests() {
			if got.path == "/elsewhere" {
				t.Errorf("the new URL was called unverified: %v", got.header)
			}
		}
		d := h.delivery(r.Deliveries[0].DeliveryID)
		if !moved.Load() || d.State == ledger.Delivered || len(d.Attempts) != 1 || d.Attempts[0].Reason != verdict.ReasonUnverified {
			t.Errorf("moved %t, then %s: %s", moved.Load(), d.State, d.Summary)
		}
		h.verify(cb.ID)
		h.awaitAll(time.Minute)

		h.partner.answers(func(r *http.Request, n int) reply {
			if r.URL.Path == "/elsewhere" && r.Method == http.MethodPost {
				move("third")
				return reply{status: 410}
			}
			return echoing(r, n)
		})
		h.send(proof("two"))
		h.awaitAll(time.Minute)
		if got, err := h.registry.Get(ctx, acme, cb.ID); err != nil || got.Status != registry.Unverified {
			t.Errorf("after a 410 of the old endpoint it is %s, %v", got.Status, err)
		}
		h.check()
	})
}

// TestAMovedCallbackDoesNotPayForItsOldURL: what the old URL answered late does not disable the callback, nor do its failures count on.
func TestAMovedCallbackDoesNotPayForItsOldURL(t *testing.T) {
	inBubble(t, func(h *house) {
		ctx := h.t.Context()
		cb := h.register("payment_proof", `"retry": {"max_attempts": 1, "initial_interval": "1s", "max_interval": "1s"}`)
		move := func(path string) {
			h.must(second(h.registry.Patch(ctx, acme, cb.ID, fmt.Appendf(nil, `{"destination": {"url": %q}}`, h.partner.url(path)))))
		}
		h.partner.answers(answering(500))
		stop := h.work()
		defer stop()
		h.send(proof("failed"))
		h.awaitAll(time.Minute)
		if run := h.run(cb.ID); run["fn"] != 1 {
			t.Errorf("a failure is noted as %v", run)
		}
		h.must(second(h.registry.Patch(ctx, acme, cb.ID, []byte(`{"description": "for people"}`))))
		if run := h.run(cb.ID); run["fn"] != 1 {
			t.Errorf("after another change it is %v", run)
		}
		move("second")
		if run := h.run(cb.ID); len(run) > 0 {
			t.Errorf("after the move it is %v", run)
		}
		h.partner.answers(func(r *http.Request, n int) reply {
			if r.URL.Path == "/second" {
				move("third")
			}
			return reply{status: 410}
		})
		h.send(proof("late"))
		h.awaitAll(time.Minute)
		if got, err := h.registry.Get(ctx, acme, cb.ID); err != nil || got.Status != registry.Enabled {
			t.Errorf("after a 410 of the old URL it is %s, %v", got.Status, err)
		}
		h.send(proof("gone"))
		h.awaitAll(time.Minute)
		if got, err := h.registry.Get(ctx, acme, cb.ID); err != nil || got.Status != registry.Disabled {
			t.Errorf("after a 410 of its own it is %s, %v", got.Status, err)
		}
		h.check()
	})
}

// TestChallengesAreNoWeapon: hosts that do not answer their challenges are asked twenty times, and then ever more slowly; one that does is
// forgotten.
func TestChallengesAreNoWeapon(t *testing.T) {
	inBubble(t, func(h *house) {
		h.verifying()
		ctx := h.t.Context()
		h.partner.answers(answering(404))
		var callbacks []int64
		for i := range 5 {
			callbacks = append(callbacks, h.registerAt(fmt.Sprintf("hook-%d", i), "").ID)
		}
		sent, longest := 0, time.Duration(0)
		for i := range 600 { // ten minutes
			_, err := h.client.Verify(ctx, acme, callbacks[i%len(callbacks)])
			if e, ok := errors.AsType[*ChallengedTooOftenError](err); ok {
				longest = max(longest, e.Wait)
			} else {
				h.must(err)
				sent++
			}
			time.Sleep(time.Second)
		}
		if sent < 25 || sent > 40 || longest < 50*time.Second || longest > 61*time.Second {
			t.Errorf("%d challenges in ten minutes, longest wait %s", sent, longest)
		}
		h.partner.answers(echoing)
		time.Sleep(time.Minute)
		if got := h.verify(callbacks[0]); !got.Verified {
			t.Errorf("not verified: %+v", got)
		}
		if n := h.rdb.HLen(ctx, ledger.Key(acme, "challenges")).Val(); n != 0 {
			t.Errorf("%d hosts are remembered after a success", n)
		}
		for _, id := range callbacks[1:] {
			h.verify(id)
		}
		h.check()
	})
}

// TestChallengeWithAToken: where requests carry access tokens, a handshake alone proves nothing: the token endpoint must give one, too.
func TestChallengeWithAToken(t *testing.T) {
	inBubble(t, func(h *house) {
		h.verifying()
		h.partner.answers(func(r *http.Request, n int) reply {
			if r.Method == http.MethodOptions {
				return reply{status: 200, header: http.Header{"Webhook-Allowed-Origin": {"*"}}}
			}
			return reply{status: 404} // the token endpoint, too
		})
		cb := h.register("payment_proof", fmt.Sprintf(`"auth": {"type": "oauth2", "token_url": %q, "client_id": "c", "client_secret": "s3cr3t-s3cr3t"}`, h.partner.url("id")))
		if got := h.verify(cb.ID); got.Verified || got.Reason != verdict.ReasonOAuthToken {
			t.Errorf("without a token: %+v", got)
		}
		h.partner.answers(func(r *http.Request, n int) reply {
			if r.URL.Path == "/id" {
				return reply{status: 200, header: http.Header{"Content-Type": {"application/json"}}, body: `{"access_token": "t0ken-t0ken", "token_type": "Bearer"}`}
			}
			return reply{status: 200, header: http.Header{"Webhook-Allowed-Origin": {"*"}}}
		})
		time.Sleep(2 * time.Minute) // the token endpoint is left alone after a failure
		if got := h.verify(cb.ID); !got.Verified || got.DeliveryID != "" {
			t.Errorf("with a token: %+v", got)
		}
	})
}

// TestNobodyIsThere: a challenge to a host that cannot be reached says so, and tries nothing else there.
func TestNobodyIsThere(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.verifying()
	url := h.partner.server.URL
	h.partner.server.Close()
	body := fmt.Appendf(nil, `{"callback_type": "payment_proof", "destination": {"url": %q}}`, url)
	cb, err := h.registry.Create(t.Context(), acme, body)
	h.must(err)
	if got := h.verify(cb.ID); got.Verified || got.Reason != "refused" || got.DeliveryID != "" {
		t.Errorf("%+v", got)
	}
	if got, err := h.registry.Get(t.Context(), acme, cb.ID); err != nil || got.UnverifiedReason != "refused" {
		t.Errorf("noted %q, %v", got.UnverifiedReason, err)
	}
}
