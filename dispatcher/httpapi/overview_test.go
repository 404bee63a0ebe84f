package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher"
)

// partner answers as the path says: /204, /410, /500.
func partner(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusNoContent
		_, _ = fmt.Sscanf(r.URL.Path, "/%d", &status)
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// hooked registers a callback for payment proofs at a URL, and returns its path.
func (h *house) hooked(company, url string) string {
	h.t.Helper()
	body := fmt.Sprintf(`{"callback_type":"payment_proof","destination":{"url":%q}}`, url)
	return h.call("operator", "POST", "/companies/"+company+"/config/callbacks", body).want(http.StatusCreated).json()["url"].(string)
}

// proves sends payment proofs.
func (h *house) proves(company string, ids ...string) {
	h.t.Helper()
	for _, id := range ids {
		body := fmt.Sprintf(`{"event_type":"payment_proof","event_id":%q,"payload":{"requestId":"r","status":"OK"}}`, id)
		h.call("operator", "POST", "/companies/"+company+"/events", body).want(http.StatusAccepted)
	}
}

// awaits waits for a condition.
func (h *house) awaits(what string, is func() bool) {
	h.t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("never: %s", what)
		}
	}
}

// inState is how many of a company's deliveries are in a state.
func (h *house) inState(company, state string) int {
	h.t.Helper()
	return len(h.call("operator", "GET", "/companies/"+company+"/deliveries?state="+state, "").want(http.StatusOK).json()["deliveries"].([]any))
}

// A company whose partner fails, one whose partner is gone, one that is paused and one that is well.
func (h *house) badNight() {
	h.t.Helper()
	url := partner(h.t.(*testing.T))
	h.hooked("failing", url+"/500?token=s3cr3t-query")
	h.hooked("gone", url+"/410")
	paused := h.hooked("paused", url+"/204")
	h.hooked("well", url+"/204")
	h.call("operator", "POST", paused+"/pause", "").want(http.StatusOK)
	h.proves("failing", "f1", "f2", "f3")
	h.proves("gone", "g1")
	h.proves("paused", "p1", "p2")
	h.proves("well", "w1")
	h.work()
	h.awaits("all was attempted", func() bool {
		return h.inState("failing", "retrying") == 3 && h.inState("gone", "dead") == 1 && h.inState("well", "delivered") == 1
	})
}

// TestTheSixQuestions: which are worst, how old is the oldest, how many are dead and why, when is the next wave, is it us or them, and does Redis do well.
func TestTheSixQuestions(t *testing.T) {
	h := newHouse(t, func(cfg *Config) {
		cfg.Examine = func(context.Context) dispatcher.Posture {
			return dispatcher.Posture{Faults: 0, Warnings: 1, Findings: []dispatcher.Finding{{Check: "memory", Level: "warn", Found: "no maxmemory", Cure: "CONFIG SET maxmemory 1gb"}}}
		}
	})
	h.badNight()
	a := h.call("viewer", "GET", "/overview", "").want(http.StatusOK)
	var o dispatcher.Overview
	h.must(json.Unmarshal(a.body, &o))

	if len(o.Worst.Callbacks) != 3 || o.Worst.Of != 3 {
		t.Fatalf("worst: %+v", o.Worst)
	}
	worst := o.Worst.Callbacks[0]
	if worst.Company != "failing" || worst.CallbackID != 1 || worst.Waiting != 3 || worst.Retrying != 3 || worst.CallbackType != "payment_proof" || worst.Side != "theirs" ||
		worst.LastFailure == nil || worst.LastFailure.Reason != "status_500" || !strings.HasPrefix(worst.Host, "127.0.0.1:") {
		t.Errorf("the worst: %+v", worst)
	}
	if p := o.Worst.Callbacks[1]; p.Company != "paused" || p.Held != 2 || p.Status != "paused" || !strings.HasPrefix(p.Words, "paused since ") {
		t.Errorf("the paused: %+v", p)
	}
	if g := o.Worst.Callbacks[2]; g.Company != "gone" || g.Status != "disabled" || g.Dead != 1 || !strings.HasPrefix(g.Words, "disabled (gone) since ") {
		t.Errorf("the gone: %+v", g)
	}
	if w := o.Waiting; w.Total != 5 || w.Held != 2 || w.Retrying != 3 || w.Company != "failing" || w.CallbackID != 1 || w.OldestAt.IsZero() {
		t.Errorf("waiting: %+v", w)
	}
	if d := o.Dead; d.Total != 1 || d.Counted != 1 || len(d.Reasons) != 1 || d.Reasons[0] != (dispatcher.DeadReason{Reason: "gone", Dead: 1, Callbacks: 1, Side: "theirs"}) {
		t.Errorf("dead: %+v", d)
	}
	sum := o.Wave.DueNow + o.Wave.Later
	for _, n := range o.Wave.Minutes {
		sum += n
	}
	if sum != 3 || len(o.Wave.Minutes) != 60 {
		t.Errorf("wave: %+v", o.Wave)
	}
	if o.Verdict.Side != "theirs" && o.Verdict.Side != "both" { // no process has announced itself here
		t.Errorf("verdict: %+v", o.Verdict)
	}
	if o.Redis.Warnings != 1 || o.Redis.Sentence != "Redis is well, but: no maxmemory." {
		t.Errorf("redis: %+v", o.Redis)
	}
	if c := o.Callbacks; c.Enabled != 2 || c.Paused != 1 || c.Disabled != 1 {
		t.Errorf("callbacks: %+v", c)
	}
	if len(o.Unread) > 0 {
		t.Errorf("unread: %v", o.Unread)
	}
	for _, secret := range []string{"s3cr3t", "requestId"} {
		if strings.Contains(string(a.body), secret) {
			t.Errorf("%s in the overview: %s", secret, a.body)
		}
	}
	t.Logf("%s", a.body)
}

// TestManyLookOnce: those who ask at the same time, and a little later, share one look.
func TestManyLookOnce(t *testing.T) {
	looks := 0
	h := newHouse(t, func(cfg *Config) {
		cfg.Examine = func(context.Context) dispatcher.Posture { looks++; return dispatcher.Posture{} } // one at a time, says the lock behind
	})
	h.register("acme")
	answers := make([]string, 50)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() { answers[i] = string(h.call("viewer", "GET", "/overview", "").body) })
	}
	wg.Wait()
	for _, a := range answers {
		if a != answers[0] || !strings.HasPrefix(a, `{"as_of":`) {
			t.Fatalf("other answers at one time: %s and %s", a, answers[0])
		}
	}
	if looks != 1 {
		t.Errorf("%d looks for 50 who ask together", looks)
	}
}
