package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"
)

// company is what a process remembers of one company.
type company struct {
	snap atomic.Pointer[snapshot] // nil until first read
	keys atomic.Pointer[KeySet]   // nil until first asked for
	// keysTold is when the log last said that the keys cannot be read, in Unix milliseconds.
	keysTold atomic.Int64
	touched  atomic.Pointer[time.Time] // when its name was last noted; nil: never; see unname

	// turn is held by the caller that reads from Redis. The others wait and share.
	turn  chan struct{}
	begun atomic.Int64 // reads begun so far
	// done is the number of the last read that ended by itself, and err is how it
	// ended. The holder of turn writes both, and nobody else reads err.
	done atomic.Int64
	err  error
}

// unname forgets that the company's name was noted. A note that is under way is not
// remembered, for it finds another time than the one that was there before it: a new
// zero, which is long ago.
func (c *company) unname() { c.touched.Store(new(time.Time)) }

func (r *Registry) company(name string) *company {
	if c, ok := r.companies.Load(name); ok {
		return c.(*company)
	}
	c, _ := r.companies.LoadOrStore(name, &company{turn: make(chan struct{}, 1)})
	return c.(*company)
}

// Lookup returns a callback from memory. If memory is older than version atLeast, it
// looks into Redis first. If the callback was deleted, it returns ErrNotFound. The
// result has no status.
func (r *Registry) Lookup(ctx context.Context, company string, id, atLeast int64) (*Callback, error) {
	if err := checkCompany(company); err != nil {
		return nil, err
	}
	enough := func(s *snapshot) bool { return s.version >= atLeast }
	snap := r.company(company).snap.Load()
	if snap == nil || !enough(snap) {
		var err error
		if snap, err = r.fresh(ctx, company, enough); err != nil {
			return nil, err
		}
	}
	if cb := snap.find(id); cb != nil {
		return cb, nil
	}
	return nil, ErrNotFound
}

// Refresh brings what is remembered of a company up to version atLeast, as found
// in Redis, by reading what has changed. Concurrent callers share one reading.
//
// It returns without reading only if memory is exactly at atLeast. If memory is
// newer, it reads, too: then another caller was faster, or Redis went back in
// time, and only Redis can tell. So after Refresh has returned, memory is at
// atLeast or holds what Redis held during the call.
func (r *Registry) Refresh(ctx context.Context, company string, atLeast int64) error {
	if err := checkCompany(company); err != nil {
		return err
	}
	at := func(s *snapshot) bool { return s.version == atLeast }
	if snap := r.company(company).snap.Load(); snap != nil && at(snap) {
		return nil
	}
	_, err := r.fresh(ctx, company, at)
	return err
}

// remembered is what is in memory, or the first reading.
func (r *Registry) remembered(ctx context.Context, company string) (*snapshot, error) {
	if err := checkCompany(company); err != nil {
		return nil, err
	}
	if snap := r.company(company).snap.Load(); snap != nil {
		return snap, nil
	}
	return r.fresh(ctx, company, func(*snapshot) bool { return true })
}

// fresh returns a snapshot that Redis held at some moment during the call, or
// one that is enough. If enough is nil, none is.
//
// One caller reads at a time. If others come meanwhile, they share the next reading,
// its failure included: the one under way may have begun before the change that they
// are after. If the one under way ends because Redis does not answer in time, they
// share that, too, so that a Redis that hangs is waited for once.
func (r *Registry) fresh(ctx context.Context, name string, enough func(*snapshot) bool) (*snapshot, error) {
	c := r.company(name)
	came := c.begun.Load()
	underWay := c.done.Load() < came
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("registry: wait for the callbacks of company %s: %w", name, ctx.Err())
	}
	old := c.snap.Load()
	if enough != nil && old != nil && enough(old) {
		return old, nil
	}
	if done := c.done.Load(); done > came || done == came && underWay && timedOut(c.err) {
		return old, c.err
	}
	number := c.begun.Add(1)
	snap, err := r.load(ctx, name, old)
	if err == nil {
		if old == nil && snap.version != 0 || old != nil && snap.version != old.version {
			c.unname() // the company may have been erased, its name with it
		}
		c.snap.Store(snap)
	}
	if ctx.Err() == nil { // a caller that gave up is no news to the others
		c.err = err
		c.done.Store(number)
	}
	return snap, err
}

// timedOut reports whether err says that Redis did not answer in time.
func timedOut(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return errors.Is(err, context.DeadlineExceeded) || ok && e.Timeout()
}
