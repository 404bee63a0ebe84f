package dispatcher

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// A catch is what the partner received: Method, URL, headers and body of each attempt.
type catch struct {
	mu  sync.Mutex
	got map[string]Request // by webhook-id and attempt; the last counts
}

// of has the partner answer, and note what it received.
func (c *catch) of(answer func(r *http.Request, n int) reply) func(r *http.Request, n int) reply {
	c.got = make(map[string]Request)
	return func(r *http.Request, n int) reply {
		body, _ := io.ReadAll(r.Body)
		headers := map[string]string{}
		for name, values := range r.Header {
			if name != "Content-Length" && name != "Accept-Encoding" {
				headers[name] = strings.Join(values, ", ")
			}
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.got[r.Header.Get("Webhook-Id")+" "+r.Header.Get("Ringback-Attempt")] = Request{Method: r.Method, URL: "http://" + r.Host + r.RequestURI, Headers: headers, Body: body}
		return answer(r, n)
	}
}

func (c *catch) attempt(id string, number int) Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.got[fmt.Sprint(id, " ", number)]
}

// shown is a delivery with its requests, as a reader sees it.
func (h *house) shown(id string, show Showing) *Delivery {
	h.t.Helper()
	d := h.delivery(id)
	h.must(h.client.ShowRequests(h.t.Context(), acme, d, show))
	return d
}

var everything = Showing{Payload: true, Query: true}

// TestWhatWasSentIsShownAsItWentOut: each attempt's request is the one that the partner received, byte for byte, but for what is secret in it.
func TestWhatWasSentIsShownAsItWentOut(t *testing.T) {
	const stampedType = "entry_code.validation_failed"
	inBubble(t, func(h *house) {
		h.withTokens(&issuer{})
		h.work()
		var c catch
		h.partner.answers(c.of(answering(503, 204)))
		form := `"content_type": "application/x-www-form-urlencoded"`
		secret := func(s string) string { return "canary" + s }
		for name, tt := range map[string]struct {
			typ, destination, more string
			secrets                map[string]string // headers whose values are secret
			query                  string            // as it is shown
		}{
			"plain":   {typ: "payment_proof"},
			"form":    {typ: "payment_proof", destination: form},
			"put":     {typ: "payment_proof", destination: `"method": "PUT"`},
			"stamped": {typ: stampedType},
			"both":    {typ: stampedType, destination: form},
			"traced":  {typ: "payment_proof", more: `, "trace": true`},
			"own": {
				typ: "payment_proof", more: `, "headers": {"X-Key": "` + secret("own") + `"}, "auth": {"type": "bearer", "token": "` + secret("bearer") + `"}`,
				secrets: map[string]string{"X-Key": "***", "Authorization": "***"},
			},
			"query":  {typ: "payment_proof", query: "?key=***&***&***&page=***"},
			"oauth2": {typ: "payment_proof", more: ", " + h.oauth2(h.partner.url("token")), secrets: map[string]string{"Authorization": "***"}},
		} {
			url := h.partner.url("hook/" + name)
			if tt.query != "" {
				url += "?key=" + secret("1") + "&" + secret("2") + "&" + secret("3") + "==&page=2"
			}
			if tt.destination != "" {
				tt.destination = ", " + tt.destination
			}
			body := fmt.Sprintf(`{"callback_type": %q, "destination": {"url": %q%s}, "retry": {"initial_interval": "1s"}%s}`, tt.typ, url, tt.destination, tt.more)
			cb, err := h.registry.Create(h.t.Context(), acme, []byte(body))
			h.must(err)
			h.partner.knows(cb)
			e := proof("e-" + name)
			if tt.typ == stampedType {
				e = payloads.Event{Company: acme, ID: "e-" + name, Type: tt.typ, Payload: []byte(`{"entryCode": "4711", "timeOfIssue": "2020-01-01T00:00:00.000Z", "reason": "é<&"}`)}
			}
			h.send(e)
			h.awaitAll(time.Minute)
			id := ledger.Ref{Company: acme, Event: e.ID, Callback: cb.ID}.DeliveryID()
			h.must(h.registry.Delete(h.t.Context(), acme, cb.ID))
			if n := len(h.delivery(id).Attempts); n != 2 {
				h.t.Errorf("%s: %d attempts", name, n)
			}
			for _, a := range h.shown(id, everything).Attempts {
				want := c.attempt(id, a.Number)
				for header, masked := range tt.secrets {
					if !strings.Contains(want.Headers[header], "canary") && header != "Authorization" {
						h.t.Errorf("%s: %s did not come: %v", name, header, want.Headers)
					}
					want.Headers[header] = masked
				}
				if want.URL = url; tt.query != "" {
					want.URL = h.partner.url("hook/"+name) + tt.query
				}
				if a.Request == nil {
					h.t.Errorf("%s: attempt %d shows no request: %s", name, a.Number, a.RequestMissing)
					continue
				}
				want.SentAt = a.Request.SentAt
				if name == "both" && a.Number == 1 { // the last attempt's is kept
					want.Body, want.BodyMissing = nil, a.Request.BodyMissing
				}
				if diff := cmp.Diff(want, *a.Request); diff != "" {
					h.t.Errorf("%s: attempt %d (-received +shown):\n%s", name, a.Number, diff)
				}
			}
		}
		for _, key := range h.keys() {
			if _, fields := h.content(key); strings.Contains(fmt.Sprint(fields), "/hook/") || strings.Contains(fmt.Sprint(fields), "canary") {
				h.t.Errorf("%s tells of a URL, or a secret", key)
			}
		}
	})
}

