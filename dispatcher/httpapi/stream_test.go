package httpapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

const deliveriesStream = "/companies/acme/deliveries/stream"

// A stream is what a caller reads of one. A message that does not come fails the test after a while.
type stream struct {
	t    testing.TB
	resp *http.Response
	in   *bufio.Reader
	id   string // of the last message, or place, as a browser keeps it
}

// A message is one of a stream.
type message struct{ event, data string }

// streamer serves the API over a network, to which a stream needs to be flushed. as, if set, is who calls from a page.
func (h *house) streamer(as *registry.Caller) string {
	h.t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if as != nil {
			r = r.WithContext(registry.WithCaller(r.Context(), *as))
		}
		h.api.observed().ServeHTTP(w, r)
	}))
	server.Config.WriteTimeout = time.Second // a stream goes beyond it
	server.Start()
	h.t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

// TestHeadOfAStream: whoever asks for the header of a stream has it, and the connection serves the next request.
func TestHeadOfAStream(t *testing.T) {
	h := newHouse(t)
	h.register("acme")
	server := h.streamer(nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", strings.TrimPrefix(server, "http://"))
	h.must(err)
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	h.must(conn.SetDeadline(deadline))
	in := bufio.NewReader(conn)
	for _, want := range []struct{ method, path, mediaType string }{{http.MethodHead, deliveriesStream, mediaSSE}, {http.MethodHead, "/healthz", ""}, {http.MethodHead, deliveriesStream, mediaSSE}} {
		r, err := http.NewRequestWithContext(ctx, want.method, server+want.path, nil)
		h.must(err)
		r.Header.Set("Authorization", "Bearer "+h.keys["partner"])
		h.must(r.Write(conn))
		resp, err := http.ReadResponse(in, r)
		if err != nil {
			t.Fatalf("%s %s: %v", want.method, want.path, err)
		}
		_ = resp.Body.Close()
		if got := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || want.mediaType != "" && got != want.mediaType {
			t.Errorf("%s %s: %d, %s", want.method, want.path, resp.StatusCode, got)
		}
	}
}

// open opens a stream as an actor.
func (h *house) open(server, actor, query string, headers ...header) *stream {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	h.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server+deliveriesStream+query, nil)
	h.must(err)
	if actor != "" {
		r.Header.Set("Authorization", "Bearer "+h.keys[actor])
	}
	for _, hs := range headers {
		for name, value := range hs {
			r.Header.Set(name, value)
		}
	}
	client := &http.Client{Transport: &http.Transport{}}
	h.t.Cleanup(client.CloseIdleConnections)
	resp, err := client.Do(r)
	h.must(err)
	h.t.Cleanup(func() { _ = resp.Body.Close() })
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || got != mediaSSE {
		h.t.Fatalf("%d %s", resp.StatusCode, got)
	}
	return &stream{t: h.t, resp: resp, in: bufio.NewReader(resp.Body)}
}

// block reads up to the next blank line; an error says that the stream has ended.
func (s *stream) block() (m message, err error) {
	for {
		line, err := s.in.ReadString('\n')
		if err != nil {
			return m, err
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "id":
			s.id = value
		case "event":
			m.event = value
		case "data":
			m.data = value
		case "":
			return m, nil
		}
	}
}

// next is the next message that has data.
func (s *stream) next() message {
	s.t.Helper()
	for {
		m, err := s.block()
		if err != nil {
			s.t.Fatalf("the stream has ended: %v", err)
		}
		if m.data != "" {
			return m
		}
	}
}

// deliveries are the next so many, as event and state.
func (s *stream) deliveries(n int) (all []string) {
	s.t.Helper()
	for range n {
		m := s.next()
		var d struct {
			EventID string `json:"event_id"`
			State   string
		}
		if err := json.Unmarshal([]byte(m.data), &d); err != nil || m.event != "delivery" {
			s.t.Fatalf("%+v: %v", m, err)
		}
		all = append(all, d.EventID+" "+d.State)
	}
	return all
}

func (s *stream) want(want ...string) {
	s.t.Helper()
	if diff := cmp.Diff(want, s.deliveries(len(want))); diff != "" {
		s.t.Fatal(diff)
	}
}

