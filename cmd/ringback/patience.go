package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/ledger"
)

// redisTimeout bounds one command, unless the URL says otherwise. A lease in asynq lasts 30 s and is prolonged by commands that wait for each
// other, so a Redis that hangs has to be noticed well before that.
const redisTimeout = 2 * time.Second

// callerPatience is how long a caller of the API waits for a Redis that does not answer: Redis's own time, and none of ours. With all
// the rest, the 503 comes within two seconds. Under load, the request has waited for its place and for a connection before that, a second each
// at most.
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

// queuePatience is how long a command of a request may wait for a connection while this process's other commands use all of them. It is no
// part of callerPatience: Redis has nothing to do with it.
const queuePatience = time.Second

// poolPatience is the same for commands of no request. It is go-redis's own default for redisTimeout.
const poolPatience = redisTimeout + time.Second

// errNoPatience counts as a timeout.
var errNoPatience = fmt.Errorf("redis did not answer within %s: %w", callerPatience, context.DeadlineExceeded)

// errQueued is told apart from a Redis that does not answer by [redis.ErrPoolTimeout].
var errQueued = fmt.Errorf("other commands of this process used all connections to Redis: %w", redis.ErrPoolTimeout)

// patienceHook bounds each command of a request, with its connection, handshake and repetition, to callerPatience. Once a command took longer,
// the request's others fail at once: however many there would be, a request waits once for a Redis that hangs. A Redis that answers may be asked
// for as long as it takes. Commands of no request, such as a worker's, have go-redis's own timeouts: nobody waits for them, and they had better
// outlast a short stall.
//
// The clock starts when there is a connection for the command. So commands wait here for one, and never in go-redis's pool.
type patienceHook struct {
	connections chan struct{} // holds one for each command under way
}

// newPatienceHook is the hook for a pool of so many connections.
func newPatienceHook(poolSize int) patienceHook {
	return patienceHook{make(chan struct{}, poolSize)}
}

// DialHook changes nothing.
func (patienceHook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook bounds a command.
func (h patienceHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := h.wait(ctx, func(ctx context.Context) error { return next(ctx, cmd) })
		if err != nil && cmd.Err() == nil { // not even sent
			cmd.SetErr(err)
		}
		return err
	}
}

// ProcessPipelineHook bounds a pipeline as if it were one command.
func (h patienceHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		sent := false
		err := h.wait(ctx, func(ctx context.Context) error {
			sent = true
			return next(ctx, cmds)
		})
		if err != nil && !sent {
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
		}
		return err
	}
}

// connectedKey is in the context of a command that has a connection. The handshake of a new one comes through the hook, too.
type connectedKey struct{}

// wait asks Redis once there is a connection for it, and within the patience that ctx has, if it has one.
func (h patienceHook) wait(ctx context.Context, ask func(context.Context) error) error {
	if ctx.Value(connectedKey{}) != nil {
		return ask(ctx)
	}
	waiting := patiences(ctx)
	queue := poolPatience
	if len(waiting) > 0 {
		queue = queuePatience
		if !slices.ContainsFunc(waiting, func(p *requestPatience) bool { return !p.lost.Load() }) {
			return errNoPatience
		}
	}
	if err := h.queue(ctx, queue); err != nil {
		return err
	}
	defer func() { <-h.connections }()
	ctx = context.WithValue(ctx, connectedKey{}, true)
	if len(waiting) == 0 {
		return ask(ctx)
	}
	bounded, cancel := context.WithTimeout(ctx, callerPatience)
	defer cancel()
	err := ask(bounded)
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		for _, p := range waiting {
			p.lost.Store(true)
		}
	}
	return err
}

// patiences are those of the requests that wait for a command: of one, or of all whose steps go to Redis together.
func patiences(ctx context.Context) []*requestPatience {
	callers := ledger.Callers(ctx)
	if callers == nil {
		callers = []context.Context{ctx}
	}
	var waiting []*requestPatience
	for _, caller := range callers {
		if p, ok := caller.Value(patienceKey{}).(*requestPatience); ok {
			waiting = append(waiting, p)
		}
	}
	return waiting
}

// queue waits for a connection that no other command uses.
func (h patienceHook) queue(ctx context.Context, patience time.Duration) error {
	select {
	case h.connections <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case h.connections <- struct{}{}:
		return nil
	case <-timer.C:
		return errQueued
	case <-ctx.Done():
		return ctx.Err()
	}
}
