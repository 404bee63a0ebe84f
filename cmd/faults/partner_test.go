package faults

import (
	"crypto/sha256"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// A partner receives webhooks, verifies each with the library that the standard's authors wrote, and keeps books.
type partner struct {
	t   testing.TB
	url string

	mu       sync.Mutex
	secrets  map[string]*standardwebhooks.Webhook // by path
	answer   func(w http.ResponseWriter, r *http.Request, a *arrival)
	arrivals []*arrival
	good     map[string]bool // deliveries that were answered well
}

// An arrival is one request as the partner saw it. All but status and end stand when it is booked; those two are the partner's mutex's.
type arrival struct {
	partner  *partner
	path     string
	delivery string // webhook-id
	event    string
	attempt  int
	sequence int // 0: it has none
	body     [sha256.Size]byte
	verified error
	start    time.Time
	others   []*arrival // of a batch: the deliveries that came in the same request

	end    time.Time // zero: still open
	status int       // 0: none was sent
}

func newPartner(t testing.TB) *partner {
	p := &partner{t: t, secrets: make(map[string]*standardwebhooks.Webhook), good: make(map[string]bool)}
	server := httptest.NewServer(p)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	p.url = server.URL
	return p
}

// knows tells the partner a callback's signing secret.
func (p *partner) knows(path, secret string) {
	hook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		p.t.Fatalf("the signing secret: %v", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.secrets[path] = hook
}

// handle sets what is answered from now on: 204 if nil. a is the request's entry in the books; the answer's status is added to it.
// A handler that waits must end when the request's context does.
func (p *partner) handle(answer func(w http.ResponseWriter, r *http.Request, a *arrival)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = answer
}

func (p *partner) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // it never arrived whole
	}
	a := p.book(r.URL.Path, r.Header, body)
	p.mu.Lock()
	answer := p.answer
	p.mu.Unlock()
	noted := &noting{ResponseWriter: w}
	defer func() { a.answered(noted.status) }()
	if answer == nil {
		noted.WriteHeader(http.StatusNoContent)
		return
	}
	answer(noted, r, a)
	if noted.status == 0 && r.Context().Err() == nil {
		noted.WriteHeader(http.StatusNoContent)
	}
}

// noting remembers the status that was sent.
type noting struct {
	http.ResponseWriter
	status int
}

func (n *noting) WriteHeader(status int) {
	n.status = status
	n.ResponseWriter.WriteHeader(status)
}

func (n *noting) Write(b []byte) (int, error) {
	if n.status == 0 {
		n.status = http.StatusOK
	}
	return n.ResponseWriter.Write(b)
}

func (n *noting) Unwrap() http.ResponseWriter { return n.ResponseWriter }

// book enters a request that arrived whole, and verifies it. Whoever books it calls answered when it is over.
func (p *partner) book(path string, header http.Header, body []byte) *arrival {
	a := &arrival{partner: p, path: path, start: time.Now(), delivery: header.Get("Webhook-Id"), event: header.Get("Ringback-Event-Id"), body: sha256.Sum256(body)}
	a.attempt, _ = strconv.Atoi(header.Get("Ringback-Attempt"))
	a.sequence, _ = strconv.Atoi(header.Get("Ringback-Sequence"))
	p.mu.Lock()
	defer p.mu.Unlock()
	if hook := p.secrets[path]; hook != nil {
		a.verified = hook.Verify(body, header)
	}
	if header.Get("Ringback-Batch") != "" {
		a.unpack(body)
	}
	p.arrivals = append(append(p.arrivals, a), a.others...)
	return a
}

// unpack has a batch's request be an arrival of each of its deliveries. All have the batch's webhook-id in common, and are known by their own.
func (a *arrival) unpack(body []byte) {
	var elements []struct {
		ID      string
		Payload json.RawMessage
	}
	if err := json.Unmarshal(body, &elements); err != nil && a.verified == nil {
		a.verified = err
	}
	whole := *a
	for i, e := range elements {
		var content struct{ RequestID string }
		_ = json.Unmarshal(e.Payload, &content) // then nobody sent it
		one := whole
		one.delivery, one.event, one.body = e.ID, content.RequestID, sha256.Sum256(e.Payload)
		if i == 0 {
			*a = one
		} else {
			a.others = append(a.others, &one)
		}
	}
}

// answered enters what was answered, 0 for nothing.
func (a *arrival) answered(status int) {
	a.partner.mu.Lock()
	defer a.partner.mu.Unlock()
	for _, one := range append(a.others, a) {
		one.end, one.status = time.Now(), status
		if status/100 == 2 {
			a.partner.good[one.delivery] = true
		}
	}
}

// counts says how many requests arrived, how many are open, and how many deliveries were answered well.
func (p *partner) counts() (requests, open, good int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.arrivals {
		if a.end.IsZero() {
			open++
		}
	}
	return len(p.arrivals), open, len(p.good)
}

// await waits until n deliveries were answered well.
func (p *partner) await(n int, within time.Duration) {
	p.t.Helper()
	within = atLeast(within)
	for deadline := time.Now().Add(within); ; <-time.After(5 * time.Millisecond) {
		p.mu.Lock()
		good := len(p.good)
		p.mu.Unlock()
		if good >= n {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%d of %d deliveries were answered well within %s", good, n, within)
		}
	}
}

// awaitOpen waits until n requests are open at once.
func (p *partner) awaitOpen(n int, within time.Duration) {
	p.t.Helper()
	within = atLeast(within)
	for deadline := time.Now().Add(within); ; <-time.After(5 * time.Millisecond) {
		_, open, _ := p.counts()
		if open >= n {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%d of %d requests are open after %s", open, n, within)
		}
	}
}

// books is a copy of all arrivals, in order.
func (p *partner) books() []arrival {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]arrival, len(p.arrivals))
	for i, a := range p.arrivals {
		out[i] = *a
	}
	return out
}

// slow answers 204 after d.
func slow(d time.Duration) func(http.ResponseWriter, *http.Request, *arrival) {
	return func(w http.ResponseWriter, r *http.Request, _ *arrival) {
		select {
		case <-time.After(d):
			w.WriteHeader(http.StatusNoContent)
		case <-r.Context().Done():
		}
	}
}

// forget empties the books.
func (p *partner) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.arrivals, p.good = nil, make(map[string]bool)
}
