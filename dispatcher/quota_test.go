package dispatcher

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// sized is an event whose payload has so many bytes.
func sized(id string, bytes int) payloads.Event {
	const around = `{"requestId":"","status":"OK"}`
	return payloads.Event{
		Company: acme, ID: id, Type: "payment_proof",
		Payload: json.RawMessage(fmt.Sprintf(`{"requestId":%q,"status":"OK"}`, strings.Repeat("x", bytes-len(around)))),
	}
}

func (h *house) quota(name string, n int64) {
	h.t.Helper()
	_, err := h.client.SetQuotas(h.t.Context(), acme, map[string]*int64{name: &n})
	h.must(err)
}

// wantWaiting checks how many bytes are counted as waiting, and that their sum is that of the events that wait.
func (h *house) wantWaiting(want int64) {
	h.t.Helper()
	q, err := h.client.Quotas(h.t.Context(), acme)
	h.must(err)
	if got := q.Used[registry.QuotaWaitingBytes]; got != want {
		h.t.Errorf("%d bytes are counted as waiting, want %d", got, want)
	}
	fields, err := h.rdb.HGetAll(h.t.Context(), ledger.Key(acme, "waiting")).Result()
	h.must(err)
	var sum, n int64
	for field, text := range fields {
		_, err := fmt.Sscan(text, &n)
		h.must(err)
		if field != "/" {
			sum += n
		}
	}
	if sum != want {
		h.t.Errorf("the events that are counted have %d bytes, want %d", sum, want)
	}
}

// TestWaitingBytesQuota: however many send at once, no more waits than may; what is delivered, cancelled or erased makes room, and a replay
// takes it again.
func TestWaitingBytesQuota(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.announce()
	h.work()
	cb := h.register("payment_proof", "")
	also := h.register("payment_proof", "")
	for _, id := range []int64{cb.ID, also.ID} {
		h.must(second(h.registry.Pause(t.Context(), acme, id)))
	}
	h.quota(registry.QuotaWaitingBytes, 3500)
	refused := func(err error) {
		t.Helper()
		if e, ok := errors.AsType[*registry.QuotaError](err); !ok || e.Quota != registry.QuotaWaitingBytes || e.Limit != 3500 || e.Used != 3000 {
			t.Errorf("past the quota: %v", err)
		}
	}
	var taken atomic.Int64
	var first sync.Map
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			id := fmt.Sprintf("e-%d", i)
			if _, err := h.client.Send(t.Context(), sized(id, 1000)); err != nil {
				refused(err)
			} else {
				first.Store(taken.Add(1), id)
			}
		})
	}
	wg.Wait()
	if taken.Load() != 3 {
		t.Fatalf("%d events of 1,000 bytes were taken at once past a quota of 3,500", taken.Load())
	}
	h.wantWaiting(3000)
	ids := make([]string, 3)
	for i := range ids {
		id, _ := first.Load(int64(i + 1))
		ids[i] = id.(string)
	}
	if r := h.send(sized(ids[0], 1000)); !r.Duplicate {
		t.Errorf("a repeat is taken anew: %+v", r)
	}
	h.send(sized("small", 500))
	h.wantWaiting(3500)
	for _, sent := range h.client.SendAll(t.Context(), []payloads.Event{sized("b-1", 100), sized("b-2", 100)}) {
		if _, ok := errors.AsType[*registry.QuotaError](sent.Err); !ok {
			t.Errorf("past the quota, in a batch: %v", sent.Err)
		}
	}

	h.must(second(h.client.EraseEvent(t.Context(), acme, "small", "")))
	delete(h.acked, "small")
	h.wantWaiting(3000)
	for i, id := range []int64{cb.ID, also.ID} { // an event waits until its last delivery is over
		h.must(second(h.client.Cancel(t.Context(), acme, ledger.Ref{Company: acme, Event: ids[1], Callback: id}.DeliveryID())))
		h.wantWaiting([]int64{3000, 2000}[i])
	}
	h.must(second(h.client.Replay(t.Context(), acme, ledger.Ref{Company: acme, Event: ids[1], Callback: cb.ID}.DeliveryID())))
	h.wantWaiting(3000)

	h.ack(sized(ids[1], 1000))
	h.ack(sized(ids[2], 1000))
	for _, id := range []int64{cb.ID, also.ID} {
		h.must(second(h.client.Resume(t.Context(), acme, id, false)))
	}
	h.awaitAll(10 * time.Second)
	h.wantWaiting(0)
	for _, id := range []int64{cb.ID, also.ID} {
		h.must(second(h.registry.Pause(t.Context(), acme, id)))
	}
	h.send(sized("large", 5000)) // nothing waits: else it could never go
	if _, err := h.client.Send(t.Context(), sized("next", 100)); err == nil {
		t.Error("past the quota by a large one, another is taken")
	}
	h.must(second(h.client.send(t.Context(), payloads.Event{Company: acme, ID: "own", Type: typeDisabled, Payload: disabledExample(t)}, true)))
	for _, id := range []int64{cb.ID, also.ID} {
		h.must(second(h.client.Resume(t.Context(), acme, id, true)))
	}
	h.wantWaiting(0)
}

