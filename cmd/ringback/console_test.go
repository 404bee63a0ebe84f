package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	pagetool "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// TestConsoleInABrowser goes through the console's pages as people do, with a real browser.
func TestConsoleInABrowser(t *testing.T) {
	b, s := openBrowser(t), newScene(t)
	t.Run("on call", func(t *testing.T) {
		tb := b.open(t, s.server)
		tell(tb, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: "Asia/Tokyo"})
		tb.onCall(s, tb.press, tb.fill)
		tb.wants("footer", "Asia/Tokyo")
		tb.wants("main time", "GMT+9")
		tb.visit("/console/")
		tb.wants("main", "Hours are in Asia/Tokyo")
		if said := tb.text("main"); strings.Contains(said, "UTC") {
			t.Errorf("times of the overview are in UTC beside those of Tokyo:\n%s", said)
		}
		tb.wantsPeace()
	})
	t.Run("on call without script", func(t *testing.T) {
		tb := b.open(t, s.server)
		tell(tb, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		tb.onCall(s, tb.press, tb.fill)
		tb.wants("footer", "UTC")
		tb.wants("main time", "UTC")
		tb.wantsPeace()
	})
	t.Run("on call by keyboard", func(t *testing.T) {
		tb := b.open(t, s.server)
		tb.onCall(s, tb.enter, tb.typeIn)
		tb.visit("/console/types")
		tb.must(chromedp.Do(tb.ctx, chromedp.KeyEvent(kb.Tab)))
		if at := find[string](tb, `document.activeElement.textContent`); at != "Skip to the page" {
			t.Errorf("the first thing that the keyboard reaches is %q", at)
		}
		tb.must(chromedp.Do(tb.ctx, chromedp.KeyEvent(kb.Enter)))
		tb.reach("callback.disabled") // past the frame at once, and on within the page
	})
	t.Run("live", func(t *testing.T) {
		tb := b.open(t, s.server)
		tb.logIn("dev")
		tb.visit("/console/companies/acme/deliveries?state=delivered&state=dead")
		tb.awaits("main", "Live: changes appear")
		s.post(t, "/companies/acme/events", map[string]any{"event_type": "wallet_item_install", "event_id": "fresh-1", "payload": s.wallet(t)}, nil)
		tb.awaits("main tbody tr", "delivered")
		tb.wants("main tbody tr", "fresh-1", "wallet_item_install", "Delivered by attempt 1")
		const row = `document.querySelector("main tbody tr").innerHTML.replace(/<span [^>]*data-ago.*?<\/span>/, "").replace(/=""/g, "").replace(/ data-fill="[a-z]+"/g, "")`
		inserted := find[string](tb, row)
		tb.visit("/console/companies/acme/deliveries?state=delivered&state=dead")
		if loaded := find[string](tb, row); inserted != loaded {
			t.Errorf("a row that came by itself is not as one that was loaded:\n%s\n%s", inserted, loaded)
		}
		tb.press("fresh-1")
		tb.wants("h1", "Delivery of fresh-1")
		tb.wantsPeace()
	})
	t.Run("narrow", func(t *testing.T) {
		tb := b.open(t, s.server)
		tb.logIn("dev")
		for name, path := range s.pages(t) {
			tb.fits(name, path)
			if high := find[int64](tb, `document.querySelector(".top").offsetHeight`); high > 108 {
				t.Errorf("the frame of %s is %d high in a narrow window: more than three rows", name, high)
			}
			if hidden := find[[]string](tb, `[...document.querySelectorAll(".top nav a")].filter(a => (r => r.left < 0 || r.right > innerWidth)(a.getBoundingClientRect())).map(a => a.textContent)`); len(hidden) > 0 {
				t.Errorf("the menu of %s hides %q in a narrow window", name, hidden)
			}
		}
		tb.wantsPeace()
	})
	t.Run("axe", func(t *testing.T) {
		tb := b.open(t, s.server)
		tb.logIn("dev")
		tb.wantsAccess(axeCore(t), s.pages(t))
	})
}

// unfold opens what a page has folded, so that it is looked at, too.
func (tb *tab) unfold() {
	tb.t.Helper()
	find[bool](tb, `document.querySelectorAll("details").forEach(d => { d.open = true }), true`)
}

// fits checks that a page has no more width than its window, be that wide or narrow. It leaves it narrow.
func (tb *tab) fits(name, path string) {
	tb.t.Helper()
	tb.visit(path)
	tb.fitsHere(name)
}

// fitsHere is fits of the page that the tab shows.
func (tb *tab) fitsHere(name string) {
	tb.t.Helper()
	tb.unfold()
	for _, width := range []int64{3840, 360} {
		tb.size(width, 800)
		wide := find[int64](tb, fmt.Sprintf(`new Promise(done => {
			const look = () => innerWidth === %d ? done(document.documentElement.scrollWidth) : setTimeout(look, 5)
			look()
		})`, width), chromedp.EvalAwaitPromise)
		if wide > width {
			tb.t.Errorf("%s is %d wide in a window of %d", name, wide, width)
		}
	}
}

