package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// Places is how many requests are worked on at a time. It is far more than keeps Redis and the processors busy, and few enough that none
// of them waits for long behind the others.
const Places = 128

const (
	// keyPlaces is how many of the places one key may have: the rest is for other keys, however much this one sends.
	keyPlaces = Places * 3 / 4
	// mostPlaces is how many a request may take: as many as are left beside a key that has all it may have. Places are given in turn, so a
	// request that waits for more would keep those behind it from the places that are free.
	mostPlaces = Places - keyPlaces
	// longPlaces is how many requests that may take Redis many seconds are worked on at a time. keyLongPlaces is how many of them may be one
	// key's. They have places of their own, so events do not wait behind them.
	longPlaces, keyLongPlaces = 16, 4
	// placeBytes is how much of a body takes one more place: to check a long payload takes memory and time.
	placeBytes = 64 << 10
	// placeTimeout is how long a request may wait for a place: a caller that is turned away has lost a moment. A caller that gets one may
	// still have to wait for Redis.
	placeTimeout = time.Second
	// keyRequests is how many requests one key may have under way, waiting ones included.
	keyRequests = 500
	// freeBytes of each body are not counted, so that long bodies leave small events their way in.
	freeBytes = 8 << 10
	// copies is how often a body is in memory while it is worked on: once as it came, and once in the values that were read from it.
	copies = 2
)

// errNoPlace turns a request away before anything was done for it.
var errNoPlace = &refusal{
	status: http.StatusServiceUnavailable, shed: true,
	detail: busyNow,
	header: retryIn(retryAfter),
}

// errKeyRequests turns a request away whose key has too many under way.
var errKeyRequests = &refusal{
	status: http.StatusTooManyRequests, shed: true,
	detail: fmt.Sprintf("this key has %d requests under way, as many as one key may have: send fewer at a time", keyRequests),
	header: retryIn(retryAfter),
}

// A doorway bounds how much of the process all requests hold at a time: bytes of bodies, and places to be worked on. A key has a share of
// each, so that it cannot take all.
type doorway struct {
	maxBytes int64
	places   *semaphore.Weighted
	long     *semaphore.Weighted // for requests that take long

	mu    sync.Mutex
	bytes int64
	keys  map[string]*share // by the key's id, while it has requests under way
}

// A share is what one key's requests hold together.
type share struct {
	requests int
	bytes    int64
	places   *semaphore.Weighted
	long     *semaphore.Weighted
}

func newDoorway(maxBytes int64) *doorway {
	return &doorway{maxBytes: maxBytes, places: semaphore.NewWeighted(Places), long: semaphore.NewWeighted(longPlaces), keys: map[string]*share{}}
}

// A visit is what one request holds.
type visit struct {
	door  *doorway
	key   string
	share *share
	bytes int64
}

// visiting is where a request's context holds its [visit].
type visiting struct{}

// visitOf returns the visit of an operation's request.
func visitOf(ctx context.Context) *visit {
	v, _ := ctx.Value(visiting{}).(*visit)
	return v
}

// enter begins a request of a key. The caller calls leave at its end.
func (d *doorway) enter(key string) (*visit, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.keys[key]
	if s == nil {
		s = &share{places: semaphore.NewWeighted(keyPlaces), long: semaphore.NewWeighted(keyLongPlaces)}
		d.keys[key] = s
	}
	if s.requests == keyRequests {
		return nil, errKeyRequests
	}
	s.requests++
	return &visit{door: d, key: key, share: s}, nil
}

// leave ends a request, and gives back what it held.
func (v *visit) leave() {
	d := v.door
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bytes -= v.bytes
	v.share.bytes -= v.bytes
	if v.share.requests--; v.share.requests == 0 {
		delete(d.keys, v.key)
	}
}

// hold makes room for a body that has grown to n bytes, which counts twice.
func (v *visit) hold(n int) error {
	d := v.door
	d.mu.Lock()
	defer d.mu.Unlock()
	more := copies*max(int64(n)-freeBytes, 0) - v.bytes
	switch {
	case v.share.bytes+more > d.maxBytes/2:
		return tooMuch(http.StatusTooManyRequests, "the bodies of this key's requests under way take %d bytes, as many as those of one key may: send fewer at a time", d.maxBytes/2)
	case d.bytes+more > d.maxBytes:
		return tooMuch(http.StatusServiceUnavailable, "the bodies of all requests under way take %d bytes, as many as they may: try again in a moment", d.maxBytes)
	}
	v.bytes, v.share.bytes, d.bytes = v.bytes+more, v.share.bytes+more, d.bytes+more
	return nil
}

// tooMuch turns a request away whose body has no room.
func tooMuch(status int, detail string, limit int64) error {
	return &refusal{
		status: status, shed: true, detail: fmt.Sprintf(detail, limit),
		header: retryIn(retryAfter),
	}
}

// place waits until a request, or a part of one with a body of so many bytes, may be worked on.
func (v *visit) place(ctx context.Context, bytes int64) (release func(), err error) {
	return acquire(ctx, v.share.places, v.door.places, min(1+bytes/placeBytes, mostPlaces))
}

// longPlace waits until a request that takes long may begin.
func (v *visit) longPlace(ctx context.Context) (release func(), err error) {
	return acquire(ctx, v.share.long, v.door.long, 1)
}

// acquire takes places of a key's and of all. The error is errNoPlace if the time is up, and ctx's own if the caller hung up first.
func acquire(ctx context.Context, share, all *semaphore.Weighted, weight int64) (release func(), err error) {
	waiting, cancel := context.WithTimeout(ctx, placeTimeout)
	defer cancel()
	// A key's requests wait for each other first. Only a request that its own key lets go waits for those of other keys.
	if share.Acquire(waiting, weight) != nil {
		return nil, unplaced(ctx)
	}
	if all.Acquire(waiting, weight) != nil {
		share.Release(weight)
		return nil, unplaced(ctx)
	}
	return func() {
		all.Release(weight)
		share.Release(weight)
	}, nil
}

// unplaced is why a request that waited has no place. If its caller hung up, it was refused nothing.
func unplaced(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("waiting for a place: %w", err)
	}
	return errNoPlace
}
