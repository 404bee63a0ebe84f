package client_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/dispatcher/client"
	"github.com/ringback/ringback/payloads"
)

func TestNewRefusesNonsense(t *testing.T) {
	for _, tt := range []struct{ server, key, want string }{
		{"", "k", "Server must be a URL"},
		{"127.0.0.1:8080", "k", "Server must be a URL"},
		{"ftp://127.0.0.1", "k", "Server must be a URL"},
		{"http://me:secret@127.0.0.1", "k", "without user"},
		{"http://127.0.0.1?key=secret", "k", "without user"},
		{"http://127.0.0.1", "", "Key is missing"},
		{"http://127.0.0.1", "secret\n", "Key has"},
	} {
		if _, err := client.New(client.Config{Server: tt.server, Key: tt.key}); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q, %q: %v, want %q", tt.server, tt.key, err, tt.want)
		}
	}
}

// tries is a network that answers each request with the next of its answers, and notes when they came.
type tries struct {
	answers []reply
	start   time.Time
	at      []time.Duration
	bodies  []string
	keys    []string // their Idempotency-Keys
}

func (n *tries) RoundTrip(r *http.Request) (*http.Response, error) {
	n.at = append(n.at, time.Since(n.start))
	n.keys = append(n.keys, r.Header.Get("Idempotency-Key"))
	if r.Body != nil {
		body, _ := io.ReadAll(r.Body)
		n.bodies = append(n.bodies, string(body))
	}
	answer := n.answers[min(len(n.at), len(n.answers))-1]
	if answer.status == 0 {
		return nil, answer.err
	}
	resp := &http.Response{StatusCode: answer.status, Header: answer.header, Body: io.NopCloser(strings.NewReader(answer.body))}
	if answer.err != nil {
		resp.Body = io.NopCloser(io.MultiReader(resp.Body, failing{answer.err}))
	}
	return resp, nil
}

