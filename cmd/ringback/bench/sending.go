package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// again is how long a sender waits that was told to come later.
const again = 20 * time.Millisecond

// A sending is a load that was sent.
type sending struct {
	load     load
	book     *book
	began    time.Duration   // since the epoch
	accepted []time.Duration // when each event's acceptance was read, since the epoch; 0: not in time
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

// sendUntilAccepted sends request k until it is accepted. If that is not in time, it returns no error: its deliveries are missing.
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

// sendBatch sends a batch and notes when each of its events is accepted. If a line says otherwise, the status is 503.
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
