package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/client"
	"github.com/ringback/ringback/registry/redistest"
)

// TestDeliveriesAreTailed as they happen. A server that ends does not wait for who watches, and who watches misses nothing while there is none: it goes on with
// the next server. Ctrl-C is no failure.
func TestDeliveriesAreTailed(t *testing.T) {
	t.Parallel()
	partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	defer partner.Close()
	env := []string{"RINGBACK_REDIS=" + redistest.Start(t).URL(), "RINGBACK_KEYSET_FILE=" + t.TempDir() + "/k.json", "RINGBACK_COMPANY=acme"}
	serve := func(listen string) *process {
		return start(t, env, "serve", "--listen", listen, "--egress-allow", "127.0.0.0/8")
	}
	first := serve("127.0.0.1:0")
	at := address(first)
	env = append(env, "RINGBACK_SERVER=http://"+at)
	env = append(env, "RINGBACK_KEY="+strings.TrimSpace(ringback(t, env, "keys", "create", "--role", "operator", "--company", "acme")))
	ringback(t, env, "callbacks", "create", "--type", "payment_proof", "--url", partner.URL)
	send := func(id string) {
		t.Helper()
		ringback(t, env, "events", "send", "--type", "payment_proof", "--event-id", id, "--payload", sample("payment_proof"))
	}
	tail := startPlain(t, env, "deliveries", "tail", "--state", "delivered,dead", "--callback", "1")
	lines := startPlain(t, env, "deliveries", "tail", "--type", "payment_proof", "-o", "json")
	tail.await(`Watching the deliveries of acme`)
	awaitStreams(t, at, env, 2)
	send("one")
	tail.await(`\d\d:\d\d:\d\d  delivered  payment_proof  callback 1  dlv_\S+  Delivered by attempt 1 at `)
	lines.await(`\n?\{"delivery_id":"dlv_.*"event_id":"one".*"state":"delivered".*\}\n`)

	if code := first.end(syscall.SIGTERM); code != exitOK {
		t.Errorf("with streams open: exit %d", code)
	}
	if said := first.said.String(); strings.Contains(said, "did not finish within the grace") {
		t.Errorf("it waited for its streams:\n%s", said)
	}
	second := serve(at)
	address(second)
	send("two")
	lines.await(`"event_id":"two".*"state":"delivered"`)
	tail.await(`(?s)delivered.*cannot reach.*trying again.*\d  delivered  `)
	for _, p := range []*process{tail, lines} {
		if code := p.end(syscall.SIGINT); code != exitOK {
			t.Errorf("Ctrl-C: exit %d:\n%s", code, p.said)
		}
	}
	second.end(syscall.SIGTERM)
}

// awaitStreams waits until a server serves so many streams.
func awaitStreams(t *testing.T, at string, env []string, n int) {
	t.Helper()
	viewer := strings.TrimSpace(ringback(t, env, "keys", "create", "--role", "viewer"))
	for until := time.Now().Add(patience); ; {
		if _, metrics := get(t, "http://"+at+"/metrics", viewer); strings.Contains(string(metrics), "\nringback_streams "+string(rune('0'+n))+"\n") {
			return
		} else if time.Now().After(until) {
			t.Fatalf("there are not %d streams:\n%.2000s", n, metrics)
		}
	}
}

// TestATailedDeliveryIsOneLine, coloured by its state, and nothing in it acts on the terminal.
func TestATailedDeliveryIsOneLine(t *testing.T) {
	t.Parallel()
	d := &client.Delivery{DeliveryID: "dlv_x", EventType: "t\n\x1b[2J", CallbackID: 3, State: client.Held, HeldReason: "paused", Summary: "It is held."}
	now := time.Date(2026, 2, 1, 9, 30, 1, 0, time.Local)
	if got, want := tailLine(d, now, false), "09:30:01  held (paused)  t\uFFFD\uFFFD[2J  callback 3  dlv_x  It is held.\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := tailLine(d, now, true); !strings.Contains(got, "  \x1b[33mheld (paused)\x1b[0m  ") {
		t.Errorf("%q", got)
	}
}