// reply is an answer; without a status it is none, and with an error besides it breaks off.
type reply struct {
	status int
	body   string
	header http.Header
	err    error
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func status(code int, body string, headers ...string) reply {
	h := http.Header{}
	for pair := range slices.Chunk(headers, 2) {
		h.Set(pair[0], pair[1])
	}
	return reply{status: code, body: body, header: h}
}

func broken(err error) reply { return reply{err: err} }

const receipt = `{"event_id":"e","event_type":"t","deliveries":[],"new_member":1}`

// TestWhatIsRepeated runs calls against failing networks, in a bubble: the clock is not waited for.
func TestWhatIsRepeated(t *testing.T) {
	send := func(ctx context.Context, c *client.Client) error {
		_, err := c.Send(ctx, "acme", event(""))
		return err
	}
	read := func(ctx context.Context, c *client.Client) error {
		_, err := c.Callback(ctx, "acme", 1)
		return err
	}
	poll := func(ctx context.Context, c *client.Client) error {
		_, err := c.Poll(ctx, "acme", 1, client.Poll{Wait: time.Second})
		return err
	}
	write := func(ctx context.Context, c *client.Client) error {
		_, err := c.PauseCallback(ctx, "acme", 1)
		return err
	}
	decide := func(ctx context.Context, c *client.Client) error {
		_, err := c.Ask(ctx, "acme", client.Question{Type: "t", Payload: json.RawMessage("{}")})
		return err
	}
	// With a key, what changes something is safe to repeat; a decision, whose caller waits, is the caller's to repeat.
	keyed := func(call func(context.Context, *client.Client) error) func(context.Context, *client.Client) error {
		return func(ctx context.Context, c *client.Client) error {
			return call(client.WithIdempotencyKey(ctx, "k1"), c)
		}
	}
	gone := errors.New("connection refused")
	for _, tt := range []struct {
		name    string
		call    func(context.Context, *client.Client) error
		cfg     client.Config
		answers []reply
		tries   int           // 0: more than three
		after   time.Duration // at least this before the last
		within  time.Duration // at most this before the last
		wantErr string
	}{
		{name: "send, then well", call: send, answers: []reply{status(503, ""), status(502, ""), status(504, ""), status(429, ""), broken(gone), status(202, receipt)}, tries: 6, within: 20 * time.Second},
		{name: "read, then well", call: read, answers: []reply{broken(gone), status(200, `{}`)}, tries: 2, within: time.Second},
		{name: "poll, then well", call: poll, answers: []reply{status(503, ""), broken(gone), status(200, `{}`)}, tries: 3, within: 5 * time.Second},
		{name: "half an answer", call: send, answers: []reply{{status: 200, body: `{"event_id":`, err: gone}, status(200, receipt)}, tries: 2, within: time.Second},
		{name: "never well", call: send, answers: []reply{broken(gone)}, after: 10 * time.Second, within: client.DefaultMaxElapsed, wantErr: "cannot reach http://ringback.test: connection refused"},
		{name: "bounded", call: send, cfg: client.Config{MaxElapsed: time.Second}, answers: []reply{status(503, "")}, tries: -1, within: time.Second, wantErr: "503"},
		{name: "not at all", call: send, cfg: client.Config{MaxElapsed: -1}, answers: []reply{status(503, "")}, tries: 1, wantErr: "503"},
		{name: "not at all, but too often", call: write, cfg: client.Config{MaxElapsed: -1}, answers: []reply{status(429, "", "Retry-After", "7"), status(200, `{}`)}, tries: 2, after: 7 * time.Second, within: 7 * time.Second},
		{name: "not at all, and far too often", call: write, cfg: client.Config{MaxElapsed: -1}, answers: []reply{status(429, "", "Retry-After", "20")}, tries: 2, after: 20 * time.Second, within: 20 * time.Second, wantErr: "429"},
		{name: "retry-after", call: send, answers: []reply{status(503, "", "Retry-After", "17"), status(202, receipt)}, tries: 2, after: 17 * time.Second, within: 17 * time.Second},
		{name: "a date", call: read, answers: []reply{status(429, "", "Retry-After", "Sat, 01 Jan 2000 00:00:09 GMT"), status(200, `{}`)}, tries: 2, after: 9 * time.Second, within: 9 * time.Second},
		{name: "too late", call: send, answers: []reply{status(503, "", "Retry-After", "31")}, tries: 1, wantErr: "503"},
		{name: "refused", call: send, answers: []reply{status(422, `{"detail":"no"}`)}, tries: 1, wantErr: "no (422)"},
		{name: "a fault", call: read, answers: []reply{status(500, "")}, tries: 1, wantErr: "500"},
		{name: "a stranger", call: read, answers: []reply{broken(&tls.CertificateVerificationError{Err: gone})}, tries: 1, wantErr: "connection refused"},
		{name: "a page", call: read, answers: []reply{status(200, "<html>")}, tries: 1, wantErr: "is it a Ringback server"},
		{name: "a redirect", call: read, answers: []reply{status(301, "", "Location", "http://elsewhere.test/")}, tries: 1, wantErr: "301"},
		{name: "write", call: write, answers: []reply{status(503, "")}, tries: 1, wantErr: "503"},
		{name: "write, too often", call: write, answers: []reply{status(429, "", "Retry-After", "2"), status(200, `{}`)}, tries: 2, after: 2 * time.Second, within: 2 * time.Second},
		{name: "write, too many", call: write, answers: []reply{status(429, "")}, tries: 1, wantErr: "429"},
		{name: "ask, too often", call: decide, answers: []reply{status(429, "", "Retry-After", "2")}, tries: 1, wantErr: "429"},
		{name: "once", call: keyed(write), answers: []reply{broken(gone), status(409, "", "Retry-After", "3"), status(200, `{}`)}, tries: 3, after: 3 * time.Second, within: 4 * time.Second},
		{name: "once, and refused", call: keyed(write), answers: []reply{status(409, `{"detail":"no"}`)}, tries: 1, wantErr: "no (409)"},
		{name: "ask, too often, once", call: keyed(decide), answers: []reply{status(503, "")}, tries: 1, wantErr: "503"},
		{name: "write, gone", call: write, answers: []reply{broken(gone)}, tries: 1, wantErr: "cannot reach"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := &tries{answers: tt.answers, start: time.Now()}
				told := 0
				tt.cfg.Server, tt.cfg.Key, tt.cfg.HTTPClient = "http://ringback.test", "k", &http.Client{Transport: network}
				tt.cfg.OnRepeat = func(error, time.Duration) { told++ }
				c, err := client.New(tt.cfg)
				must(t, err)
				err = tt.call(t.Context(), c)
				if fmt.Sprint(err) != "<nil>" && tt.wantErr == "" || tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
					t.Errorf("%v, want %q", err, tt.wantErr)
				}
				last := network.at[len(network.at)-1]
				if tt.tries > 0 && len(network.at) != tt.tries || tt.tries == 0 && len(network.at) < 4 || last < tt.after || last > tt.within {
					t.Errorf("tries at %v", network.at)
				}
				if told != len(network.at)-1 {
					t.Errorf("told of %d of %d", told, len(network.at)-1)
				}
				for i, key := range network.keys {
					if once := strings.Contains(tt.name, "once"); once != (key == "k1") || !once && key != "" {
						t.Errorf("try %d has the Idempotency-Key %q", i, key)
					}
				}
				for _, body := range network.bodies {
					if body != network.bodies[0] || !strings.HasPrefix(tt.name, "ask, too often") && !strings.Contains(body, `"event_id":"evt_`) {
						t.Errorf("not the same event again: %s", body)
					}
				}
			})
		})
	}
}

func TestTheContextEndsACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &tries{answers: []reply{status(503, "")}, start: time.Now()}
		c, err := client.New(client.Config{Server: "http://ringback.test", Key: "k", HTTPClient: &http.Client{Transport: network}})
		must(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err = c.Send(ctx, "acme", event("e"))
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(network.start) != 3*time.Second {
			t.Errorf("after %s: %v", time.Since(network.start), err)
		}
		if results, err := c.SendBatch(ctx, "acme", [][]byte{[]byte(`{}`)}); !errors.Is(err, context.DeadlineExceeded) || results[0].Status != 0 || results[0].EventID == "" {
			t.Errorf("%+v, %v", results, err)
		}
	})
}

// TestABatchSendsOnlyWhatIsLeft: 503s of single lines, answers that break off, servers that are gone.
func TestABatchSendsOnlyWhatIsLeft(t *testing.T) {
	line := func(n, code int, id string) string {
		return fmt.Sprintf(`{"line":%d,"status":%d,"event_id":%q,"title":"T","detail":"d"}`+"\n", n, code, id)
	}
	synctest.Test(t, func(t *testing.T) {
		network := &tries{start: time.Now(), answers: []reply{
			broken(errors.New("gone")),
			status(503, ""),
			status(200, line(1, 202, "a")+"\n"+line(2, 503, "b")+line(3, 422, "c")), // the fourth is missing
			status(200, line(1, 200, "b")+line(2, 202, "d")),
		}}
		c, err := client.New(client.Config{Server: "http://ringback.test", Key: "k", HTTPClient: &http.Client{Transport: network}})
		must(t, err)
		var lines [][]byte
		for _, id := range []string{"a", "b", "c", "d"} {
			lines = append(lines, fmt.Appendf(nil, `{"event_id":%q}`, id))
		}
		results, err := c.SendBatch(t.Context(), "acme", lines)
		must(t, err)
		for i, want := range []int{202, 200, 422, 202} {
			if r := results[i]; r.Line != i+1 || r.Status != want || r.EventID != string("abcd"[i]) || (r.Err() == nil) != (want/100 == 2) || len(r.Raw) == 0 {
				t.Errorf("line %d: %+v", i+1, r)
			}
		}
		all := `{"event_id":"a"}` + "\n" + `{"event_id":"b"}` + "\n" + `{"event_id":"c"}` + "\n" + `{"event_id":"d"}` + "\n"
		if want := []string{all, all, all, `{"event_id":"b"}` + "\n" + `{"event_id":"d"}` + "\n"}; !slices.Equal(network.bodies, want) {
			t.Errorf("sent %q", network.bodies)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		network := &tries{start: time.Now(), answers: []reply{status(200, line(1, 202, "a")+line(2, 503, "b"))}}
		c, err := client.New(client.Config{Server: "http://ringback.test", Key: "k", HTTPClient: &http.Client{Transport: network}, MaxElapsed: -1})
		must(t, err)
		results, err := c.SendBatch(t.Context(), "acme", [][]byte{[]byte(`{"event_id":"a"}`), []byte(`{"event_id":"b"}`)})
		if e, ok := errors.AsType[*client.APIError](err); !ok || e.Status != 503 || results[0].Status != 202 || results[1].Status != 503 {
			t.Errorf("%+v, %v", results, err)
		}
		if _, err := c.SendBatch(t.Context(), "acme", [][]byte{[]byte("{}\n{}")}); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("two lines in one: %v", err)
		}
	})
}

