package main

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/client"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry/redistest"
)

// An inbox answers requests and keeps them.
type inbox struct {
	url    string
	status func(event string) int

	mu  sync.Mutex
	got []inboxed
}

type inboxed struct {
	method string
	header http.Header
	body   string
}

func newInbox(t *testing.T, status func(event string) int) *inbox {
	t.Helper()
	box := &inbox{status: status}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		box.mu.Lock()
		box.got = append(box.got, inboxed{r.Method, r.Header, string(body)})
		box.mu.Unlock()
		w.WriteHeader(box.status(r.Header.Get("Ringback-Event-Id")))
	}))
	t.Cleanup(srv.Close)
	box.url = srv.URL
	return box
}

// seen are the requests by event and attempt, in their order.
func (b *inbox) seen() (all []inboxed, which []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.got {
		which = append(which, r.header.Get("Ringback-Event-Id")+" "+r.header.Get("Ringback-Attempt"))
	}
	return slices.Clone(b.got), which
}

// TestFollowedDeliveriesVerifyAtTheDesk: what a callback far away is sent reaches the desk too, byte for byte, each attempt once, whatever becomes of the
// delivery and of the server.
func TestFollowedDeliveriesVerifyAtTheDesk(t *testing.T) {
	t.Parallel()
	partner := newInbox(t, func(event string) int {
		if strings.HasPrefix(event, "fails") {
			return http.StatusServiceUnavailable
		}
		return http.StatusNoContent
	})
	desk := newInbox(t, func(string) int { return http.StatusTeapot })
	env := []string{"RINGBACK_REDIS=" + redistest.Start(t).URL(), "RINGBACK_KEYSET_FILE=" + t.TempDir() + "/k.json", "RINGBACK_COMPANY=acme", "TOKEN=a-token-of-ours"}
	serve := func(listen, keep string) *process {
		return start(t, env, "serve", "--listen", listen, "--egress-allow", "127.0.0.0/8", "--keep-requests", keep)
	}
	first := serve("127.0.0.1:0", "all")
	at := address(first)
	env = append(env, "RINGBACK_SERVER=http://"+at)
	key := func(role string) string {
		return "RINGBACK_KEY=" + strings.TrimSpace(ringback(t, env, "keys", "create", "--role", role, "--company", "acme"))
	}
	viewer := append(slices.Clone(env), key("viewer"))
	env = append(env, key("operator"))
	secret := strings.TrimSpace(ringback(t, env, "callbacks", "create", "--type", "payment_proof", "--url", partner.url+"/hook?token=s3cr3t",
		"--auth", "bearer,token=env:TOKEN", "--retry", "initial_interval=1h"))
	ringback(t, env, "callbacks", "create", "--type", "wallet_item_install", "--url", partner.url, "--retry", "initial_interval=1h")
	send := func(typ, id string) {
		t.Helper()
		ringback(t, env, "events", "send", "--type", typ, "--event-id", id, "--payload", sample(typ))
	}
	follow := []string{"listen", "--follow", "--secret", secret, "--forward-to", desk.url + "/in"}
	p := startPlain(t, append(env, "RINGBACK_KEY="+strings.TrimPrefix(key("partner"), "RINGBACK_KEY=")), append(follow, "--callback", "1")...)
	p.await(`Following the deliveries of acme: what is sent to its callbacks is passed on to ` + desk.url + `/in\. Ctrl-C ends`)
	shown := startPlain(t, env, "listen", "--follow", "--type", "payment_proof", "-o", "json")
	awaitStreams(t, at, env, 2) // the second says so where JSON does not go
	send("wallet_item_install", "another")
	send("payment_proof", "fails-1")
	failed := p.await(`\d\d:\d\d:\d\d  POST ` + partner.url + `/hook\?token=\*\*\*  payment_proof  attempt 1  (dlv_\S+)  verified  \d+ bytes  answered 418 in \S+\n    \{`)[1]
	shown.await(`\{"time":.*"event_id":"fails-1","attempt":"1".*"signature":"no_secret".*"status":503.*"callback_id":1.*\}\n`)

	// Nothing is sent: a state that changes without an attempt. What was passed on before is not passed on again.
	ringback(t, env, "deliveries", "cancel", failed)
	ringback(t, env, "deliveries", "replay", failed)
	p.await(`attempt 2  replay  ` + failed + `  verified`)
	ringback(t, env, "deliveries", "cancel", failed)

	first.end(syscall.SIGTERM)
	second := serve(at, "failed")
	address(second)
	ringback(t, env, "deliveries", "replay", failed)
	p.await(`attempt 3  replay  ` + failed + `  verified`)
	send("payment_proof", "lands")
	p.await(`payment_proof  attempt 1  dlv_\S+  NOT passed on: requests like this one are not kept \(--keep-requests all keeps them\)\n`)
	shown.await(`"event_id":"lands".*"missing":"nothing to show: requests like this one`)

	got, which := desk.seen()
	if want := []string{"fails-1 1", "fails-1 2", "fails-1 3"}; !slices.Equal(which, want) {
		t.Errorf("the desk got %q, want %q", which, want)
	}
	wantAsSent(t, got, partner, secret)
	cmd := exec.Command("ringback", follow...)
	cmd.Env = append(os.Environ(), viewer...)
	if out, err := cmd.CombinedOutput(); err == nil || cmd.ProcessState.ExitCode() != exitFailure || !strings.Contains(string(out), "a viewer's key may not see what was sent") {
		t.Errorf("a viewer: %v %s", err, out)
	}
	for _, p := range []*process{p, shown} {
		if code := p.end(syscall.SIGINT); code != exitOK {
			t.Errorf("Ctrl-C: exit %d:\n%s", code, p.said)
		}
	}
	if strings.Contains(p.said.String()+shown.said.String(), "a-token-of-ours") || strings.Contains(p.said.String(), "s3cr3t") {
		t.Error("the desk was told a secret")
	}
	second.end(syscall.SIGTERM)
}

