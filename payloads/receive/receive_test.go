package receive_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/payloads/receive"
)

// proof is what a partner makes of a proof of payment.
type proof struct {
	RequestID string `json:"requestId"`
	Status    string `json:"status"`
}

// A desk is a handler whose functions note what they are handed.
type desk struct {
	*receive.Handler
	t      *testing.T
	secret payloads.Secret
	log    *bytes.Buffer
	fails  error // what the function returns

	mu      sync.Mutex
	handled []string
	got     []proof
	last    receive.Delivery
}

func newDesk(t *testing.T, config receive.Config) *desk {
	t.Helper()
	d := &desk{t: t, secret: payloads.NewSecret(), log: &bytes.Buffer{}}
	if config.Keys == nil || config.Secrets != nil {
		config.Secrets = append(config.Secrets, d.secret.Reveal())
	}
	config.Log = slog.New(slog.NewTextHandler(d.log, nil))
	var err error
	if d.Handler, err = receive.New(config); err != nil {
		t.Fatal(err)
	}
	receive.On(d.Handler, "payment_proof", func(_ context.Context, got receive.Delivery, p proof) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.last, d.got, d.handled = got, append(d.got, p), append(d.handled, got.ID)
		return d.fails
	})
	return d
}

// request is an attempt as Ringback sends it.
func (d *desk) request(id string, body []byte) *http.Request {
	d.t.Helper()
	return d.signed(id, body, time.Now(), d.secret)
}

