package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/dispatcher/client"
	"github.com/ringback/ringback/registry/redistest"
)

// intake is a server that takes batches as Ringback does, remembers what it took, and fails as a test wants.
type intake struct {
	*httptest.Server
	// before, if set, is called with the number of a request, from 1, before it is looked at; true: the request has been dealt with.
	before func(n int, w http.ResponseWriter) bool
	// unknown, if set, says of a request's body that its key is not known.
	unknown func(body string) bool

	mu       sync.Mutex
	requests int
	lines    map[string]string // event id -> line, as it was accepted
	order    []string
	largest  int // of a batch, in bytes
	most     int // lines of a batch
}

// start lets it take; how it fails must be set before.
func (in *intake) start(t *testing.T) *intake {
	t.Helper()
	in.lines = map[string]string{}
	in.Server = httptest.NewServer(http.HandlerFunc(in.serve))
	t.Cleanup(in.Close)
	return in
}

func (in *intake) env() []string {
	return []string{"RINGBACK_SERVER=" + in.URL, "RINGBACK_KEY=k", "RINGBACK_COMPANY=acme"}
}

func (in *intake) serve(w http.ResponseWriter, r *http.Request) {
	in.mu.Lock()
	in.requests++
	n := in.requests
	in.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.URL.Path != "/companies/acme/events/batch" {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if in.before != nil && in.before(n, w) {
		return
	}
	if in.unknown != nil && in.unknown(string(body)) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.largest = max(in.largest, len(body))
	lines := strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")
	in.most = max(in.most, len(lines))
	for i, line := range lines {
		_, _ = fmt.Fprintln(w, in.take(i+1, line))
	}
}

func (in *intake) take(n int, line string) string {
	var event struct {
		ID   string `json:"event_id"`
		Type string `json:"event_type"`
	}
	if json.Unmarshal([]byte(line), &event) != nil || event.Type == "" {
		return fmt.Sprintf(`{"line":%d,"status":422,"title":"Unprocessable Entity","detail":"no event","errors":[{"location":"body.event_type","message":"is missing"}]}`, n)
	}
	before, known := in.lines[event.ID]
	switch {
	case !known:
		in.lines[event.ID] = line
		in.order = append(in.order, event.ID)
		return fmt.Sprintf(`{"line":%d,"status":202,"event_id":%q,"event_type":"t","deliveries":[]}`, n, event.ID)
	case before != line:
		return fmt.Sprintf(`{"line":%d,"status":409,"title":"Conflict","detail":"other content"}`, n)
	}
	return fmt.Sprintf(`{"line":%d,"status":200,"event_id":%q,"event_type":"t","deliveries":[],"duplicate":true}`, n, event.ID)
}

func eventsFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "events.ndjson")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestSendingAFile: bytes stay as they are, ids come from the file, blank lines and the last line's missing end do no harm, refusals are
// listed and kept, and the same file again changes nothing.
func TestSendingAFile(t *testing.T) {
	t.Parallel()
	in := (&intake{}).start(t)
	lines := []string{
		"\xef\xbb\xbf" + `{"event_type":"t","payload":{"a" : 1.0, "b":"\u00e9<é>"}}`,
		``,
		`  { "payload":{}, "event_type":"t", "event_id":"mine"}` + "\r",
		`{"payload":{}}`,
		`{broken`,
		`{"event_type":"t","payload":"` + strings.Repeat("x", maxLine) + `"}`,
		`{"event_type":"t","payload":{"event_id":"inner"}}`,
	}
	file := eventsFile(t, strings.Join(lines, "\n"))
	rejects := filepath.Join(t.TempDir(), "rejects.ndjson")
	for _, want := range []string{`^3 accepted, 0 known already, 3 refused in \d+\.\d s \(\d+ accepted/s\)\n$`, `^0 accepted, 3 known already, 3 refused`} {
		stdout, stderr, code := try(t, in.env(), "events", "send", file, "--rejects", rejects)
		if code != exitFailure || !regexp.MustCompile(want).MatchString(stdout) {
			t.Errorf("exit %d: %s", code, stdout)
		}
		wantErr := fmt.Sprintf("%[1]s:4: 422: no event; body.event_type: is missing\n%[1]s:5: 422: no event; body.event_type: is missing\n"+
			"%[1]s:6: 413: the line is longer than 1048576 bytes: send less, or a reference to it\n"+
			"ringback: 3 of 6 events are refused: have them written to a file by --rejects FILE, correct that one, and send it alone (the whole file, once it is changed, would be sent anew)\n", file)
		if stderr != wantErr {
			t.Errorf("stderr %s\nwant %s", stderr, wantErr)
		}
		kept, err := os.ReadFile(rejects)
		if err != nil || string(kept) != "{\"payload\":{}}\n{broken\n" {
			t.Errorf("rejects %q, %v", kept, err)
		}
	}
	if len(in.order) != 3 || in.order[1] != "mine" {
		t.Fatalf("accepted %v", in.order)
	}
	first, last := in.order[0], in.order[2]
	if !regexp.MustCompile(`^file_[0-9a-v]{26}:1$`).MatchString(first) || last != strings.TrimSuffix(first, "1")+"7" {
		t.Errorf("ids %s, %s", first, last)
	}
	for id, want := range map[string]string{
		first:  `{"event_id":"` + first + `","event_type":"t","payload":{"a" : 1.0, "b":"\u00e9<é>"}}`,
		"mine": `{ "payload":{}, "event_type":"t", "event_id":"mine"}`,
		last:   `{"event_id":"` + last + `","event_type":"t","payload":{"event_id":"inner"}}`,
	} {
		if in.lines[id] != want {
			t.Errorf("%s was sent as %s, want %s", id, in.lines[id], want)
		}
	}
	other := eventsFile(t, strings.Join(lines, "\n")+"\n")
	if stdout, _, _ := try(t, in.env(), "events", "send", other, "-o", "json"); !strings.Contains(stdout, `"accepted": 2`) || !strings.Contains(stdout, `"duplicates": 1`) {
		t.Errorf("a file that differs by a byte: %s", stdout)
	}
	if _, stderr, code := try(t, in.env(), "events", "send", file, "--rejects", file); code != exitUsage || !strings.Contains(stderr, "overwrite") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		_, _ = fmt.Fprintf(&b, `{"event_type":"t","payload":{"n":%d,"pad":%q}}`+"\n", i, strings.Repeat("x", 600))
	}
	return b.String()
}

