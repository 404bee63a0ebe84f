package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	eventType = "payment_proof"
	// eventBytes is how long the body of an event is: that of a filled-in payment proof.
	eventBytes = 640
	// batchEvents is how many events a batch has.
	batchEvents = 500
	// pacedSenders are more than are ever busy at a pace that the installation keeps.
	pacedSenders = 32
	// again is how long a sender waits that was told to come later.
	again = 20 * time.Millisecond
	// settle is how long what follows the last arrival may take: to write down how it ended.
	settle = 250 * time.Millisecond
	// warmUps is how many deliveries go before those that count: connections are opened, and scripts loaded.
	warmUps = 100
)

// A load is a number of events to be sent.
type load struct {
	letter    byte // that their ids begin with
	events    int
	companies []string // that they go to, in turn
	fan       int      // callbacks of each company
	bytes     int      // of an event's body; 0 is eventBytes
	senders   int
	pace      float64 // events per second; 0 is as fast as they go
	batch     int     // events of a request; 0 is one, without a batch
}

// A sending is a load that was sent.
type sending struct {
	load     load
	book     *book
	began    time.Duration   // since the epoch
	accepted []time.Duration // when each event's acceptance was read, since the epoch; 0: not in time
}

// bodies are the requests of a load, prepared so that sending costs little.
func (l load) bodies() [][]byte {
	size := max(1, l.batch)
	bodies := make([][]byte, 0, (l.events+size-1)/size)
	for first := 0; first < l.events; first += size {
		var b bytes.Buffer
		for i := first; i < min(first+size, l.events); i++ {
			b.Write(l.event(i))
		}
		bodies = append(bodies, b.Bytes())
	}
	return bodies
}

// event is the body of an event, with a line's end if it is one of a batch.
func (l load) event(i int) []byte {
	id := string(l.letter) + strconv.Itoa(i)
	head := `{"event_type":"` + eventType + `","event_id":"` + id + `","payload":{"requestId":"` + id + `","status":"OK","voucherEffect":"Nómina","issuerName":"`
	size := eventBytes
	if l.bytes > 0 {
		size = l.bytes
	}
	body := head + strings.Repeat("x", max(0, size-len(head)-3)) + `"}}`
	if l.batch > 0 {
		body += "\n"
	}
	return []byte(body)
}