func (d *desk) signed(id string, body []byte, at time.Time, secrets ...payloads.Secret) *http.Request {
	d.t.Helper()
	signature, err := payloads.Sign(id, at, body, secrets...)
	if err != nil {
		d.t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(d.t.Context(), http.MethodPost, "/hook", bytes.NewReader(body))
	r.Header = http.Header{
		payloads.HeaderID: {id}, payloads.HeaderTimestamp: {strconv.FormatInt(at.Unix(), 10)}, payloads.HeaderSignature: {signature},
		"Content-Type": {"application/json"}, "Ringback-Event-Id": {"evt_1"}, "Ringback-Event-Type": {"payment_proof"}, "Ringback-Attempt": {"3"},
	}
	return r
}

func (d *desk) serve(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w
}

func (d *desk) want(what string, r *http.Request, status int, handled ...string) {
	d.t.Helper()
	w := d.serve(r)
	if w.Code != status {
		d.t.Errorf("%s: answered %d, want %d: %s", what, w.Code, status, w.Body)
	}
	if strings.Contains(w.Body.String(), "whsec_") && !strings.Contains(w.Body.String(), "begins with whsec_") || strings.Contains(d.log.String(), d.secret.Reveal()) {
		d.t.Errorf("%s: a secret is told", what)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.handled, handled) {
		d.t.Errorf("%s: handled %q, want %q", what, d.handled, handled)
	}
}

var sample = func() []byte {
	typ, _ := payloads.Builtin().Lookup("payment_proof")
	return typ.Example
}()

func TestADeliveryIsHandedOver(t *testing.T) {
	t.Parallel()
	d := newDesk(t, receive.Config{})
	r := d.request("dlv_1", sample)
	r.Header.Set("Ringback-Replay", "1")
	d.want("a delivery", r, http.StatusNoContent, "dlv_1")
	if d.got[0].Status != "OK" || !strings.HasPrefix(d.got[0].RequestID, "cba1e997") {
		t.Errorf("it got %+v", d.got[0])
	}
	if l := d.last; l.EventID != "evt_1" || l.EventType != "payment_proof" || l.Attempt != 3 || !l.Replay || l.Sequence != 0 || !bytes.Equal(l.Payload, sample) || time.Since(l.SignedAt) > time.Minute {
		t.Errorf("it got %+v", l)
	}
}

// TestANumberIsHandedOver, if it is one.
func TestANumberIsHandedOver(t *testing.T) {
	t.Parallel()
	d := newDesk(t, receive.Config{})
	for i, tt := range []struct {
		header string
		want   int64
	}{{"7", 7}, {"9223372036854775807", math.MaxInt64}, {"9223372036854775808", 0}, {"-7", 0}, {"7 ", 0}, {"seven", 0}} {
		r := d.request(fmt.Sprintf("dlv_%d", i), sample)
		r.Header.Set("Ringback-Sequence", tt.header)
		if w := d.serve(r); w.Code != http.StatusNoContent || d.last.Sequence != tt.want {
			t.Errorf("%q is handed over as %d, and answered %d", tt.header, d.last.Sequence, w.Code)
		}
	}
}

func TestAFormIsReadAsJSON(t *testing.T) {
	t.Parallel()
	d := newDesk(t, receive.Config{})
	form, err := payloads.Encode(payloads.ContentTypeForm, sample)
	if err != nil {
		t.Fatal(err)
	}
	asForm := func(id string, body []byte) *http.Request {
		r := d.request(id, body)
		r.Header.Set("Content-Type", payloads.ContentTypeForm+"; charset=utf-8")
		return r
	}
	d.want("a form", asForm("dlv_1", form), http.StatusNoContent, "dlv_1")
	if d.got[0].Status != "OK" {
		t.Errorf("it got %+v", d.got[0])
	}
	d.want("no form of Ringback's", asForm("dlv_2", []byte("a=1&a=2")), http.StatusBadRequest, "dlv_1")
}

// TestOnlyGenuineRequestsAreTaken sends what strangers, proxies and recorders of old requests send.
func TestOnlyGenuineRequestsAreTaken(t *testing.T) {
	t.Parallel()
	old := payloads.NewSecret()
	d := newDesk(t, receive.Config{Secrets: []string{old.Reveal()}})
	now := time.Now()
	edit := func(name, value string) *http.Request {
		r := d.request("dlv_9", sample)
		if r.Header.Set(name, value); value == "" {
			r.Header.Del(name)
		}
		return r
	}
	good := d.request("dlv_9", sample).Header.Get(payloads.HeaderSignature)
	var handled []string
	for i, tt := range []struct {
		what string
		r    *http.Request
		take bool
	}{
		{"the old secret alone", d.signed("dlv_a", sample, now, old), true},
		{"both secrets", d.signed("dlv_b", sample, now, payloads.NewSecret(), d.secret), true},
		{"four minutes old", d.signed("dlv_c", sample, now.Add(-4*time.Minute), d.secret), true},
		{"four minutes ahead", d.signed("dlv_d", sample, now.Add(4*time.Minute), d.secret), true},
		{"six minutes old", d.signed("dlv_9", sample, now.Add(-6*time.Minute), d.secret), false},
		{"six minutes ahead", d.signed("dlv_9", sample, now.Add(6*time.Minute), d.secret), false},
		{"another secret", d.signed("dlv_9", sample, now, payloads.NewSecret()), false},
		{"an old request with a new time", edit(payloads.HeaderTimestamp, strconv.FormatInt(now.Unix()+1, 10)), false},
		{"another id", edit(payloads.HeaderID, "dlv_8"), false},
		{"a dot in the id", edit(payloads.HeaderID, "dlv_9."+strconv.FormatInt(now.Unix(), 10)), false},
		{"no id", edit(payloads.HeaderID, ""), false},
		{"no time", edit(payloads.HeaderTimestamp, ""), false},
		{"no number for a time", edit(payloads.HeaderTimestamp, "soon"), false},
		{"a time beyond all", edit(payloads.HeaderTimestamp, "99999999999999999999"), false},
		{"no signature", edit(payloads.HeaderSignature, ""), false},
		{"a signature without a version", edit(payloads.HeaderSignature, strings.TrimPrefix(good, "v1,")), false},
		{"the beginning of a signature", edit(payloads.HeaderSignature, good[:20]), false},
		{"a signature of a scheme that is not asked for", edit(payloads.HeaderSignature, "v1a,"+base64.StdEncoding.EncodeToString(make([]byte, 64))), false},
	} {
		status := http.StatusUnauthorized
		if tt.take {
			status, handled = http.StatusNoContent, append(handled, tt.r.Header.Get(payloads.HeaderID))
		}
		d.want(fmt.Sprintf("%d, %s", i, tt.what), tt.r, status, handled...)
	}
}

func TestHostileBodies(t *testing.T) {
	t.Parallel()
	d := newDesk(t, receive.Config{MaxBody: 1000})
	long := bytes.Repeat([]byte(" "), 1001)
	d.want("a body that is too long", d.request("dlv_1", long), http.StatusRequestEntityTooLarge)
	r := d.request("dlv_1", long)
	r.Header.Del(payloads.HeaderSignature)
	d.want("the same without a signature, which is not read", r, http.StatusUnauthorized)
	d.want("a body of the greatest length", d.request("dlv_1", append([]byte("{}"), long[:998]...)), http.StatusNoContent, "dlv_1")
	for _, body := range []string{"", "{", `{"status": 7}`, "[]", "null{}", strings.Repeat("[", 900), "\xff"} {
		d.want(body, d.request("dlv_2", []byte(body)), http.StatusInternalServerError, "dlv_1")
	}
	d.want("another method", httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/hook", nil), http.StatusMethodNotAllowed, "dlv_1")
	torn := d.request("dlv_2", sample)
	torn.Body = readErr{}
	d.want("a body that breaks off", torn, http.StatusBadRequest, "dlv_1")
}

// readErr is a body that breaks off.
type readErr struct{}

func (readErr) Read([]byte) (int, error) { return 0, errors.New("the connection broke") }
func (readErr) Close() error             { return nil }

func TestAnswersSayWhatFollows(t *testing.T) {
	t.Parallel()
	d := newDesk(t, receive.Config{})
	receive.On(d.Handler, "customer.deleted", func(context.Context, receive.Delivery, json.RawMessage) error { panic("a bug") })
	as := func(eventType string) *http.Request {
		r := d.request("dlv_2", sample)
		r.Header.Set("Ringback-Event-Type", eventType)
		return r
	}
	d.fails = errors.New("the database whsec_canary is away")
	w := d.serve(d.request("dlv_1", sample))
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "canary") {
		t.Errorf("answered %d %s", w.Code, w.Body)
	}
	if !strings.Contains(d.log.String(), "canary") || !strings.Contains(d.log.String(), "dlv_1") {
		t.Errorf("the log does not say why: %s", d.log)
	}
	d.fails = fmt.Errorf("the shop closed: %w", receive.ErrUnsubscribe)
	d.want("an unsubscription", d.request("dlv_1", sample), http.StatusGone, "dlv_1", "dlv_1")
	d.fails = nil
	d.want("one that failed before", d.request("dlv_1", sample), http.StatusNoContent, "dlv_1", "dlv_1", "dlv_1")
	d.want("one that was handled", d.request("dlv_1", sample), http.StatusNoContent, "dlv_1", "dlv_1", "dlv_1")
	d.want("one of a type that nobody takes", as("wallet_item_install"), http.StatusNotImplemented, "dlv_1", "dlv_1", "dlv_1")
	d.want("one whose function panics", as("customer.deleted"), http.StatusInternalServerError, "dlv_1", "dlv_1", "dlv_1")
	d.want("the same again", as("customer.deleted"), http.StatusInternalServerError, "dlv_1", "dlv_1", "dlv_1")

	var others []string
	receive.On(d.Handler, "*", func(_ context.Context, got receive.Delivery, payload json.RawMessage) error {
		others = append(others, got.EventType+string(payload[:1]))
		return nil
	})
	d.want("the rest", as("wallet_item_install"), http.StatusNoContent, "dlv_1", "dlv_1", "dlv_1")
	if !slices.Equal(others, []string{"wallet_item_install{"}) {
		t.Errorf("the rest was %q", others)
	}
}

// TestATestIsNotActedOn: it is about nothing that happened. A challenge is said back.
func TestATestIsNotActedOn(t *testing.T) {
	t.Parallel()
	d := newDesk(t, receive.Config{})
	d.want("a test", d.request("tst_1", sample), http.StatusNoContent)
	d.want("a test that does not fit", d.request("tst_1", []byte("[]")), http.StatusInternalServerError)
	challenge := func(body string, secret payloads.Secret) *httptest.ResponseRecorder {
		r := d.signed("chl_1", []byte(body), time.Now(), secret)
		r.Header.Set("Ringback-Event-Type", "callback.challenge")
		return d.serve(r)
	}
	if w := challenge(`{"challenge": "a b"}`, d.secret); w.Code != http.StatusOK || w.Body.String() != `{"challenge":"a b"}` || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("a challenge is answered %d %s", w.Code, w.Body)
	}
	if w := challenge(`{"challenge": "a b"}`, payloads.NewSecret()); w.Code != http.StatusUnauthorized {
		t.Errorf("a stranger's challenge is answered %d %s", w.Code, w.Body)
	}
	if w := challenge(`{}`, d.secret); w.Code != http.StatusNotImplemented {
		t.Errorf("a challenge without a token is answered %d %s", w.Code, w.Body)
	}
}

