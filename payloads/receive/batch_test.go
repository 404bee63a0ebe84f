package receive_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/payloads/receive"
)

// envelopes is a batch's body: an envelope for each delivery, with that id and a proof.
func envelopes(ids ...string) []byte {
	all := make([]string, len(ids))
	for i, id := range ids {
		all[i] = fmt.Sprintf(`{"id":%q,"type":"payment_proof","payload":{"requestId": %q, "status": "OK"}}`, id, "of "+id)
	}
	return []byte("[" + strings.Join(all, ",") + "]")
}

// batch is a request with several deliveries, as Ringback sends it. more are further headers and their values.
func (d *desk) batch(id string, body []byte, more ...string) *http.Request {
	d.t.Helper()
	r := d.request(id, body)
	r.Header.Del("Ringback-Event-Id")
	r.Header.Del("Ringback-Event-Type")
	r.Header.Set("Ringback-Batch", "3")
	for pair := range slices.Chunk(more, 2) {
		r.Header.Set(pair[0], pair[1])
	}
	return r
}

// The headers of batches that are not as plain as can be.
var (
	enveloped   = []string{"Ringback-Batch-Element", "envelope"}
	hearing     = []string{"Ringback-Batch-Element", "envelope", "Ringback-Batch-Results", "1"}
	cloudEvents = []string{"Content-Type", payloads.ContentTypeCloudEventsBatch, "Ringback-Batch-Results", "1"}
)

// failing has the function of a type fail at those deliveries, with that error.
func (d *desk) failing(eventType string, with map[string]error) {
	receive.On(d.Handler, eventType, func(_ context.Context, got receive.Delivery, payload json.RawMessage) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.last, d.handled = got, append(d.handled, got.ID)
		return with[got.ID]
	})
}

// TestABatchIsHandedOverOneByOne, each in its envelope as a value of its type.
func TestABatchIsHandedOverOneByOne(t *testing.T) {
	t.Parallel()
	d := newDesk(t, receive.Config{})
	d.want("a batch", d.batch("bat_1", envelopes("dlv_a", "dlv_b", "dlv_c"), enveloped...), http.StatusNoContent, "dlv_a", "dlv_b", "dlv_c")
	if len(d.got) != 3 || d.got[1] != (proof{"of dlv_b", "OK"}) {
		t.Errorf("it got %+v", d.got)
	}
	if l := d.last; l.EventID != "" || l.EventType != "payment_proof" || l.Attempt != 3 || string(l.Payload) != `{"requestId": "of dlv_c", "status": "OK"}` || l.Header.Get("Webhook-Id") != "bat_1" || time.Since(l.SignedAt) > time.Minute {
		t.Errorf("it got %+v", l)
	}
	d.want("other batches with one of them", d.batch("bat_2", envelopes("dlv_b", "dlv_d"), enveloped...), http.StatusNoContent, "dlv_a", "dlv_b", "dlv_c", "dlv_d")
	d.want("one of them by itself", d.request("dlv_d", sample), http.StatusNoContent, "dlv_a", "dlv_b", "dlv_c", "dlv_d")
}

// TestElementsThatAreBare are known by the batch's id and their place. They go to the function for all types, unless they are CloudEvents, whatever they look like.
func TestElementsThatAreBare(t *testing.T) {
	t.Parallel()
	d := newDesk(t, receive.Config{})
	bare := []byte(`[{"n": 1}, 2 ,` + string(envelopes("dlv_a")[1:]))
	d.want("elements without a type", d.batch("bat_1", bare), http.StatusNotImplemented)
	if !strings.Contains(d.log.String(), "element: envelope") {
		t.Errorf("the log does not say what to do: %s", d.log)
	}
	d.failing("*", nil)
	d.want("the same, taken", d.batch("bat_1", bare), http.StatusNoContent, "bat_1/0", "bat_1/1", "bat_1/2")
	if d.last.EventType != "" || !strings.HasPrefix(string(d.last.Payload), `{"id":"dlv_a"`) {
		t.Errorf("it got %+v", d.last)
	}
	d.want("the same again", d.batch("bat_1", bare), http.StatusNoContent, "bat_1/0", "bat_1/1", "bat_1/2")
	d.handled = nil
	events := []byte(`[{"specversion":"1.0","id":"e-1","type":"payment_proof","data":{}},{"specversion":"1.0","id":"e-2","type":"customer.updated","data":{}}]`)
	d.want("events", d.batch("bat_2", events, cloudEvents...), http.StatusNoContent, "bat_2/0", "bat_2/1")
	if l := d.last; l.EventID != "e-2" || l.EventType != "customer.updated" || !strings.HasPrefix(string(l.Payload), `{"specversion"`) {
		t.Errorf("it got %+v", l)
	}
	r := d.batch("bat_3", bare)
	r.Header.Del("Ringback-Batch") // somebody on the way knows better
	d.want("a batch by its id alone", r, http.StatusNoContent, "bat_2/0", "bat_2/1", "bat_3/0", "bat_3/1", "bat_3/2")
}