// sendLoad sends a load and returns when all of it is accepted or ctx ends. An answer that no repetition will change is an error.
func (s *site) sendLoad(ctx context.Context, l load) (*sending, error) {
	out := &sending{load: l, accepted: make([]time.Duration, l.events)}
	bodies := l.bodies()
	out.book = s.receiver.open(l.letter, l.events, l.fan)
	header := s.header.Clone()
	route := "/events"
	if l.batch > 0 {
		header.Set("Content-Type", "application/x-ndjson")
		route += "/batch"
	}
	urls := make([]string, len(l.companies))
	for i, company := range l.companies {
		urls[i] = s.server + "/companies/" + company + route
	}
	out.began = time.Since(epoch)
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range l.senders {
		group.Go(func() error {
			for k := int(next.Add(1)) - 1; k < len(bodies); k = int(next.Add(1)) - 1 {
				if !out.waitFor(ctx, k) {
					return nil
				}
				if err := s.sendUntilAccepted(ctx, out, k, urls[k%len(urls)], header, bodies[k]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return out, group.Wait()
}

// waitFor waits until it is time for request k, and reports whether that came before ctx ended.
func (s *sending) waitFor(ctx context.Context, k int) bool {
	if s.load.pace == 0 {
		return ctx.Err() == nil
	}
	due := s.began + time.Duration(float64(k)*float64(time.Second)/s.load.pace)
	select {
	case <-ctx.Done():
		return false
	case <-time.After(due - time.Since(epoch)):
		return true
	}
}

// sendUntilAccepted sends request k until it is accepted. That it is not in time is no error: then its deliveries are missing.
func (s *site) sendUntilAccepted(ctx context.Context, out *sending, k int, url string, header http.Header, body []byte) error {
	for ctx.Err() == nil {
		var status int
		var answer []byte
		var err error
		if out.load.batch > 0 {
			status, err = s.sendBatch(ctx, out, k, url, header, body)
		} else if status, answer, err = exchange(ctx, s.client, http.MethodPost, url, header, body); err == nil && status/100 == 2 {
			out.accepted[k] = time.Since(epoch)
		}
		switch {
		case err == nil && status/100 == 2:
			return nil
		case err == nil && status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable:
			return &statusError{"an event", status, string(answer[:min(len(answer), 500)])}
		}
		select { // it has no place just now, or the connection broke
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
	return nil
}

// sendBatch sends a batch and notes when each of its events is accepted. A line that says otherwise makes the answer one of 503.
func (s *site) sendBatch(ctx context.Context, out *sending, k int, url string, header http.Header, body []byte) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header = header
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode, nil
	}
	events := out.accepted[k*out.load.batch : min((k+1)*out.load.batch, out.load.events)]
	lines, status := bufio.NewScanner(resp.Body), http.StatusOK
	lines.Buffer(nil, 1<<20) // a line names each delivery
	i := 0
	for ; lines.Scan() && i < len(events); i++ {
		switch line := lines.Bytes(); {
		case !bytes.Contains(line, []byte(`"status":202`)) && !bytes.Contains(line, []byte(`"status":200`)):
			status = http.StatusServiceUnavailable
		case events[i] == 0:
			events[i] = time.Since(epoch)
		}
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	if i < len(events) {
		return 0, fmt.Errorf("the answer has %d lines for %d events", i, len(events))
	}
	return status, nil
}

// deliver sends a load and waits for its arrivals. beside, if not nil, runs at the same time, and its deliveries count towards what each costs.
func (s *site) deliver(ctx context.Context, l load, beside func(context.Context) (deliveries int, err error)) (Figures, error) {
	before, err := s.readFirst(ctx)
	if err != nil {
		return nil, err
	}
	bad := s.receiver.badSignatures.Load()
	others, group := 0, errgroup.Group{}
	if beside != nil {
		group.Go(func() (err error) {
			others, err = beside(ctx)
			return err
		})
	}
	sent, err := s.sendLoad(ctx, l)
	if err == nil {
		sent.book.await(ctx)
	}
	if other := group.Wait(); err == nil {
		err = other
	}
	if err != nil {
		return nil, err
	}
	f := sent.figures()
	f[BadSignatures] = float64(s.receiver.badSignatures.Load() - bad)
	return f, s.costs(ctx, before, int(f[Deliveries])+others, f)
}

// costs adds what was used since before, by so many deliveries.
func (s *site) costs(ctx context.Context, before reading, deliveries int, f Figures) error {
	if s.redis == nil {
		return nil
	}
	select {
	case <-ctx.Done():
	case <-time.After(settle):
	}
	after, err := s.readLast(ctx)
	if err != nil {
		return err
	}
	after.since(before, deliveries, f)
	for _, c := range s.serves {
		if resident := residentMiB(c.pid()); resident > 0 {
			f[RingbackRSS] += resident
		}
	}
	return nil
}

// figures are how fast what was sent was accepted and arrived, and what is missing.
func (s *sending) figures() Figures {
	at, last := s.book.arrivals()
	took := make([]time.Duration, 0, len(at))
	var lastAccepted time.Duration
	accepted := 0
	for i, when := range s.accepted {
		lastAccepted = max(lastAccepted, when)
		if when > 0 {
			accepted++
		}
		for _, arrival := range at[i*s.load.fan : (i+1)*s.load.fan] {
			if arrival > 0 && when > 0 {
				took = append(took, max(0, arrival-when))
			}
		}
	}
	arrived := len(at) - int(s.book.left.Load())
	f := Figures{
		Events: float64(s.load.events), Deliveries: float64(arrived), Missing: float64(len(at) - arrived),
		Duplicates: float64(s.book.duplicates.Load()), ChangedIDs: float64(s.book.changedIDs.Load()),
		AcceptedRate: perSecond(accepted, lastAccepted-s.began), DeliveryRate: perSecond(arrived, last-s.began),
	}
	f.latencies(took)
	return f
}

func perSecond(n int, took time.Duration) float64 {
	if took <= 0 {
		return 0
	}
	return float64(n) / took.Seconds()
}

// warmUp sends a few events of a load's kind. Meanwhile it learns which commands only clients send to Redis.
func (s *site) warmUp(ctx context.Context, l load) error {
	l.letter, l.events, l.pace = 'w', max(1, warmUps/l.fan, len(l.companies)), 0
	do := func() error {
		sent, err := s.sendLoad(ctx, l)
		if err != nil {
			return err
		}
		sent.book.await(ctx)
		select { // what idle workers ask belongs to it
		case <-ctx.Done():
		case <-time.After(settle):
		}
		return nil
	}
	if s.redis == nil {
		return do()
	}
	var err error
	s.fromClients, err = watch(ctx, s.redis.addr, do)
	return err
}
