package dispatcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// lengthy is a payment-proof event whose payload has so many bytes.
func lengthy(id string, size int) payloads.Event {
	e := proof(id)
	head := `{"requestId": "` + id + `",  "status": "OK", "issuerName": "Nómina, `
	var b strings.Builder
	for b.WriteString(head); b.Len() < size-2; b.WriteString(strconv.Itoa(b.Len()) + " ") {
	}
	e.Payload = json.RawMessage(b.String()[:size-2] + `"}`)
	return e
}

// raised waits until data model 2 is in force.
func (h *house) raised() {
	h.t.Helper()
	h.eventually(20*time.Second, func() bool { return h.client.ledger.Raised(h.t.Context()) }, func() string { return "the data model is not in force" })
}

// TestLongBodiesArriveAsTheyCame, byte for byte, though Redis has them compressed: by the lanes, where they begin as they are accepted, and again as retries.
func TestLongBodiesArriveAsTheyCame(t *testing.T) {
	t.Parallel()
	for name, work := range map[string]func(h *house){
		"by the lanes": func(h *house) { h.work() },
		"at once":      func(h *house) { h.nearly(0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			h.announce()
			h.raised()
			h.partner.answers(answering(503, 204))
			h.register("payment_proof", `"retry": {"initial_interval": "1s"}`)
			work(h)
			sizes := map[string]int{"short": 1000, "kilobyte": 1024, "long": 5000, "longer": 300_000}
			for id, size := range sizes {
				h.send(lengthy(id, size))
			}
			h.awaitAll(20 * time.Second)
			for id, size := range sizes {
				z, err := h.rdb.HGet(t.Context(), ledger.EventKey(acme, id), "z").Int()
				if stored := h.rdb.HStrLen(t.Context(), ledger.EventKey(acme, id), "b").Val(); size >= 1024 && (err != nil || z != size || stored > int64(size*9/10)) {
					t.Errorf("%s: %d bytes are stored as %d, with length %d: %v", id, size, stored, z, err)
				}
			}
			for _, r := range h.partner.requests() {
				id := r.header.Get("Ringback-Event-Id")
				if want := string(h.acked[id].Payload); r.body != want {
					t.Errorf("%s: %d bytes arrived, want %d", id, len(r.body), len(want))
				}
			}
			if n := len(h.partner.requests()); n != 2*len(sizes) {
				t.Errorf("%d requests came", n)
			}
			h.check()
		})
	}
}

// frames counts the answers of Redis that have a compressed body in them.
type frames struct{ n atomic.Int64 }

func (f *frames) DialHook(next redis.DialHook) redis.DialHook { return next }

func (f *frames) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		defer f.look(cmd)
		return next(ctx, cmd)
	}
}

func (f *frames) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		defer f.look(cmds...)
		return next(ctx, cmds)
	}
}

func (f *frames) look(cmds ...redis.Cmder) {
	for _, cmd := range cmds {
		said := ""
		switch cmd := cmd.(type) {
		case *redis.Cmd:
			said = fmt.Sprint(cmd.Val())
		case *redis.SliceCmd:
			said = fmt.Sprint(cmd.Val())
		}
		if strings.Contains(said, "(\xb5/\xfd") {
			f.n.Add(1)
		}
	}
}

// TestWhatBeginsAtOnceIsNotReadBack: the process that compressed a body has it still.
func TestWhatBeginsAtOnceIsNotReadBack(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.announce()
	h.raised()
	var read frames
	h.rdb.AddHook(&read)
	h.register("payment_proof", "")
	h.nearly(0)
	ids := eventIDs("p-", 10)
	for _, id := range ids {
		h.await(h.send(lengthy(id, 5000)).Deliveries[0].DeliveryID, ledger.Delivered, 10*time.Second)
	}
	n := read.n.Load()
	if n > int64(len(ids)/2) { // on a busy machine some go by the lanes
		t.Errorf("%d of %d bodies were read back", n, len(ids))
	}
	if _, err := h.client.ledger.Payload(t.Context(), acme, "p-0"); err != nil || read.n.Load() != n+1 {
		t.Errorf("a body that is read is not seen: %v", err)
	}
	h.check()
}

