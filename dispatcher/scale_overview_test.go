//go:build scale

package dispatcher

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/registry"
)

const scaleCompanies, scaleCallbacks = 1000, 10

// TestScaleOverview measures what looking over all companies takes, with 1,000 companies of 10 callbacks, all of them in the index, and very many events kept. One
// callback in twenty fails, and has deliveries that retry, are held and are dead.
func TestScaleOverview(t *testing.T) {
	h := newHouse(t)
	n := keptEvents(t)
	h.spread(n)
	t.Logf("%d companies, %d callbacks, %d events, %s of data", scaleCompanies, scaleCompanies*scaleCallbacks, n, h.data())
	ctx := t.Context()
	v := NewOverviews(h.client, nil)
	measure := func(what string, do func() string) {
		t.Helper()
		var took []time.Duration
		said := ""
		for range 20 {
			began := time.Now()
			said = do()
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		t.Logf("%-44s p50 %8s  p95 %8s  %s", what, short(took[10]), short(took[19]), said)
	}
	h.must(h.rdb.ConfigResetStat(ctx).Err())
	measure("overview, looked up", func() string {
		o, err := v.look(Unmasked(ctx))
		h.must(err)
		return fmt.Sprintf("%s %s", o.Waiting.Sentence, o.Dead.Sentence)
	})
	h.slowest()
	measure("overview, 50 who look, each 20 times", func() string {
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				for range 20 {
					_, err := v.Overview(ctx)
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		return ""
	})
	measure("companies, a page of 50", func() string {
		page, _, err := v.Companies(ctx, "", 50, "")
		h.must(err)
		return fmt.Sprint(len(page))
	})
	for name, q := range map[string]Query{
		"all deliveries": {}, "all dead": {States: []State{Dead}}, "all held": {States: []State{Held}}, "all cancelled, none": {States: []State{Cancelled}}, "all delivered": {States: []State{Delivered}},
	} {
		measure(name+", two pages", func() string {
			page, next, err := v.EveryDelivery(ctx, q)
			h.must(err)
			if next != "" {
				q := q
				q.Cursor = next
				_, _, err = v.EveryDelivery(ctx, q)
				h.must(err)
			}
			return fmt.Sprint(len(page), " ", ReachedEverywhere(next).Format(time.TimeOnly))
		})
	}
	for name, q := range map[string]EventsQuery{
		"all events": {}, "all events of a type, none": {Type: "payment_proof"}, "an event's id": {EventID: "ev-5000"}, "by campaign": {Match: map[string]string{"campaign_token": "c-7"}},
	} {
		measure(name, func() string {
			page, next, err := v.EveryEvent(ctx, q)
			h.must(err)
			return fmt.Sprint(len(page), " ", ReachedEverywhere(next).Format(time.TimeOnly))
		})
	}
}

// spread registers callbacks of many companies, and writes n events over all of them.
func (h *house) spread(n int) {
	h.t.Helper()
	ctx := h.t.Context()
	for i := range scaleCompanies {
		for range scaleCallbacks {
			_, err := h.registry.Create(ctx, scaleCompany(i), []byte(`{"callback_type": "wallet_item_install", "destination": {"url": "https://partner.example/hook"}}`))
			h.must(err)
		}
		_, err := registry.Enlist(ctx, h.rdb, scaleCompany(i))
		h.must(err)
	}
	h.must(h.registry.AllFiled(ctx))
	now := time.Now()
	first := now.Add(-24 * time.Hour).UnixMilli()
	for from := 0; from < n; from += 1000 {
		pipe := h.rdb.Pipeline()
		for i := from; i < min(n, from+1000); i++ {
			h.scatter(pipe, i, first+int64(i)*86_000_000/int64(n), now)
		}
		_, err := pipe.Exec(ctx)
		h.must(err)
	}
}

func scaleCompany(i int) string { return fmt.Sprintf("company-%04d", i%scaleCompanies) }

// scatter writes an event.
func (h *house) scatter(pipe redis.Pipeliner, i int, ms int64, now time.Time) {
	ctx, c := h.t.Context(), scaleCompany(i)
	cb := i/scaleCompanies%scaleCallbacks + 1
	key := func(name string) string { return ledger.Key(c, name) }
	id := fmt.Sprintf("ev-%d", i)
	member, state, log := fmt.Sprintf("%s/%d", id, cb), 'D', ledger.Entry{Number: 1, Started: ms, DurationMS: 12, Status: 204, Verdict: verdict.Delivered}
	if i%scaleCompanies%2 == 0 && cb == 1 { // one callback in twenty fails
		log = ledger.Entry{Number: 1, Started: ms, DurationMS: 12, Status: 500, Verdict: verdict.Retry, Reason: "status_500"}
		health := key(fmt.Sprintf("health:%d", cb))
		switch i / scaleCompanies / scaleCallbacks % 3 {
		case 0:
			state = 'R'
			pipe.ZAdd(ctx, key(fmt.Sprintf("retry:%d", cb)), redis.Z{Score: float64(ms), Member: member})
			pipe.ZAdd(ctx, key("due"), redis.Z{Score: float64(now.Add(time.Hour).UnixMilli()), Member: member})
		case 1:
			state = 'H'
			pipe.ZAdd(ctx, key(fmt.Sprintf("room:%d", cb)), redis.Z{Score: float64(ms * 4096), Member: member})
			pipe.ZAdd(ctx, key("rooms"), redis.Z{Score: float64(ms), Member: fmt.Sprint(cb)})
		default:
			state = 'X'
			pipe.ZAdd(ctx, key("dead"), redis.Z{Score: float64(ms), Member: member})
			pipe.HIncrBy(ctx, health, "dead", 1)
		}
		pipe.HSet(ctx, health, "f", 12, "l", 8, "bad", member+"\n"+log.Line())
	}
	logID := fmt.Sprintf("%d-0", ms)
	pipe.HSet(ctx, ledger.EventKey(c, id), "b", installPayload(i%100), "a", logID, fmt.Sprintf("d%d", cb), fmt.Sprintf("%c 1 1 1 %d -\n%s", state, ms+20, log.Line()),
		"m", `{"t":"wallet_item_install","c":"AAAAAAAAAAAAAAAAAAAAAA"}`)
	pipe.XAdd(ctx, &redis.XAddArgs{Stream: key("log"), ID: logID, Values: []string{"e", id}})
}
