package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// callerPatience is how long a caller of the API waits for a Redis that does not answer. With what else there is to do, the 503 comes
// within two seconds.
const callerPatience = 1800 * time.Millisecond

// A requestPatience is one request's: lost once Redis has let it wait for callerPatience.
type requestPatience struct{ lost atomic.Bool }

type patienceKey struct{}

// withPatience gives every request a patience of its own, which a patienceHook spends.
func withPatience(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), patienceKey{}, &requestPatience{})))
	})
}

// errNoPatience counts as a timeout.
var errNoPatience = fmt.Errorf("redis did not answer within %s: %w", callerPatience, context.DeadlineExceeded)

// patienceHook bounds each command of a request, with its connection, handshake and repetition, to callerPatience. Once a command took longer,
// the request's others fail at once: a Redis that hangs is waited for once, however many commands there would be, and one that answers may be
// asked for as long as it takes. Commands of no request, such as a worker's, have go-redis's own timeouts: nobody waits for them, and they
// rather outlast a short stall.
type patienceHook struct{}

// DialHook changes nothing.
func (patienceHook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook bounds a command.
func (patienceHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := wait(ctx, func(ctx context.Context) error { return next(ctx, cmd) })
		if errors.Is(err, errNoPatience) {
			cmd.SetErr(err)
		}
		return err
	}
}

// ProcessPipelineHook bounds a pipeline as if it were one command.
func (patienceHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := wait(ctx, func(ctx context.Context) error { return next(ctx, cmds) })
		if errors.Is(err, errNoPatience) {
			for _, cmd := range cmds {
				if cmd.Err() == nil { // not even sent
					cmd.SetErr(err)
				}
			}
		}
		return err
	}
}

// wait asks Redis within the patience that ctx has, if it has one.
func wait(ctx context.Context, ask func(context.Context) error) error {
	p, _ := ctx.Value(patienceKey{}).(*requestPatience)
	if p == nil {
		return ask(ctx)
	}
	if p.lost.Load() {
		return errNoPatience
	}
	bounded, cancel := context.WithTimeout(ctx, callerPatience)
	defer cancel()
	err := ask(bounded)
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		p.lost.Store(true)
	}
	return err
}