func TestVerifiedLetsTheBodyThrough(t *testing.T) {
	t.Parallel()
	d := newDesk(t, receive.Config{})
	decide := d.Verified(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var question proof
		if err := json.NewDecoder(r.Body).Decode(&question); err != nil || question.Status != "OK" {
			t.Errorf("asked %+v, %v", question, err)
		}
		w.WriteHeader(http.StatusTeapot)
	}))
	for secret, want := range map[payloads.Secret]int{d.secret: http.StatusTeapot, payloads.NewSecret(): http.StatusUnauthorized} {
		w := httptest.NewRecorder()
		decide.ServeHTTP(w, d.signed("dec_1", sample, time.Now(), secret))
		if w.Code != want {
			t.Errorf("answered %d, want %d", w.Code, want)
		}
	}
}

// TestTwoAtOnce: the second waits for the first, and is handled only if that fails.
func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	for _, first := range []error{nil, errors.New("not now")} {
		synctest.Test(t, func(t *testing.T) {
			d := newDesk(t, receive.Config{})
			calls, end := make(chan struct{}, 10), make(chan error)
			receive.On(d.Handler, "customer.updated", func(ctx context.Context, _ receive.Delivery, _ json.RawMessage) error {
				calls <- struct{}{}
				select {
				case err := <-end:
					return err
				case <-ctx.Done():
					return ctx.Err()
				}
			})
			statuses := make(chan int, 3)
			attempt := func(r *http.Request) {
				r.Header.Set("Ringback-Event-Type", "customer.updated")
				statuses <- d.serve(r).Code
			}
			impatient, leave := context.WithCancel(t.Context())
			go attempt(d.request("dlv_1", sample))
			synctest.Wait()
			go attempt(d.request("dlv_1", sample))
			go attempt(d.request("dlv_1", sample).WithContext(impatient))
			synctest.Wait()
			if len(calls) != 1 {
				t.Fatalf("handled %d times at once", len(calls))
			}
			leave()
			if got := <-statuses; got != http.StatusInternalServerError {
				t.Errorf("one whose sender left is answered %d", got)
			}
			end <- first
			if got, want := <-statuses, map[bool]int{true: http.StatusNoContent, false: http.StatusInternalServerError}[first == nil]; got != want {
				t.Errorf("the first is answered %d, want %d", got, want)
			}
			synctest.Wait()
			if first != nil {
				end <- nil
			}
			if got := <-statuses; got != http.StatusNoContent {
				t.Errorf("the second is answered %d", got)
			}
			if want := map[bool]int{true: 1, false: 2}[first == nil]; len(calls) != want {
				t.Errorf("handled %d times, want %d", len(calls), want)
			}
		})
	}
}

