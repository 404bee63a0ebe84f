package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"hash/maphash"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ringback/ringback/payloads"
)

const (
	// maxCallbacks is how many callbacks a receiver knows.
	maxCallbacks = 10_000
	// maxEvents is how many events a scenario has at most: with the 200 callbacks of fanout they fill maxDeliveries.
	maxEvents = 100_000
	// maxDeliveries is how many places a book has at most, of 16 bytes each.
	maxDeliveries = 20_000_000

	hangPath   = "/hang"   // takes requests, and answers none
	decidePath = "/decide" // answers decisions
)

// epoch is what times are counted from.
var epoch = time.Now()

// A receiver is the partner: it verifies each delivery, enters it in a book, and answers 204. It shares the machine with what it measures, so it
// allocates little and takes no locks.
type receiver struct {
	url   string
	name  string // unlike that of others
	close func()
	books [26]atomic.Pointer[book] // by the first letter of event ids
	keys  []payloads.Secret        // by a callback's number; set before anything is sent there

	badSignatures atomic.Int64
	decided       atomic.Int64
	bodies        sync.Pool // of *bytes.Buffer
}

// receive begins to receive on an address. The caller closes the receiver.
func receive(ctx context.Context, listen, url string) (*receiver, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("receiving: %w", err)
	}
	if url == "" {
		url = "http://" + ln.Addr().String()
	}
	r := &receiver{url: strings.TrimSuffix(url, "/"), name: "bench-" + strings.ToLower(rand.Text()[:8]), keys: make([]payloads.Secret, maxCallbacks)}
	r.bodies.New = func() any { return new(bytes.Buffer) }
	r.close = serve(ln, r)
	return r, nil
}

// serve answers what comes in at ln, until stop, which cuts off what is under way.
func serve(ln net.Listener, h http.Handler) (stop func()) {
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(ln) })
	return func() {
		_ = server.Close()
		serving.Wait()
	}
}

// know remembers the secret of a callback.
func (r *receiver) know(number int, secret string) (err error) {
	r.keys[number], err = payloads.ParseSecret(secret)
	return err
}

// open begins the book of the events whose ids begin with letter. They are numbered from 0 on. Each is to arrive at fan callbacks, whose numbers
// follow each other.
func (r *receiver) open(letter byte, events, fan int) *book {
	b := &book{fan: fan, slots: make([]slot, events*fan), full: make(chan struct{})}
	b.left.Store(int64(len(b.slots)))
	r.books[letter-'a'].Store(b)
	return b
}

// ServeHTTP answers as the path says.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := r.bodies.Get().(*bytes.Buffer)
	defer r.bodies.Put(body)
	body.Reset()
	if _, err := body.ReadFrom(req.Body); err != nil {
		return
	}
	switch req.URL.Path {
	case hangPath:
		<-req.Context().Done()
		return
	case decidePath:
		r.decided.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"accepted":true}`))
		return
	}
	number, err := strconv.Atoi(req.URL.Path[1:])
	if err != nil || number < 0 || number >= len(r.keys) {
		http.NotFound(w, req)
		return
	}
	r.take(number, req.Header, body.Bytes())
	w.WriteHeader(http.StatusNoContent)
}

// take verifies a delivery to a callback and enters it. If it does not verify, it is not entered, and so is missing as well.
func (r *receiver) take(number int, h http.Header, body []byte) {
	now := time.Now()
	if payloads.Verify(h, body, now, r.keys[number]) != nil {
		r.badSignatures.Add(1)
		return
	}
	sent := maphash.String(seed, h.Get(payloads.HeaderID))
	if h.Get("Ringback-Batch") == "" {
		r.note(h.Get("Ringback-Event-Id"), number, now, sent)
		return
	}
	for _, rest := range bytes.Split(body, []byte(requestID))[1:] {
		if id, _, ok := bytes.Cut(rest, []byte{'"'}); ok {
			r.note(string(id), number, now, sent)
		}
	}
}

// requestID stands before the event's id in the payload of an event.
const requestID = `"requestId":"`

// note enters that an event arrived at a callback, under a webhook-id.
func (r *receiver) note(id string, number int, now time.Time, sent uint64) {
	if len(id) < 2 || id[0] < 'a' || id[0] > 'z' {
		return
	}
	event, err := strconv.Atoi(id[1:])
	if b := r.books[id[0]-'a'].Load(); b != nil && err == nil {
		b.enter(event, number, now.Sub(epoch), sent)
	}
}

// seed is that of what stands in books for a webhook-id.
var seed = maphash.MakeSeed()

// A book has a place for every delivery that is to arrive. It is safe for concurrent use.
type book struct {
	fan   int // deliveries of an event
	slots []slot
	left  atomic.Int64  // places that are empty
	full  chan struct{} // closed when there is none

	duplicates, changedIDs atomic.Int64
}

// A slot is the place of one delivery.
type slot struct {
	at atomic.Int64  // when it arrived first, in nanoseconds since the epoch; 0: it did not
	id atomic.Uint64 // of its webhook-id
}

// enter notes that an event arrived at a callback.
func (b *book) enter(event, number int, at time.Duration, id uint64) {
	if event < 0 || event*b.fan >= len(b.slots) {
		return
	}
	s := &b.slots[event*b.fan+number%b.fan]
	if !s.id.CompareAndSwap(0, id) {
		b.duplicates.Add(1)
		if s.id.Load() != id {
			b.changedIDs.Add(1)
		}
		return
	}
	s.at.Store(int64(at))
	if b.left.Add(-1) == 0 {
		close(b.full)
	}
}

// await waits until the book is full or ctx ends.
func (b *book) await(ctx context.Context) {
	select {
	case <-b.full:
	case <-ctx.Done():
	}
}

// arrivals are when each delivery arrived, since the epoch, those of an event side by side; 0 is not at all. last is the latest.
func (b *book) arrivals() (at []time.Duration, last time.Duration) {
	at = make([]time.Duration, len(b.slots))
	for i := range b.slots {
		at[i] = time.Duration(b.slots[i].at.Load())
		last = max(last, at[i])
	}
	return at, last
}
