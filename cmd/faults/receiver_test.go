package faults

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Partners that answer badly, or what nobody would think of.

var receiverFaults = []fault{
	{"F16-hang", "a partner takes requests and never answers", true, false, hangingPartner},
	{"F17-slow", "one partner's headers come a byte at a time and never end, another one's body", true, false, slowAnswers},
	{"F18-floods", "answers are a GiB long, gzip bombs, or floods of chunk extensions, trailers, headers and 1xx", true, false, floods},
	{"F19-switching", "a partner answers 101 Switching Protocols and holds the connection", true, false, switching},
	{"F20-redirects", "a partner redirects: to itself, to loopback, to a file", true, false, redirects},
	{"F22-resets", "one partner resets the connection before it answers, another one in the middle of the body", true, false, resets},
}

// A stranger is a receiver of raw TCP. Each request that arrives whole it books at the partner; the connection is speak's, until that returns.
type stranger struct {
	url string

	mu         sync.Mutex
	conns      map[net.Conn]bool
	most       int
	lastClosed time.Time
}

// stranger starts one. speak says with [arrival.answered] what it answered, if it did.
func (s *scene) stranger(speak func(c net.Conn, a *arrival)) *stranger {
	s.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	s.must(err)
	n := &stranger{url: "http://" + listener.Addr().String(), conns: make(map[net.Conn]bool)}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			n.note(c, true)
			wg.Go(func() {
				defer n.note(c, false)
				n.serve(s.partner, c, speak)
			})
		}
	})
	s.t.Cleanup(func() {
		_ = listener.Close()
		n.mu.Lock()
		for c := range n.conns {
			_ = c.Close()
		}
		n.mu.Unlock()
		wg.Wait()
	})
	return n
}

func (n *stranger) note(c net.Conn, opened bool) {
	if !opened {
		_ = c.Close()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if opened {
		n.conns[c] = true
		n.most = max(n.most, len(n.conns))
	} else {
		delete(n.conns, c)
		n.lastClosed = time.Now()
	}
}

// open is how many connections there are.
func (n *stranger) open() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.conns)
}

func (n *stranger) serve(p *partner, c net.Conn, speak func(net.Conn, *arrival)) {
	req, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	a := p.book(req.URL.Path, req.Header, body)
	speak(c, a)
	p.mu.Lock()
	open := a.end.IsZero()
	p.mu.Unlock()
	if open {
		a.answered(0)
	}
}

// fine answers 204.
func fine(c net.Conn, a *arrival) {
	if _, err := io.WriteString(c, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"); err == nil {
		a.answered(http.StatusNoContent)
	}
}

// head sends a status line and headers that meet the contract, and books the status.
func head(c net.Conn, a *arrival, headers ...string) {
	text := "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + strings.Join(headers, "\r\n") + "\r\n\r\n"
	if _, err := io.WriteString(c, text); err == nil {
		a.answered(http.StatusOK)
	}
}