// ends reads until the stream has ended.
func (s *stream) ends() {
	s.t.Helper()
	for {
		if _, err := s.block(); err != nil {
			if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() || errors.Is(err, context.DeadlineExceeded) {
				s.t.Fatal("it does not end")
			}
			return
		}
	}
}

// partner registers a callback that is answered with these statuses in turn, the last one for good, and returns its path.
func (h *house) partner(statuses ...int) string {
	h.t.Helper()
	var n atomic.Int64
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(statuses[min(int(n.Add(1)), len(statuses))-1])
	}))
	h.t.Cleanup(p.Close)
	return h.call("operator", "POST", "/companies/acme/config/callbacks", strings.Replace(hook, "http://127.0.0.1:9/hook", p.URL, 1)).want(http.StatusCreated).json()["url"].(string)
}

// TestAStreamTellsWhatHappens as it does: each attempt that ends and each state without one, as the delivery is shown by itself, also long after the server's
// own deadline for writing.
func TestAStreamTellsWhatHappens(t *testing.T) {
	h := newHouse(t)
	callback := h.partner(500, 204)
	h.work()
	s := h.open(h.streamer(nil), "acme viewer", "")
	first := h.send("acme", "one")
	s.want("one retrying")
	h.call("operator", "POST", first+"/cancel", "").want(http.StatusOK)
	s.want("one cancelled")
	h.call("operator", "POST", first+"/replay", "").want(http.StatusAccepted)
	for s.deliveries(1)[0] != "one delivered" {
	}
	h.call("operator", "POST", callback+"/pause", "").want(http.StatusOK)
	second := h.send("acme", "two")
	m := s.next()
	for ; strings.Contains(m.data, `"one"`); m = s.next() { // that it was replayed was told, too, and it was told as it stood by then
	}
	if got := h.call("acme viewer", "GET", second, "").want(http.StatusOK); m.event != "delivery" || m.data+"\n" != string(got.body) {
		t.Errorf("told as\n%s\nshown as\n%s", m.data, got.body)
	}
	h.call("operator", "DELETE", callback, "").want(http.StatusNoContent)
	s.want("two cancelled")
}

// TestAStreamGoesOnWhereItBrokeOff, by whichever process, and says so where it cannot.
func TestAStreamGoesOnWhereItBrokeOff(t *testing.T) {
	h := newHouse(t)
	callback := h.register("acme")
	h.call("operator", "POST", callback+"/pause", "").want(http.StatusOK)
	server := h.streamer(nil)
	s := h.open(server, "partner", "")
	h.send("acme", "one")
	s.want("one held")
	_ = s.resp.Body.Close()
	for _, id := range []string{"two", "three", "four"} {
		h.send("acme", id)
	}
	h.open(server, "partner", "", header{"Last-Event-ID": s.id}).want("two held", "three held", "four held")
	again := h.open(server, "partner", "?last_event_id="+s.id)
	again.want("two held", "three held", "four held")
	h.send("acme", "five")
	again.want("five held")

	h.must(h.rdb.XTrimMaxLen(t.Context(), "{acme}:live", 1).Err())
	for _, lost := range []string{s.id, "nonsense", strings.Repeat("A", 26) + "-1-0"} {
		s := h.open(server, "partner", "", header{"Last-Event-ID": lost})
		if m := s.next(); m.event != "gap" || !strings.Contains(m.data, "more was missed than is known") {
			t.Errorf("after %s: %+v", lost, m)
		}
		h.send("acme", "after-"+lost[:3])
		s.want("after-" + lost[:3] + " held")
	}
}

