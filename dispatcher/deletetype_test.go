package dispatcher

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// order is a type of an operator's own. It is stamped, and 201 is a success.
func (h *house) order() {
	h.t.Helper()
	_, err := h.registry.Types().Put(h.t.Context(), payloads.Type{Name: "order.placed", Success: payloads.Any2xx, Stamp: "/at"})
	h.must(err)
}

func ordered(id string) payloads.Event {
	return payloads.Event{Company: acme, ID: id, Type: "order.placed", Payload: json.RawMessage(`{"at":"never","id":"` + id + `"}`)}
}

// another is another process's client.
func (h *house) another() *Client {
	h.t.Helper()
	cfg := h.cfg
	var err error
	cfg.Registry, err = registry.New(registry.Config{Redis: h.rdb, Catalogue: payloads.Builtin(), Keyset: h.keyset})
	h.must(err)
	c, err := New(cfg)
	h.must(err)
	h.t.Cleanup(func() { h.must(c.Close()) })
	return c
}

func isInUse(err error, words ...string) bool {
	_, ok := errors.AsType[*TypeInUseError](err)
	for _, w := range words {
		ok = ok && strings.Contains(err.Error(), w)
	}
	return ok
}

// What came of a type while it was being deleted keeps it: another process went on with what it knew. Nothing is lost, and the type is as it was.
func TestTypeStaysThatIsUsedMeanwhile(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.announce()
	h.order()
	h.register("order.*", "")
	h.work()
	_, err := h.client.PauseEgress(t.Context())
	h.must(err)
	used := false
	for range 10 { // the other may have to look again before it is asked, on a busy machine
		other := h.another()
		if _, _, err := other.registry.Types().Lookup(t.Context(), "order.placed"); err != nil {
			t.Fatal(err)
		}
		h.client.failpoint = func(point string) {
			if point != "type leaves" {
				return
			}
			_, err := other.Send(t.Context(), ordered("meanwhile"))
			used = err == nil
			if _, err := h.another().Send(t.Context(), ordered("refused")); err == nil || !strings.Contains(err.Error(), "is being deleted") {
				t.Errorf("a process that looks takes it: %v", err)
			}
		}
		err := h.client.DeleteType(t.Context(), "order.placed")
		if !used && err == nil {
			h.order()
			continue
		}
		if !used || !isInUse(err, "1 unfinished delivery", "acme callback 1") {
			t.Fatalf("deleted: %v; used meanwhile: %t", err, used)
		}
		break
	}
	if !used {
		t.Fatal("nothing came of the type while it was being deleted")
	}
	h.client.failpoint = nil
	h.ack(ordered("meanwhile"))
	_, err = h.client.ResumeEgress(t.Context())
	h.must(err)
	h.send(ordered("later"))
	h.check()
}

// A kill in a deletion leaves the type, or no type and no use of it. Whoever repeats it is done.
func TestKillInTheDeletionOfAType(t *testing.T) {
	t.Parallel()
	for point, there := range map[string]bool{"type leaves": true, "type unused": true, "type gone": false} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			h.announce()
			h.order()
			h.start(childJob{DeleteType: "order.placed", KillAt: point}).dies()
			if err := h.registry.Types().Stored(t.Context(), "order.placed"); (err == nil) != there {
				t.Fatalf("it is there: %v", err)
			}
			if _, err := h.client.Send(t.Context(), ordered("e")); err == nil {
				t.Error("an event of it is accepted")
			}
			if !there {
				if err := h.client.DeleteType(t.Context(), "order.placed"); !errors.Is(err, registry.ErrNoType) {
					t.Errorf("again: %v", err)
				}
				return
			}
			if point == "type unused" {
				h.must(h.client.DeleteType(t.Context(), "order.placed"))
				return
			}
			// A minute later it is as it was.
			text := h.rdb.HGet(t.Context(), "{ringback:types}:gone", "order.placed").Val()
			h.must(h.rdb.HSet(t.Context(), "{ringback:types}:gone", "order.placed", strings.Replace(text, `"at":`, `"at":1,"was":`, 1)).Err())
			h.must(h.rdb.HIncrBy(t.Context(), "ringback:types", ":version", 1).Err())
			h.register("order.placed", "")
			h.work()
			h.send(ordered("e"))
			h.check()
		})
	}
}

// What was accepted of a type can be read after it was deleted, and says so. Replayed, it is stamped and judged as the type had it.
func TestEventsOfADeletedType(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.announce()
	h.order()
	h.register("order.*", `"retry": {"max_attempts": 1}`)
	h.partner.answers(answering(500, 201))
	h.work()
	r := h.send(ordered("e"))
	h.await(r.Deliveries[0].DeliveryID, Dead, leastWait)
	began := time.Now()
	h.must(h.client.DeleteType(t.Context(), "order.placed"))
	if took := time.Since(began); took < registry.TypesTurnOver {
		t.Errorf("it took %s: a process may go on for %s with the types it knows", took, registry.TypesTurnOver)
	}
	const words = "Its callback type order.placed was deleted at "
	var x *Explanation
	h.eventually(5*time.Second, func() bool { // while Redis is slow to answer, what is known counts
		var err error
		x, err = h.client.Explain(t.Context(), acme, "e", ExplainQuery{})
		h.must(err)
		return strings.Contains(x.Summary, words)
	}, func() string { return fmt.Sprintf("the explanation: %+v", x) })
	if x.Callbacks[0].Delivery == nil {
		t.Errorf("the explanation: %+v", x)
	}
	d, err := h.client.Replay(t.Context(), acme, r.Deliveries[0].DeliveryID)
	h.must(err)
	if !strings.Contains(d.Summary, words) || !strings.Contains(d.Summary, "can still be replayed") {
		t.Errorf("the replay says %s", d.Summary)
	}
	h.await(d.DeliveryID, Delivered, leastWait)
	for _, got := range h.partner.requests() {
		if strings.Contains(string(got.body), "never") {
			t.Errorf("it was sent as it came: %s", got.body)
		}
	}
	if err := h.client.DeleteType(t.Context(), "payment_proof"); !errors.Is(err, registry.ErrBuiltin) {
		t.Error(err)
	}
}
