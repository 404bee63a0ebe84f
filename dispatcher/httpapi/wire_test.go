package httpapi

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// Over real connections: many senders at once, kept-alive connections, and a body that is refused while it is sent.
func TestOverTheWire(t *testing.T) {
	h := newHouse(t)
	h.register("acme")
	server := httptest.NewServer(h.api)
	t.Cleanup(server.Close)
	client := server.Client()

	post := func(body string) (int, error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/companies/acme/events", strings.NewReader(body))
		if err != nil {
			return 0, err
		}
		r.Header.Set("Authorization", "Bearer "+h.keys["producer"])
		answer, err := client.Do(r)
		if err != nil {
			return 0, err
		}
		defer func() { _ = answer.Body.Close() }()
		_, err = io.Copy(io.Discard, answer.Body)
		return answer.StatusCode, err
	}

	var wg sync.WaitGroup
	for sender := range 8 {
		wg.Go(func() {
			for n := range 20 {
				if status, err := post(event(fmt.Sprintf("e%d-%d", sender, n))); status != http.StatusAccepted {
					t.Errorf("status %d, %v", status, err)
				}
			}
		})
	}
	wg.Wait()
	if status, err := post(strings.Repeat(" ", 8*DefaultMaxBody)); status != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d, %v, want 413", status, err)
	}
	if status, err := post(event("after")); status != http.StatusAccepted {
		t.Errorf("status %d, %v", status, err)
	}
	client.CloseIdleConnections()
}