// untilClosed returns when the other side has closed the connection.
func untilClosed(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// drip sends a byte every 100 ms until the other side has had enough.
func drip(c net.Conn) {
	for {
		if _, err := c.Write([]byte{'x'}); err != nil {
			return
		}
		<-time.After(100 * time.Millisecond)
	}
}

// flood sends the same again and again until the other side has had enough, or so many bytes are sent.
func flood(c net.Conn, text []byte, most int) {
	for sent := 0; sent < most; {
		n, err := c.Write(text)
		if sent += n; err != nil {
			return
		}
	}
}

// at are options of a registration at a stranger, at the path that register is going to give it.
func (s *scene) at(n *stranger, options map[string]any) map[string]any {
	all := map[string]any{
		"destination": map[string]string{"url": n.url + "/" + strconv.Itoa(len(s.callbacks)+1)},
		"retry":       map[string]any{"initial_interval": "1s", "multiplier": 1, "max_attempts": 100},
	}
	maps.Copy(all, options)
	return all
}

// attemptsOf are all attempts that our list has for a callback.
func (s *scene) attemptsOf(callback int64) []attempt {
	s.t.Helper()
	var all []attempt
	for _, d := range s.list() {
		if d.Callback == callback {
			all = append(all, d.Attempts...)
		}
	}
	return all
}

// endsAt verifies that a callback's attempts that failed did so for that reason, at the timeout.
func (s *scene) endsAt(timeout time.Duration, reason string, callback int64) {
	s.t.Helper()
	var took []time.Duration
	for _, a := range s.attemptsOf(callback) {
		if a.Verdict == "delivered" || a.Reason == "unknown" { // the row tells of those
			continue
		}
		if a.Reason != reason {
			s.t.Errorf("an attempt failed with %q, want %q", a.Reason, reason)
		}
		took = append(took, time.Duration(a.TookMS)*time.Millisecond)
	}
	if len(took) == 0 {
		s.t.Error("no attempt failed: this tried nothing")
		return
	}
	s.found("%d attempts ended after %s to %s (timeout %s)", len(took), slices.Min(took), slices.Max(took), timeout)
	late, latest := 250*time.Millisecond, 2*time.Second
	if !suite.full { // the machine does much else
		late, latest = leastWait, leastWait
	}
	if slices.Min(took) < timeout-10*time.Millisecond || quantile(took, 0.5) > timeout+late || slices.Max(took) > timeout+latest {
		s.t.Errorf("attempts took %s to %s, the timeout is %s", slices.Min(took), slices.Max(took), timeout)
	}
}

func hangingPartner(s *scene) {
	s.open(setup{callbacks: 4, options: map[string]any{"timeout": "1s"}})
	var cured atomic.Bool
	s.partner.handle(func(_ http.ResponseWriter, r *http.Request, a *arrival) {
		if a.path == "/1" && !cured.Load() {
			<-r.Context().Done()
		}
	})
	sending := s.send(load{events: s.pick(150, 1500), rate: float64(s.pick(30, 100))})
	sending.wait()
	<-time.After(3 * time.Second)
	open := 0
	s.eventually(time.Second, func() bool { _, open, _ = s.partner.counts(); return open <= 1 }, func() string {
		return fmt.Sprintf("%d requests are open at a partner that does not answer, want one that tries", open)
	})
	var others []time.Duration
	s.eventually(30*time.Second, func() bool {
		others = s.latencies(sending, "/2", "/3", "/4")
		return len(others) == 3*s.pick(150, 1500)
	}, func() string { return fmt.Sprintf("the others got %d of %d", len(others), 3*s.pick(150, 1500)) })
	s.injected("one of four callbacks hangs, timeout 1 s")
	s.found("the others' p50 %s, p99 %s", round(quantile(others, 0.5)), round(quantile(others, 0.99)))
	cured.Store(true)
	s.settle(60 * time.Second)
	s.verify()
	s.endsAt(time.Second, "timeout", s.callbacks[0].ID)
}

func slowAnswers(s *scene) {
	s.open(setup{callbacks: -1})
	var cured atomic.Bool
	headers := s.stranger(func(c net.Conn, a *arrival) {
		if cured.Load() {
			fine(c, a)
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Slow: ")
		drip(c)
	})
	body := s.stranger(func(c net.Conn, a *arrival) {
		head(c, a, "Content-Length: 60000")
		drip(c)
	})
	slowHeaders := s.register(s.at(headers, map[string]any{"timeout": "1s"}))
	slowBody := s.register(s.at(body, map[string]any{"timeout": "3s"}))
	s.send(load{events: s.pick(60, 400)}).wait()
	s.injected("a byte every 100 ms, for ever: in the middle of a header, and of the body of a 200")
	<-time.After(4 * time.Second)
	cured.Store(true)
	s.settle(90 * time.Second)
	s.eventually(10*time.Second, func() bool { return headers.open()+body.open() == 0 }, func() string {
		return fmt.Sprintf("%d and %d connections are still open", headers.open(), body.open())
	})
	s.verify()
	s.endsAt(time.Second, "timeout", slowHeaders.ID)
	for _, a := range s.attemptsOf(slowBody.ID) {
		if a.Verdict != "delivered" || a.Status != http.StatusOK || a.TookMS > atLeast(5*time.Second).Milliseconds() {
			s.t.Errorf("a dripping body: %+v, want it delivered by its status and headers", a)
		}
	}
}

// bomb is a gzip stream of 200 MiB.
func bomb() []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	zeros := make([]byte, 1<<20)
	for range 200 {
		_, _ = w.Write(zeros)
	}
	_ = w.Close()
	return b.Bytes()
}

// floods are measured against as many attempts that are ordinary, and under way at the same time.
func floods(s *scene) {
	s.open(setup{callbacks: -1})
	packed := bomb()
	kilobyte := strings.Repeat("x", 1000)
	kinds := []struct {
		what  string
		speak func(c net.Conn, a *arrival)
	}{
		{"1 GiB of body", func(c net.Conn, a *arrival) {
			head(c, a, "Content-Length: 1073741824")
			flood(c, make([]byte, 64<<10), 1<<30)
		}},
		{"a body of chunks without end", func(c net.Conn, a *arrival) {
			head(c, a, "Transfer-Encoding: chunked")
			flood(c, fmt.Appendf(nil, "%x\r\n%s\r\n", 64<<10, make([]byte, 64<<10)), 1<<30)
		}},
		{"a gzip bomb (200 MiB)", func(c net.Conn, a *arrival) {
			head(c, a, "Content-Encoding: gzip", "Content-Length: "+strconv.Itoa(len(packed)))
			_, _ = c.Write(packed)
		}},
		{"chunk extensions", func(c net.Conn, a *arrival) {
			head(c, a, "Transfer-Encoding: chunked")
			_, _ = io.WriteString(c, "1;")
			flood(c, []byte(kilobyte), 100<<20)
		}},
		{"chunks of one byte with extensions", func(c net.Conn, a *arrival) {
			head(c, a, "Transfer-Encoding: chunked")
			flood(c, []byte("1;"+kilobyte+"\r\nx\r\n"), 100<<20)
		}},
		{"trailers", func(c net.Conn, a *arrival) {
			head(c, a, "Transfer-Encoding: chunked", "Trailer: X-Much")
			_, _ = io.WriteString(c, "1\r\nx\r\n0\r\n")
			flood(c, []byte("X-Much: "+kilobyte+"\r\n"), 100<<20)
		}},
		{"100 MB of headers", func(c net.Conn, _ *arrival) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			flood(c, []byte("X-Much: "+kilobyte+"\r\n"), 100<<20)
		}},
		{"one header of 100 MB", func(c net.Conn, _ *arrival) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX-Much: ")
			flood(c, []byte(kilobyte), 100<<20)
		}},
		{"1xx without end", func(c net.Conn, _ *arrival) {
			flood(c, []byte("HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"), 100<<20)
		}},
	}
	var hostile atomic.Bool
	var under, most atomic.Int64
	var names []string
	for _, kind := range kinds {
		names = append(names, kind.what)
		s.register(s.at(s.stranger(func(c net.Conn, a *arrival) {
			n := under.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			defer under.Add(-1)
			<-time.After(500 * time.Millisecond) // so that many are under way at once
			if hostile.Load() && a.attempt == 1 {
				kind.speak(c, a)
			} else {
				fine(c, a)
			}
		}), nil))
	}
	each := s.pick(20, 50)
	for range 2 { // the second time, what connections and buffers cost is there
		s.send(load{events: each, clients: 16}).wait()
		s.settleBooks(60 * time.Second)
	}
	worker := s.workers[0]
	before := s.resident(worker)
	s.measure()
	ordinary := most.Swap(0)
	hostile.Store(true)
	s.send(load{events: each, clients: 16}).wait()
	s.injected("%d times each: %s", each, strings.Join(names, ", "))
	s.settle(90 * time.Second)
	peak := s.resident(worker)
	perAttempt := float64(peak-before) / 1024 / float64(max(1, most.Load()))
	s.found("%d at the same time (%d ordinary ones before): the worker's memory went from %d to %d MiB at most, %.0f KiB an attempt", most.Load(), ordinary,
		before>>20, peak>>20, perAttempt)
	if perAttempt > 1024 {
		s.t.Errorf("%.0f KiB an attempt, want less than 1024", perAttempt)
	}
	if most.Load() < int64(2*each) {
		s.t.Errorf("%d attempts were under way at once: this tried too little", most.Load())
	}
	s.verifyMeasures()
	s.verify()
}

