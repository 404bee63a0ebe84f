package bench

import (
	"bytes"
	"context"
	"net/http"
	"sync"
	"sync/atomic"
)

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