// TestSendingIsBatchedAndPatient: batches keep their bounds, several are under way at once, and a server that goes and comes back is waited for.
func TestSendingIsBatchedAndPatient(t *testing.T) {
	t.Parallel()
	in := &intake{}
	together := make(chan struct{})
	in.before = func(n int, w http.ResponseWriter) bool {
		switch {
		case n < inFlight:
			<-together
		case n == inFlight:
			close(together)
		case n == inFlight+1:
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		case n == inFlight+2:
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_ = conn.Close()
			}
			return true
		}
		return false
	}
	in.start(t)
	stdout, stderr, code := try(t, in.env(), "events", "send", eventsFile(t, numbered(12_000)))
	if code != exitOK || !strings.HasPrefix(stdout, "12000 accepted, 0 known already, 0 refused") {
		t.Fatalf("exit %d: %s%s", code, stdout, stderr)
	}
	if len(in.lines) != 12_000 || in.largest > batchBytes+batchLines*64 || in.most != batchLines {
		t.Errorf("%d events, batches up to %d bytes and %d lines", len(in.lines), in.largest, in.most)
	}
	if !strings.Contains(stderr, "trying again") || strings.Count(stderr, "\n") > 3 {
		t.Errorf("stderr: %s", stderr)
	}
}

// TestStdinCannotBeResumed, and it says so where that matters.
// A key's rate limit makes a file slow and no more: what is not handed over yet is sent when the server asks for it, for hours if need be.
func TestSendingOutlastsARateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := [][]byte{[]byte("a"), []byte("b"), []byte("c")}
		began, tries := time.Now(), 0
		results, err := sendPatiently(t.Context(), lines, func(error) {}, func(lines [][]byte) ([]client.BatchResult, error) {
			tries++
			results := make([]client.BatchResult, len(lines))
			limited := &client.APIError{Status: 429, RetryAfter: 3 * time.Minute}
			switch {
			case tries == 3: // it got a part of them before
				results[1] = client.BatchResult{Line: 2, Status: 202, Title: string(lines[1])}
				return results, limited
			case tries == 5: // the first that is left met something else
				results[1].Status, results[1].RetryAfter = 429, 180
				results[0].Status = 503
				return results, &client.APIError{Status: 503}
			case tries < 10:
				return results, limited
			}
			for i, line := range lines {
				results[i] = client.BatchResult{Line: i + 1, Status: 202, Title: string(line)}
			}
			return results, nil
		})
		if err != nil || time.Since(began) != 27*time.Minute {
			t.Fatalf("%v, after %s", err, time.Since(began))
		}
		for i, result := range results {
			if result.Status != 202 || result.Title != string(lines[i]) || result.Line != i+1 {
				t.Errorf("%+v for line %d", result, i+1)
			}
		}
	})
}