// TestWhatIsKeptIsAsConfigured: of which attempts, and how much of an answer. What the next attempt reads does not grow by it.
func TestWhatIsKeptIsAsConfigured(t *testing.T) {
	answer := "canary/echo " + strings.Repeat("0123456789", 3000)
	type kept struct{ request, answer int } // how many of them; how many bytes
	for name, tt := range map[string]struct {
		requests, answers Keep
		bytes             int
		failed, delivered kept
	}{
		"by default":         {failed: kept{1, 1024}, delivered: kept{1, 0}},
		"none":               {requests: KeepNone, bytes: -1},
		"failed":             {requests: KeepFailed, answers: KeepFailed, bytes: 100, failed: kept{1, 100}},
		"all, 16 KiB":        {requests: KeepNone, answers: KeepAll, bytes: 16 << 10, failed: kept{0, 16 << 10}, delivered: kept{0, 16 << 10}},
		"all, as by default": {answers: KeepAll, failed: kept{1, 1024}, delivered: kept{1, 1024}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(h *house) {
				h.partner.answers(func(_ *http.Request, n int) reply {
					if n == 0 {
						return reply{status: 500, body: answer}
					}
					return reply{status: 200, header: http.Header{"Content-Type": {"application/json"}}, body: answer}
				})
				h.register("payment_proof", `"retry": {"initial_interval": "1s"}, "headers": {"X-Key": "canary/echo"}`)
				h.work()
				id := h.send(proof("e")).Deliveries[0].DeliveryID
				h.await(id, Delivered, time.Minute)
				for i, want := range []kept{tt.failed, tt.delivered} {
					a := h.shown(id, everything).Attempts[i]
					got := kept{answer: len(a.ResponseBody)}
					for name, value := range a.ResponseHeaders {
						got.answer += len(name) + len(value)
					}
					if a.Request != nil {
						got.request = 1
					}
					if got != want {
						t.Errorf("attempt %d: %+v, want %+v: %v, %.60q", a.Number, got, want, a.ResponseHeaders, a.ResponseBody)
					}
					if strings.Contains(a.ResponseBody, "canary") || want.answer > 500 && !strings.Contains(a.ResponseBody, "***") {
						t.Errorf("attempt %d was answered %.100q", a.Number, a.ResponseBody)
					}
				}
				if n := h.rdb.HStrLen(h.t.Context(), ledger.EventKey(acme, "e"), "d1").Val(); n > 1500 {
					t.Errorf("the record has %d bytes", n)
				}
				h.checkModel(someKeys)
			}, func(c *Config) { c.KeepRequests, c.KeepAnswers, c.KeepAnswerBytes = tt.requests, tt.answers, tt.bytes })
		})
	}
	for name, cfg := range map[string]Config{
		"requests": {KeepRequests: "some"}, "answers": {KeepAnswers: KeepNone}, "bytes": {KeepAnswerBytes: MaxKeepAnswerBytes + 1},
	} {
		if err := cfg.keeping().check(); err == nil {
			t.Errorf("%s: %+v is taken", name, cfg)
		}
	}
}

