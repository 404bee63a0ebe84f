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