func TestStdinCannotBeResumed(t *testing.T) {
	t.Parallel()
	in := (&intake{}).start(t)
	var out, errs bytes.Buffer
	args := []string{"ringback", "--server", in.URL, "--key", "k", "events", "send", "--company", "acme", "-"}
	if code := run(t.Context(), args, strings.NewReader(`{"event_type":"t","event_id":"a"}`), &out, &errs); code != exitOK || errs.Len() > 0 {
		t.Errorf("exit %d: %s", code, errs.String())
	}
	if code := run(t.Context(), args, strings.NewReader(numbered(3)), &out, &errs); code != exitOK || !strings.Contains(errs.String(), "stdin cannot be resumed") {
		t.Errorf("exit %d: %s", code, errs.String())
	}
	if len(in.order) != 4 || !strings.HasPrefix(in.order[3], "evt_") {
		t.Errorf("ids %v", in.order)
	}
}

// TestASilentStdinKeepsNobody: a signal ends a send whose stdin says nothing and does not end.
func TestASilentStdinKeepsNobody(t *testing.T) {
	t.Parallel()
	in := (&intake{}).start(t)
	silent, _ := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan string, 1)
	go func() {
		var out, errs bytes.Buffer
		code := run(ctx, []string{"ringback", "--server", in.URL, "--key", "k", "events", "send", "--company", "acme", "-"}, silent, &out, &errs)
		ended <- fmt.Sprint(code, " ", errs.String())
	}()
	cancel()
	select {
	case said := <-ended:
		if !strings.HasPrefix(said, "1 ") || !strings.Contains(said, "interrupted") || strings.Contains(said, "sends nothing twice") {
			t.Error(said)
		}
	case <-time.After(patience):
		t.Error("the send does not end")
	}
}

// TestAnInterruptedSendGoesOn: a signal lets what is under way finish, says how far it got, and the same command sends the rest.
func TestAnInterruptedSendGoesOn(t *testing.T) {
	t.Parallel()
	in := &intake{}
	arrived, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	in.before = func(n int, _ http.ResponseWriter) bool {
		if n > 3 {
			once.Do(func() { close(arrived) })
			<-release
		}
		return false
	}
	in.start(t)
	file := eventsFile(t, numbered(8_000))
	sender := start(t, in.env(), "events", "send", file)
	<-arrived
	if err := sender.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	select {
	case <-sender.done:
		t.Fatalf("it did not wait for what was under way:\n%s", sender.said)
	case <-time.After(200 * time.Millisecond): // nothing to wait for: it must not end
	}
	close(release)
	<-sender.done
	said := sender.said.String()
	reached := regexp.MustCompile(`ringback: interrupted; \S+ is handed over up to line (\d+): the same command again goes on from there`).FindStringSubmatch(said)
	if sender.cmd.ProcessState.ExitCode() != exitFailure || reached == nil {
		t.Fatalf("exit %d:\n%s", sender.cmd.ProcessState.ExitCode(), said)
	}
	in.mu.Lock()
	before := len(in.lines)
	in.mu.Unlock()
	if fmt.Sprint(before) != reached[1] || before == 0 || before == 8_000 || !strings.Contains(said, reached[1]+" accepted, 0 known") {
		t.Errorf("the server has %d events, and it says:\n%s", before, said)
	}
	if stdout := ringback(t, in.env(), "events", "send", file); !strings.HasPrefix(stdout, fmt.Sprintf("%d accepted, %d known already, 0 refused", 8_000-before, before)) {
		t.Errorf("the second time: %s", stdout)
	}
}