// TestOneAnswerOrOneForEach: only if some were handled and some not, and Ringback listens, the answer speaks of each. Else its status is for all.
func TestOneAnswerOrOneForEach(t *testing.T) {
	t.Parallel()
	three := envelopes("dlv_a", "dlv_b", "dlv_c")
	bug, gone := errors.New("a bug"), fmt.Errorf("the shop closed: %w", receive.ErrUnsubscribe)
	for name, tt := range map[string]struct {
		headers []string
		body    []byte
		fails   map[string]error
		status  int
		said    string // in the body
		handled string // with those that failed
		later   string // and at the next attempt, when nothing fails
	}{
		"none fails":            {hearing, three, nil, 204, "", "dlv_a dlv_b dlv_c", ""},
		"one fails":             {hearing, three, map[string]error{"dlv_b": bug}, 200, `{"results":[{"id":"dlv_a","status":204},{"id":"dlv_c","status":204},{"id":"dlv_b","status":500}]}`, "dlv_a dlv_b dlv_c", "dlv_b"},
		"all fail":              {hearing, three, map[string]error{"dlv_a": bug, "dlv_b": bug, "dlv_c": bug}, 500, "was not handled", "dlv_a dlv_b dlv_c", "dlv_a dlv_b dlv_c"},
		"nobody listens":        {enveloped, three, map[string]error{"dlv_b": bug}, 500, "was not handled", "dlv_a dlv_b dlv_c", "dlv_b"},
		"one unsubscribes":      {hearing, three, map[string]error{"dlv_b": gone}, 410, "no more deliveries", "dlv_a dlv_b", "dlv_b dlv_c"},
		"one does after a bug":  {enveloped, three, map[string]error{"dlv_a": bug, "dlv_b": gone}, 410, "no more deliveries", "dlv_a dlv_b", "dlv_a dlv_b dlv_c"},
		"one of another type":   {hearing, bytes.Replace(three, []byte("payment_proof"), []byte("account.points_transfer"), 1), nil, 200, `{"id":"dlv_a","status":501}`, "dlv_b dlv_c", ""},
		"they have no names":    {[]string{"Ringback-Batch-Results", "1"}, []byte("[1, 2, 3]"), map[string]error{"bat_1/1": bug}, 500, "was not handled", "bat_1/0 bat_1/1 bat_1/2", "bat_1/1"},
		"they have events' ids": {cloudEvents, []byte(`[{"id":"e-1","type":"payment_proof"},{"id":"e-2","type":"payment_proof"}]`), map[string]error{"bat_1/0": bug}, 200, `{"results":[{"id":"e-2","status":204},{"id":"e-1","status":500}]}`, "bat_1/0 bat_1/1", "bat_1/0"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			d := newEmptyDesk(t)
			fails := map[string]error{}
			maps.Copy(fails, tt.fails)
			d.failing("payment_proof", fails)
			if strings.HasPrefix(tt.handled, "bat_1/0 bat_1/1 bat_1/2") {
				d.failing("*", fails)
			}
			w := d.serve(d.batch("bat_1", tt.body, tt.headers...))
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.said) || (w.Code == http.StatusOK) != (w.Header().Get("Content-Type") == "application/json") {
				t.Errorf("answered %d %v %s", w.Code, w.Header(), w.Body)
			}
			if got := strings.Join(d.handled, " "); got != tt.handled {
				t.Errorf("handled %s, want %s", got, tt.handled)
			}
			clear(fails)
			d.handled = nil
			d.serve(d.batch("bat_1", tt.body, tt.headers...))
			if got := strings.Join(d.handled, " "); got != tt.later {
				t.Errorf("then handled %s, want %s", got, tt.later)
			}
		})
	}
}