func TestIdentifiedChangesNothingElse(t *testing.T) {
	for _, tt := range []struct{ line, want, id string }{
		{`{"event_type":"t","payload":{"a" : 1.0}}`, `{"event_id":"new","event_type":"t","payload":{"a" : 1.0}}`, "new"},
		{`{ "event_type":"t"}`, `{"event_id":"new", "event_type":"t"}`, "new"},
		{`{}`, `{"event_id":"new"}`, "new"},
		{"{\r}", "{\"event_id\":\"new\"\r}", "new"},
		{"{\t}", "{\"event_id\":\"new\"\t}", "new"},
		{`{"event_id":"old","payload":{}}`, `{"event_id":"old","payload":{}}`, "old"},
		{`{"payload":{"event_id":"inner"},"event_id" : "old"}`, `{"payload":{"event_id":"inner"},"event_id" : "old"}`, "old"},
		{`{"payload":{"event_id":"inner"}}`, `{"event_id":"new","payload":{"event_id":"inner"}}`, "new"},
		{`{"payload":{"event_id":null},"event_id": null ,"x":1}`, `{"payload":{"event_id":null},"event_id": "new" ,"x":1}`, "new"},
		{`{"event_id":7}`, `{"event_id":7}`, ""},
		{`{"event_id":"a\u0062"}`, `{"event_id":"a\u0062"}`, "ab"},
		{`{"event_id":""}`, `{"event_id":""}`, ""},
		{`{broken`, `{broken`, ""},
		{`[1]`, `[1]`, ""},
		{``, ``, ""},
	} {
		got, id := client.Identified([]byte(tt.line), "new")
		if string(got) != tt.want || id != tt.id {
			t.Errorf("%s became %s (%q), want %s (%q)", tt.line, got, id, tt.want, tt.id)
		}
	}
	made, id := client.Identified([]byte(`{}`), "")
	if !regexp.MustCompile(`^evt_[0-9a-v]{26}$`).MatchString(id) || string(made) != `{"event_id":"`+id+`"}` {
		t.Errorf("%s, %s", made, id)
	}
}

func TestEventIDsAreMadeAsTheServerMakesThem(t *testing.T) {
	at := time.Unix(1763769600, 123_456_789)
	ours, theirs := client.NewEventID(at), payloads.NewEventID(at)
	if len(ours) != len(theirs) || ours[:16] != theirs[:16] || ours == client.NewEventID(at) {
		t.Errorf("%s, theirs %s", ours, theirs)
	}
	if earlier := client.NewEventID(at.Add(-time.Microsecond)); earlier >= ours {
		t.Errorf("%s does not sort before %s", earlier, ours)
	}
	if ancient := client.NewEventID(time.Unix(-5, 0)); ancient[:13] != "evt_000000000" {
		t.Errorf("before 1970: %s", ancient)
	}
}

