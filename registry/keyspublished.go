package registry

import (
	"context"
	"slices"
	"time"

	"github.com/ringback/ringback/payloads"
)

const (
	// keysLooked is how often a process asks Redis at most whether a company's published
	// keys changed, and keysAnswer how long it waits for the answer. KeyLead has room
	// for both.
	keysLooked = 2 * time.Second
	keysAnswer = 5 * time.Second

	// keysTold is how often the log says at most that a company's keys cannot be read.
	keysTold = time.Minute
)

// PublishedKeys are a company's public keys. It asks Redis for a company once in 2 s at
// most, however many ask it. If Redis does not answer, or a callback does not open, they
// are those of before, and the log says so; [KeySet.MaxAge] is less for them. A company
// that has no keys, and one that is unknown, have an empty set.
//
// Anybody may ask. If nothing is remembered of the company, PublishedKeys first calls
// strange, which may refuse with an error: looking costs Redis a command, and a company
// that is unknown is not remembered.
func (r *Registry) PublishedKeys(ctx context.Context, name string, strange func() error) (*KeySet, error) {
	if !payloads.ValidCompany(name) {
		return noKeys, nil
	}
	if c, ok := r.companies.Load(name); !ok || c.(*company).snap.Load() == nil {
		if err := strange(); err != nil {
			return nil, err
		}
		if known, err := r.Known(ctx, name); err != nil || !known {
			return noKeys, err
		}
	}
	c, at := r.company(name), time.Now()
	set := c.keys.Load()
	if set == nil {
		snap, err := r.fresh(ctx, name, nil)
		if err != nil {
			return nil, err
		}
		set = keySetOf(snap, nil, inquiry{at, at}, at)
		c.keys.CompareAndSwap(nil, set)
		return set, nil
	}
	if age := at.Sub(set.looked); age >= keysLooked || age < 0 {
		return r.lookAgain(ctx, name, c, set, at), nil
	}
	if !set.until.IsZero() && !at.Before(set.until) {
		next := keySetOf(set.of, nil, set.inquiry, at)
		c.keys.CompareAndSwap(set, next)
		return next, nil
	}
	return set, nil
}

// lookAgain has one of its callers ask Redis. Meanwhile the others get what there was before. If Redis does not answer, so do all.
func (r *Registry) lookAgain(ctx context.Context, name string, c *company, set *KeySet, at time.Time) *KeySet {
	mine := keySetOf(set.of, set, inquiry{looked: at, known: set.known}, at)
	if !c.keys.CompareAndSwap(set, mine) {
		return mine
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keysAnswer) // whoever asks and hangs up keeps nobody from new keys
	defer cancel()
	snap, err := r.fresh(ctx, name, nil)
	if err != nil {
		if told := c.keysTold.Load(); at.UnixMilli()-told >= keysTold.Milliseconds() && c.keysTold.CompareAndSwap(told, at.UnixMilli()) {
			r.log.WarnContext(ctx, "a company's public keys could not be read anew: those of before are published, and receivers would not know a newer one", "company", name, "error", err)
		}
		return mine
	}
	next := keySetOf(snap, mine, inquiry{at, at}, at)
	c.keys.CompareAndSwap(mine, next) // else a key was made meanwhile, and the next one who asks looks again
	return next
}

// forgetKeys has the next one who asks for a company's published keys look at once. If Redis does not answer then, they are those of before.
func (r *Registry) forgetKeys(name string) {
	c, ok := r.companies.Load(name)
	if !ok {
		return
	}
	for keys := &c.(*company).keys; ; {
		set := keys.Load()
		if set == nil {
			return
		}
		old := *set
		old.looked = time.Time{}
		if keys.CompareAndSwap(set, &old) {
			return
		}
	}
}

// publishesKeys reports whether a company publishes a key at a time, so that receivers may remember a set of its keys. If that cannot be read, it may be so.
func (r *Registry) publishesKeys(ctx context.Context, name string, at time.Time) bool {
	snap, err := r.fresh(ctx, name, nil)
	return err != nil || slices.ContainsFunc(snap.byID, func(cb *Callback) bool { return len(cb.PublishedKeys(at)) > 0 })
}