// TestWhatWasNotSentIsNotShown: nobody was reached, the request could not be written, the attempt was lost, or its request is not kept any more. And what a
// reader may not see.
func TestWhatWasNotSentIsNotShown(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	refused := h.register("payment_proof", "")
	_, err := h.registry.Patch(t.Context(), acme, refused.ID, []byte(`{"destination": {"url": "http://127.0.0.1:1/?token=canary123"}}`))
	h.must(err)
	h.work()
	id := h.send(proof("refused")).Deliveries[0].DeliveryID
	h.await(id, Retrying, 10*time.Second)
	d := h.shown(id, everything)
	if a := d.Attempts[0]; a.Reason != "refused" || a.Request != nil || a.RequestMissing != "nothing was sent" || a.Timing == nil || a.Timing.Total <= 0 {
		t.Errorf("%s, %+v, missing %q, timing %+v", a.Reason, a.Request, a.RequestMissing, a.Timing)
	}
	h.must(h.registry.Delete(t.Context(), acme, refused.ID))

	h.register("payment_proof", "")
	id = h.send(proof("e")).Deliveries[0].DeliveryID
	h.await(id, Delivered, 10*time.Second)
	d = h.shown(id, everything)
	if a := d.Attempts[0]; a.Request == nil || a.Request.Body == nil || a.Timing == nil || a.Timing.Total <= 0 || a.Timing.FirstByte <= 0 {
		t.Fatalf("%+v, timing %+v", a.Request, a.Timing)
	}
	if a := h.shown(id, Showing{}).Attempts[0]; a.Request.Body != nil || a.Request.BodyMissing != "this key may not see payloads" {
		t.Errorf("who may not see payloads sees %+v", a.Request)
	}
	d.CallbackID = 99 // whose URLs another key, or none, has sealed
	h.must(h.client.ShowRequests(t.Context(), acme, d, everything))
	if a := d.Attempts[0]; a.Request.URL != "***" || a.Request.Body == nil {
		t.Errorf("without its key: %+v", a.Request)
	}
	h.must(h.rdb.HDel(t.Context(), ledger.EventKey(acme, "e"), "b").Err())
	if a := h.shown(id, everything).Attempts[0]; a.Request == nil || a.Request.Body != nil || a.Request.BodyMissing != "the event's body is no longer kept (--body-retention)" {
		t.Errorf("without its body: %+v", a.Request)
	}

	for want, a := range map[string]Attempt{
		"it is no longer kept: those of the last 3 attempts are":                                                      {Number: 2, Reason: "timeout"},
		"it is not known whether anything was sent: the process that made the attempt did not record what came of it": {Number: 5, Reason: "unknown"},
		"nothing was sent, or requests like this one are not kept (--keep-requests)":                                  {Number: 4, Reason: "timeout"},
		"requests like this one are not kept (--keep-requests all keeps them)":                                        {Number: 4, StatusCode: 204},
	} {
		d := &Delivery{Attempts: []Attempt{a, {Number: 5}}}
		h.must(h.client.ShowRequests(t.Context(), acme, d, everything))
		if got := d.Attempts[0].RequestMissing; got != want {
			t.Errorf("attempt %d: %s", a.Number, got)
		}
	}
}

