package dispatcher

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/ringback/ringback/registry"
)

// TestOverviewOfCompaniesAsleep: of companies without work, it counts what is filed, and looks into those with most dead letters alone. It tells workers
// from other processes, and is not shown for long.
func TestOverviewOfCompaniesAsleep(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx, filed := t.Context(), map[string]string{"quiet": "dead=0 status:enabled=3 status:paused=2 status:disabled=1 status:unverified=4"}
	for i := range restingLooked + 3 {
		filed[fmt.Sprintf("c%03d", i)] = fmt.Sprintf("dead=%d status:paused=1", i+1) // there is nothing of those that are looked into
	}
	h.must(h.rdb.HSet(ctx, "{ringback:working}:asleep", filed).Err())
	h.must(h.rdb.HSet(ctx, "{ringback:working}:sums", ":whole", 1).Err())
	for id, roles := range map[string]string{"one": "api", "two": "api,worker", "three": "worker"} {
		end, err := registry.Announce(ctx, h.rdb, nil, registry.Process{ID: id, Roles: roles, Level: registry.Level, Host: id}, slog.New(slog.DiscardHandler))
		h.must(err)
		defer func() { h.must(end(context.WithoutCancel(ctx))) }()
	}
	v := NewOverviews(h.client, nil)
	o, err := v.Overview(ctx)
	h.must(err)
	if o.Dead.Total != 1+2+3 {
		t.Errorf("%d dead; want those of the three companies that were not looked into", o.Dead.Total)
	}
	if got, want := o.Callbacks, (CallbacksPart{Enabled: 3, Paused: 2 + 3, Disabled: 1, Unverified: 4, Sentence: o.Callbacks.Sentence}); got != want {
		t.Errorf("callbacks: %+v, want %+v", got, want)
	}
	if w := o.Workers; w.Workers != 2 || w.Processes != 3 {
		t.Errorf("%d of %d processes are workers, want 2 of 3", w.Workers, w.Processes)
	}
	if lasts := time.Until(v.whole.good); lasts > overviewOldest {
		t.Errorf("it is shown for %s", lasts)
	}
}
