package dispatcher

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/lua"
	"github.com/ringback/ringback/registry"
)

// registerAt registers a callback for proofs at a path of the partner's host.
func (h *house) registerAt(path, more string) *registry.Callback {
	h.t.Helper()
	body := fmt.Sprintf(`{"callback_type": "payment_proof", "destination": {"url": %q}, "retry": {"initial_interval": "1s", "multiplier": 1, "max_attempts": 100}%s}`,
		h.partner.url(path), prefixed(more))
	cb, err := h.registry.Create(h.t.Context(), acme, []byte(body))
	h.must(err)
	h.partner.knows(cb)
	return cb
}

// TestHostsAreSpared: many callbacks on one host that cannot take them are tried one at a time, all together; once one is answered, all goes out.
func TestHostsAreSpared(t *testing.T) {
	inBubble(t, func(h *house) {
		var back atomic.Bool
		h.partner.answers(func(*http.Request, int) reply {
			if back.Load() {
				return reply{status: 204}
			}
			return reply{status: 503}
		})
		const callbacks = 15
		for i := range callbacks {
			h.registerAt(fmt.Sprintf("hook-%d", i), "")
		}
		defer h.work()()
		defer h.work()() // two processes, one host
		receipt := h.send(proof("p"))
		time.Sleep(5 * time.Second)
		opened := len(h.partner.requests())
		time.Sleep(60 * time.Second)
		if n := len(h.partner.requests()) - opened; n < 4 || n > 10 {
			t.Errorf("%d requests within a minute, after %d in five seconds; want one in 10 s", n, opened)
		}
		held := 0
		for _, d := range receipt.Deliveries {
			if d := h.delivery(d.DeliveryID); d.State == ledger.Held {
				held++
				if d.HeldReason != "host" || !strings.Contains(d.Summary, "by all callbacks that go there") {
					t.Errorf("%s is held (%s): %s", d.DeliveryID, d.HeldReason, d.Summary)
				}
			}
		}
		if held < callbacks-2 {
			t.Errorf("%d of %d are held", held, callbacks)
		}
		back.Store(true)
		h.awaitAll(30 * time.Second)
		if left := h.rdb.HLen(h.t.Context(), ledger.Key(acme, "hosts")).Val(); left != 0 {
			t.Errorf("%d hosts are spared still", left)
		}
		h.check()
	})
}

// TestHostsAreSparedForSilenceOnly: paths that answer, however badly, narrow no neighbour, and neither does one path alone.
func TestHostsAreSparedForSilenceOnly(t *testing.T) {
	for what, path := range map[string]func(callback string) int{
		"404 of many": func(string) int { return 404 },
		"500 of many": func(string) int { return 500 },
		"503 of one":  func(callback string) int { return map[bool]int{true: 503, false: 204}[callback == "/hook-0"] },
		"503 and answers": func(callback string) int {
			return map[bool]int{true: 503, false: 404}[slices.Contains([]string{"/hook-0", "/hook-1", "/hook-2"}, callback)]
		},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, func(h *house) {
				h.partner.answers(func(r *http.Request, _ int) reply {
					if r.URL.Path == "/well" {
						return reply{status: 204}
					}
					return reply{status: path(r.URL.Path)}
				})
				for i := range 8 {
					h.registerAt(fmt.Sprintf("hook-%d", i), "")
				}
				well := h.registerAt("well", "")
				defer h.work()()
				for i := range 3 {
					receipt := h.send(proof(fmt.Sprintf("p-%d", i)))
					time.Sleep(3 * time.Second)
					for _, d := range receipt.Deliveries {
						if d := h.delivery(d.DeliveryID); d.HeldReason == "host" || d.CallbackID == well.ID && d.State != ledger.Delivered {
							t.Errorf("callback %d: %s (%s): %s", d.CallbackID, d.State, d.HeldReason, d.Summary)
						}
					}
				}
			})
		})
	}
}

// TestOneCallbackNarrowsNoHost: however often it fails, its own breaker spares the host, and its neighbour goes on.
func TestOneCallbackNarrowsNoHost(t *testing.T) {
	inBubble(t, func(h *house) {
		h.partner.answers(func(r *http.Request, _ int) reply {
			if r.URL.Path == "/well" {
				return reply{status: 204}
			}
			return reply{status: 503}
		})
		h.registerAt("down", "")
		defer h.work()()
		h.sendMany("p-", 15)
		time.Sleep(10 * time.Second)
		well := h.registerAt("well", "")
		id := ledger.Ref{Company: acme, Event: "q", Callback: well.ID}.DeliveryID()
		h.send(proof("q"))
		h.await(id, ledger.Delivered, 5*time.Second)
	})
}