// TestABodyThatLeft: what became of its event is told as ever, and that it cannot be replayed. The same event again is a duplicate.
func TestABodyThatLeft(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(c *Config) { c.BodyRetention = time.Hour })
	install, _ := payloads.Builtin().Lookup("wallet_item_install")
	h.register("wallet_item_install", `"wallet_item_install": {"campaign_token": "r3zhm8"}`)
	other := h.register("wallet_item_install", `"wallet_item_install": {"campaign_token": "other"}`)
	proofs := h.register("payment_proof", "")
	paused := h.register("wallet_item_install", "")
	_, err := h.registry.Pause(t.Context(), acme, paused.ID)
	h.must(err)
	e := payloads.Event{Company: acme, ID: "w-1", Type: install.Name, Payload: install.Example}
	ids := h.send(e).Deliveries
	h.drain()
	_, err = h.client.Cancel(t.Context(), acme, ids[1].DeliveryID)
	h.must(err)
	if d := h.delivery(ids[1].DeliveryID); !strings.HasSuffix(d.Summary, "it can be replayed.") {
		t.Errorf("before: %s", d.Summary)
	}
	h.must(h.rdb.HDel(t.Context(), ledger.EventKey(acme, "w-1"), "b", "z").Err())

	listed, _, err := h.client.Deliveries(t.Context(), acme, Query{States: []State{Cancelled}})
	h.must(err)
	if one := h.delivery(ids[1].DeliveryID); len(listed) != 1 || listed[0].Summary != one.Summary || strings.HasSuffix(one.Summary, "it can be replayed.") {
		t.Errorf("in a list %+v, by itself %s", listed, one.Summary)
	}
	x, err := h.client.Explain(t.Context(), acme, "w-1", ExplainQuery{})
	h.must(err)
	if !x.BodyLeft || !strings.HasSuffix(x.Summary, "Its body is no longer kept, so nothing of it can be replayed.") {
		t.Errorf("the event: %t, %s", x.BodyLeft, x.Summary)
	}
	for i, want := range []string{0: "Delivered by attempt 1", 1: "cannot be compared", 2: "is for payment_proof", 3: "so it cannot be replayed."} {
		if !strings.Contains(x.Callbacks[i].Why, want) {
			t.Errorf("callback %d: %s", x.Callbacks[i].CallbackID, x.Callbacks[i].Why)
		}
	}
	if x.Callbacks[1].CallbackID != other.ID || x.Callbacks[2].CallbackID != proofs.ID {
		t.Fatalf("%+v", x.Callbacks)
	}
	for i, state := range []State{Delivered, Cancelled} {
		_, err := h.client.Replay(t.Context(), acme, ids[i].DeliveryID)
		if stuck, ok := errors.AsType[*StateError](err); !ok || !errors.Is(err, ErrBodyLeft) || !strings.Contains(stuck.Message, string(state)) || !strings.Contains(stuck.Message, "no longer kept") {
			t.Errorf("replaying one that is %s: %v", state, err)
		}
	}
	if d := h.delivery(ids[1].DeliveryID); !strings.HasSuffix(d.Summary, "so it cannot be replayed.") {
		t.Errorf("the delivery: %s", d.Summary)
	}
	r, err := h.client.ReplayCallback(t.Context(), acme, ids[0].CallbackID, ReplayQuery{States: []State{Delivered}, DryRun: true})
	h.must(err)
	if shown, err := h.client.ReplayProgress(t.Context(), acme, r.ReplayID); err != nil || shown.Matched != 0 || shown.BodyLeft != 1 {
		t.Errorf("replaying many: %+v, %v", shown, err)
	}
	if again, err := h.client.Send(t.Context(), e); err != nil || !again.Duplicate {
		t.Errorf("the same again: %+v, %v", again, err)
	}
	e.Payload = json.RawMessage(strings.Replace(string(e.Payload), "r3zhm8", "r3zhm9", 1))
	if _, err := h.client.Send(t.Context(), e); !errors.Is(err, ErrEventConflict) {
		t.Errorf("another under its id: %v", err)
	}
}

// TestRoundsRaiseTheModel, though their process accepts nothing.
func TestRoundsRaiseTheModel(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.must(ledger.Enter(t.Context(), h.rdb))
	h.announce()
	h.worker().turn(t.Context())
	if n, err := ledger.Written(t.Context(), h.rdb); err != nil || n != ledger.Model {
		t.Errorf("the number is %d: %v", n, err)
	}
}

// TestRoundsTakeBodiesAway, and leave the rest of the event.
func TestRoundsTakeBodiesAway(t *testing.T) {
	inBubble(t, func(h *house) {
		end, err := registry.Announce(h.t.Context(), h.rdb, nil, registry.Self("test", "worker"), testLog(h.t))
		h.must(err)
		h.register("payment_proof", "")
		stop := h.work()
		h.send(proof("p-1"))
		h.awaitAll(5 * time.Second)
		kept := func() bool { return h.rdb.HExists(h.t.Context(), ledger.EventKey(acme, "p-1"), "b").Val() }
		time.Sleep(90 * time.Second)
		if !kept() {
			h.t.Error("its body left too early")
		}
		time.Sleep(5 * time.Minute)
		if kept() {
			h.t.Error("its body stays")
		}
		h.check()
		stop()
		h.must(end(h.t.Context()))
	}, func(c *Config) { c.BodyRetention = 2 * time.Minute })
}

// TestBodiesAreNotKeptForLonger than their events.
func TestBodiesAreNotKeptForLonger(t *testing.T) {
	for _, tt := range []struct {
		bodies, events time.Duration
		well           bool
	}{{0, 0, true}, {72 * time.Hour, 0, true}, {72*time.Hour + 1, 0, false}, {time.Hour, time.Hour, true}, {2 * time.Hour, time.Hour, false}, {1, 0, false}, {-time.Hour, 0, false}} {
		cfg := Config{Redis: &redis.Client{}, Registry: &registry.Registry{}, Egress: &egress.Client{}, BodyRetention: tt.bodies, Retention: tt.events}
		if err := cfg.check(); (err == nil) != tt.well {
			t.Errorf("bodies for %s, events for %s: %v", tt.bodies, tt.events, err)
		}
	}
}