// TestThePayloadGoesOutByteForByte: spaces, escapes and all.
func TestThePayloadGoesOutByteForByte(t *testing.T) {
	h := newHouse(t)
	e := event("e")
	_, err := h.client.Send(t.Context(), "acme", e)
	must(t, err)
	if sent := h.wire.last(); !bytes.HasSuffix(sent.body, append([]byte(`"payload":`), append(e.Payload, '}')...)) {
		t.Errorf("sent %s", sent.body)
	}
	e.Payload = json.RawMessage("{\n\"a\": \"<\"\n}")
	line, err := e.Line()
	must(t, err)
	if want := `{"event_id":"e","event_type":"payment_proof","payload":{"a":"<"}}`; string(line) != want {
		t.Errorf("line %s, want %s", line, want)
	}
	e.Payload = json.RawMessage(`{"broken`)
	if _, err := h.client.Send(t.Context(), "acme", e); err == nil || !strings.Contains(err.Error(), "Payload is not JSON") {
		t.Errorf("%v", err)
	}
}

func TestRefusalsNameTheField(t *testing.T) {
	h := newHouse(t)
	bad := registration
	bad.Destination.URL = "ftp://127.0.0.1/"
	_, err := h.client.CreateCallback(t.Context(), "acme", bad)
	e, ok := errors.AsType[*client.APIError](err)
	if !ok || e.Status != 422 || len(e.Errors) == 0 || e.Errors[0].Location != "body.destination.url" || e.Title != "Unprocessable Entity" {
		t.Errorf("%+v", err)
	}
	if !strings.Contains(err.Error(), "body.destination.url") || !strings.HasSuffix(err.Error(), "(422)") {
		t.Errorf("it says %s", err)
	}
	for _, id := range []string{"", ".", ".."} {
		before := h.wire.count()
		if _, err := h.client.Delivery(t.Context(), "acme", id); err == nil || h.wire.count() != before {
			t.Errorf("%q: %v", id, err)
		}
	}
	if _, err := h.client.Delivery(t.Context(), "acme", "a/b?c"); err == nil || h.wire.last().path != "/companies/acme/deliveries/a%2Fb%3Fc" {
		t.Errorf("%s: %v", h.wire.last().path, err)
	}
	stranger := newClient(t, h.server.URL, "nobody", h.wire, client.Config{UserAgent: "test/1"})
	_, err = stranger.Types(t.Context())
	if e, ok := errors.AsType[*client.APIError](err); !ok || e.Status != 401 || h.wire.last().header.Get("User-Agent") != "test/1" {
		t.Errorf("%v", err)
	}
	_, err = h.client.CreateCallback(t.Context(), "acme", client.Registration{CallbackType: "*", MatchBlock: "auth", Match: map[string]string{"type": "x"}})
	if err == nil || !strings.Contains(err.Error(), "MatchBlock") {
		t.Errorf("a block under a name that is taken: %v", err)
	}
}

// TestRedisGoesAndComesBack: the server answers 503 meanwhile, under a name that its log has, and Send sees it through.
func TestRedisGoesAndComesBack(t *testing.T) {
	h := newHouse(t)
	h.redis.Kill()
	c := h.with(client.Config{MaxElapsed: quickly * 4, OnRepeat: func(err error, _ time.Duration) {
		if e, ok := errors.AsType[*client.APIError](err); !ok || e.Status != 503 || e.RetryAfter == 0 {
			t.Errorf("repeating for %v", err)
		} else if !strings.HasSuffix(err.Error(), "(503, request "+e.RequestID+")") || len(e.RequestID) < 20 {
			t.Errorf("it says %s", err)
		}
		if h.wire.count() == 1 {
			h.redis.Restart()
		}
	}})
	receipt, err := c.Send(t.Context(), "acme", event(""))
	must(t, err)
	if h.wire.count() < 2 || receipt.Duplicate {
		t.Errorf("%d tries, %+v", h.wire.count(), receipt)
	}
}