// wantAsSent compares what the desk got with what the callback's endpoint did: the same bytes and headers, but for a secret, and it verifies.
func wantAsSent(t *testing.T, got []inboxed, partner *inbox, secret string) {
	t.Helper()
	sent, _ := partner.seen()
	parsed, err := payloads.ParseSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range got {
		same := func(other inboxed) bool {
			return other.header.Get(payloads.HeaderSignature) == r.header.Get(payloads.HeaderSignature) && other.header.Get("Ringback-Attempt") == r.header.Get("Ringback-Attempt")
		}
		at := slices.IndexFunc(sent, same)
		if at < 0 {
			t.Errorf("nobody sent %+v", r)
			continue
		}
		if err := payloads.Verify(r.header, []byte(r.body), time.Now(), parsed); err != nil {
			t.Errorf("at the desk: %v", err)
		}
		if other := sent[at]; r.body != other.body || r.method != other.method {
			t.Errorf("the desk got %s %q, and the endpoint %s %q", r.method, r.body, other.method, other.body)
		}
		want := maps.Clone(sent[at].header)
		want.Set("Authorization", "***")
		if !maps.EqualFunc(r.header, want, slices.Equal) {
			t.Errorf("the desk got the headers %v, and the endpoint %v", r.header, want)
		}
	}
}

