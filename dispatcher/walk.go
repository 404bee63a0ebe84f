package dispatcher

import (
	"context"
	"slices"
	"time"

	"github.com/ringback/ringback/registry"
)

// Some things happen to companies without work: what they hold grows old. Nobody waits for it, so the reconciler walks over all names slowly: with a few
// companies a round, 20,000 take some four hours, shared out among the workers. What is found to need more, such as a dead letter that is soon pruned,
// wakes its company. The walk is the safety net of the index as well: a company with work that is not in it is put there.
const (
	// walkStep is how many companies a round looks into beside those with work.
	walkStep = 3
	// walkEvery is how long a walk over a few companies takes at least.
	walkEvery = time.Minute
)

// step walks on.
func (w *Worker) step(ctx context.Context) {
	t := &tour{Worker: w, trim: true, walks: true, files: true, ok: true}
	var some []string
	t.note(ctx, "walking over all companies", "", func() (err error) {
		if some, err = w.ahead(ctx); err == nil && len(some) > 0 {
			t.epochs, err = w.client.registry.Epochs(ctx, some)
		}
		return err
	})
	if t.ok {
		t.serve(ctx, some)
	}
}

// ahead are the next companies.
func (w *Worker) ahead(ctx context.Context) ([]string, error) {
	k := &w.rounds.walk
	if !k.underWay {
		if !k.began.IsZero() && time.Since(k.began) < walkEvery {
			return nil, nil
		}
		k.began, k.place, k.underWay = time.Now(), 0, true
		if err := w.unfile(ctx); err != nil {
			return nil, err
		}
	}
	if len(k.left) == 0 {
		names, next, err := w.client.registry.SomeCompanies(ctx, k.place)
		if err != nil {
			return nil, err
		}
		k.left, k.place = slices.DeleteFunc(names, func(name string) bool { return !w.rounds.peers.mine(name) }), next
	}
	n := min(walkStep, len(k.left))
	some := k.left[:n]
	k.left = k.left[n:]
	k.underWay = len(k.left) > 0 || k.place != 0
	return some, nil
}

// unfile forgets what there was of companies that a process of an older level has erased.
func (w *Worker) unfile(ctx context.Context) error {
	names, err := w.client.registry.Nameless(ctx)
	if err != nil || len(names) == 0 {
		return err
	}
	filings := make([]registry.Filing, len(names))
	for i, name := range names {
		filings[i] = registry.Filing{Company: name}
	}
	_, err = w.client.registry.File(ctx, filings...)
	return err
}
