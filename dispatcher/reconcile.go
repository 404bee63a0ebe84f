package dispatcher

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/ringback/ringback/registry"
)

// trimEvery is how often those of the companies with work lose what is older than it may be, and trimSoon how often while Redis is so full that events are
// refused. The others' turn is the walk's.
const trimEvery, trimSoon = time.Minute, 5 * time.Second

// oldEvery is how often the reconciler looks for processes that do not list the companies that they make work for.
const oldEvery = 5 * time.Second

// reconcile runs rounds until ctx ends. One that panics is over, and the next begins as ever.
func (w *Worker) reconcile(ctx context.Context) {
	ticker := time.NewTicker(w.every)
	defer ticker.Stop()
	for {
		_ = w.client.contain(ctx, placeReconciler, func() error { w.turn(ctx); return nil })
		select {
		case <-ctx.Done():
			w.retire(ctx)
			return
		case <-ticker.C:
		}
	}
}

// retire tells the other workers at once that this one's companies are theirs now. If that fails, they find out.
func (w *Worker) retire(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = w.client.contain(ctx, placeReconciler, func() error { return w.rounds.peers.leave(ctx) })
}

// turn runs a round.
func (w *Worker) turn(ctx context.Context) {
	c, r := w.client, w.rounds
	r.clock.look(ctx, c.rdb, c.log)
	_ = c.clock.Look(ctx) // who asks Redis for more says what is wrong
	astray, err := w.rounds.peers.beat(ctx)
	if err != nil {
		if ctx.Err() == nil {
			c.log.WarnContext(ctx, "reconciler cannot take its turn: redis refuses or is away", "error", err)
		}
		return
	}
	since := time.Since(r.trimmed)
	trim := since >= trimEvery || since >= trimSoon && c.memory.overloaded(ctx)
	if trim { // well or not: what fails in one company makes no more work in all others
		r.trimmed = time.Now()
	}
	w.lookForOld(ctx)
	c.ledger.Raise(ctx) // a process that accepts nothing asks here
	r.all = r.all || r.old || astray
	t := &tour{Worker: w, trim: trim, files: trim || !r.filed, ok: true}
	if !r.all {
		w.short(ctx, t)
	} else {
		w.whole(ctx, t, !r.filed)
		r.filed = r.filed || !t.missed
	}
	r.all = t.missed
	t.note(ctx, "going on with replays over companies", "", func() error { return c.goOnBulks(ctx, r.peers.mine, time.Now().Add(bulkFor)) })
	if trim {
		t.note(ctx, "tidying up replays over companies", "", func() error { return c.ledger.TidyBulks(ctx) })
	}
	w.lookAtCertificates(ctx, t)
	w.step(ctx)
}

// lookForOld looks whether a process works on this Redis that does not list the companies it makes work for. If that cannot be found out, it is as it was.
func (w *Worker) lookForOld(ctx context.Context) {
	r := w.rounds
	if !r.looked.IsZero() && time.Since(r.looked) < oldEvery {
		return
	}
	err := w.client.registry.KnownEverywhere(ctx, "a round over the companies with work", registry.IndexLevel)
	_, old := errors.AsType[*registry.OldProcessError](err)
	if err == nil || old {
		r.all = r.all || r.old // what the last of them did has to be found as well
		r.looked, r.old = time.Now(), old
	}
}

// short is a round over the companies that have work.
func (w *Worker) short(ctx context.Context, t *tour) {
	w.open(ctx, t)
	t.serve(ctx, w.own(slices.Collect(maps.Keys(t.epochs))))
}

// whole is a round over all companies that have a name. With alone, this worker serves them all, whoever else does.
func (w *Worker) whole(ctx context.Context, t *tour, alone bool) {
	c := w.client
	w.open(ctx, t)
	companies := slices.Collect(maps.Keys(t.epochs)) // the name of one may be lost
	t.note(ctx, "listing the companies", "", func() error {
		names, err := c.registry.Companies(ctx)
		t.missed = t.missed || err != nil
		for _, name := range names {
			if _, listed := t.epochs[name]; !listed {
				companies = append(companies, name)
			}
		}
		return err
	})
	if !alone {
		companies = w.own(companies)
	}
	t.serve(ctx, companies)
	if alone && t.files && !t.missed {
		t.note(ctx, "noting that all companies are filed", "", func() error { return c.registry.AllFiled(ctx) })
	}
}

// open begins a round: it lists the companies with work, and does what is for no company.
func (w *Worker) open(ctx context.Context, t *tour) {
	c := w.client
	t.note(ctx, "listing the companies that were owed to the index", "", func() error { return c.registry.PayAll(ctx) })
	t.note(ctx, "listing the companies with work", "", func() (err error) { t.epochs, err = c.registry.Working(ctx); return err })
	t.missed = !t.ok
	t.note(ctx, "registering the queues", "", func() error { return c.lanes.Register(ctx) })
	t.note(ctx, "looking into the lanes of before", "", func() error { return c.lanes.Retire(ctx) })
	t.note(ctx, "naming the companies", "", func() error { return c.registry.Remember(ctx, slices.Collect(maps.Keys(t.epochs))) })
	for company := range w.rounds.still {
		if _, listed := t.epochs[company]; !listed {
			delete(w.rounds.still, company)
		}
	}
}

// own are those of the companies that are this worker's to serve.
func (w *Worker) own(companies []string) []string {
	return slices.DeleteFunc(companies, func(company string) bool { return !w.rounds.peers.mine(company) })
}
