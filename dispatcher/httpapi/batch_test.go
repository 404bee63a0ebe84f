package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
)

const batchPath = "/companies/acme/events/batch"

type resultLine struct {
	Line, Status  int
	EventID       string `json:"event_id"`
	EventType     string `json:"event_type"`
	AcceptedAt    string `json:"accepted_at"`
	Deliveries    []any
	Duplicate     bool
	Title, Detail string
	RetryAfter    int `json:"retry_after"`
	Warnings      []string
	Errors        []struct {
		Location, Message string
		Value             any
	}
}

// batch sends a batch and returns its answer's lines.
func (h *house) batch(body string) []resultLine {
	h.t.Helper()
	a := h.call("producer", "POST", batchPath, body).want(http.StatusOK)
	if got := a.header.Get("Content-Type"); got != "application/x-ndjson" {
		h.t.Errorf("Content-Type = %q", got)
	}
	var results []resultLine
	for text := range bytes.Lines(a.body) {
		var r resultLine
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&r); err != nil {
			h.t.Fatalf("%v: %s", err, text)
		}
		if !bytes.HasSuffix(text, []byte("}\n")) {
			h.t.Errorf("a line without an end: %s", text)
		}
		results = append(results, r)
	}
	return results
}

// Every line is answered as POST events would have, in order, and a bad one leaves its neighbours alone.
func TestBatchLinesAreAnsweredLikeEvents(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.MaxBody = 4000 })
	h.register("acme")
	h.send("acme", "known")
	lines := []string{
		event("a"),
		"",
		" \t",
		`{"event_type":`,
		event("known"),
		`{"event_type":"wallet_item_install","event_id":"x","payload":{}}`,
		strings.Replace(event("known"), `"payload":{`, `"payload":{ `, 1),
		`{"event_type":"wallet_item_install","payload":` + payload + `}` + strings.Repeat(" ", 10) + "\r",
		strings.Repeat("x", 4001),
		`[1]`,
		`{"event_type":"nope","payload":{}}`,
		"{\"event_type\":\"\xff\"}",
		"\u00a0",
		event("z"),
	}
	type brief struct {
		Line, Status int
		Location     string
	}
	want := []brief{
		{1, 202, ""},
		{4, 400, ""},
		{5, 200, ""},
		{6, 422, "body.payload.wallet_campaign"},
		{7, 409, ""},
		{8, 202, ""},
		{9, 413, ""},
		{10, 422, "body"},
		{11, 422, "body.event_type"},
		{12, 400, ""},
		{13, 400, ""},
		{14, 202, ""},
	}
	var got []brief
	for _, r := range h.batch(strings.Join(lines, "\n")) { // the last line has no end
		b := brief{Line: r.Line, Status: r.Status}
		if len(r.Errors) > 0 {
			b.Location = r.Errors[0].Location
		}
		got = append(got, b)
		wantWhole(t, r)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, id := range []string{"a", "z"} {
		h.call("producer", "GET", "/companies/acme/events/"+id, "").want(http.StatusOK)
	}
	h.call("producer", "GET", "/companies/acme/events/x", "").wantProblem(http.StatusNotFound)
	if strings.Contains(h.log.String(), "level=ERROR") {
		t.Errorf("logged: %s", h.log)
	}
}

// wantWhole checks that a line has all members of a receipt, or all of a problem.
func wantWhole(t *testing.T, r resultLine) {
	t.Helper()
	if accepted := r.Status < 300; accepted != (r.EventID != "" && r.AcceptedAt != "" && len(r.Deliveries) == 1 && r.EventType == "wallet_item_install") {
		t.Errorf("a receipt that is not whole, or is not due: %+v", r)
	}
	if refused := r.Status >= 400; refused != (r.Title == http.StatusText(r.Status)) || refused != (r.Detail != "") {
		t.Errorf("a problem that is not whole, or is not due: %+v", r)
	}
	if r.Duplicate != (r.Status == 200) {
		t.Errorf("duplicate: %+v", r)
	}
}

// A line's answer is the one that POST events gives, member for member.
func TestBatchAnswersHaveTheMembersOfSingleOnes(t *testing.T) {
	h := newHouse(t)
	h.register("acme")
	for _, body := range []string{event("same"), event("same"), `{"event_type":"wallet_item_install","payload":{}}`, `{]`} {
		line := map[string]any{}
		a := h.call("producer", "POST", batchPath, body).want(200)
		h.must(json.Unmarshal(a.body, &line))
		h.call("operator", "GET", "/healthz", "").want(200)
		single := h.call("producer", "POST", "/companies/acme/events", body)
		one := single.json()
		if line["line"] != 1.0 {
			t.Errorf("line = %v", line["line"])
		}
		delete(line, "line")
		if status := line["status"]; status != float64(single.status) && (status != 202.0 || single.status != 200) {
			t.Errorf("status %v, alone %d", status, single.status)
		}
		delete(line, "status")
		delete(line, "duplicate")
		for _, member := range []string{"status", "duplicate", "$schema"} {
			delete(one, member)
		}
		if diff := cmp.Diff(one, line); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
	}
}