// TestWhatStopsASend: a key that is not known, a file that grows meanwhile, a file that is not there.
func TestWhatStopsASend(t *testing.T) {
	t.Parallel()
	in := &intake{}
	in.unknown = func(body string) bool { return strings.Contains(body, `"n":3000,`) } // the fourth batch's, while others are under way
	in.start(t)
	_, stderr, code := try(t, in.env(), "events", "send", eventsFile(t, numbered(12_000)))
	if code != exitFailure || !regexp.MustCompile(`does not know this API key.*handed over up to line 3000: the same command`).MatchString(stderr) {
		t.Errorf("exit %d: %s", code, stderr)
	}
	file := eventsFile(t, numbered(1))
	in = &intake{}
	in.before = func(int, http.ResponseWriter) bool {
		f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
		if err == nil {
			_, _ = f.WriteString(numbered(1))
			_ = f.Close()
		}
		return false
	}
	in.start(t)
	if _, stderr, code = try(t, in.env(), "events", "send", file); code != exitFailure || !strings.Contains(stderr, "changed while it was sent") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if _, stderr, code = try(t, in.env(), "events", "send", "nowhere.ndjson"); code != exitFailure || !strings.Contains(stderr, "nowhere.ndjson") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

func TestOnlyTheFirstRefusalsAreListed(t *testing.T) {
	t.Parallel()
	in := (&intake{}).start(t)
	_, stderr, code := try(t, in.env(), "events", "send", eventsFile(t, strings.Repeat("{}\n", 50)))
	if code != exitFailure || strings.Count(stderr, ": 422: ") != shownRefusals || !strings.Contains(stderr, "50 of 50 events are refused") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// TestLinesAreReadWithinBounds whatever is in a file.
func TestLinesAreReadWithinBounds(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	text := "\n\n" + long + "\r\n" + long + "y\nz\n" + strings.Repeat("w", 5*maxLine)
	s := &source{in: bufio.NewReaderSize(strings.NewReader(text), 16)}
	var at position
	var got []string
	for {
		e, err := s.next(&at)
		if err != nil {
			break
		}
		got = append(got, fmt.Sprintf("%d:%d", e.number, len(e.line)))
	}
	if want := []string{fmt.Sprintf("3:%d", maxLine), "4:0", "5:1", "6:0"}; !slices.Equal(got, want) || at.bytes != int64(len(text)) {
		t.Errorf("%v at %+v, want %v of %d bytes", got, at, want, len(text))
	}
}

func TestProgressIsSaidInWords(t *testing.T) {
	began := time.Now()
	p := &progress{began: began, size: 40e6, bytes: 10e6, events: 30_000}
	if got, want := p.line(began.Add(10*time.Second)), "25%: 30000 events (10.0 MB) in 10s, 3000 events/s, about 30s left"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	p.size = -1
	if got, want := p.line(began.Add(10*time.Second)), "30000 events (10.0 MB) in 10s, 3000 events/s"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	var said bytes.Buffer
	p = &progress{w: &said, began: began, said: began.Add(-sayEvery), size: 100}
	p.add(10, 1)
	p.add(20, 1)
	p.hiccup(&client.UnreachableError{Server: "http://x", Err: io.EOF})
	p.hiccup(&client.UnreachableError{Server: "http://x", Err: io.EOF})
	if got := said.String(); strings.Count(got, "\n") != 2 || !strings.HasPrefix(got, "10%: 1 events") || !strings.Contains(got, "cannot reach http://x: EOF; trying again") {
		t.Errorf("%q", got)
	}
}

// TestAKilledSendLosesAndDoublesNothing: the sender is killed in the middle, the same command is given again, and the server has every
// event once.
func TestAKilledSendLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	const events = 4_000
	redis := []string{"RINGBACK_DEV_REDIS=" + redistest.Start(t).URL(), "RINGBACK_DEV_KEYSET_FILE=" + filepath.Join(t.TempDir(), "keyset.json")}
	dev := start(t, redis, "dev", "--listen", "127.0.0.1:0")
	server := dev.await(`API +(http://\S+)`)[1]
	env := []string{"RINGBACK_SERVER=" + server, "RINGBACK_KEY=dev", "RINGBACK_COMPANY=acme"}
	dev.await(`msg=ready`)
	ringback(t, env, "callbacks", "create", "--type", "payment_proof", "--url", "http://127.0.0.1:1/")
	ringback(t, env, "callbacks", "pause", "1")
	var text strings.Builder
	for i := range events {
		_, _ = fmt.Fprintf(&text, `{"event_type":"payment_proof","payload":{"requestId":"%d","status":"OK"}}`+"\n", i)
	}
	file := eventsFile(t, text.String())
	api, err := client.New(client.Config{Server: server, Key: "dev"})
	if err != nil {
		t.Fatal(err)
	}

	sender := start(t, env, "events", "send", file)
	for begun := false; !begun; { // until the server has some
		page, err := api.Deliveries(t.Context(), "acme", client.DeliveriesQuery{Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		begun = len(page.Deliveries) > 0
	}
	if code := sender.end(syscall.SIGKILL); code != -1 {
		t.Fatalf("it had ended before it was killed, with %d:\n%s", code, sender.said)
	}
	said := ringback(t, env, "events", "send", file, "-o", "json")
	var sum struct{ Accepted, Duplicates, Refused int }
	if err := json.Unmarshal([]byte(said), &sum); err != nil {
		t.Fatal(err)
	}
	t.Logf("the second time: %+v", sum)
	if sum.Duplicates == 0 || sum.Accepted == 0 || sum.Accepted+sum.Duplicates != events || sum.Refused != 0 {
		t.Errorf("the second time: %s", said)
	}
	seen := map[string]int{}
	for delivery, err := range api.AllDeliveries(t.Context(), "acme", client.DeliveriesQuery{Limit: 500}) {
		if err != nil {
			t.Fatal(err)
		}
		seen[delivery.EventID]++
	}
	for id, times := range seen {
		if times != 1 {
			t.Errorf("%s is there %d times", id, times)
		}
	}
	if len(seen) != events {
		t.Errorf("the server has %d events, want %d", len(seen), events)
	}
}
