package faults

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// A ledger is the producers' book: what was sent, and what was acknowledged.
type ledger struct {
	mu      sync.Mutex
	events  map[string]*sent
	refused map[int]int          // answers that were no acknowledgement, by status; 0: no answer
	slowest time.Duration        // that a refusal took
	last    map[string]time.Time // when each company was refused last
	batches int
}

// A sent is an event as its producer knows it.
type sent struct {
	id         string
	company    string
	batch      string    // the prefix of its sending's ids
	kind       string    // event type
	to         []string  // audiences, see [scene.audience]
	begun      time.Time // when it was sent first
	payload    json.RawMessage
	hash       [sha256.Size]byte
	acked      time.Time // zero: not yet
	deliveries []receipt
}

type receipt struct {
	ID       string `json:"delivery_id"`
	Callback int64  `json:"callback_id"`
}

// A load is what producers send.
type load struct {
	events  int
	clients int           // at the same time; default 8
	batch   int           // events a request; default 1
	rate    float64       // events a second in all; 0: as fast as they are taken
	giveUp  time.Duration // how long a producer repeats an event that is not taken; default 3 min
	pause   time.Duration // between repeats; default 50 ms
	payload int           // bytes of padding; default 200
	of      []string      // the companies that have them, in turn; default: all
	to      []string      // audiences, see [scene.audience]; default: every callback, of which none may have an audience
}

// A sending is producers at work.
type sending struct {
	s        *scene
	prefix   string // of its events' ids
	wg       sync.WaitGroup
	stopped  atomic.Bool
	unsent   atomic.Int64 // given up on
	finished chan struct{}
}

// wait returns when all is acknowledged. What was given up on is an error.
func (g *sending) wait() {
	g.s.t.Helper()
	<-g.finished
	if n := g.unsent.Load(); n > 0 && !g.stopped.Load() {
		g.s.t.Errorf("%d events were not taken until their producers gave up", n)
	}
}

// stop ends the sending: each producer gives up on what it has in hand.
func (g *sending) stop() {
	g.stopped.Store(true)
	<-g.finished
}

// send starts producers. Each takes the next event and sends it, to the API processes in turn, again and again with the same bytes and
// the same id until it is acknowledged.
func (s *scene) send(l load) *sending {
	s.t.Helper()
	l.clients, l.batch = cmp.Or(l.clients, 8), cmp.Or(l.batch, 1)
	if l.giveUp == 0 {
		l.giveUp = 3 * time.Minute
	}
	if l.pause == 0 {
		l.pause = 50 * time.Millisecond
	}
	if l.payload == 0 {
		l.payload = 200
	}
	if l.of == nil {
		l.of = s.companies
	}
	s.ledger.mu.Lock()
	s.ledger.batches++
	prefix := fmt.Sprintf("e%d-", s.ledger.batches)
	s.ledger.mu.Unlock()
	servers := make([]string, len(s.apis))
	for i, p := range s.apis {
		servers[i] = p.url()
	}
	g := &sending{s: s, prefix: prefix, finished: make(chan struct{})}
	var next atomic.Int64
	begun := time.Now()
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.t.Context()))
	for range l.clients {
		g.wg.Go(func() {
			for !g.stopped.Load() {
				last := int(next.Add(int64(l.batch)))
				first := last - l.batch + 1
				if first > l.events {
					return
				}
				if l.rate > 0 {
					select {
					case <-time.After(time.Until(begun.Add(time.Duration(float64(first) / l.rate * float64(time.Second))))):
					case <-ctx.Done():
					}
				}
				var page []*sent
				for k := first; k <= min(last, l.events); k++ {
					page = append(page, s.ledger.write(l.of[k%len(l.of)], prefix, k, l.payload, l.to))
				}
				g.unsent.Add(int64(g.sendAll(ctx, page, servers, first, l)))
			}
		})
	}
	go func() {
		g.wg.Wait()
		cancel()
		close(g.finished)
	}()
	s.t.Cleanup(g.stop)
	return g
}

// customers are how many there are whom events are about, in turn.
const customers = 20

// filler is a text of so many bytes, of which compressing saves no more than a quarter.
func filler(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return base64.StdEncoding.EncodeToString(b)[:n]
}

func (l *ledger) write(company, batch string, k, padding int, to []string) *sent {
	id := batch + strconv.Itoa(k)
	content := map[string]string{"requestId": id, "status": "OK", "issuerName": filler(padding), "voucherEffect": "Nómina", "customerId": strconv.Itoa(k % customers)}
	e := &sent{id: id, company: company, batch: batch, kind: eventType, to: to, begun: time.Now()}
	for _, audience := range to {
		e.kind, content[audience] = audienceType, "yes"
	}
	e.payload, _ = json.Marshal(content) // strings always encode
	e.hash = sha256.Sum256(e.payload)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.events == nil {
		l.events, l.refused = make(map[string]*sent), make(map[int]int)
	}
	l.events[id] = e
	return e
}

