package dispatcher

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// betweenReads is a go-redis hook: it does something before a key is read for the second time.
type betweenReads struct {
	key   string
	reads int
	do    func(ctx context.Context)
}

func (b *betweenReads) see(ctx context.Context, cmds ...redis.Cmder) {
	if slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return cmd.Name() == "hmget" && cmd.Args()[1] == b.key }) {
		if b.reads++; b.reads == 2 {
			b.do(ctx)
		}
	}
}

func (b *betweenReads) DialHook(next redis.DialHook) redis.DialHook { return next }

func (b *betweenReads) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { b.see(ctx, cmd); return next(ctx, cmd) }
}

func (b *betweenReads) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { b.see(ctx, cmds...); return next(ctx, cmds) }
}

// TestATicketLeadsToItsOwnEventOnly: if the event is erased while it is fetched, and another has its id by then, nothing of that is shown.
func TestATicketLeadsToItsOwnEventOnly(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	public, err := registry.New(registry.Config{Redis: h.rdb, Catalogue: payloads.Builtin(), Keyset: h.keyset, PublicURL: "https://ringback.example.com"})
	h.must(err)
	cb, err := public.Create(t.Context(), acme, []byte(`{"callback_type": "payment_proof", "destination": {"url": "`+h.partner.url("/hook")+`"}, "body": "thin"}`))
	h.must(err)
	h.must(second(h.client.Send(t.Context(), proof("p-1"))))
	e, err := h.client.Event(t.Context(), acme, "p-1")
	h.must(err)
	ticket := cb.Ticket(registry.Ticket{Event: "p-1", Accepted: e.AcceptedAt, Expires: registry.TicketEnd(e.AcceptedAt, time.Now())})
	if got, err := h.client.Fetch(t.Context(), ticket); err != nil || string(got.Body) != string(proof("p-1").Payload) {
		t.Fatalf("%+v, %v", got, err)
	}
	between := &betweenReads{key: ledger.EventKey(acme, "p-1"), do: func(ctx context.Context) {
		h.must(second(h.client.EraseEvent(ctx, acme, "p-1", "")))
		another := proof("p-1")
		another.Payload = proof("p-2").Payload
		h.must(second(h.client.Send(ctx, another)))
	}}
	h.rdb.AddHook(between)
	if got, err := h.client.Fetch(t.Context(), ticket); !errors.Is(err, ErrFetchOver) {
		t.Errorf("%+v, %v", got, err)
	}
	if between.reads < 2 {
		t.Errorf("the event was read %d times", between.reads)
	}
}