func TestMemoryForgetsTheOldest(t *testing.T) {
	t.Parallel()
	m, calls := receive.NewMemory(3), 0
	do := func(id string) int {
		before := calls
		if err := m.Do(t.Context(), id, func(context.Context) error { calls++; return nil }); err != nil {
			t.Fatal(err)
		}
		return calls - before
	}
	for i, tt := range []struct {
		id   string
		want int
	}{{"a", 1}, {"b", 1}, {"c", 1}, {"a", 0}, {"d", 1}, {"a", 1}, {"c", 0}, {"d", 0}, {"b", 1}} {
		if got := do(tt.id); got != tt.want {
			t.Errorf("step %d: %s was handled %d times, want %d", i, tt.id, got, tt.want)
		}
	}
}

// transaction is a Once whose commits may fail, as a database's do.
type transaction struct {
	committed map[string]bool
	broken    error
}

func (x *transaction) Do(ctx context.Context, id string, handle func(context.Context) error) error {
	if x.committed[id] {
		return nil
	}
	if err := handle(ctx); err != nil {
		return err
	}
	if x.broken == nil {
		x.committed[id] = true
	}
	return x.broken
}

func TestADeliveryWhoseCommitFailsComesAgain(t *testing.T) {
	t.Parallel()
	x := &transaction{map[string]bool{}, errors.New("the database went away")}
	d := newDesk(t, receive.Config{Once: x})
	d.want("handled, and not committed", d.request("dlv_1", sample), http.StatusInternalServerError, "dlv_1")
	x.broken = nil
	d.want("again", d.request("dlv_1", sample), http.StatusNoContent, "dlv_1", "dlv_1")
	d.want("and again", d.request("dlv_1", sample), http.StatusNoContent, "dlv_1", "dlv_1")
}

