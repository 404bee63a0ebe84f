package dispatcher

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
)

// An issuer is a partner's token endpoint that counts what it is asked, and knows which of its tokens are good.
type issuer struct {
	inBody bool          // it wants the credentials there, else in the header
	life   time.Duration // of its tokens; 0: for ever
	fail   func(w http.ResponseWriter, r *http.Request) bool

	mu     sync.Mutex
	asked  int
	issued int
	good   map[string]time.Time // tokens, and until when
}

const clientSecret = "canary/client+secret"

// withTokens gives the house's partner a token endpoint and returns it with the auth that a registration needs.
func (h *house) withTokens(i *issuer) (auth string) {
	h.partner.issuer = i
	i.good = make(map[string]time.Time)
	h.partner.answers(i.guarding(answering(204)))
	return h.oauth2(h.partner.url("token"))
}

func (h *house) oauth2(tokenURL string) string {
	return fmt.Sprintf(`"auth": {"type": "oauth2", "token_url": %q, "client_id": "ringback", "client_secret": %q}`, tokenURL, clientSecret)
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	i.mu.Lock()
	i.asked++
	fail := i.fail
	i.mu.Unlock()
	if fail != nil && fail(w, r) {
		return
	}
	id, secret, _ := r.BasicAuth()
	secret, _ = url.QueryUnescape(secret)
	if i.inBody {
		id, secret = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	}
	w.Header().Set("Content-Type", "application/json")
	if id != "ringback" || secret != clientSecret {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = fmt.Fprintf(w, `{"error": "invalid_client", "error_description": "it is not %s"}`, secret)
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.issued++
	value, until, expires := fmt.Sprintf("canary-token-%d", i.issued), time.Now().Add(1000*time.Hour), ""
	if i.life > 0 {
		until, expires = time.Now().Add(i.life), fmt.Sprintf(`, "expires_in": %d`, i.life/time.Second)
	}
	i.good[value] = until
	_, _ = fmt.Fprintf(w, `{"access_token": %q, "token_type": "Bearer"%s}`, value, expires)
}

// fails sets what comes before the credentials are looked at; true ends it there.
func (i *issuer) fails(f func(w http.ResponseWriter, r *http.Request) bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.fail = f
}

// guarding answers 401 to requests whose token is none of the good ones, and leaves the others to f.
func (i *issuer) guarding(f func(*http.Request, int) reply) func(*http.Request, int) reply {
	return func(r *http.Request, n int) reply {
		value, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		i.mu.Lock()
		until := i.good[value]
		i.mu.Unlock()
		if time.Now().Before(until) {
			return f(r, n)
		}
		return reply{status: http.StatusUnauthorized}
	}
}

// revoke makes every token issued so far worthless.
func (i *issuer) revoke() {
	i.mu.Lock()
	defer i.mu.Unlock()
	clear(i.good)
}

func (i *issuer) counts() (asked, issued int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked, i.issued
}

func (h *house) refused() (n int) {
	for _, r := range h.partner.requests() {
		if r.status == http.StatusUnauthorized {
			n++
		}
	}
	return n
}

// wantOneAttemptEach checks that every accepted event was delivered by its first attempt.
func (h *house) wantOneAttemptEach() {
	h.t.Helper()
	for id := range h.acked {
		e, err := h.client.Event(h.t.Context(), acme, id)
		h.must(err)
		for _, d := range e.Deliveries {
			if d.State != ledger.Delivered || len(d.Attempts) != 1 {
				h.t.Errorf("%s is %s after %d attempts: %s", id, d.State, len(d.Attempts), d.Summary)
			}
		}
	}
}

// A lockedBuffer is a log that tests read.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// TestOneTokenForManyDeliveries: and it is in nobody's books, though the partner echoes it.
func TestOneTokenForManyDeliveries(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	h := newHouse(t, func(c *Config) {
		c.Logger, c.TracerProvider = slog.New(slog.NewTextHandler(&log, nil)), provider
	})
	i := &issuer{inBody: true}
	cb := h.register("payment_proof", h.withTokens(i)+`, "retry": {"initial_interval": "1s"}`)
	const echoed = "e-7"
	h.partner.answers(i.guarding(func(r *http.Request, n int) reply {
		if r.Header.Get("Ringback-Event-Id") == echoed && n == 0 {
			said := r.Header.Get("Authorization") + " " + clientSecret
			return reply{status: 500, body: said + strings.Repeat(".", 1010-len(said)) + said, header: http.Header{"Server": {said}}}
		}
		return reply{status: 204}
	}))
	h.work()
	ids := eventIDs("e-", 300)
	h.sendAll(ids[:150])
	result, err := h.client.Test(t.Context(), acme, cb.ID, "") // an operator tries it out meanwhile
	h.must(err)
	if result.Verdict != verdict.Delivered {
		t.Errorf("test: %+v", result)
	}
	h.sendAll(ids[150:])
	h.awaitAll(20 * time.Second)
	if asked, issued := i.counts(); issued != 1 || asked != 2 { // one to learn that the credentials belong in the body
		t.Errorf("%d tokens in %d requests", issued, asked)
	}
	d := h.delivery(ledger.Ref{Company: acme, Event: echoed, Callback: cb.ID}.DeliveryID())
	if len(d.Attempts) != 2 || !strings.HasPrefix(d.Attempts[0].ResponseBody, "Bearer *** ***") || d.Attempts[0].ResponseHeaders["Server"] != "Bearer *** ***" {
		t.Errorf("what was echoed is kept as %+v", d.Attempts)
	}
	events := 0
	for _, span := range spans.GetSpans() {
		for _, event := range span.Events {
			if event.Name == "oauth2.token" {
				events++
			}
		}
	}
	if lines := strings.Count(log.String(), "oauth2 token fetched"); lines != 1 || events == 0 || events > 64 {
		t.Errorf("%d lines about one fetch, %d waited for it", lines, events)
	}
	deliveries, _, err := h.client.Deliveries(t.Context(), acme, Query{Limit: 500})
	h.must(err)
	listed, err := json.Marshal(deliveries)
	h.must(err)
	for place, text := range map[string]string{"Redis": h.dump(), "the log": log.String(), "a list": string(listed), "the spans": fmt.Sprintf("%+v", spans.GetSpans())} {
		if at := strings.Index(text, "canary"); at >= 0 || text == "" {
			t.Errorf("a secret is in %s: …%s…", place, text[max(0, at-200):min(len(text), at+100)])
		}
	}
}

// dump is everything Redis holds.
func (h *house) dump() string {
	h.t.Helper()
	ctx := h.t.Context()
	var all strings.Builder
	for _, key := range h.keys() {
		var value any
		var err error
		switch kind := h.rdb.Type(ctx, key).Val(); kind {
		case "string":
			value, err = h.rdb.Get(ctx, key).Result()
		case "hash":
			value, err = h.rdb.HGetAll(ctx, key).Result()
		case "set":
			value, err = h.rdb.SMembers(ctx, key).Result()
		case "zset":
			value, err = h.rdb.ZRange(ctx, key, 0, -1).Result()
		case "list":
			value, err = h.rdb.LRange(ctx, key, 0, -1).Result()
		case "stream":
			value, err = h.rdb.XRange(ctx, key, "-", "+").Result()
		case "none": // gone meanwhile
		default:
			h.t.Fatalf("%s is a %s, which this test does not know", key, kind)
		}
		h.must(err)
		fmt.Fprintf(&all, "%s = %v\n", key, value)
	}
	return all.String()
}

// TestTokensExpireUnderLoad: tokens live two seconds, and a partner that refuses the expired ones sees none of them.
func TestTokensExpireUnderLoad(t *testing.T) {
	inBubble(t, func(h *house) {
		i := &issuer{life: 2 * time.Second}
		h.register("payment_proof", h.withTokens(i))
		defer h.work()()
		began := time.Now()
		for n := 0; time.Since(began) < 10*time.Second; n++ {
			h.send(proof("e-" + strconv.Itoa(n)))
			time.Sleep(100 * time.Millisecond)
		}
		h.awaitAll(30 * time.Second)
		took := time.Since(began)
		h.wantOneAttemptEach()
		// Each is used for four fifths of its life, or a little longer: until somebody asks.
		if _, issued := i.counts(); issued < 3 || issued > int(took/(i.life*4/5))+1 {
			t.Errorf("%d tokens in %s", issued, took)
		}
		t.Logf("%d deliveries, %d refused on the way", len(h.acked), h.refused())
		h.check()
	})
}

// TestARevokedTokenIsRenewedOnce, while many requests with it are under way; each of them is repeated with the new one, signed anew.
func TestARevokedTokenIsRenewedOnce(t *testing.T) {
	inBubble(t, func(h *house) {
		i := &issuer{}
		h.register("payment_proof", h.withTokens(i))
		h.partner.answers(func(r *http.Request, n int) reply {
			a := i.guarding(answering(204))(r, n)
			a.after = func(context.Context) { time.Sleep(3 * time.Second) }
			return a
		})
		defer h.work()()
		h.send(proof("first"))
		h.awaitAll(10 * time.Second)
		time.Sleep(2 * time.Second)
		i.revoke()
		for _, id := range eventIDs("e-", 20) {
			h.send(proof(id))
		}
		time.Sleep(20 * time.Second) // looking on the whole time is what takes long
		h.awaitAll(time.Minute)
		h.wantOneAttemptEach()
		if asked, issued := i.counts(); asked != 2 || issued != 2 {
			h.t.Errorf("%d tokens in %d requests", issued, asked)
		}
		if n := h.refused(); n < 2 {
			h.t.Errorf("%d were under way with the revoked token", n)
		}
		byID := make(map[string][]request)
		for _, r := range h.partner.requests() {
			byID[r.id] = append(byID[r.id], r)
		}
		for id, got := range byID {
			if len(got) == 2 && (got[0].status != 401 || got[0].header.Get("Webhook-Timestamp") == got[1].header.Get("Webhook-Timestamp")) {
				h.t.Errorf("%s: %+v", id, got)
			}
		}
		h.check()
	})
}

// TestNoTokenForAWrongSecret: the partner is not asked and not blamed, the attempts say what is wrong, and a PATCH mends it.
func TestNoTokenForAWrongSecret(t *testing.T) {
	inBubble(t, func(h *house) {
		i := &issuer{}
		auth := h.withTokens(i)
		cb := h.register("payment_proof", strings.Replace(auth, clientSecret, "canary-wrong", 1))
		defer h.work()()
		id := h.send(proof("p-1")).Deliveries[0].DeliveryID
		d := h.await(id, ledger.Retrying, 10*time.Second)
		const says = "the token endpoint answered 401 (invalid_client); check auth.token_url, client_id and client_secret"
		if a := d.Attempts[0]; a.Reason != verdict.ReasonOAuthToken || a.Verdict != verdict.Retry || a.Detail != says || a.StatusCode != 0 {
			h.t.Errorf("%+v", a)
		}
		health, err := h.client.Health(h.t.Context(), acme, cb.ID)
		h.must(err)
		if f := health[0].LastTokenFailure; f == nil || f.Reason != verdict.ReasonOAuthToken || f.Detail != says || f.DeliveryID != id || f.At.IsZero() || health[0].LastFailure != nil {
			h.t.Errorf("%+v: %+v", health[0], f)
		}
		result, err := h.client.Test(h.t.Context(), acme, cb.ID, "")
		h.must(err)
		if result.Reason != verdict.ReasonOAuthToken || result.Detail != says {
			h.t.Errorf("test: %+v", result)
		}
		if n := len(h.partner.requests()); n != 0 {
			h.t.Errorf("the partner got %d requests", n)
		}
		_, err = h.registry.Patch(h.t.Context(), acme, cb.ID, fmt.Appendf(nil, `{"auth": {"client_secret": %q}}`, clientSecret))
		h.must(err)
		h.await(id, ledger.Delivered, time.Minute)
		if n := len(h.partner.requests()); n != 1 {
			h.t.Errorf("the partner got %d requests", n)
		}
		h.check()
	})
}

// TestATokenEndpointThatIsDown: hanging, then failing, then well again. Nothing is lost over it.
func TestATokenEndpointThatIsDown(t *testing.T) {
	inBubble(t, func(h *house) {
		i := &issuer{}
		cb := h.register("payment_proof", h.withTokens(i)+`, "timeout": "4s"`)
		began := time.Now()
		i.fails(func(w http.ResponseWriter, r *http.Request) bool {
			switch down := time.Since(began); {
			case down < 20*time.Second:
				<-r.Context().Done()
			case down < 40*time.Second:
				w.WriteHeader(http.StatusServiceUnavailable)
			default:
				return false
			}
			return true
		})
		defer h.work()()
		for _, id := range eventIDs("e-", 10) {
			h.send(proof(id))
		}
		time.Sleep(80 * time.Second)
		h.awaitAll(5 * time.Minute)
		var details []string
		for id := range h.acked {
			d := h.delivery(ledger.Ref{Company: acme, Event: id, Callback: cb.ID}.DeliveryID())
			if d.State != ledger.Delivered || len(d.Attempts) < 3 {
				h.t.Errorf("%s is %s after %d attempts", id, d.State, len(d.Attempts))
			}
			for _, a := range d.Attempts[:len(d.Attempts)-1] {
				if a.Reason != verdict.ReasonOAuthToken || a.Duration > 4*time.Second {
					h.t.Errorf("%+v", a)
				}
				details = append(details, a.Detail)
			}
		}
		slices.Sort(details)
		if got := strings.Join(slices.Compact(details), "\n"); !strings.Contains(got, "did not answer in time;") || !strings.Contains(got, "answered 503;") {
			h.t.Errorf("they say:\n%s", got)
		}
		if _, issued := i.counts(); issued != 1 {
			h.t.Errorf("%d tokens", issued)
		}
		h.check()
	})
}

// TestOneTimeoutForTokenAndRequests: waiting for tokens and asking twice is no excuse for taking longer.
func TestOneTimeoutForTokenAndRequests(t *testing.T) {
	inBubble(t, func(h *house) {
		i := &issuer{}
		cb := h.register("payment_proof", h.withTokens(i)+`, "timeout": "10s", "retry": {"initial_interval": "1h"}`)
		defer h.work()()
		h.send(proof("good"))
		h.awaitAll(10 * time.Second)
		time.Sleep(5 * time.Second)
		i.revoke()
		i.fails(func(http.ResponseWriter, *http.Request) bool { time.Sleep(2 * time.Second); return false })
		h.partner.answers(func(r *http.Request, n int) reply {
			a := i.guarding(answering(500))(r, n)
			a.after = func(ctx context.Context) { <-ctx.Done() } // before it says so
			if a.status == 401 {
				a.after = func(context.Context) { time.Sleep(5 * time.Second) }
			}
			return a
		})
		h.send(proof("slow"))
		d := h.await(ledger.Ref{Company: acme, Event: "slow", Callback: cb.ID}.DeliveryID(), ledger.Retrying, time.Minute)
		if a := d.Attempts[0]; a.Reason != Reason(egress.Timeout) || a.Duration != 10*time.Second || len(h.partner.requests()) != 3 {
			h.t.Errorf("%+v after %d requests", a, len(h.partner.requests()))
		}
		_, err := h.client.Cancel(h.t.Context(), acme, d.DeliveryID)
		h.must(err)

		// The next is refused in the fifth second, and no other token comes.
		time.Sleep(time.Minute)
		i.revoke()
		i.fails(func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(500); return true })
		h.send(proof("refused"))
		d = h.await(ledger.Ref{Company: acme, Event: "refused", Callback: cb.ID}.DeliveryID(), ledger.Retrying, time.Minute)
		if a := d.Attempts[0]; a.Reason != verdict.ReasonOAuthToken || !strings.HasPrefix(a.Detail, "the partner refused the token it had (401), and the token endpoint answered 500;") ||
			a.Duration != 5*time.Second || a.StatusCode != 0 {
			h.t.Errorf("%+v", a)
		}
		_, err = h.client.Cancel(h.t.Context(), acme, d.DeliveryID)
		h.must(err)
		h.check()
	})
}

