package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/dispatcher/client"
)

// TestAWatchGoesOnWhereItBrokeOff, however its connections end, and says what the server refuses.
func TestAWatchGoesOnWhereItBrokeOff(t *testing.T) {
	h := newHouse(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	broken := 0
	h.wire.tear = func(resp *http.Response) (*http.Response, error) {
		if strings.HasSuffix(resp.Request.URL.Path, "/stream") {
			switch broken++; broken {
			case 2:
				_ = resp.Body.Close()
				return nil, errors.New("for a test")
			case 3: // it ends in the middle of a message
				resp.Body = struct {
					io.Reader
					io.Closer
				}{io.LimitReader(resp.Body, 230), resp.Body}
			}
		}
		return resp, nil
	}
	cb, err := h.client.CreateCallback(t.Context(), "acme", registration)
	must(t, err)
	_, err = h.client.PauseCallback(t.Context(), "acme", cb.CallbackID)
	must(t, err)
	send := func(id string) {
		t.Helper()
		_, err := h.client.Send(t.Context(), "acme", event(id))
		must(t, err)
	}
	var repeats int
	watcher := h.with(client.Config{MaxElapsed: -1, OnRepeat: func(error, time.Duration) { repeats++ }})
	var places []string
	for change, err := range watcher.Watch(ctx, "acme", client.WatchQuery{After: "lost"}) {
		must(t, err)
		if change.Gap {
			break
		}
	}
	for change, err := range watcher.Watch(ctx, "acme", client.WatchQuery{}) { // breaks at its first connection, as any other method does
		if change != nil || err == nil {
			t.Errorf("%+v, %v", change, err)
		}
	}
	var told []string
	var begun []time.Time
	for change, err := range watcher.Watch(ctx, "acme", client.WatchQuery{After: "lost", Begun: func(at time.Time) { begun = append(begun, at) }}) {
		must(t, err)
		if change.Gap {
			send("one")
			send("two")
			continue
		}
		if told = append(told, change.Delivery.EventID+" "+change.Delivery.State); len(told) == 3 {
			break
		}
		if places = append(places, change.Place); len(told) == 2 {
			send("three")
		}
		if !strings.HasPrefix(string(change.Delivery.Raw), `{"delivery_id":`) {
			t.Errorf("as it came: %s", change.Delivery.Raw)
		}
	}
	if len(begun) != 1 || time.Since(begun[0]).Abs() > time.Minute {
		t.Errorf("it began at %v, once", begun)
	}
	if diff := cmp.Diff([]string{"one held", "two held", "three held"}, told); diff != "" || repeats == 0 {
		t.Errorf("%d times again: %s", repeats, diff)
	}
	told = nil
	for change, err := range watcher.Watch(ctx, "acme", client.WatchQuery{After: places[0]}) {
		must(t, err)
		if told = append(told, change.Delivery.EventID); len(told) == 2 {
			break
		}
	}
	if diff := cmp.Diff([]string{"two", "three"}, told); diff != "" {
		t.Errorf("behind the first: %s", diff)
	}
	for _, err := range watcher.Watch(ctx, "acme", client.WatchQuery{States: []string{"lost"}}) {
		if refused, ok := errors.AsType[*client.APIError](err); !ok || refused.Status != http.StatusUnprocessableEntity {
			t.Errorf("another state: %v", err)
		}
	}
}