// TestPartlySent: what was on its way when writing failed is shown, and says so. What failed before that was not sent.
func TestPartlySent(t *testing.T) {
	a := &attempt{callback: &registry.Callback{Destination: registry.Destination{URL: "https://partner.example/", ContentType: "application/json"}}, number: 1}
	keeps := (&Config{}).keeping()
	keeps.seal = func(_ string, _ int64, url string) ([]byte, error) { return []byte(url), nil }
	s := sent{at: time.Now(), header: http.Header{}, partly: true, keeps: keeps, timing: egress.Timing{Total: time.Second}}
	s.Verdict = verdict.Retry
	k, _ := a.kept(s, ledger.Entry{})
	if k == nil || !requestOf(k, known{}, "").Incomplete {
		t.Errorf("%+v", k)
	}
	if len(requestOf(k, known{}, "").Headers) != 0 {
		t.Errorf("no header was sent, and it shows %v", requestOf(k, known{}, "").Headers)
	}
	s.header = nil
	if k, _ = a.kept(s, ledger.Entry{}); k == nil || len(k.URL) != 0 || !slices.Equal(k.Timing, []int64{1_000_000}) {
		t.Errorf("%+v", k)
	}
	if k, _ = a.kept(sent{keeps: s.keeps}, ledger.Entry{}); k != nil {
		t.Errorf("of nothing there is %+v", k)
	}
}

// TestQueriesAreBlotted before they are stored.
func TestQueriesAreBlotted(t *testing.T) {
	for query, want := range map[string]string{
		"": "", "?": "?", "?a=b": "?a=***", "?a=b&c": "?a=***&***", "?token": "?***", "?dG9rZW4=": "?***", "?dG9rZW4==": "?***", "?a=b=c": "?a=***", "?=x": "?=***", "?a=b&&c=": "?a=***&&***",
		"?" + strings.Repeat("k", 41) + "=1": "?***", "?a=b?c=d": "?a=***",
	} {
		if got := blotQuery("https://x.example/a=b&c=d" + query); got != "https://x.example/a=b&c=d"+want {
			t.Errorf("%s: %s", query, got)
		}
	}
	if got := withoutQuery("https://x.example/p?a=***"); got != "https://x.example/p?***" {
		t.Error(got)
	}
}

// TestADecisionAndATestShowTheirRequests: the decision's without the question, the test's to its caller alone.
func TestADecisionAndATestShowTheirRequests(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var c catch
	h.partner.answers(c.of(answering(204)))
	cb := h.register("entry_code.verify", `"headers": {"X-Key": "canary-own"}`)
	answered, err := h.client.Ask(t.Context(), Question{Company: acme, Type: "entry_code.verify", Payload: []byte(`{"entryCode": "canary-4711"}`)})
	h.must(err)
	a := h.shown(answered.DecisionID, everything).Attempts[0]
	want := c.attempt(answered.DecisionID, 1)
	want.Headers["X-Key"] = "***"
	if a.Request == nil || a.Request.Body != nil || !strings.HasPrefix(a.Request.BodyMissing, "it is not kept: it is no event's payload") || cmp.Diff(want.Headers, a.Request.Headers) != "" {
		t.Errorf("the decision shows %+v", a.Request)
	}
	before := h.keys()
	result, err := h.client.Test(t.Context(), acme, cb.ID, "")
	h.must(err)
	want = c.attempt(result.DeliveryID, 1)
	if !slices.Equal(before, h.keys()) || string(want.Body) == "" || result.Request == nil || string(result.Request.Body) != string(want.Body) || result.Timing == nil {
		t.Errorf("the test shows %+v", result.Request)
	}
	for _, key := range h.keys() {
		_, fields := h.content(key)
		if strings.Contains(fmt.Sprint(fields), "canary-") {
			t.Errorf("%s has %v", key, fields)
		}
	}
	h.checkModel(1000)
}