// TestAPartnerThatRefusesEveryToken is told apart from one that revoked a token: it costs one token an attempt, and one a second at most.
func TestAPartnerThatRefusesEveryToken(t *testing.T) {
	inBubble(t, func(h *house) {
		i := &issuer{}
		cb := h.register("payment_proof", h.withTokens(i)+`, "retry": {"initial_interval": "2s", "multiplier": 1, "max_attempts": 9}`)
		h.partner.answers(answering(401))
		defer h.work()()
		d := h.await(h.send(proof("p-1")).Deliveries[0].DeliveryID, ledger.Dead, time.Minute)
		for _, a := range d.Attempts {
			if a.Reason != "status_401" || a.StatusCode != 401 {
				h.t.Errorf("%+v", a)
			}
		}
		if _, issued := i.counts(); issued != len(d.Attempts) {
			h.t.Errorf("%d tokens for %d attempts", issued, len(d.Attempts))
		}

		// To whom any answer is success, a 401 is one; but the token is given up.
		_, before := i.counts()
		_, err := h.registry.Patch(h.t.Context(), acme, cb.ID, []byte(`{"success": "any_response"}`))
		h.must(err)
		sent := len(h.partner.requests())
		for n := range 2 {
			time.Sleep(2 * time.Second)
			h.send(proof("any-" + strconv.Itoa(n)))
			h.awaitAll(10 * time.Second)
		}
		if _, issued := i.counts(); issued != before+1 || len(h.partner.requests()) != sent+2 {
			h.t.Errorf("%d more tokens, %d requests", issued-before, len(h.partner.requests())-sent)
		}
	})
}