func TestBatchLimits(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.MaxBody = 2000 })
	many := func(n int) string { return strings.Repeat("{}\n", n) }
	h.call("producer", "POST", batchPath, strings.Repeat("\n", 2000*batchBodies)+"x").wantProblem(http.StatusRequestEntityTooLarge)
	h.call("producer", "POST", batchPath, "").wantProblem(http.StatusBadRequest)
	h.call("producer", "POST", batchPath, "\n \r\n\n").wantProblem(http.StatusBadRequest)
	h.call("producer", "POST", batchPath, event("e"), header{"Content-Type": mediaJSON}).wantProblem(http.StatusUnsupportedMediaType)
	h.call("producer", "POST", batchPath, event("e"), header{"Content-Encoding": "gzip"}).wantProblem(http.StatusUnsupportedMediaType)
	if got := h.batch(event("a") + strings.Repeat("\n", 2000*batchBodies-len(event("a")))); len(got) != 1 || got[0].Status != 202 {
		t.Errorf("a batch at the limit: %+v", got)
	}
	h = newHouse(t)
	h.call("producer", "POST", batchPath, many(maxBatch+1)).wantProblem(http.StatusRequestEntityTooLarge)
	got := h.batch(many(maxBatch) + "\n\n")
	if len(got) != maxBatch || got[maxBatch-1].Line != maxBatch || got[0].Status != 422 {
		t.Errorf("%d answers", len(got))
	}
}

// Bodies up to the limit are taken, whatever it is.
func TestTheLimitIsTheConfiguredOne(t *testing.T) {
	for _, limit := range []int64{0, 3 << 20} {
		h := newHouse(t, func(c *Config) { c.MaxBody = limit })
		n := int(max(limit, DefaultMaxBody))
		fill := func(n int) string { return "{" + strings.Repeat(" ", n-len(event("fill"))) + event("fill")[1:] }
		h.call("producer", "POST", "/companies/acme/events", fill(n)).want(http.StatusAccepted)
		h.call("producer", "POST", "/companies/acme/events", fill(n+1)).wantProblem(http.StatusRequestEntityTooLarge)
		if got := h.batch(fill(n) + "\n" + fill(n+1)); got[0].Status != 200 || got[1].Status != 413 {
			t.Errorf("limit %d: %+v", limit, got)
		}
	}
}

// Of lines with one event_id the first is accepted, however many there are.
func TestBatchKeepsTheOrderOfAnEventID(t *testing.T) {
	h := newHouse(t)
	h.register("acme")
	for round := range 5 {
		var body strings.Builder
		for n := range 60 {
			spaces := strings.Repeat(" ", n/2) // each content twice
			fmt.Fprintln(&body, strings.Replace(event(fmt.Sprintf("r%d", round)), `"payload":{`, `"payload":{`+spaces, 1))
		}
		var got []int
		for _, r := range h.batch(body.String()) {
			got = append(got, r.Status)
		}
		want := append([]int{202, 200}, slices.Repeat([]int{409}, 58)...)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	}
}

// gauge counts the events that are brought to Redis, and how many at a time; it may hold them back.
type gauge struct {
	trips, most, all atomic.Int64
	began, ended     chan struct{} // nil: nobody wants to know
	hold             chan struct{} // nil: at once
	poison, lose     string        // event ids at which it panics, or fails
}

// holding is a gauge that holds all back until its hold is closed.
func holding() *gauge {
	return &gauge{began: make(chan struct{}, 1000), ended: make(chan struct{}, 1000), hold: make(chan struct{})}
}

func (g *gauge) DialHook(next redis.DialHook) redis.DialHook { return next }

func (g *gauge) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return g.pass(ctx, cmds, func() error { return next(ctx, cmds) })
	}
}

func (g *gauge) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return g.pass(ctx, []redis.Cmder{cmd}, func() error { return next(ctx, cmd) })
	}
}

