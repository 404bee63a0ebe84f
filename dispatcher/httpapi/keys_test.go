package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry"
)

// commands counts what is asked of Redis.
type commands struct{ n atomic.Int64 }

func (c *commands) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *commands) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.n.Add(1)
		return next(ctx, cmd)
	}
}

func (c *commands) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.n.Add(int64(len(cmds)))
		return next(ctx, cmds)
	}
}

// wantLater checks a 429: when to come back, and why.
func (a answer) wantLater(words ...string) {
	a.t.Helper()
	p := a.wantProblem(http.StatusTooManyRequests)
	if seconds, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || seconds < 1 {
		a.t.Errorf("Retry-After = %q", a.header.Get("Retry-After"))
	}
	for _, word := range words {
		if !strings.Contains(p.Detail, word) {
			a.t.Errorf("%q does not say %q", p.Detail, word)
		}
	}
}

// A viewer sees where callbacks lead, and not the tokens in their queries; who looks after them sees them whole.
func TestViewersSeeNoQueries(t *testing.T) {
	h := newHouse(t)
	const canary = "canary-51d9"
	callback := h.call("partner", "POST", "/companies/acme/config/callbacks", `{"callback_type":"*","auth":{"type":"oauth2","token_url":"http://127.0.0.1:9/token?t=`+canary+
		`","client_id":"c","client_secret":"s"},"destination":{"url":"http://127.0.0.1:9/hook?key=`+canary+`"}}`).want(201).json()["url"].(string)
	delivery := h.send("acme", "e")
	for _, path := range []string{callback, "/companies/acme/config/callbacks", "/companies/acme/events/e", "/companies/acme/deliveries", delivery} {
		for _, viewer := range []string{"viewer", "acme viewer"} {
			a := h.call(viewer, "GET", path, "").want(200)
			if strings.Contains(string(a.body), canary) {
				t.Errorf("%s: a viewer is shown %s", path, a.body)
			}
		}
	}
	seen := h.call("viewer", "GET", callback, "").want(200).json()
	if url, token := seen["destination"].(map[string]any)["url"], seen["auth"].(map[string]any)["token_url"]; url != "http://127.0.0.1:9/hook" || token != "http://127.0.0.1:9/token" {
		t.Errorf("a viewer is shown %v and %v", url, token)
	}
	for _, actor := range []string{"operator", "partner"} {
		if a := h.call(actor, "GET", callback, "").want(200); strings.Count(string(a.body), canary) != 2 {
			t.Errorf("the %s is shown %s", actor, a.body)
		}
	}
}

// A partner may change something 20 times a second, by whichever process and with whichever of its secrets; reading is free.
func TestPartnersMayChangeTwentyTimesASecond(t *testing.T) {
	h := newHouse(t)
	callback := h.register("acme")
	secret, key, err := h.api.Keys.Create(t.Context(), registry.Partner, "acme")
	h.must(err)
	h.keys["new partner"] = secret
	h.call("new partner", "POST", callback+"/pause", "").want(200)
	began := time.Now()
	h.must(registry.NewKeys(h.rdb).Charge(t.Context(), key, 60*20)) // as if another process had let them in: a slow machine makes no 20 changes a second
	refused := h.call("new partner", "POST", callback+"/pause", "")
	refused.wantLater("20 changes a second")
	left := 60 - time.Since(began).Seconds()
	if seconds, _ := strconv.ParseFloat(refused.header.Get("Retry-After"), 64); seconds > 60 || seconds < left-2 {
		t.Errorf("changes of a minute are paid for after %v s", seconds)
	}
	for range 100 {
		h.call("new partner", "GET", callback, "").want(200)
	}
	for range 100 {
		h.call("producer", "POST", "/companies/acme/events", `{"event_type":"wallet_item_install","payload":`+payload+`}`).want(202)
	}
}

// Whoever presents many wrong keys is slowed down, and not whoever shares the address: known keys pass, used here before or not. And Redis does
// not feel it.
func TestWrongKeysAreSlowedDown(t *testing.T) {
	h := newHouse(t)
	asked := &commands{}
	h.rdb.AddHook(asked)
	slowed := 0
	for i := range 1000 {
		if a := h.call(fmt.Sprintf("wrong-%d", i), "GET", "/callback-types", ""); a.status != http.StatusUnauthorized {
			a.wantLater("wrong API keys")
			slowed++
		}
	}
	if slowed < 800 {
		t.Errorf("of 1000 wrong keys %d were slowed down", slowed)
	}
	if n := asked.n.Load(); n > 250 {
		t.Errorf("1000 wrong keys asked %d things of Redis", n)
	}
	for actor := range actors { // none was used before
		h.call(actor, "GET", "/callback-types", "").want(200)
	}
	h.api.Keys = registry.NewKeys(h.rdb) // as another process would have it
	h.call("operator", "GET", "/callback-types", "").want(200)

	r := httptest.NewRequestWithContext(t.Context(), "GET", "/callback-types", nil)
	r.RemoteAddr = "198.51.100.1:1"
	r.Header.Set("Authorization", "Bearer wrong")
	h.do(r).wantProblem(http.StatusUnauthorized) // another address
}

// A test holds a connection to a stranger for up to a minute: a key may have two under way, in all processes together.
func TestAKeyMakesTwoTestsAtATime(t *testing.T) {
	h := newHouse(t)
	arrived, answer := make(chan struct{}, 10), make(chan struct{})
	partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-answer
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(partner.Close)
	var callbacks []string
	for range 3 {
		callbacks = append(callbacks, h.call("operator", "POST", "/companies/acme/config/callbacks",
			`{"callback_type":"payment_proof","destination":{"url":"`+partner.URL+`"}}`).want(201).json()["url"].(string))
	}
	var wg sync.WaitGroup
	for _, callback := range callbacks[:2] {
		wg.Go(func() { h.call("partner", "POST", callback+"/test", "").want(200) })
	}
	<-arrived
	<-arrived
	here := h.api.Keys
	h.api.Keys = registry.NewKeys(h.rdb)
	third := make(chan int, 1)
	go func() {
		a := h.call("partner", "POST", callbacks[2]+"/test", "")
		if a.status != http.StatusOK {
			a.wantLater("2 tests")
		}
		third <- a.status
	}()
	select {
	case status := <-third:
		if status != http.StatusTooManyRequests {
			t.Errorf("a third test: status %d", status)
		}
	case <-arrived:
		close(answer)
		wg.Wait()
		t.Fatal("a third test went out")
	}
	h.api.Keys = here
	wg.Go(func() { h.call("operator", "POST", callbacks[2]+"/test", "") }) // somebody else's key
	<-arrived
	close(answer)
	wg.Wait()
	h.call("partner", "POST", callbacks[2]+"/test", "").want(200)
}
