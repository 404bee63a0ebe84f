package dispatcher

import (
	"context"
	"time"
)

// glimpsed is what was looked up last, for all who ask within a while. One caller looks, the others wait for that.
type glimpsed[T any] struct {
	turn chan struct{} // holds an item while somebody looks
	last T
	good time.Time // until when last is
}

func newGlimpsed[T any]() *glimpsed[T] { return &glimpsed[T]{turn: make(chan struct{}, 1)} }

// get returns what is good still, or looks anew. look also returns for how long what it found is good.
func (g *glimpsed[T]) get(ctx context.Context, look func(ctx context.Context) (T, time.Duration, error)) (T, error) {
	select {
	case g.turn <- struct{}{}:
		defer func() { <-g.turn }()
	case <-ctx.Done():
		return *new(T), ctx.Err()
	}
	if time.Now().Before(g.good) {
		return g.last, nil
	}
	found, lasts, err := look(ctx)
	if err == nil {
		g.last, g.good = found, time.Now().Add(lasts)
	}
	return found, err
}