// TestNarrowHost: what was let out before the host became narrow waits, too. If nobody says how the one attempt ended that may be under way,
// the next one goes out later.
func TestNarrowHost(t *testing.T) {
	inBubble(t, func(h *house) {
		cb := h.registerAt("hook", "")
		ids := h.sendMany("before-", 1)
		time.Sleep(time.Second)
		now := time.Now()
		h.must(h.rdb.HSet(h.t.Context(), ledger.Key(acme, "hosts"), cb.Destination.Host(),
			fmt.Sprintf("12 3 %d %d 7 %d", now.Add(75*time.Second).UnixMilli(), now.UnixMilli(), now.UnixMilli())).Err())
		ids = append(ids, h.sendMany("after-", 1)...)
		defer h.work()()
		time.Sleep(60 * time.Second)
		for _, id := range ids {
			if d := h.delivery(id); d.State != ledger.Held || d.HeldReason != "host" {
				t.Errorf("while an attempt may be under way: %s is %s (%s)", id, d.State, d.HeldReason)
			}
		}
		for _, id := range ids {
			h.await(id, ledger.Delivered, 30*time.Second)
		}
		h.check()
	})
}

// TestOnlyTheProbeGivesTheTurnBack: what cannot begin gives back the turn of its narrow host if it has it, and leaves another's alone.
func TestOnlyTheProbeGivesTheTurnBack(t *testing.T) {
	for name, tt := range map[string]struct {
		probe bool // it is let out as the host's probe, not before the host became narrow
		late  bool // it finds no token of the rate limit; else no place in the process
	}{
		"no place, let out before": {},
		"no place, the probe":      {probe: true},
		"no token, let out before": {late: true},
		"no token, the probe":      {probe: true, late: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(h *house) {
				cb := h.registerAt("hook", `"rate_limit": {"per_second": 0.1, "burst": 1}`)
				host, hosts := cb.Destination.Host(), ledger.Key(acme, "hosts")
				narrow := func(before time.Time) {
					h.must(h.rdb.HSet(h.t.Context(), hosts, host, fmt.Sprintf("12 3 %d %d 7 %d", before.UnixMilli(), time.Now().UnixMilli(), time.Now().UnixMilli())).Err())
				}
				if tt.probe {
					narrow(time.Now())
				}
				h.sendMany("p-", 1)
				time.Sleep(3 * time.Second) // its token was for then
				if !tt.probe {
					narrow(time.Now().Add(75 * time.Second)) // the probe is another's
				}
				r := ledger.Ref{Company: acme, Event: "p-0", Callback: cb.ID}
				answer, err := h.step(h.t.Context(), beginScript, acme, r.Member(), 1, "token", 1000, !tt.late, false, 0)
				h.must(err)
				if answer[0] != "held" {
					h.t.Fatalf("begin answered %q", answer)
				}
				before := strings.Fields(h.rdb.HGet(h.t.Context(), hosts, host).Val())[2]
				if given := before == fmt.Sprint(time.Now().UnixMilli()); given != tt.probe {
					h.t.Errorf("the host is spared until %s, now is %d; the turn was its: %t", before, time.Now().UnixMilli(), tt.probe)
				}
			})
		})
	}
}

// TestHostsThatAreGoneAreForgotten: where ever new names fail, and each of them renews what keeps the hash, those of long ago do not pile up.
func TestHostsThatAreGoneAreForgotten(t *testing.T) {
	inBubble(t, func(h *house) {
		ctx, many := h.t.Context(), 200
		fails := lua.New(`visit(ARGV[1], ARGV[2], 'down', now, 0)`)
		for _, key := range []string{"hosts", "challenges"} {
			fail := func(name string) {
				if key == "hosts" {
					if err := h.script(ctx, fails, acme, 1, name).Err(); !errors.Is(err, redis.Nil) {
						h.must(err)
					}
					return
				}
				h.must(h.script(ctx, challengeScript, acme, name).Err())
			}
			for age := range 3 {
				for i := range many {
					fail(fmt.Sprintf("%d-%d.example", age, i))
				}
				h.must(h.rdb.Persist(ctx, ledger.Key(acme, key)).Err())
				time.Sleep(61 * time.Minute)
			}
			names, err := h.rdb.HKeys(ctx, ledger.Key(acme, key)).Result()
			h.must(err)
			old := slices.DeleteFunc(names, func(name string) bool { return strings.HasPrefix(name, "2-") })
			if len(old) > many/2 {
				h.t.Errorf("{c}:%s has %d names that are older than the last %d", key, len(old), many)
			}
		}
	})
}
