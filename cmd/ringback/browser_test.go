package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// A browser is a real one, which all tests share: to start one costs as much as many pages, and each tab has cookies of its own.
type browser struct{ ctx context.Context }

// theBrowser starts Debian's chromium once.
var theBrowser = sync.OnceValues(func() (*browser, error) {
	path, err := exec.LookPath("chromium")
	if err != nil {
		return nil, err
	}
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.UserDataDir(filepath.Join(plainDir, "browser")), chromedp.Headless, chromedp.NoSandbox, chromedp.NoFirstRun,
		chromedp.Flag("host-resolver-rules", "MAP *.test 127.0.0.1"), chromedp.Flag("ignore-certificate-errors", true), // for TestPortalInAFrame
	}
	for _, flag := range []string{"disable-gpu", "disable-quic", "disable-background-networking", "disable-component-update", "disable-sync", "disable-dev-shm-usage", "disable-extensions"} {
		options = append(options, chromedp.Flag(flag, true))
	}
	allocator, endAll := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, end := chromedp.NewContext(allocator)
	endBrowser = func() {
		_ = chromedp.Cancel(ctx) // waits for the browser's end
		end()
		endAll()
	}
	return &browser{ctx}, chromedp.Do(ctx)
})

// endBrowser ends what theBrowser has started, once all tests are over.
var endBrowser = func() {}

// openBrowser is the browser. Where there is none, the test is skipped, and with CI=true it fails.
func openBrowser(t *testing.T) *browser {
	t.Helper()
	mustHave(t, "chromium")
	b, err := theBrowser()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A tab is a visitor with cookies of his own. It remembers what a page did that its policy forbids, and its scripts' errors.
type tab struct {
	t      *testing.T
	ctx    context.Context
	server string

	mu       sync.Mutex
	troubles []string
}

// open opens a tab on a server.
func (b *browser) open(t *testing.T, server string) *tab {
	t.Helper()
	ctx, end := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext())
	t.Cleanup(end)
	tb := (&tab{t: t, server: server}).listening(ctx)
	tb.size(1280, 900)
	return tb
}

// listening is a tab in ctx on the same server.
func (tb *tab) listening(ctx context.Context) *tab {
	tb.t.Helper()
	tb = &tab{t: tb.t, ctx: ctx, server: tb.server}
	tb.must(chromedp.Listen(ctx, func(event any) {
		tb.mu.Lock()
		defer tb.mu.Unlock()
		switch event := event.(type) {
		case *log.EventEntryAdded:
			if event.Entry.Source == log.EntrySourceSecurity || strings.Contains(event.Entry.Text, "Content Security Policy") {
				tb.troubles = append(tb.troubles, event.Entry.Text)
			}
		case *runtime.EventExceptionThrown:
			tb.troubles = append(tb.troubles, event.ExceptionDetails.Text)
		}
	}))
	tell(tb, log.Enable, cdp.Empty{})
	return tb
}

func (tb *tab) must(err error) {
	tb.t.Helper()
	if err != nil {
		tb.t.Fatal(err)
	}
}

// tell gives the browser a command.
func tell[P, R any](tb *tab, command cdp.Command[P, R], params P) R {
	tb.t.Helper()
	ctx, end := context.WithTimeout(tb.ctx, patience)
	defer end()
	result, err := chromedp.Call(ctx, command, params)
	tb.must(err)
	return result
}

// find is the value of an expression in the page.
func find[T any](tb *tab, expression string, options ...chromedp.EvaluateOption) T {
	tb.t.Helper()
	ctx, end := context.WithTimeout(tb.ctx, patience)
	defer end()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, options...))
	if err != nil {
		tb.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// size is that of the window.
func (tb *tab) size(width, height int64) {
	tb.t.Helper()
	tell(tb, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1})
}

// leads does something that leads to another page, and waits for that. It returns the page's status.
func (tb *tab) leads(steps ...chromedp.Action[chromedp.Void]) int64 {
	tb.t.Helper()
	ctx, end := context.WithTimeout(tb.ctx, patience)
	defer end()
	response, err := chromedp.RunResponse(ctx, steps...)
	if err != nil {
		tb.t.Fatalf("%v\nat %s", err, tb.text("html"))
	}
	return response.Status
}

// visit goes to a page.
func (tb *tab) visit(path string) int64 {
	tb.t.Helper()
	return tb.leads(chromedp.Navigate(tb.server + path))
}

// press presses a button, or follows a link, by the words on it.
func (tb *tab) press(words string) int64 {
	tb.t.Helper()
	return tb.leads(chromedp.Click(chromedp.Search(fmt.Sprintf(`(//main//button | //main//a | //header//button | //header//a)[normalize-space()=%q]`, words))))
}

// text is the visible text of an element.
func (tb *tab) text(selector string) string {
	tb.t.Helper()
	return find[string](tb, fmt.Sprintf(`document.querySelector(%q)?.innerText ?? "(none)"`, selector))
}

