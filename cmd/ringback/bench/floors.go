package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/hibiken/asynq"
	"golang.org/x/sync/errgroup"

	"github.com/ringback/ringback/payloads"
)

const (
	// floorSenders are as many as the first phase of saturate has.
	floorSenders = 16
	// floorTimes is how often each thing is done: for a second at most.
	floorTimes = 5000
	// floorPlaces is how many tasks asynq handles at a time: enough that none waits for a place.
	floorPlaces = 64
	// floorTimeout is how long one floor may take.
	floorTimeout = 20 * time.Second
)

// measureFloors measures what a delivery needs at least: an acceptance, a task, and a post. All of it happens in this process, but for Redis.
func measureFloors(ctx context.Context, cfg Config) (Figures, error) {
	n, f := floorTimes, Figures{}
	if cfg.Short {
		n /= shortest
	}
	for _, floor := range []struct {
		name    string
		measure func(context.Context, int) (float64, error)
	}{{FloorAccept, acceptFloor}, {FloorAsynq, asynqFloor}, {FloorPost, postFloor}} {
		limited, cancel := context.WithTimeout(ctx, floorTimeout)
		rate, err := floor.measure(limited, n)
		cancel()
		if err != nil {
			return nil, err
		}
		f[floor.name] = rate
	}
	cfg.say("floors: %.0f accepted/s, %.0f tasks/s, %.0f posts/s", f[FloorAccept], f[FloorAsynq], f[FloorPost])
	return f, nil
}

// hurry calls do n times, from floorSenders at a time, and says how often a second.
func hurry(ctx context.Context, n int, do func(context.Context, int) error) (float64, error) {
	var next atomic.Int64
	start := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for range floorSenders {
		group.Go(func() error {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := do(ctx, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := group.Wait()
	return perSecond(n, time.Since(start)), err
}

// poster is a client with connections for all senders.
func poster() *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConns: connections, MaxIdleConnsPerHost: connections}}
}

// acceptFloor reads events and answers 202, as the API does, and does nothing with them.
func acceptFloor(ctx context.Context, n int) (float64, error) {
	mux := http.NewServeMux()
	api := humago.New(mux, huma.DefaultConfig("floor", "1"))
	type in struct {
		Company string `path:"company"`
		RawBody []byte `contentType:"application/json"`
	}
	type out struct {
		Status int
		Body   struct {
			EventID string `json:"event_id"`
		}
	}
	huma.Register(api, huma.Operation{OperationID: "accept", Method: http.MethodPost, Path: "/companies/{company}/events", DefaultStatus: http.StatusAccepted, SkipValidateBody: true},
		func(_ context.Context, in *in) (*out, error) {
			answer := &out{Status: http.StatusAccepted}
			answer.Body.EventID = strconv.Itoa(len(in.RawBody))
			return answer, nil
		})
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer serve(ln, mux)()

	client, url := poster(), "http://"+ln.Addr().String()+"/companies/floor/events"
	defer client.CloseIdleConnections()
	header, bodies := http.Header{"Content-Type": {"application/json"}}, load{letter: 'f', events: n}.bodies()
	return hurry(ctx, n, func(ctx context.Context, i int) error {
		status, _, err := exchange(ctx, client, http.MethodPost, url, header, bodies[i])
		if err == nil && status != http.StatusAccepted {
			err = fmt.Errorf("the floor's server answered %d", status)
		}
		return err
	})
}

// asynqFloor enqueues tasks and handles them, on a Redis such as an installation has.
func asynqFloor(ctx context.Context, n int) (rate float64, err error) {
	dir, err := os.MkdirTemp("", "ringback-bench")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	child, err := startRedis(ctx, dir, fail)
	if err != nil {
		return 0, err
	}
	defer child.end()
	rdb := redisClient(child.addr)
	defer func() { _ = rdb.Close() }()

	left, done := new(atomic.Int64), make(chan struct{})
	left.Store(int64(n))
	server := asynq.NewServerFromRedisClient(rdb, asynq.Config{Concurrency: floorPlaces, TaskCheckInterval: startPoll, LogLevel: asynq.FatalLevel})
	if err := server.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error {
		if left.Add(-1) == 0 {
			close(done)
		}
		return nil
	})); err != nil {
		return 0, err
	}
	defer server.Shutdown()
	client, start := asynq.NewClientFromRedisClient(rdb), time.Now()
	if _, err := hurry(ctx, n, func(ctx context.Context, i int) error {
		_, err := client.EnqueueContext(ctx, asynq.NewTask("floor", []byte(strconv.Itoa(i))))
		return err
	}); err != nil {
		return 0, err
	}
	select {
	case <-done:
		return perSecond(n, time.Since(start)), nil
	case <-ctx.Done():
		return 0, errors.Join(ctx.Err(), fmt.Errorf("asynq has %d of %d tasks left", left.Load(), n))
	}
}

// postFloor signs events and posts them to a receiver, which verifies them.
func postFloor(ctx context.Context, n int) (float64, error) {
	r, err := receive(ctx, "127.0.0.1:0", "")
	if err != nil {
		return 0, err
	}
	defer r.close()
	secret := payloads.NewSecret()
	r.keys[0] = secret
	books := r.open('f', n, 1)
	client, bodies := poster(), load{letter: 'f', events: n}.bodies()
	defer client.CloseIdleConnections()
	rate, err := hurry(ctx, n, func(ctx context.Context, i int) error {
		id, now := "dlv_"+strconv.Itoa(i), time.Now()
		signature, err := payloads.Sign(id, now, bodies[i], secret)
		if err != nil {
			return err
		}
		_, _, err = exchange(ctx, client, http.MethodPost, r.url+"/0", http.Header{
			"Content-Type": {"application/json"}, "Ringback-Event-Id": {"f" + strconv.Itoa(i)},
			payloads.HeaderID: {id}, payloads.HeaderTimestamp: {strconv.FormatInt(now.Unix(), 10)}, payloads.HeaderSignature: {signature},
		}, bodies[i])
		return err
	})
	if err == nil && books.left.Load() > 0 {
		err = fmt.Errorf("%d of %d posts are missing", books.left.Load(), n)
	}
	return rate, err
}