// TestAStreamIsNarrowed by its query, and to what its caller may see.
func TestAStreamIsNarrowed(t *testing.T) {
	h := newHouse(t)
	one, two := h.register("acme"), h.register("acme")
	for _, callback := range []string{one, two} {
		h.call("operator", "POST", callback+"/pause", "").want(http.StatusOK)
	}
	key := actors["partner"]
	key.ID, key.Callbacks = "lnk_one", []int64{2}
	bounded, server := h.streamer(&registry.Caller{Key: key}), h.streamer(nil)
	all := map[string]*stream{
		"of one callback":     h.open(server, "operator", "?callback_id="+path.Base(two)),
		"of one that is seen": h.open(bounded, "", ""),
		"by that":             h.open(bounded, "", "?callback_id="+path.Base(two)),
		"by type and state":   h.open(server, "producer", "?callback_id="+path.Base(two)+"&event_type=wallet_item_install&state=dead,held"),
	}
	cancelled := h.open(server, "operator", "?state=cancelled&callback_id=2")
	h.open(server, "operator", "?event_type=payment_proof")
	h.send("acme", "e")
	var to struct {
		CallbackID int64 `json:"callback_id"`
	}
	for name, s := range all {
		h.must(json.Unmarshal([]byte(s.next().data), &to))
		if to.CallbackID != 2 {
			t.Errorf("%s: a delivery to callback %d", name, to.CallbackID)
		}
	}
	delivery := h.send("acme", "f")
	h.call("operator", "POST", delivery+"/cancel", "").want(http.StatusOK)
	cancelled.want("f cancelled")
	resp := h.as(registry.Caller{Key: key}, "GET", deliveriesStream+"?callback_id=1", "")
	resp.wantProblem(http.StatusNotFound)
	h.call("operator", "GET", deliveriesStream+"?state=lost", "").wantFault("query.state")
	h.call("operator", "GET", deliveriesStream+"?limit=5", "").wantFault("query.limit")
}

// TestAStreamEndsWithItsKey, with its process, and with nothing else: that its company is erased, and used again, is a gap.
func TestAStreamEndsWithItsKey(t *testing.T) {
	h := newHouse(t)
	callback := h.register("acme")
	h.call("operator", "POST", callback+"/pause", "").want(http.StatusOK)
	server := h.streamer(nil)
	revoked, other := h.open(server, "partner", ""), h.open(server, "operator", "")
	h.must(registry.NewKeys(h.rdb).Revoke(t.Context(), h.keys["partner"][:12])) // as another process does
	revoked.ends()
	h.send("acme", "one")
	other.want("one held")
	h.call("operator", "DELETE", "/companies/acme?confirm=acme", "").want(http.StatusOK)
	if n := h.rdb.Exists(t.Context(), "{acme}:live", "{acme}:watched").Val(); n != 0 {
		t.Errorf("%d keys of a company that is erased", n)
	}
	h.call("operator", "POST", h.register("acme")+"/pause", "").want(http.StatusOK)
	for m := other.next(); m.event != "gap"; m = other.next() { // what was cancelled meanwhile may be told before
	}
	h.client.EndWatches()
	other.ends()
	h.call("operator", "GET", deliveriesStream, "").wantProblem(http.StatusServiceUnavailable)
}

// TestStreamsAreCounted: a key has so many, a company's keys and links so many together, a process so many, and those that end make room.
func TestStreamsAreCounted(t *testing.T) {
	h := newHouse(t)
	enter := func(id, company string) func() {
		leave, err := h.api.streams.enter(registry.Key{ID: id, Company: company})
		h.must(err)
		return leave
	}
	leave := enter("other", registry.AllCompanies)
	var all []func()
	for range keyStreams {
		all = append(all, enter(h.keys["partner"][:12], "acme"))
	}
	if p := h.call("partner", "GET", deliveriesStream, "").wantProblem(http.StatusTooManyRequests); !strings.Contains(p.Detail, "this key has 100 streams open") {
		t.Error(p.Detail)
	}
	h.call("operator", "GET", deliveriesStream, "").want(http.StatusOK)
	all[0]()
	h.call("partner", "GET", deliveriesStream, "").want(http.StatusOK)
	var links []func()
	for i := range companyStreams - keyStreams + 1 {
		links = append(links, enter(fmt.Sprint("lnk_", i), "acme"))
	}
	if p := h.call("partner", "GET", deliveriesStream, "").wantProblem(http.StatusTooManyRequests); !strings.Contains(p.Detail, "keys and portal links have 300 streams open") {
		t.Error(p.Detail)
	}
	h.call("other partner", "GET", strings.Replace(deliveriesStream, "acme", "other", 1), "").want(http.StatusOK)
	for _, leave := range links {
		leave()
	}
	h.call("partner", "GET", deliveriesStream, "").want(http.StatusOK)
	for i := range maxStreams - keyStreams {
		enter(fmt.Sprint(i/keyStreams), registry.AllCompanies)
	}
	if p := h.call("operator", "GET", deliveriesStream, "").wantProblem(http.StatusTooManyRequests); !strings.Contains(p.Detail, "this process serves 1000 streams") {
		t.Error(p.Detail)
	}
	leave()
	h.call("operator", "GET", deliveriesStream, "").want(http.StatusOK)
	counted := func() int {
		h.api.streams.mu.Lock()
		defer h.api.streams.mu.Unlock()
		return h.api.streams.all
	}
	before := counted()
	h.client.EndWatches()
	h.call("operator", "GET", deliveriesStream, "").wantProblem(http.StatusServiceUnavailable)
	if now := counted(); now != before {
		t.Errorf("%d streams are counted, %d before one that was refused", now, before)
	}
}