// TestTokenEndpointsThatCannotBeUsed: whatever they do, it is retried, since a PATCH mends it.
func TestTokenEndpointsThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, h.partner.url("token"), http.StatusTemporaryRedirect)
		case "/html":
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte("<h1>Log in, canary"))
		case "/huge":
			_, _ = w.Write([]byte(`{"access_token": "canary", "x": "` + strings.Repeat("x", 100_000) + `"}`))
		case "/malformed":
			_, _ = w.Write([]byte(`{"access_token": canary}`))
		}
	}))
	t.Cleanup(endpoint.Close)
	i := &issuer{}
	h.withTokens(i)
	h.work()
	deliveries := make(map[string]string)
	for target, says := range map[string]string{
		"http://10.1.2.3/token":      "the token endpoint: the URL may not have an address",
		endpoint.URL + "/redirect":   "the token endpoint answered 307: redirects are not followed",
		endpoint.URL + "/html":       "the token endpoint answered 200 with text/html instead of an access_token in JSON",
		endpoint.URL + "/huge":       "the token endpoint: the answer is longer than 64 KiB",
		endpoint.URL + "/malformed":  "the token endpoint answered 200 without an access_token",
		"http://127.0.0.1:1/token":   "the token endpoint: the connection was refused",
		"http://no-such.invalid/tok": "the token endpoint: the host name",
	} {
		cb := h.register("payment_proof", h.oauth2(target)+`, "retry": {"initial_interval": "1h"}`)
		deliveries[ledger.Ref{Company: acme, Event: "p-1", Callback: cb.ID}.DeliveryID()] = says
	}
	h.send(proof("p-1"))
	for id, says := range deliveries {
		d := h.await(id, ledger.Retrying, 15*time.Second)
		if a := d.Attempts[0]; a.Reason != verdict.ReasonOAuthToken || !strings.HasPrefix(a.Detail, says) || !strings.HasSuffix(a.Detail, "; check auth.token_url, client_id and client_secret") ||
			strings.Contains(a.Detail, "canary") {
			t.Errorf("%+v, want %s", a, says)
		}
	}
	if asked, _ := i.counts(); asked != 0 || len(h.partner.requests()) != 0 {
		t.Errorf("a redirect was followed %d times, and the partner asked %d times", asked, len(h.partner.requests()))
	}
	h.must(h.registry.Delete(t.Context(), acme, 1))
}