// sendAll sends events in one request, and again those that were not taken. It returns how many it gave up on.
func (g *sending) sendAll(ctx context.Context, page []*sent, servers []string, turn int, l load) int {
	for deadline := time.Now().Add(l.giveUp); ; turn++ {
		begun := time.Now()
		page = g.s.postAll(ctx, servers[turn%len(servers)], page, func(e *sent, status int, answer acknowledgement, err error) {
			g.s.ledger.note(e, status, answer, err, time.Since(begun))
		})
		if len(page) == 0 || g.stopped.Load() || time.Now().After(deadline) {
			return len(page)
		}
		<-time.After(l.pause)
	}
}

// postAll sends events once, in one request, notes what was answered to each, and returns those that were not taken.
func (s *scene) postAll(ctx context.Context, server string, page []*sent, note func(*sent, int, acknowledgement, error)) (left []*sent) {
	if len(page) == 1 {
		status, answer, err := s.post(ctx, server, page[0])
		note(page[0], status, answer, err)
		if err != nil || status/100 != 2 {
			left = page
		}
		return left
	}
	var lines ndjson
	for _, e := range page {
		line, _ := json.Marshal(e.body()) // it was made of such
		lines = append(append(lines, line...), '\n')
	}
	var answer []byte
	status, err := s.callAt(ctx, server, http.MethodPost, "/companies/"+page[0].company+"/events/batch", lines, &answer)
	results := json.NewDecoder(bytes.NewReader(answer))
	for _, e := range page {
		result := struct {
			Status int `json:"status"`
			acknowledgement
		}{Status: status}
		lineErr := err
		if err == nil && status == http.StatusOK {
			lineErr = results.Decode(&result)
		}
		note(e, result.Status, result.acknowledgement, lineErr)
		if lineErr != nil || result.Status/100 != 2 {
			left = append(left, e)
		}
	}
	return left
}

func (e *sent) body() map[string]any {
	return map[string]any{"event_type": e.kind, "event_id": e.id, "payload": e.payload}
}

type acknowledgement struct {
	Deliveries []receipt `json:"deliveries"`
	Duplicate  bool      `json:"duplicate"`
}

// post sends an event once.
func (s *scene) post(ctx context.Context, server string, e *sent) (int, acknowledgement, error) {
	var answer acknowledgement
	status, err := s.callAt(ctx, server, http.MethodPost, "/companies/"+e.company+"/events", e.body(), &answer)
	return status, answer, err
}

func (l *ledger) note(e *sent, status int, answer acknowledgement, err error, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil && status/100 == 2 {
		e.acked, e.deliveries = time.Now(), answer.Deliveries
		return
	}
	l.refused[status]++
	if l.last == nil {
		l.last = make(map[string]time.Time)
	}
	l.last[e.company] = time.Now()
	l.slowest = max(l.slowest, took)
}

// acked are the events that were acknowledged.
func (l *ledger) acked() []*sent {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*sent
	for _, e := range l.events {
		if !e.acked.IsZero() {
			out = append(out, e)
		}
	}
	return out
}

// refusals says what was answered where it was no acknowledgement, and forgets it.
func (l *ledger) refusals() (byStatus map[int]int, slowest time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	byStatus, slowest = l.refused, l.slowest
	l.refused, l.slowest = make(map[int]int), 0
	return byStatus, slowest
}

// sendAgain sends some of the acknowledged events once more: each must be known as a duplicate and belong to the same deliveries.
func (s *scene) sendAgain(n int) {
	s.t.Helper()
	for i, e := range s.ledger.acked() {
		if i == n {
			break
		}
		status, answer, err := s.post(s.t.Context(), s.apis[0].url(), e)
		if err != nil || status != http.StatusOK || !answer.Duplicate || !sameReceipts(answer.Deliveries, e.deliveries) {
			s.t.Errorf("%s sent again: %d, %+v, %v; at first %+v", e.id, status, answer, err, e.deliveries)
		}
	}
}

func sameReceipts(a, b []receipt) bool {
	if len(a) != len(b) {
		return false
	}
	known := make(map[receipt]bool)
	for _, r := range a {
		known[r] = true
	}
	for _, r := range b {
		if !known[r] {
			return false
		}
	}
	return true
}