// TestWhatIsFresh are attempts that ended since the watch began, each once, however often its delivery changes, and whether or not many others changed in between.
func TestWhatIsFresh(t *testing.T) {
	t.Parallel()
	now := time.Now()
	delivery := func(id string, ends ...time.Duration) *client.Delivery {
		d := &client.Delivery{DeliveryID: id}
		for i, end := range ends {
			d.Attempts = append(d.Attempts, client.Attempt{Number: i + 1, StartedAt: now.Add(end - time.Minute), DurationMS: time.Minute.Milliseconds()})
		}
		return d
	}
	f := &follower{began: now, passed: map[string]int{}}
	numbers := func(d *client.Delivery) (all []int) {
		for _, a := range f.fresh(d) {
			all = append(all, a.Number)
		}
		return all
	}
	d := delivery("dlv_1", -time.Hour, -time.Second, time.Second)
	if got := numbers(d); !slices.Equal(got, []int{2, 3}) {
		t.Errorf("fresh are %v, want those that ended as the watch began or later", got)
	}
	f.note(d)
	for i := range followKnown { // the others' generation has begun then
		f.note(delivery("dlv_"+strconv.Itoa(2+i), time.Second))
	}
	if got := numbers(d); got != nil {
		t.Errorf("%v are fresh twice", got)
	}
	if got := numbers(delivery("dlv_1", -time.Hour, -time.Second, time.Second, time.Minute)); !slices.Equal(got, []int{4}) {
		t.Errorf("fresh are %v, want the new attempt", got)
	}
	travels := func(id string, attempts int) *client.Delivery {
		d := delivery(id, time.Second, time.Minute)
		for i := range d.Attempts {
			d.Attempts[i].BatchID = "bat_1"
		}
		d.Attempts = d.Attempts[:attempts]
		return d
	}
	f.note(travels("dlv_a", 1))
	if got := numbers(travels("dlv_b", 1)); got != nil {
		t.Errorf("%v are fresh again by another of the batch", got)
	}
	if got := numbers(travels("dlv_b", 2)); !slices.Equal(got, []int{2}) {
		t.Errorf("fresh are %v, want the batch's second attempt", got)
	}
}

// TestABatchIsPassedOnOnce, and not for each of its deliveries, and it verifies.
func TestABatchIsPassedOnOnce(t *testing.T) {
	t.Parallel()
	partner, desk := newInbox(t, func(string) int { return http.StatusNoContent }), newInbox(t, func(string) int { return http.StatusTeapot })
	env := []string{"RINGBACK_REDIS=" + redistest.Start(t).URL(), "RINGBACK_KEYSET_FILE=" + t.TempDir() + "/k.json", "RINGBACK_COMPANY=acme"}
	server := start(t, env, "serve", "--listen", "127.0.0.1:0", "--egress-allow", "127.0.0.0/8")
	env = append(env, "RINGBACK_SERVER=http://"+address(server))
	env = append(env, "RINGBACK_KEY="+strings.TrimSpace(ringback(t, env, "keys", "create", "--role", "operator", "--company", "acme")))
	secret := strings.TrimSpace(ringback(t, env, "callbacks", "create", "--type", "payment_proof", "--url", partner.url, "--batch", "max_events=2,max_wait=60s"))
	p := startPlain(t, env, "listen", "--follow", "--secret", secret, "--forward-to", desk.url)
	p.await(`Ctrl-C ends`)
	for _, id := range []string{"a-1", "a-2", "b-1", "b-2"} {
		ringback(t, env, "events", "send", "--type", "payment_proof", "--event-id", id, "--payload", sample("payment_proof"))
	}
	p.await(`attempt 1  bat_\S+  verified  \d+ bytes  answered 418 (?s:.*)attempt 1  bat_\S+  verified`)
	got, _ := desk.seen()
	sent, _ := partner.seen()
	if len(got) != 2 || len(sent) != 2 {
		t.Fatalf("the desk got %d requests, and the endpoint %d", len(got), len(sent))
	}
	for i := range got {
		if got[i].body != sent[i].body || got[i].header.Get("Webhook-Id") != sent[i].header.Get("Webhook-Id") {
			t.Errorf("the desk got %q, and the endpoint %q", got[i].body, sent[i].body)
		}
	}
	p.end(syscall.SIGINT)
	server.end(syscall.SIGTERM)
}