func disabledExample(t *testing.T) json.RawMessage {
	t.Helper()
	typ, ok := payloads.Builtin().Lookup(typeDisabled)
	if !ok {
		t.Fatal("no such type")
	}
	return typ.Example
}

// TestWaitingBytesAreCountedFromWhatWaits: what waited before there was a quota counts, and what was counted wrongly, as processes leave it that
// do not count, is put right by the reconciler. Without the quota nothing is counted.
func TestWaitingBytesAreCountedFromWhatWaits(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	cb := h.register("payment_proof", "")
	h.must(second(h.registry.Pause(ctx, acme, cb.ID)))
	h.send(sized("held-1", 1000))
	h.send(sized("held-2", 1000))
	h.must(second(h.registry.Resume(ctx, acme, cb.ID)))
	other := h.register("payment_proof", "")
	h.send(sized("pending", 1000))
	if n := h.rdb.Exists(ctx, ledger.Key(acme, "waiting")).Val(); n != 0 {
		t.Error("without a quota something is counted")
	}
	h.quota(registry.QuotaWaitingBytes, 10_000)
	h.wantWaiting(3000)

	// An old process delivered, and sent something: nothing of it was counted.
	h.must(h.rdb.HSet(ctx, ledger.Key(acme, "waiting"), "gone", 700).Err())
	h.must(h.rdb.HIncrBy(ctx, ledger.Key(acme, "waiting"), "/", 700).Err())
	h.must(h.rdb.HDel(ctx, ledger.Key(acme, "waiting"), "pending").Err())
	h.must(h.rdb.HIncrBy(ctx, ledger.Key(acme, "waiting"), "/", -1000).Err())
	h.must(h.client.recount(ctx, acme))
	h.wantWaiting(3000)

	for _, id := range []int64{cb.ID, other.ID} {
		h.must(h.registry.Delete(ctx, acme, id))
		h.must(second(h.client.pump(ctx, acme, id)))
	}
	h.wantWaiting(0)
	h.must(second(h.client.SetQuotas(ctx, acme, map[string]*int64{registry.QuotaWaitingBytes: nil})))
	if n := h.rdb.Exists(ctx, ledger.Key(acme, "waiting")).Val(); n != 0 {
		t.Error("once there is no quota any more, something is still counted")
	}
	h.must(h.client.recount(ctx, acme))
	h.client.counted.Range(func(company, _ any) bool {
		t.Errorf("a walk of %s is remembered, and there is nothing to walk", company)
		return true
	})
}

// TestReplaysQuota: however many ask at once, no more replays get under way than may.
func TestReplaysQuota(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	cb := h.register("payment_proof", "")
	h.quota(registry.QuotaReplays, 4)
	var started atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			_, err := h.client.ReplayCallback(t.Context(), acme, cb.ID, ReplayQuery{})
			if e, ok := errors.AsType[*registry.QuotaError](err); ok && e.Quota == registry.QuotaReplays && e.Limit == 4 {
				return
			}
			if err != nil {
				t.Errorf("past the quota: %v", err)
				return
			}
			started.Add(1)
		})
	}
	wg.Wait()
	if started.Load() != 4 {
		t.Errorf("%d replays got under way past a quota of 4", started.Load())
	}
	q, err := h.client.Quotas(t.Context(), acme)
	h.must(err)
	if q.Used[registry.QuotaReplays] != 4 {
		t.Errorf("%+v", q)
	}
}