func (g *gauge) pass(ctx context.Context, cmds []redis.Cmder, next func() error) error {
	var n int64
	for _, cmd := range cmds {
		if strings.HasPrefix(cmd.Name(), "eval") && !slices.Contains(cmd.Args(), any("ringback:keys")) { // whose key it is, is another matter
			n++
			if g.poison != "" && slices.Contains(cmd.Args(), any(g.poison)) {
				panic("ouch")
			}
			if g.lose != "" && slices.Contains(cmd.Args(), any(g.lose)) {
				return io.ErrUnexpectedEOF
			}
		}
	}
	if n == 0 {
		return next()
	}
	g.trips.Add(1)
	g.all.Add(n)
	g.most.Store(max(g.most.Load(), n)) // pages go one after the other
	if g.hold != nil {
		g.began <- struct{}{}
		defer func() { g.ended <- struct{}{} }()
		select {
		case <-g.hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return next()
}

func batchOf(prefix string, n int) string {
	var body strings.Builder
	for i := range n {
		fmt.Fprintln(&body, event(fmt.Sprintf("%s%d", prefix, i)))
	}
	return body.String()
}

func TestBatchIsSentPageByPage(t *testing.T) {
	h := newHouse(t)
	h.batch(event("first"))
	g := &gauge{}
	h.rdb.AddHook(g)
	if got := h.batch(batchOf("e", 3*batchPage)); len(got) != 3*batchPage {
		t.Errorf("%d answers", len(got))
	}
	if trips, most := g.trips.Load(), g.most.Load(); trips != 12 || most != 1 {
		t.Errorf("%d round trips, %d runs of a script in one at most, want 12 and 1", trips, most)
	}
}

// Over a real connection: a caller that writes all before it reads is answered, one that hangs up stops the rest.
func TestBatchOverTheWire(t *testing.T) {
	h := newHouse(t)
	h.register("acme")
	server := httptest.NewUnstartedServer(h.api)
	// A batch may be longer in coming, and in being answered, than the server allows other requests.
	server.Config.ReadHeaderTimeout, server.Config.ReadTimeout, server.Config.WriteTimeout = time.Minute, time.Millisecond, time.Millisecond
	server.Start()
	t.Cleanup(server.Close)
	dial := func(body string, length int) net.Conn {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
		h.must(err)
		t.Cleanup(func() { _ = conn.Close() })
		_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n%s",
			batchPath, h.keys["producer"], length, body)
		h.must(err)
		return conn
	}
	t.Run("writes all, then reads", func(t *testing.T) {
		body := batchOf("w", 2000)
		a, err := http.ReadResponse(bufio.NewReader(dial(body, len(body))), nil)
		h.must(err)
		lines := 0
		for scan := bufio.NewScanner(a.Body); scan.Scan(); lines++ {
			if !strings.Contains(scan.Text(), `"status":202`) {
				t.Fatal(scan.Text())
			}
		}
		h.must(a.Body.Close())
		if lines != 2000 {
			t.Errorf("%d lines", lines)
		}
	})
	t.Run("hangs up", func(t *testing.T) {
		g := holding()
		h.rdb.AddHook(g)
		body := batchOf("h", 500)
		conn := dial(body, len(body))
		<-g.began
		h.must(conn.Close())
		server.Close() // once all requests are done
		close(g.hold)
		<-g.ended // what was sent already may be accepted
		for _, id := range []string{"h64", "h499"} {
			h.call("producer", "GET", "/companies/acme/events/"+id, "").wantProblem(http.StatusNotFound)
		}
	})
}

// A panic is one line's 500.
func TestBatchContainsPanics(t *testing.T) {
	h := newHouse(t)
	h.send("acme", "first")
	h.rdb.AddHook(&gauge{poison: "e7"})
	statuses := map[int]int{}
	for _, r := range h.batch(batchOf("e", 10) + strings.Replace(event("x"), `"event_id":"x",`, "", 1)) {
		statuses[r.Status]++
		if (r.Line == 8) != (r.Status == 500) {
			t.Errorf("%+v", r)
		}
	}
	if diff := cmp.Diff(map[int]int{202: 10, 500: 1}, statuses); diff != "" {
		t.Error(diff)
	}
	if log := h.log.String(); !strings.Contains(log, "ouch") {
		t.Errorf("the log does not tell what happened: %s", log)
	}
}

// A page that is lost on its way leaves the others alone.
func TestBatchWithAFault(t *testing.T) {
	h := newHouse(t)
	h.batch(event("first"))
	h.rdb.AddHook(&gauge{lose: "e7"})
	for _, r := range h.batch(batchOf("e", 2*batchPage)) {
		if want := map[bool]int{true: 503, false: 202}[r.Line <= batchPage/4]; r.Status != want {
			t.Errorf("line %d: status %d, want %d", r.Line, r.Status, want)
		}
	}
}

// While the store is away each line is 503, and not each has to find that out for itself.
func TestBatchWithoutStore(t *testing.T) {
	h := newHouse(t)
	h.batch(event("first")) // the key is known from here on
	h.redis.Kill()
	got := h.batch(batchOf("e", 2000))
	for _, r := range got {
		if r.Status != http.StatusServiceUnavailable || r.Title == "" || r.Detail == "" {
			t.Fatalf("%+v", r)
		}
	}
	if len(got) != 2000 {
		t.Errorf("%d answers", len(got))
	}
	if n := strings.Count(h.log.String(), "request failed"); n < batchPage || n > 3*batchPage {
		t.Errorf("%d lines found out for themselves, want about %d", n, batchPage)
	}
}