// settleBooks waits until nothing is under way, in the middle of a fault.
func (s *scene) settleBooks(within time.Duration) {
	s.t.Helper()
	var left string
	s.eventually(within, func() bool { left = s.underWay(); return left == "" }, func() string { return "there is still " + left })
}

// resident is the most memory that a process held since it was asked last, in bytes.
func (s *scene) resident(p *process) int64 {
	s.t.Helper()
	dir := fmt.Sprintf("/proc/%d/", p.pid())
	text, err := os.ReadFile(dir + "status")
	s.must(err)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			s.must(err)
			s.must(os.WriteFile(dir+"clear_refs", []byte("5"), 0)) // begins the high-water mark anew
			return kb << 10
		}
	}
	s.t.Fatal("the system does not say how much memory a process held")
	return 0
}

func switching(s *scene) {
	s.open(setup{callbacks: -1})
	n := s.stranger(func(c net.Conn, a *arrival) {
		if a.attempt > 1 {
			fine(c, a)
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n")
		a.answered(http.StatusSwitchingProtocols)
		untilClosed(c)
	})
	cb := s.register(s.at(n, nil))
	s.measure()
	events := s.pick(40, 400)
	s.send(load{events: events}).wait()
	s.injected("%d times 101, the connection held", events)
	s.settle(90 * time.Second)
	s.eventually(5*time.Second, func() bool { return n.open() == 0 }, func() string { return fmt.Sprintf("%d connections are still open", n.open()) })
	base := s.workers[0].base
	s.eventually(20*time.Second, func() bool {
		now, err := s.metrics(s.workers[0])
		more := float64(max(20, events/4)) // of Redis's pool, which grows on a busy machine; each 101 that leaks would be one more
		return err == nil && now["process_open_fds"] <= base["process_open_fds"]+more && now["go_goroutines"] <= base["go_goroutines"]+40
	}, func() string {
		now, err := s.metrics(s.workers[0])
		return fmt.Sprintf("the worker holds %.0f descriptors and %.0f goroutines, at first %.0f and %.0f (%v)", now["process_open_fds"], now["go_goroutines"],
			base["process_open_fds"], base["go_goroutines"], err)
	})
	s.verify()
	slowest := int64(0)
	for _, a := range s.attemptsOf(cb.ID) {
		slowest = max(slowest, a.TookMS)
	}
	s.found("the longest attempt took %d ms", slowest)
	if slowest > 3000 {
		s.t.Errorf("an attempt took %d ms, its timeout is 2 s", slowest)
	}
}

func redirects(s *scene) {
	var touched atomic.Int64
	canary := s.canary(&touched)
	s.open(setup{options: map[string]any{"timeout": "15s", "retry": map[string]any{"initial_interval": "1s", "max_attempts": 2}}})
	places := []string{
		s.partner.url + "/1", s.partner.url + "/elsewhere", canary + "/canary", "//" + strings.TrimPrefix(canary, "http://") + "/canary",
		"file:///etc/hostname", "gopher://127.0.0.1:1/x", "", "/1?again", "http://169.254.169.254/latest/meta-data/",
	}
	statuses := []int{http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect}
	var n atomic.Int64
	s.partner.handle(func(w http.ResponseWriter, _ *http.Request, _ *arrival) {
		k := int(n.Add(1))
		w.Header().Set("Location", places[k%len(places)])
		w.WriteHeader(statuses[k%len(statuses)])
	})
	events := s.pick(90, 450)
	s.send(load{events: events}).wait()
	s.injected("%d ways to redirect, in every combination", len(places)*len(statuses))
	s.settle(90 * time.Second)
	s.verify()
	if s.row.dead != events || s.row.delivered != 0 {
		s.t.Errorf("%d of %d are dead, %d delivered", s.row.dead, events, s.row.delivered)
	}
	if requests, _, _ := s.partner.counts(); requests != 2*events {
		s.t.Errorf("%d requests for %d attempts", requests, 2*events)
	}
	if touched.Load() > 0 {
		s.t.Errorf("%d connections to where only a redirect leads", touched.Load())
	}
}

// canary is the URL of a listener that counts its connections.
func (s *scene) canary(touched *atomic.Int64) string {
	s.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	s.must(err)
	s.t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			touched.Add(1)
			_ = c.Close()
		}
	}()
	return "http://" + listener.Addr().String()
}