func TestListsGoOnOverAllPages(t *testing.T) {
	h := newHouse(t)
	for range 5 {
		_, err := h.client.CreateCallback(t.Context(), "acme", registration)
		must(t, err)
	}
	for i := range 3 {
		_, err := h.client.Send(t.Context(), "acme", event("e-"+strconv.Itoa(i)))
		must(t, err)
	}
	var ids []int64
	for cb, err := range h.client.AllCallbacks(t.Context(), "acme", client.CallbacksQuery{Limit: 2}) {
		must(t, err)
		ids = append(ids, cb.CallbackID)
	}
	if !slices.Equal(ids, []int64{1, 2, 3, 4, 5}) {
		t.Errorf("callbacks %v", ids)
	}
	seen := map[string]bool{}
	for d, err := range h.client.AllDeliveries(t.Context(), "acme", client.DeliveriesQuery{Limit: 4}) {
		must(t, err)
		seen[d.DeliveryID] = true
	}
	if len(seen) != 15 {
		t.Errorf("%d deliveries, want 15", len(seen))
	}
	decided := 0
	for d, err := range h.client.AllDecisions(t.Context(), "acme", "e-1", client.ExplainQuery{Limit: 2}) {
		must(t, err)
		if decided++; d.CallbackID != int64(decided) {
			t.Errorf("decision %d is about callback %d", decided, d.CallbackID)
		}
	}
	lines := map[string]bool{}
	for e, err := range h.client.AllAudit(t.Context(), client.AuditQuery{Company: "acme", Limit: 2}) {
		must(t, err)
		lines[e.ID] = true
	}
	if decided != 5 || len(lines) != 5 {
		t.Errorf("%d decisions and %d lines of the trail, want 5 each", decided, len(lines))
	}
	before := h.wire.count()
	for _, err := range h.client.AllDeliveries(t.Context(), "acme", client.DeliveriesQuery{Limit: 4}) {
		must(t, err)
		break
	}
	if asked := h.wire.count() - before; asked != 1 {
		t.Errorf("asked for %d pages to see one delivery", asked)
	}
	for d, err := range h.client.AllDeliveries(t.Context(), "acme", client.DeliveriesQuery{Cursor: "nonsense"}) {
		if err == nil || d != nil {
			t.Errorf("%v, %v", d, err)
		}
	}
}

func TestDoAndRawGiveTheAnswerAsItCame(t *testing.T) {
	h := newHouse(t)
	typed, err := h.client.Type(t.Context(), "payment_proof")
	must(t, err)
	raw, err := h.client.Do(t.Context(), "GET", "/callback-types/payment_proof", nil, nil)
	must(t, err)
	if !bytes.Equal(raw, typed.Raw) || !json.Valid(raw) {
		t.Errorf("%s\n%s", raw, typed.Raw)
	}
	created, err := h.client.Do(t.Context(), "POST", "/companies/acme/config/callbacks", nil,
		[]byte(`{"callback_type":"wallet_item_remove","wallet_item_install":{"campaign_token":"t"},"destination":{"url":"http://127.0.0.1:9/"}}`))
	must(t, err)
	var cb client.Callback
	must(t, json.Unmarshal(created, &cb))
	if cb.MatchBlock != "wallet_item_install" || cb.Match["campaign_token"] != "t" {
		t.Errorf("%+v", cb)
	}
}

// TestItNeedsNoMore than the standard library and the backoff: programs that use this package do not pull in Redis.
func TestItNeedsNoMore(t *testing.T) {
	files, err := filepath.Glob("*.go")
	must(t, err)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		must(t, err)
		for _, spec := range parsed.Imports {
			if path := strings.Trim(spec.Path.Value, `"`); strings.Contains(path, ".") && path != "github.com/cenkalti/backoff/v4" {
				t.Errorf("%s imports %s", file, path)
			}
		}
	}
}
