package bench

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// viewers are how many watch in the scenario watched.
const viewers = 50

// watched sends as fast as it goes from 16 senders, by turns while nobody watches the company's deliveries and while 50 streams tell of them.
func watched(ctx context.Context, s *site) ([]phase, error) {
	l := load{letter: 'a', events: s.cfg.events(10_000), companies: []string{s.company("watched")}, fan: 1, senders: 16}
	if err := s.prepare(ctx, l, nil); err != nil {
		return nil, err
	}
	calm, err := s.deliver(ctx, l, nil)
	if err != nil {
		return nil, err
	}
	told, leave, err := s.watch(ctx, l.companies[0], viewers)
	if err != nil {
		return nil, err
	}
	defer leave()
	l.letter = 'b'
	watched, err := s.deliver(ctx, l, nil)
	if err != nil {
		return nil, err
	}
	for told.Load() == 0 && ctx.Err() == nil { // a short load is over before anybody hears of it
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
	watched[Told] = float64(told.Load())
	watched.beside(calm)
	return []phase{{"calm", calm, l.fan}, {strconv.Itoa(viewers) + " watch", watched, l.fan}}, nil
}

// watch opens streams of a company's deliveries, and counts what they tell until leave is called.
func (s *site) watch(ctx context.Context, company string, n int) (told *atomic.Int64, leave func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	var readers sync.WaitGroup
	leave = func() { cancel(); readers.Wait() }
	told = new(atomic.Int64)
	for range n {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.server+"/companies/"+company+"/deliveries/stream", http.NoBody)
		if err != nil {
			leave()
			return nil, nil, err
		}
		req.Header = s.header
		resp, err := s.client.Do(req)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = &statusError{"a stream", resp.StatusCode, ""}
			_ = resp.Body.Close()
		}
		if err != nil {
			leave()
			return nil, nil, err
		}
		readers.Go(func() {
			defer func() { _ = resp.Body.Close() }()
			chunk := make([]byte, 256<<10)
			for {
				n, err := resp.Body.Read(chunk)
				told.Add(int64(bytes.Count(chunk[:n], []byte("\nevent: delivery\n"))))
				if err != nil {
					return
				}
			}
		})
	}
	return told, leave, nil
}
