package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// mostClicks is how many clicks from the overview an answer may take.
const mostClicks = 2

// TestSixQuestions asks what somebody on call asks first, and counts the clicks from the overview to each answer; with and without script.
func TestSixQuestions(t *testing.T) {
	b, s := openBrowser(t), newScene(t)
	worst := fmt.Sprintf("acme %d", s.bad)
	questions := []struct {
		asks   string
		clicks []string
		at     string   // where the answer stands
		says   []string // the answer
	}{
		{"which are worst?", nil, "section[aria-labelledby=worst] tbody", []string{worst, "breaker open", "Answered 503 Service Unavailable"}},
		{"which are worst, and what came back from one?", []string{worst, s.events[3]}, ".timeline", []string{"HTTP 503", "Request as sent"}},
		{"how old is the oldest?", nil, "section[aria-labelledby=waiting]", []string{"The oldest was accepted", "ago, for callback "}},
		{"how old is the oldest, and where is it?", []string{"Go to the oldest’s callback"}, ".figures", []string{"Oldest waiting", "ago"}},
		{"how many are dead?", nil, "section[aria-labelledby=dead]", []string{"12 deliveries are dead"}},
		{"and why?", nil, "section[aria-labelledby=dead] tbody", []string{"wrong content type", "theirs", "12"}},
		{"and why, in words the partner can act on?", []string{fmt.Sprintf("acme %d", s.bad+1)}, ".lead", []string{"a 200 must carry application/json"}},
		{"when is the next wave?", nil, "section[aria-labelledby=wave]", []string{"due within the next hour", "most of them", "UTC on"}},
		{"is it us or them?", nil, ".verdict", []string{"It is them, not us"}},
		{"is it us? what of ours is looked at?", []string{"Operations"}, "main", []string{"Deliveries go out.", "ringback-0"}},
	}
	s.await(t, func() bool { // the overview is some seconds old at most
		_, text := get(t, s.server+"/overview", "dev")
		return strings.Contains(text, "12 deliveries are dead")
	})
	for _, script := range []bool{true, false} {
		tb := b.open(t, s.server)
		tell(tb, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !script})
		tb.logIn("dev")
		for _, q := range questions {
			tb.visit("/console/")
			for _, words := range q.clicks {
				if status := tb.press(words); status != http.StatusOK {
					t.Fatalf("%s: %q leads to %d: %s", q.asks, words, status, tb.text("main"))
				}
			}
			if tb.wants(q.at, q.says...); len(q.clicks) > mostClicks {
				t.Errorf("%s takes %d clicks", q.asks, len(q.clicks))
			}
		}
		tb.wantsPeace()
	}
}

// TestConsoleFindsAndReplays goes through the pages that find events, send many again and revoke keys: with the pointer, without script, and with the keyboard.
func TestConsoleFindsAndReplays(t *testing.T) {
	b, s := openBrowser(t), newScene(t)
	s.post(t, "/companies/acme/events", map[string]any{"event_type": "wallet_item_install", "event_id": "pass-1", "payload": s.wallet(t)}, nil)
	var typ struct {
		Example struct {
			Wallet struct{ Token string } `json:"wallet_campaign"`
		}
	}
	s.get(t, "/callback-types/wallet_item_install", &typ)
	for name, script := range map[string]bool{"by pointer": true, "without script": false, "by keyboard": true} {
		t.Run(name, func(t *testing.T) {
			tb := b.open(t, s.server)
			tb.size(360, 800)
			tell(tb, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !script})
			tb.logIn("dev")
			press, fill := tb.press, tb.fill
			if name == "by keyboard" {
				press, fill = tb.enter, tb.typeIn
			}
			tb.findsEvents(typ.Example.Wallet.Token, script, press, fill)
			tb.replaysMany(script, press, fill)
			tb.revokes(t, s, press)
			tb.wantsPeace()
		})
	}
}

// findsEvents finds an event by its type's match attribute. With script the attribute's field is there once the type is chosen.
func (tb *tab) findsEvents(token string, script bool, press func(string) int64, fill func(id, text string)) {
	tb.t.Helper()
	press("Find")
	tb.wants("h1", "Find events")
	fill("e-type", "wallet_item_install")
	if !script {
		press("Find events")
	}
	tb.awaits("[data-attributes]", "campaign token")
	fill("e-a-0", "nobodys")
	press("Find events")
	tb.wants("main", "No event fits.")
	tb.must(chromedp.Do(tb.ctx, chromedp.Clear(chromedp.CSS("#e-a-0"))))
	fill("e-a-0", token)
	press("Find events")
	tb.wants("main tbody tr", "pass-1", "wallet_item_install", "acme")
	press("pass-1")
	tb.wants("h1", "Event pass-1")
}

// replaysMany tries now what is retrying at all companies, from the overview on, looks on, and stops it.
func (tb *tab) replaysMany(script bool, press func(string) int64, fill func(id, text string)) {
	tb.t.Helper()
	press("Overview")
	press("Try now what is retrying…")
	fill("f-pace", "1")
	press("Count them")
	tb.wants("h1", "Replay ")
	tb.wants("main", "retrying", "make their next attempt at once", "Deliveries a second", "1")
	press(strings.TrimSuffix(tb.text("h1"), "?"))
	tb.wants(".note", "go out again")
	tb.wants(".lead", "running", " of ")
	if script { // it goes on by itself
		tb.awaits("main", "Company by company")
	} else {
		for deadline := time.After(patience); !strings.Contains(tb.text("main"), "Company by company"); press("Load again") {
			select {
			case <-deadline:
				tb.t.Fatal(tb.text("main"))
			default:
			}
		}
	}
	press("Stop…")
	press("Stop the replay")
	tb.wants(".note", "The replay is stopped")
	press("Replays")
	tb.wants("main tbody tr", "all companies", "retrying", "cancelled")
}

// revokes revokes a key of acme's, which was made for it.
func (tb *tab) revokes(t *testing.T, s *scene, press func(string) int64) {
	t.Helper()
	press("Keys")
	tb.wants("main tbody", "rbk_dev", "your own")
	press("Revoke… rbk_dev")
	tb.wants("main", "This is your own key: your visit ends with it")
	press("Back")
	tb.wants("h1", "API keys")
	if status, text := get(t, s.server+"/keys", "dev"); status != http.StatusOK || strings.Contains(text, `"dev"`) {
		t.Errorf("%d %s", status, text)
	}
}