// textMeanwhile is text for whoever waits: a page that gives way to another as it is asked says nothing.
func (tb *tab) textMeanwhile(selector string) string {
	tb.t.Helper()
	ctx, end := context.WithTimeout(tb.ctx, patience)
	defer end()
	said, err := chromedp.Run(ctx, chromedp.Evaluate[string](fmt.Sprintf(`document.querySelector(%q)?.innerText ?? "(none)"`, selector)))
	if err != nil && !strings.Contains(err.Error(), "target navigated or closed") {
		tb.t.Fatalf("what %s says: %v", selector, err)
	}
	return said
}

// wants checks that an element says something.
func (tb *tab) wants(selector string, words ...string) {
	tb.t.Helper()
	said := tb.text(selector)
	for _, w := range words {
		if !strings.Contains(said, w) {
			tb.t.Fatalf("%s does not say %q, but:\n%s", selector, w, said)
		}
	}
}

// wantsPeace checks that no page did what its policy forbids.
func (tb *tab) wantsPeace() {
	tb.t.Helper()
	tb.mu.Lock()
	defer tb.mu.Unlock()
	for _, trouble := range tb.troubles {
		tb.t.Error(trouble)
	}
}

// logIn logs in with a key.
func (tb *tab) logIn(key string) {
	tb.t.Helper()
	tb.visit("/console/")
	tb.must(chromedp.Do(tb.ctx, chromedp.SendKeys(chromedp.CSS("#key"), key)))
	tb.press("Log in")
}

// A scene is an installation on a day when partners fail.
type scene struct {
	server    string
	partner   string   // the address of the partners, see answers
	bad, good int64    // callbacks
	events    []string // by which the deliveries of a kind are found
}

// newScene starts a program for the desk with the partners of answers, and a company that sends to them.
func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{server: startPlain(t, []string{"RINGBACK_DEV_KEY=dev"}, "dev", "--listen", "127.0.0.1:0").await(`API +(http://\S+)`)[1]}
	partner := httptest.NewServer(http.HandlerFunc(answers))
	t.Cleanup(partner.Close)
	s.partner = partner.URL
	register := func(eventType, url string, more map[string]any) int64 {
		body := map[string]any{"callback_type": eventType, "destination": map[string]string{"url": url}}
		maps.Copy(body, more)
		var made struct {
			ID int64 `json:"callback_id"`
		}
		s.post(t, "/companies/acme/config/callbacks", body, &made)
		return made.ID
	}
	slow := map[string]any{"retry": map[string]any{"initial_interval": "40s"}, "description": "Orders of the Hamburg shop"}
	once := map[string]any{"retry": map[string]any{"max_attempts": 1}, "description": "Receipts, given up after one attempt"}
	s.bad = register("payment_proof", partner.URL+"/down", slow)
	register("payment_proof", partner.URL+"/login", once)
	register("payment_proof", partner.URL+"/busy", slow)
	s.good = register("wallet_item_install", partner.URL+"/well", nil)
	for i := range 12 {
		id := fmt.Sprintf("proof-%d", 2041+i)
		s.events = append(s.events, id)
		s.post(t, "/companies/acme/events", map[string]any{"event_type": "payment_proof", "event_id": id, "payload": map[string]any{
			"requestId": fmt.Sprintf("cba1e%d", 997+i), "totalCfdi": "$1,962.36", "status": "OK",
		}}, nil)
	}
	s.await(t, func() bool {
		var cb struct {
			Failures int64 `json:"consecutive_failures"`
			Breaker  string
		}
		s.get(t, fmt.Sprintf("/companies/acme/config/callbacks/%d", s.bad), &cb)
		return cb.Failures >= 10 && cb.Breaker == "open"
	})
	return s
}

// await waits for what takes moments.
func (s *scene) await(t *testing.T, reached func() bool) {
	t.Helper()
	for deadline := time.After(patience); !reached(); {
		select {
		case <-deadline:
			t.Fatal("it never came to that")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// get asks the API.
func (s *scene) get(t *testing.T, path string, into any) {
	t.Helper()
	_, text := get(t, s.server+path, "dev")
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%s: %v: %s", path, err, text)
	}
}

// post tells the API.
func (s *scene) post(t *testing.T, path string, body, into any) {
	t.Helper()
	status, text := postJSON(t, s.server+path, body)
	if status/100 != 2 {
		t.Fatalf("%s: %d %s", path, status, text)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%s: %v: %s", path, err, text)
	}
}

// delivery is the id of an event's delivery to a callback.
func (s *scene) delivery(t *testing.T, event string, callback int64) string {
	t.Helper()
	var x struct {
		Callbacks []struct {
			ID       int64 `json:"callback_id"`
			Delivery struct {
				ID string `json:"delivery_id"`
			}
		}
	}
	s.get(t, fmt.Sprintf("/companies/acme/events/%s?callback_id=%d", event, callback), &x)
	if len(x.Callbacks) != 1 {
		t.Fatalf("%+v", x)
	}
	return x.Callbacks[0].Delivery.ID
}

// answers are those of the scene's partners.
func answers(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/login":
		w.Header().Set("Content-Type", "text/html")
	case "/busy":
		w.Header().Set("Retry-After", "120")
		w.WriteHeader(http.StatusTooManyRequests)
	case "/well":
		w.WriteHeader(http.StatusNoContent)
	default:
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}
