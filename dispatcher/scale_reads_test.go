//go:build scale

package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/lua"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// crowd is how many callbacks the company has, each for a campaign of its own, beside a few.
const crowd = 10_000

// kept is how many finished events it has: 200,000, or as RINGBACK_SCALE_EVENTS says.
func keptEvents(t *testing.T) int {
	n, err := strconv.Atoi(defaulted(os.Getenv("RINGBACK_SCALE_EVENTS"), "200000"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestScaleReads measures how long explanations, lists and sends take in a company with many callbacks and many finished events.
func TestScaleReads(t *testing.T) {
	h := newHouse(t)
	n := keptEvents(t)
	h.crowd(crowd)
	h.fill(n)
	t.Logf("%d callbacks, %d finished events, %s of data", crowd, n, h.data())
	began := time.Now()
	h.index()
	t.Logf("the index took %s, and %s of data stand beside", time.Since(began).Round(time.Millisecond), h.data())

	h.must(h.rdb.ConfigResetStat(t.Context()).Err())
	h.must(h.rdb.ConfigSet(t.Context(), "slowlog-log-slower-than", "2500").Err())
	h.must(h.rdb.Do(t.Context(), "slowlog", "reset").Err())
	measure := func(what string, runs int, do func() string) {
		t.Helper()
		var took []time.Duration
		said := ""
		for range runs {
			began := time.Now()
			said = do()
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		t.Logf("%-52s p50 %8s  p95 %8s  %s", what, short(took[len(took)/2]), short(took[len(took)*95/100]), said)
	}
	ctx := t.Context()
	restarted, err := registry.New(registry.Config{Redis: h.rdb, Catalogue: payloads.Builtin(), Keyset: h.keyset, Logger: testLog(t)})
	h.must(err)
	measure("first match after a restart", 1, func() string {
		_, _, err := restarted.Match(ctx, acme, "payment_proof", nil, time.Now(), nil)
		h.must(err)
		return ""
	})
	middle := fmt.Sprintf("ev-%d", n/2)
	measure("explain, warm registry", 20, func() string {
		x, err := h.client.Explain(ctx, acme, middle, ExplainQuery{})
		h.must(err)
		return fmt.Sprint(len(x.Callbacks))
	})
	measure("explain, 500 a page", 20, func() string {
		x, err := h.client.Explain(ctx, acme, middle, ExplainQuery{Limit: 500})
		h.must(err)
		return fmt.Sprint(len(x.Callbacks))
	})
	measure("explain, one callback", 20, func() string {
		x, err := h.client.Explain(ctx, acme, middle, ExplainQuery{CallbackID: 7})
		h.must(err)
		return fmt.Sprint(len(x.Callbacks))
	})
	id := ledger.Ref{Company: acme, Event: middle, Callback: crowded(n / 2)}.DeliveryID()
	measure("get a delivery", 100, func() string {
		_, err := h.client.Delivery(ctx, acme, id)
		h.must(err)
		return ""
	})
	for _, q := range []struct {
		name string
		Query
	}{
		{"all", Query{}},
		{"delivered", Query{States: []State{Delivered}}},
		{"retrying, 20 old ones", Query{States: []State{Retrying}}},
		{"held, 20 old ones", Query{States: []State{Held}}},
		{"dead, 20 old ones", Query{States: []State{Dead}}},
		{"dead or held", Query{States: []State{Dead, Held}}},
		{"cancelled, 20 old ones", Query{States: []State{Cancelled}}},
		{"pending, none", Query{States: []State{Pending}}},
		{"active, none", Query{States: []State{Active}}},
		{"common type", Query{EventType: "wallet_item_install"}},
		{"rare type, 20 old ones", Query{EventType: "payment_proof"}},
		{"type without events", Query{EventType: "no_such"}},
		{"a callback", Query{CallbackID: 77}},
		{"a callback without deliveries", Query{CallbackID: crowd}},
		{"a callback, delivered", Query{CallbackID: 77, States: []State{Delivered}}},
		{"a callback, cancelled, none", Query{CallbackID: 77, States: []State{Cancelled}}},
		{"a callback, retrying", Query{CallbackID: crowded(20), States: []State{Retrying}}},
		{"common type, cancelled", Query{EventType: "wallet_item_install", States: []State{Cancelled}}},
		{"rare type, delivered", Query{EventType: "payment_proof", States: []State{Delivered}}},
		{"rare type, dead, none", Query{EventType: "payment_proof", States: []State{Dead}}},
	} {
		measure("list: "+q.name, 5, func() string {
			found, pages, empty := 0, 0, 0
			for {
				page, next, err := h.client.Deliveries(ctx, acme, q.Query)
				h.must(err)
				pages++
				found += len(page)
				if q.Cursor = next; next == "" || len(page) == 50 {
					q.Cursor = ""
					return fmt.Sprintf("%d in %d pages, %d of them empty", found, pages, empty)
				}
				if len(page) == 0 {
					empty++
				}
			}
		})
	}
	h.measureSends()
	h.slowest()
}

// short is a duration as a table has it.
func short(d time.Duration) string { return d.Round(10 * time.Microsecond).String() }

// measureSends sends while callbacks are registered, ten a second.
func (h *house) measureSends() {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 10*time.Second)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_, err := h.registry.Create(ctx, acme, []byte(`{"callback_type": "payment_proof", "destination": {"url": "http://127.0.0.1:1/"}}`))
				if err != nil && ctx.Err() == nil {
					h.t.Error(err)
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	var took []time.Duration
	for i := 0; ctx.Err() == nil; i++ {
		began := time.Now()
		_, err := h.client.Send(ctx, payloads.Event{Company: acme, Type: "wallet_item_install", Payload: installPayload(i % crowd)})
		if err != nil && !errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			h.t.Fatal(err)
		}
		took = append(took, time.Since(began))
		if wait := 10*time.Millisecond - time.Since(began); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
			}
		}
	}
	<-done
	slices.Sort(took)
	h.t.Logf("%-52s p50 %8s  p99 %8s  max %s of %d", "send, while 10 callbacks/s are registered", short(took[len(took)/2]), short(took[len(took)*99/100]), short(took[len(took)-1]), len(took))
}

// slowest prints what took Redis longest, and what the lists' scripts took.
func (h *house) slowest() {
	h.t.Helper()
	stats, err := h.rdb.InfoMap(h.t.Context(), "latencystats", "commandstats").Result()
	h.must(err)
	for _, command := range []string{"evalsha", "xadd", "hmget"} {
		h.t.Logf("%s in Redis (microseconds): %s; %s", command, stats["Latencystats"]["latency_percentiles_usec_"+command], stats["Commandstats"]["cmdstat_"+command])
	}
	logs, err := h.rdb.SlowLogGet(h.t.Context(), 10).Result()
	h.must(err)
	names := lua.Names()
	for _, l := range logs {
		h.t.Logf("slow in Redis: %s %s %.60q", l.Duration, names[slices.Concat(l.Args, []string{"", ""})[1]], l.Args)
	}
}

func (h *house) data() string {
	h.t.Helper()
	info, err := h.rdb.InfoMap(h.t.Context(), "memory").Result()
	h.must(err)
	n, err := strconv.ParseFloat(info["Memory"]["used_memory_dataset"], 64)
	h.must(err)
	return fmt.Sprintf("%.1f MB", n/1e6)
}

// index has the log summed up and settled, as rounds do.
func (h *house) index() {
	h.t.Helper()
	for _, step := range []func(context.Context, string) (bool, error){h.client.ledger.Summarize, h.client.ledger.Settle} {
		for more := true; more; {
			var err error
			more, err = step(h.t.Context(), acme)
			h.must(err)
		}
	}
}

// crowd registers so many callbacks.
func (h *house) crowd(n int) {
	h.t.Helper()
	most := int64(2 * n)
	_, err := h.registry.SetQuotas(h.t.Context(), acme, map[string]*int64{registry.QuotaCallbacks: &most})
	h.must(err)
	for i := range n {
		_, err := h.registry.Create(h.t.Context(), acme, fmt.Appendf(nil,
			`{"callback_type": "wallet_item_install", "wallet_item_install": {"campaign_token": "c-%d"}, "destination": {"url": "http://127.0.0.1:1/"}}`, i))
		h.must(err)
	}
}

// crowded is the callback that the i-th event went to; the last one has none.
func crowded(i int) int64 { return int64(i%(crowd-1)) + 1 }

// fill writes finished events, as the steps of accept, begin and finish leave them. Among the oldest are some that ended otherwise.
func (h *house) fill(n int) {
	h.t.Helper()
	ctx := h.t.Context()
	line := ledger.Entry{Number: 1, Started: time.Now().UnixMilli(), DurationMS: 12, Status: 204, Verdict: verdict.Delivered}.Line()
	failed := ledger.Entry{Number: 1, Started: time.Now().UnixMilli(), DurationMS: 12, Status: 500, Verdict: verdict.Retry, Reason: "status_500"}.Line()
	first := time.Now().Add(-24 * time.Hour).UnixMilli()
	for from := 0; from < n; from += 1000 {
		pipe := h.rdb.Pipeline()
		for i := from; i < min(n, from+1000); i++ {
			typ, cb, id := "wallet_item_install", crowded(i), fmt.Sprintf("ev-%d", i)
			ms := first + int64(i)*int64(80_000_000)/int64(n)
			logID := fmt.Sprintf("%d-0", ms)
			member, state, key := fmt.Sprintf("%s/%d", id, cb), 'D', fmt.Sprintf("{acme}:ev:%s", id)
			log := "\n" + line
			switch {
			case i < 20: // the log begins before all else
				typ = "payment_proof"
			case i < 40:
				state, log = 'R', "\n"+failed
				pipe.ZAdd(ctx, "{acme}:retry:"+strconv.FormatInt(cb, 10), redis.Z{Score: float64(ms), Member: member})
				pipe.ZAdd(ctx, "{acme}:due", redis.Z{Score: float64(time.Now().Add(time.Hour).UnixMilli()), Member: member})
			case i < 60:
				state, log = 'H', ""
				pipe.ZAdd(ctx, "{acme}:room:"+strconv.FormatInt(cb, 10), redis.Z{Score: float64(ms * 4096), Member: member})
				pipe.ZAdd(ctx, "{acme}:rooms", redis.Z{Score: float64(ms), Member: strconv.FormatInt(cb, 10)})
			case i < 80:
				state, log = 'X', "\n"+failed
				pipe.ZAdd(ctx, "{acme}:dead", redis.Z{Score: float64(ms), Member: member})
			case i < 100:
				state, log = 'C', ""
			}
			record := fmt.Sprintf("%c 1 1 1 %d -%s", state, ms+20, log)
			pipe.HSet(ctx, key, "b", installPayload(int(cb)-1), "a", logID, fmt.Sprintf("d%d", cb), record, "m",
				fmt.Sprintf(`{"t":%q,"c":"AAAAAAAAAAAAAAAAAAAAAA"}`, typ))
			if state == 'D' || state == 'C' {
				pipe.Expire(ctx, key, 7*24*time.Hour)
			}
			pipe.XAdd(ctx, &redis.XAddArgs{Stream: "{acme}:log", ID: logID, Values: []string{"e", id}})
		}
		_, err := pipe.Exec(ctx)
		h.must(err)
	}
}