// newEmptyDesk is a desk without functions.
func newEmptyDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{t: t, secret: payloads.NewSecret(), log: &bytes.Buffer{}}
	var err error
	d.Handler, err = receive.New(receive.Config{Secrets: []string{d.secret.Reveal()}, Log: slog.New(slog.NewTextHandler(d.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestABatchThatPanics: the others of it are handled all the same, and one that panicked comes again.
func TestABatchThatPanics(t *testing.T) {
	t.Parallel()
	d := newDesk(t, receive.Config{})
	receive.On(d.Handler, "customer.deleted", func(context.Context, receive.Delivery, json.RawMessage) error { panic("a bug") })
	body := bytes.Replace(envelopes("dlv_a", "dlv_b"), []byte("payment_proof"), []byte("customer.deleted"), 1)
	for range 2 {
		d.want("one that panics", d.batch("bat_1", body, enveloped...), http.StatusInternalServerError, "dlv_b")
	}
	if n := strings.Count(d.log.String(), "panicked"); n != 2 {
		t.Errorf("logged %d times:\n%s", n, d.log)
	}
}

// TestNoBatchOfRingbacks is handed over in no part, and its answer does not repeat what it holds.
func TestNoBatchOfRingbacks(t *testing.T) {
	t.Parallel()
	d := newDesk(t, receive.Config{MaxBody: 1000})
	d.failing("*", nil)
	for body, headers := range map[string][]string{
		"": nil, "[]": nil, "null": nil, "{}": nil, "7": nil, "[1": nil, "[1,]": nil, "[1]]": nil, "[1] 2": nil, "[\xff": nil, strings.Repeat("[", 900): nil,
		"[7]":                          enveloped,
		"[null]":                       enveloped,
		`[{"id": "dlv_a", "type": 7}]`: enveloped,
		`[{"type": "payment_proof", "payload": {}}]`:                enveloped,
		`[{"id": "", "type": "payment_proof", "payload": {}}]`:      enveloped,
		`[{"id": "dlv_a", "payload": {}}]`:                          enveloped,
		`[{"id": "dlv_a", "type": "*", "payload": {}}]`:             enveloped,
		`[{"id": "dlv_a", "type": "payment_proof"}]`:                enveloped,
		string(envelopes("dlv_a", "dlv_b")[:100]):                   enveloped,
		strings.TrimSuffix(string(envelopes("dlv_a")), "]") + ",7]": enveloped,
		`[{"id": "e-1"}]`: cloudEvents,
		`[{"id": "e-1", "type": "payment_proof"}, {"type": "payment_proof"}]`: cloudEvents,
	} {
		d.want(fmt.Sprintf("%.60s", body), d.batch("bat_1", []byte(body), headers...), http.StatusBadRequest)
	}
	if w := d.serve(d.batch("bat_1", []byte(`["canary"`))); strings.Contains(w.Body.String(), "canary") || !strings.Contains(d.log.String(), "bat_1") {
		t.Errorf("answered %s, and logged %s", w.Body, d.log)
	}
	long := append(envelopes("dlv_a"), bytes.Repeat([]byte(" "), 1000)...)
	d.want("a batch that is too long", d.batch("bat_1", long, enveloped...), http.StatusRequestEntityTooLarge)
	d.want("a batch of the greatest length", d.batch("bat_1", long[:1000], enveloped...), http.StatusNoContent, "dlv_a")
	strange := d.signed("bat_2", envelopes("dlv_b"), time.Now(), payloads.NewSecret())
	strange.Header.Set("Ringback-Batch-Element", "envelope")
	d.want("a stranger's batch", strange, http.StatusUnauthorized, "dlv_a")
	d.want("one of them that does not fit", d.batch("bat_3", bytes.Replace(envelopes("dlv_c", "dlv_d"), []byte(`"OK"`), []byte("7"), 1), enveloped...), http.StatusInternalServerError, "dlv_a", "dlv_d")
}

// TestATestOfABatchIsNotActedOn, however its elements are written.
func TestATestOfABatchIsNotActedOn(t *testing.T) {
	t.Parallel()
	d := newDesk(t, receive.Config{})
	d.want("a test in an envelope", d.batch("tst_1", envelopes("tst_1"), enveloped...), http.StatusNoContent)
	d.want("a test that does not fit", d.batch("tst_1", []byte(`[{"id":"tst_1","type":"payment_proof","payload":[]}]`), enveloped...), http.StatusInternalServerError)
	d.want("a test as an event", d.batch("tst_1", []byte(`[{"id":"tst_1","type":"payment_proof"}]`), cloudEvents...), http.StatusNoContent)
	d.want("what only calls itself one", d.batch("bat_1", envelopes("tst_2"), enveloped...), http.StatusNoContent, "tst_2")
	d.handled = nil
	d.failing("*", nil)
	d.want("a bare test", d.batch("tst_1", []byte(`[{}]`)), http.StatusNoContent)
}

// TestNobodyWaitsForTheRest: once the sender has left, no further one is begun, and the next attempt begins there.
func TestNobodyWaitsForTheRest(t *testing.T) {
	t.Parallel()
	d := newEmptyDesk(t)
	ctx, leave := context.WithCancel(t.Context())
	receive.On(d.Handler, "payment_proof", func(_ context.Context, got receive.Delivery, _ proof) error {
		if d.handled = append(d.handled, got.ID); got.ID == "dlv_b" {
			leave()
		}
		return nil
	})
	body := envelopes("dlv_a", "dlv_b", "dlv_c", "dlv_d")
	d.want("one whose sender leaves", d.batch("bat_1", body, enveloped...).WithContext(ctx), http.StatusInternalServerError, "dlv_a", "dlv_b")
	d.want("the next attempt", d.batch("bat_1", body, enveloped...), http.StatusNoContent, "dlv_a", "dlv_b", "dlv_c", "dlv_d")
}

// TestAnAnswerIsReadWhole: it is below 64 KiB, or Ringback would take all for handled. What finds no room in it is tried again; of those that were handled as many are named as
// fit, before any that was not.
func TestAnAnswerIsReadWhole(t *testing.T) {
	t.Parallel()
	for fails, least := range map[int]int{1: 290, 250: 250, 499: 1} {
		d := newEmptyDesk(t)
		ids, failures := make([]string, 500), map[string]error{}
		for i := range ids {
			ids[i] = "dlv_" + strings.Repeat("x", 180) + strconv.Itoa(1000+i) // as long as there are
			if i < fails {
				failures[ids[i]] = errors.New("a bug")
			}
		}
		d.failing("payment_proof", failures)
		w := d.serve(d.batch("bat_1", envelopes(ids...), hearing...))
		var said struct {
			Results []struct {
				ID     string
				Status int
			}
		}
		if err := json.Unmarshal(w.Body.Bytes(), &said); err != nil || w.Code != http.StatusOK || w.Body.Len() >= 64<<10 {
			t.Fatalf("answered %d with %d bytes: %v", w.Code, w.Body.Len(), err)
		}
		good := 0
		for _, r := range said.Results {
			if (failures[r.ID] == nil) != (r.Status == http.StatusNoContent) {
				t.Errorf("%s is said to have %d", r.ID, r.Status)
			}
			if failures[r.ID] == nil {
				good++
			}
		}
		if good < least || len(said.Results) < 290 {
			t.Errorf("of %d that were handled, %d are named, and %d in all", 500-fails, good, len(said.Results))
		}
	}
}

// FuzzBatch: whatever a batch holds, each element of it is handed over once, or none of them is. The answer is for all or names those that were handled.
func FuzzBatch(f *testing.F) {
	f.Add(envelopes("dlv_a", "dlv_b"), true, false)
	f.Add([]byte(`[{"id":"e-1","type":"payment_proof","data":null},{"id":"e-1","type":"a"}]`), false, true)
	f.Add([]byte(`[1,[],{"a":"\ud800"},"\u0000"]`), false, false)
	f.Add([]byte(`[{"id":"a","id":"b","type":"t","payload":null}]`), true, true)
	f.Add([]byte(`[`), false, false)
	secret := payloads.NewSecret()
	f.Fuzz(func(t *testing.T, body []byte, inEnvelopes, asEvents bool) {
		h, err := receive.New(receive.Config{Secrets: []string{secret.Reveal()}, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		calls := map[string]int{}
		receive.On(h, "*", func(_ context.Context, got receive.Delivery, payload json.RawMessage) error {
			if calls[got.ID]++; !json.Valid(payload) {
				t.Errorf("%s was handed over as %q", got.ID, payload)
			}
			if len(calls)%2 == 0 {
				return errors.New("not now")
			}
			return nil
		})
		at := time.Now()
		signature, err := payloads.Sign("bat_1", at, body, secret)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/hook", bytes.NewReader(body))
		r.Header = http.Header{"Webhook-Id": {"bat_1"}, "Webhook-Timestamp": {strconv.FormatInt(at.Unix(), 10)}, "Webhook-Signature": {signature}, "Ringback-Batch-Results": {"1"}}
		if inEnvelopes {
			r.Header.Set("Ringback-Batch-Element", "envelope")
		}
		if asEvents {
			r.Header.Set("Content-Type", payloads.ContentTypeCloudEventsBatch)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		var elements []json.RawMessage
		isBatch := json.Unmarshal(body, &elements) == nil && len(elements) > 0
		switch bare := !inEnvelopes && !asEvents; {
		case w.Code == http.StatusBadRequest:
			if len(calls) > 0 || isBatch && bare {
				t.Errorf("answered %d, and %d were handed over", w.Code, len(calls))
			}
		case !isBatch || bare && len(calls) != len(elements) || len(calls) == 0:
			t.Errorf("answered %d, and %d of %d were handed over", w.Code, len(calls), len(elements))
		case w.Code == http.StatusOK && !json.Valid(w.Body.Bytes()):
			t.Errorf("answered %q", w.Body)
		}
	})
}