// wantsAccess checks with axe-core that nothing serious keeps people from using pages, in light and in dark.
func (tb *tab) wantsAccess(axe string, pages map[string]string) {
	tb.t.Helper()
	tell(tb, pagetool.SetBypassCSP, pagetool.SetBypassCSPParams{Enabled: true})
	for name, path := range pages {
		tb.visit(path)
		tb.accessible(name, axe)
	}
}

// accessible checks that axe-core finds nothing wrong with the page that the tab shows.
func (tb *tab) accessible(name, axe string) {
	tb.t.Helper()
	tb.dress("light")
	tb.unfold()
	find[bool](tb, axe+`;true`)
	tb.wantsNoViolation(name+", light", "")
	tb.dress("dark")
	tb.wantsNoViolation(name+", dark", `, runOnly: ["color-contrast"]`) // else a page is the same in both
}

// dress has the browser ask for light pages, or for dark ones.
func (tb *tab) dress(scheme string) {
	tb.t.Helper()
	tell(tb, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
}

// wantsNoViolation runs axe-core, which is in the page, with more options.
func (tb *tab) wantsNoViolation(of, options string) {
	tb.t.Helper()
	found := find[[]string](tb, `axe.run({resultTypes: ["violations"]`+options+`}).then(r => r.violations.filter(v => ["serious", "critical"].includes(v.impact))
		.map(v => v.id + ": " + v.help + ": " + v.nodes.map(n => n.html).join(" ")))`, chromedp.EvalAwaitPromise)
	for _, violation := range found {
		tb.t.Errorf("%s: %s", of, violation)
	}
}

// axeCore is the source of axe-core, which finds what keeps people from using a page.
func axeCore(t *testing.T) string {
	t.Helper()
	mustHave(t, "npm")
	cmd := exec.Command("npm", "install", "--no-audit", "--no-fund", "--prefer-offline", "--ignore-scripts", "axe-core@4.14.1")
	cmd.Dir = t.TempDir()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	source, err := os.ReadFile(filepath.Join(cmd.Dir, "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	return string(source)
}

// onCall finds the bad callback, sees why, pauses it, resumes it, and sends a delivery again.
func (tb *tab) onCall(s *scene, press func(string) int64, fill func(id, text string)) {
	tb.t.Helper()
	tb.visit("/console/")
	fill("key", "dev")
	press("Log in")
	fill("find-company", "acme")
	press("Go")
	tb.wants("main", "breaker", "Answered 503 Service Unavailable")
	press(fmt.Sprintf("%d payment_proof", s.bad))
	tb.wants("h1", fmt.Sprintf("Callback %d", s.bad))
	tb.wants(".lead", "enabled", "breaker", "Answered 503 Service Unavailable: the endpoint is down or overloaded")
	press("Pause…")
	tb.wants("main", "in its room", "none goes out, and none is lost")
	press("Pause")
	tb.wants(".note", "is paused")
	tb.wants(".lead", "paused")
	press("Resume…")
	press("Resume")
	tb.wants(".note", "is resumed")
	tb.wants(".lead", "enabled")
	press(s.events[3])
	tb.wants("h1", "Delivery of", s.events[3])
	tb.wants(".timeline", "HTTP 503")
	press("Try now")
	tb.wants(".note", "It goes out again")
}

// awaits waits until an element says something.
func (tb *tab) awaits(selector, words string) {
	tb.t.Helper()
	for deadline := time.After(patience); !strings.Contains(tb.textMeanwhile(selector), words); {
		select {
		case <-deadline:
			tb.t.Fatalf("%s never says %q, but:\n%s", selector, words, tb.text(selector))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// wallet is a payload of the type wallet_item_install: its example.
func (s *scene) wallet(t *testing.T) json.RawMessage {
	t.Helper()
	var typ struct{ Example json.RawMessage }
	s.get(t, "/callback-types/wallet_item_install", &typ)
	return typ.Example
}

// fill fills in a field.
func (tb *tab) fill(id, text string) {
	tb.t.Helper()
	tb.must(chromedp.Do(tb.ctx, chromedp.SendKeys(chromedp.CSS("#"+id), text)))
}

// reach presses Tab until the focus is on what has these words, or this id, and wants to see where the focus is.
func (tb *tab) reach(words string) {
	tb.t.Helper()
	const focused = `(e => [e.id, e.textContent.trim().replace(/\s+/g, " "), e.tagName, getComputedStyle(e).outlineStyle])(document.activeElement)`
	var passed []string
	for range 150 {
		at := find[[]string](tb, focused)
		if at[2] != "BODY" && (at[0] == words || at[1] == words) && len(passed) > 0 {
			if at[3] == "none" {
				tb.t.Errorf("nobody sees that the focus is on %s", words)
			}
			return
		}
		passed = append(passed, at[1])
		tb.must(chromedp.Do(tb.ctx, chromedp.KeyEvent(kb.Tab)))
	}
	tb.t.Fatalf("the keyboard does not reach %q, but %q", words, passed)
}

// enter presses a button, or follows a link, with the keyboard alone.
func (tb *tab) enter(words string) int64 {
	tb.t.Helper()
	tb.reach(words)
	return tb.leads(chromedp.KeyEvent(kb.Enter))
}

// typeIn fills in a field with the keyboard alone.
func (tb *tab) typeIn(id, text string) {
	tb.t.Helper()
	if find[string](tb, `document.activeElement.id`) != id {
		tb.reach(id)
	}
	tb.must(chromedp.Do(tb.ctx, chromedp.KeyEvent(text)))
}

// pages are the pages of the console, by the name of their picture.
func (s *scene) pages(t *testing.T) map[string]string {
	t.Helper()
	bad, company := fmt.Sprintf("/console/companies/acme/callbacks/%d", s.bad), "/console/companies/acme"
	var list struct {
		Replays []struct {
			ID string `json:"replay_id"`
		}
	}
	if s.get(t, "/companies/acme/replays", &list); len(list.Replays) == 0 {
		s.post(t, fmt.Sprintf("/companies/acme/config/callbacks/%d/replay", s.bad+1), map[string]any{}, nil)
		s.get(t, "/companies/acme/replays", &list)
	}
	var bulk struct {
		ID string `json:"replay_id"`
	}
	s.post(t, "/replays", map[string]any{"states": []string{"dead", "retrying"}, "dry_run": true}, &bulk)
	return map[string]string{
		"find":          "/console/find?company=&event_type=payment_proof",
		"find-nothing":  "/console/find?company=acme&id=nothing",
		"all-replays":   "/console/replays",
		"bulk-replay":   "/console/replays/" + bulk.ID,
		"start-bulk":    "/console/replays/start?state=dead&state=retrying",
		"start-company": company + "/replays/start",
		"keys":          "/console/keys",
		"revoke":        "/console/keys/rbk_dev/revoke",
		"login":         "/console/login",
		"overview":      "/console/",
		"companies":     "/console/companies",
		"company":       company,
		"callback":      bad,
		"pause":         bad + "/pause",
		"resume":        bad + "/resume",
		"test":          bad + "/test",
		"start-replay":  bad + "/replay",
		"deliveries":    company + "/deliveries",
		"delivery":      company + "/deliveries/" + s.delivery(t, s.events[0], s.bad),
		"dead":          company + "/deliveries/" + s.delivery(t, s.events[0], s.bad+1),
		"event":         company + "/events/" + s.events[0],
		"replays":       company + "/replays",
		"replay":        company + "/replays/" + list.Replays[0].ID,
		"types":         "/console/types",
		"type":          "/console/types/payment_proof",
		"audit":         "/console/audit",
		"operations":    "/console/operations",
		"stop":          "/console/operations/pause",
		"cancel":        company + "/deliveries/" + s.delivery(t, s.events[0], s.bad) + "/cancel",
		"not-found":     company + "/events/nothing",
	}
}

// The pages are part of every process that serves the API, and the same care is taken of their paths.
func TestPagesAreServed(t *testing.T) {
	t.Parallel()
	server := startPlain(t, []string{"RINGBACK_DEV_KEY=dev"}, "dev", "--listen", "127.0.0.1:0").await(`API +(http://\S+)`)[1]
	for path, want := range map[string]int{
		"/console/": http.StatusOK, "/console/types": http.StatusOK, "/console/companies/acme/events/x": http.StatusNotFound, "/console/nowhere": http.StatusNotFound,
		"/console//types": http.StatusNotFound, "/console/companies/a%2Fb": http.StatusNotFound, "/console/companies/acme/%2e%2e/types": http.StatusNotFound,
		"/consoles": http.StatusNotFound, "/portal/": http.StatusForbidden, "/portal/enter/x": http.StatusOK, "/portal//types": http.StatusNotFound, "/portal/companies/a%2Fb": http.StatusNotFound,
		"/portal/companies/acme/%2e%2e/types": http.StatusNotFound, "/portals": http.StatusNotFound, "/portal/enter/": http.StatusForbidden,
	} {
		if status, text := get(t, server+path, "dev"); status != want {
			t.Errorf("%s: %d, want %d: %s", path, status, want, text)
		}
	}
	if status, text := get(t, server+"/console/types", ""); status != http.StatusUnauthorized || !strings.Contains(text, "Log in") {
		t.Errorf("without a key: %d %s", status, text)
	}
	if status, text := get(t, server+"/caller", "dev"); status != http.StatusOK || !json.Valid([]byte(text)) {
		t.Errorf("%d %s", status, text)
	}
	for _, root := range []string{"/console", "/portal"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server+root, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.Header.Get("Location") != root+"/" {
			t.Errorf("%s leads to %q with %d", root, resp.Header.Get("Location"), resp.StatusCode)
		}
	}
}