// looks counts what a process asks Redis for its watchers: the commands of each round trip that has the script of package lua's watch in it, and the reads of
// deliveries.
type looks struct {
	mu    sync.Mutex
	trips []int
	reads int
}

func (l *looks) DialHook(next redis.DialHook) redis.DialHook { return next }

func (l *looks) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (l *looks) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		l.mu.Lock()
		for _, cmd := range cmds {
			if key, _ := cmd.Args()[1].(string); cmd.Name() == "hmget" && strings.HasPrefix(key, "{acme}:ev:") {
				l.reads++
			}
		}
		if slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool {
			return cmd.Name() == "evalsha" && slices.Contains(cmd.Args(), any("{acme}:due"))
		}) {
			l.trips = append(l.trips, len(cmds))
		}
		l.mu.Unlock()
		return next(ctx, cmds)
	}
}

// TestWatchersShareWhatTheyCost: however many watch a company, a process looks once, reads each delivery once, and asks nothing once they are gone. Whoever
// does not take what comes has a gap, and keeps nobody from anything.
func TestWatchersShareWhatTheyCost(t *testing.T) {
	h := newHouse(t)
	count := &looks{}
	h.rdb.AddHook(count)
	callback := h.register("acme")
	h.call("operator", "POST", callback+"/pause", "").want(http.StatusOK)
	query := dispatcher.WatchQuery{Company: "acme"}
	slow, err := h.client.Watch(t.Context(), query)
	h.must(err)
	const watchers, events = 50, 600
	var all []*dispatcher.Watch
	for range watchers {
		w, err := h.client.Watch(t.Context(), query)
		h.must(err)
		all = append(all, w)
	}
	count.mu.Lock()
	count.trips = nil
	count.mu.Unlock()
	taken := make([][]string, watchers)
	var batch []payloads.Event
	for i := range events {
		batch = append(batch, payloads.Event{Company: "acme", Type: "wallet_item_install", ID: fmt.Sprintf("e%03d", i), Payload: []byte(payload)})
	}
	for _, sent := range h.client.SendAll(t.Context(), batch) {
		h.must(sent.Err)
	}
	count.mu.Lock()
	before := count.reads
	count.mu.Unlock()
	for len(taken[watchers-1]) < events {
		select {
		case <-all[watchers-1].Changed():
		case <-time.After(time.Minute):
			t.Fatalf("the last watcher heard of %d", len(taken[watchers-1]))
		}
		for i, w := range all {
			news, err := w.Take()
			h.must(err)
			for _, n := range news {
				if n.Delivery == nil {
					t.Fatalf("watcher %d has a gap after %d", i, len(taken[i]))
				}
				taken[i] = append(taken[i], n.Delivery.EventID)
			}
		}
	}
	for i, w := range all {
		if !slices.IsSorted(taken[i]) || len(slices.Compact(taken[i])) != events {
			t.Errorf("watcher %d heard of %d in another order, or twice", i, len(taken[i]))
		}
		w.Close()
	}
	count.mu.Lock()
	if count.reads-before > events || slices.ContainsFunc(count.trips, func(n int) bool { return n > 1 }) {
		t.Errorf("%d reads of %d deliveries, in looks of %v commands", count.reads-before, events, count.trips)
	}
	count.mu.Unlock()
	late, err := slow.Take()
	h.must(err)
	if n := len(late); n != 513 || late[n-1].Delivery != nil || late[0].Delivery.EventID != "e000" || late[n-2].Delivery.EventID != "e511" {
		t.Errorf("who was slow has %d", n)
	}
	slow.Close()
	if late, err := slow.Take(); !errors.Is(err, dispatcher.ErrEnding) {
		t.Errorf("a watch that is closed has %v, %v", late, err)
	}
}