func resets(s *scene) {
	s.open(setup{callbacks: -1})
	reset := func(c net.Conn) {
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
	var n atomic.Int64
	early := s.stranger(func(c net.Conn, a *arrival) {
		if n.Add(1)%2 == 0 {
			a.answered(0)
			reset(c)
			return
		}
		fine(c, a)
	})
	late := s.stranger(func(c net.Conn, a *arrival) {
		head(c, a, "Content-Length: 100")
		_, _ = io.WriteString(c, `{"cut": "of`)
		<-time.After(20 * time.Millisecond) // what a reset overtakes is lost with it
		reset(c)
	})
	s.register(s.at(early, nil))
	cut := s.register(s.at(late, patientOptions))
	events := s.pick(60, 600)
	s.send(load{events: events}).wait()
	s.injected("RST instead of an answer, every second time; RST in the middle of the body of a 200")
	s.settle(90 * time.Second)
	s.verify()
	attempts := s.attemptsOf(cut.ID)
	if len(attempts) != events {
		s.t.Errorf("%d attempts at %d deliveries that were answered 200 before the reset", len(attempts), events)
	}
	if requests, _, _ := s.partner.counts(); requests <= 2*events {
		s.t.Errorf("%d requests: nothing was reset, so this tried nothing", requests)
	}
}
