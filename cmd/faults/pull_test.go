package faults

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A partner who fetches.

var pullFaults = []fault{
	{"pull-kills", "the API, the worker and Redis (between two writes of its AOF) are killed in turn while a partner fetches and acknowledges", true, true, killUnderFetches},
}

// A fetcher is a partner who cannot be called: it polls, and acknowledges what it has.
type fetcher struct {
	s      *scene
	path   string // of its callback
	cancel context.CancelFunc
	done   sync.WaitGroup

	// While it runs only it looks at these.
	last    [2]int64        // the highest cursor that was fetched: its ms, and its number among those
	had     map[string]bool // deliveries that were fetched
	again   int             // deliveries that came once more
	silence int             // requests without a good answer
	wrong   []string
}

// A page is the answer to a poll.
type page struct {
	Deliveries []struct {
		Cursor  string          `json:"cursor"`
		ID      string          `json:"delivery_id"`
		Event   string          `json:"event_id"`
		Payload json.RawMessage `json:"payload"`
	} `json:"deliveries"`
	Next string `json:"next"`
}

// pageOf is how many deliveries the fetcher takes at a time.
const pageOf = 40

// fetch registers a callback to fetch from and starts its partner.
func (s *scene) fetch() *fetcher {
	s.t.Helper()
	cb := callback{company: company}
	body := map[string]any{"callback_type": eventType, "destination": map[string]bool{"pull": true}}
	status, err := s.patiently(http.MethodPost, "/companies/"+company+"/config/callbacks", body, &cb)
	if err != nil || status != http.StatusCreated {
		s.t.Fatalf("registering: %d, %v", status, err)
	}
	s.callbacks = append(s.callbacks, cb)
	ctx, cancel := context.WithCancel(s.t.Context())
	f := &fetcher{s: s, path: fmt.Sprintf("/companies/%s/config/callbacks/%d", company, cb.ID), cancel: cancel, had: make(map[string]bool)}
	f.done.Go(func() { f.run(ctx) })
	s.t.Cleanup(f.stop)
	return f
}

// stop ends the fetching.
func (f *fetcher) stop() {
	f.cancel()
	f.done.Wait()
}

// run fetches what there is behind what was acknowledged, at one API process after the other.
func (f *fetcher) run(ctx context.Context) {
	for turn := 0; ctx.Err() == nil; turn++ {
		server := f.s.apis[turn%len(f.s.apis)].url()
		var got page
		status, err := f.s.callAt(ctx, server, http.MethodGet, f.path+"/poll?wait=1s&limit="+strconv.Itoa(pageOf), nil, &got)
		if err == nil && status == http.StatusOK && len(got.Deliveries) > 0 {
			f.take(&got)
			status, err = f.s.callAt(ctx, server, http.MethodPost, f.path+"/ack", map[string]string{"through": got.Next}, nil)
		}
		if (err != nil || status != http.StatusOK) && ctx.Err() == nil {
			f.silence++
			<-time.After(50 * time.Millisecond)
		}
	}
}

// take enters a page in the partner's books. What comes for the first time has a higher cursor than all before.
func (f *fetcher) take(got *page) {
	for _, d := range got.Deliveries {
		if f.had[d.ID] {
			f.again++
			continue
		}
		f.had[d.ID] = true
		at, n, _ := strings.Cut(d.Cursor, "-")
		ms, err := strconv.ParseInt(at, 10, 64)
		number, other := strconv.ParseInt(n, 10, 64)
		if err != nil || other != nil || ms < f.last[0] || ms == f.last[0] && number <= f.last[1] {
			f.wrong = append(f.wrong, fmt.Sprintf("%s has cursor %s, and was fetched after %v", d.ID, d.Cursor, f.last))
		}
		f.last = [2]int64{ms, number}
		now := time.Now()
		f.s.partner.enter(&arrival{
			partner: f.s.partner, path: f.path, delivery: d.ID, event: d.Event, attempt: 1, body: sha256.Sum256(d.Payload), start: now, end: now, status: http.StatusOK,
		})
	}
}

// enter adds what was fetched to the books.
func (p *partner) enter(a *arrival) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.arrivals = append(p.arrivals, a)
	p.good[a.delivery] = true
}

func killUnderFetches(s *scene) {
	s.open(setup{redisArgs: []string{"--appendfsync", "everysec"}, apis: 2, workers: 1, callbacks: -1})
	f := s.fetch()
	events := s.pick(500, 5000)
	sending := s.send(load{events: events, clients: 16, rate: float64(s.pick(150, 300))})
	kills := s.killInTurn(sending, func(n int) *process {
		return []*process{s.apis[s.rand.IntN(2)], nil, s.apis[s.rand.IntN(2)], s.workers[0]}[n%4]
	})
	sending.wait()
	s.settle(60 * time.Second)
	f.stop()
	s.injected("%d times kill -9 of the API, the worker or Redis under %d events from 16 producers; none was skipped, and none came out of order; %d requests of the partner had no good answer, and %d deliveries came again after them",
		kills, events, f.silence, f.again)
	if f.again > f.silence*pageOf {
		s.t.Errorf("%d deliveries came again after %d requests that had no good answer", f.again, f.silence)
	}
	s.complain(f.wrong, "deliveries came out of order")
	s.verify()
	s.row.duplicates = f.again
}