func TestNewRefusesNonsense(t *testing.T) {
	t.Parallel()
	good := payloads.NewSecret().Reveal()
	for what, config := range map[string]receive.Config{
		"nothing to verify with": {}, "an empty secret": {Secrets: []string{""}}, "a cut secret": {Secrets: []string{good, good[:12]}}, "a negative bound": {Secrets: []string{good}, MaxBody: -1},
	} {
		if _, err := receive.New(config); err == nil || strings.Contains(err.Error(), good[6:12]) {
			t.Errorf("%s: %v", what, err)
		}
	}
	h, err := receive.New(receive.Config{Secrets: []string{good}})
	if err != nil {
		t.Fatal(err)
	}
	on := func(eventType string) (said any) {
		defer func() { said = recover() }()
		receive.On(h, eventType, func(context.Context, receive.Delivery, any) error { return nil })
		return nil
	}
	for eventType, want := range map[string]bool{"payment_proof": true, "a b": false, "": false, "customer.*": false, "*": true} {
		if said := on(eventType); (said == nil) != want {
			t.Errorf("On %q says %v", eventType, said)
		}
		if on(eventType) == nil {
			t.Errorf("On takes %q twice", eventType)
		}
	}
}

// FuzzHeaders: whatever the headers hold, nothing is handed over that package payloads would refuse.
func FuzzHeaders(f *testing.F) {
	secret := payloads.NewSecret()
	pair, public := pair()
	handled := 0
	h, err := receive.New(receive.Config{
		Secrets: []string{secret.Reveal()}, Log: slog.New(slog.DiscardHandler),
		Keys: func(context.Context, bool) ([]payloads.PublicKey, error) { return []payloads.PublicKey{public}, nil },
	})
	if err != nil {
		f.Fatal(err)
	}
	receive.On(h, "*", func(context.Context, receive.Delivery, json.RawMessage) error { handled++; return nil })
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	good, err := payloads.Sign("dlv_1", time.Now(), []byte("{}"), secret)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("dlv_1", stamp, good, "1")
	byKey, err := payloads.SignEd25519("dlv_1", time.Now(), []byte("{}"), pair)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("dlv_1", stamp, byKey, "-1")
	f.Add("dlv_1.", "0", "v1, v1a, v1a,AAAA v2", "")
	f.Add("", "-1", ",,, v1a,"+strings.Repeat("A", 88), "99999999999")
	f.Fuzz(func(t *testing.T, id, timestamp, signature, attempt string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/hook", strings.NewReader("{}"))
		r.Header = http.Header{payloads.HeaderID: {id}, payloads.HeaderTimestamp: {timestamp}, payloads.HeaderSignature: {signature}, "Ringback-Attempt": {attempt}}
		w := httptest.NewRecorder()
		handled = 0
		h.ServeHTTP(w, r)
		genuine := payloads.Verify(r.Header, []byte("{}"), time.Now(), secret) == nil
		genuine = genuine || payloads.VerifyEd25519(r.Header, []byte("{}"), time.Now(), public) == nil
		if w.Code != http.StatusUnauthorized && w.Code != http.StatusNoContent || (handled > 0 || w.Code == http.StatusNoContent) && !genuine {
			t.Errorf("answered %d, handled %d", w.Code, handled)
		}
	})
}
