package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/ringback/ringback/registry/redistest"
)

// portalLink makes a portal link of a company, and returns its path and its id.
func (s *scene) portalLink(t *testing.T, company string, terms map[string]any) (path, id string) {
	t.Helper()
	var made struct{ URL, ID string }
	s.post(t, "/companies/"+company+"/portal-links", terms, &made)
	path, ok := strings.CutPrefix(made.URL, s.server)
	if !ok {
		t.Fatalf("the link leads to %s", made.URL)
	}
	return path, made.ID
}

// TestPortalInABrowser goes through the partners' pages as people do, with a real browser.
func TestPortalInABrowser(t *testing.T) {
	b, s := openBrowser(t), newScene(t)
	t.Run("a partner", func(t *testing.T) {
		tb := b.open(t, s.server)
		tb.helpHimself(s, "shop-1", tb.press, tb.refill, func() { tb.must(chromedp.Do(tb.ctx, chromedp.Click(chromedp.CSS("summary")))) })
		path, _ := s.portalLink(t, "shop-1", map[string]any{})
		tb.visit(path)
		tb.press("Open")
		tb.visit("/portal/companies/shop-1/callbacks/1/secret")
		tb.press("Make a new secret")
		if at := find[string](tb, `location.pathname`); at != "/portal/companies/shop-1/callbacks/1" {
			t.Errorf("to load the page again would make another secret: %s", at)
		}
		tb.wantsPeace()
	})
	t.Run("a partner without script", func(t *testing.T) {
		tb := b.open(t, s.server)
		tell(tb, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		tb.helpHimself(s, "shop-2", tb.press, tb.refill, func() { tb.must(chromedp.Do(tb.ctx, chromedp.Click(chromedp.CSS("summary")))) })
		path, _ := s.portalLink(t, "shop-2", map[string]any{})
		tb.visit(path)
		tb.press("Open")
		tb.narrows(s, "shop-2")
		tb.wantsPeace()
	})
	t.Run("a partner by keyboard", func(t *testing.T) {
		tb := b.open(t, s.server)
		tb.helpHimself(s, "shop-3", tb.enter, tb.typeIn, func() {
			tb.reach("More")
			tb.must(chromedp.Do(tb.ctx, chromedp.KeyEvent(kb.Enter)))
		})
		tb.wantsPeace()
	})
	t.Run("a link", func(t *testing.T) { tryLink(t, b, s) })
	t.Run("live", func(t *testing.T) {
		tb := b.open(t, s.server)
		path, _ := s.portalLink(t, "acme", map[string]any{"read_only": true})
		tb.visit(path)
		tb.press("Open")
		tb.press("Deliveries")
		tb.awaits("main", "Live: changes appear")
		s.post(t, "/companies/acme/events", map[string]any{"event_type": "wallet_item_install", "event_id": "fresh-portal", "payload": s.wallet(t)}, nil)
		tb.awaits("main tbody", "fresh-portal")
		tb.wantsPeace()
	})
	t.Run("narrow", func(t *testing.T) {
		tb := b.open(t, s.server)
		tb.comeIn(s)
		for name, path := range s.portalPages(t) {
			tb.fits(name, path)
		}
		tb.wantsPeace()
	})
	t.Run("axe", func(t *testing.T) {
		tb := b.open(t, s.server)
		tb.comeIn(s)
		pages, looked := s.portalPages(t), s.pages(t)
		maps.DeleteFunc(pages, func(name, _ string) bool { // what the console's test has seen, and is the same here
			return looked[name] != "" && name != "callback" && name != "event"
		})
		tb.wantsAccess(axeCore(t), pages)
	})
}

// comeIn opens a link of acme's.
func (tb *tab) comeIn(s *scene) {
	tb.t.Helper()
	path, _ := s.portalLink(tb.t, "acme", map[string]any{})
	tb.visit(path)
	tb.press("Open")
}

// refill fills in a field anew.
func (tb *tab) refill(id, text string) {
	tb.t.Helper()
	find[string](tb, fmt.Sprintf(`document.getElementById(%q).value = ""`, id))
	tb.fill(id, text)
}

// helpHimself is a partner with a link: he registers a callback of a company that has none, tests it, sees why it fails, mends it, sends again what failed, takes
// a new secret and goes. more opens what a form has more of.
func (tb *tab) helpHimself(s *scene, company string, press func(string) int64, fill func(id, text string), more func()) {
	tb.t.Helper()
	path, _ := s.portalLink(tb.t, company, map[string]any{})
	tb.visit(path)
	press("Open")
	tb.wants("main", "its events go nowhere")
	press("Register a callback…")
	fill("e-type", "payment_proof")
	fill("e-url", s.partner+"/down")
	more()
	fill("e-attempts", "1")
	press("Register")
	tb.wants("h1", "Callback 1 is registered")
	tb.wants("main", "whsec_", "It is shown this once")
	press("Test…")
	press("Send the test")
	tb.wants("main", "HTTP 503", "the endpoint is down or overloaded")
	for i := range 3 {
		s.post(tb.t, "/companies/"+company+"/events", map[string]any{"event_type": "payment_proof", "event_id": fmt.Sprintf("lost-%d", i), "payload": map[string]any{"requestId": "r-1", "status": "OK"}}, nil)
	}
	s.awaitAll(tb.t, company, "dead", 3)
	tb.visit("/portal/")
	press("1 payment_proof")
	tb.wants(".lead", "Answered 503 Service Unavailable")
	press("lost-2")
	tb.wants(".timeline", "HTTP 503", "Answered 503 Service Unavailable: the endpoint is down or overloaded")
	press("callback 1")
	press("Edit…")
	fill("e-url", s.partner+"/well")
	press("Save")
	tb.wants(".note", "Callback 1 is changed")
	press("Test…")
	press("Send the test")
	tb.wants(".timeline", "delivered")
	press("callback 1")
	press("Replay…")
	fill("f-since", "1h")
	press("Count them")
	tb.wants("main", "This is 3 deliveries: dead")
	press("Replay 3 deliveries")
	tb.wants(".note", "3 deliveries go out again")
	s.awaitAll(tb.t, company, "delivered", 3)
	tb.visit("/portal/companies/" + company + "/callbacks/1")
	press("New secret…")
	press("Make a new secret")
	tb.wants("main", "whsec_", "signed with the secret before, too")
	press("To the callback")
	press("Log out")
	tb.wants("main", "API key")
	if status := tb.visit("/portal/"); status != http.StatusUnauthorized {
		tb.t.Errorf("after the logout: %d", status)
	}
}

// narrows is a partner who gives the first callback a filter, and tries it before.
func (tb *tab) narrows(s *scene, company string) {
	tb.t.Helper()
	at := "/portal/companies/" + company + "/callbacks/1"
	tb.visit(at + "/edit")
	for _, part := range []string{"details:nth-of-type(2) > summary", "details:last-of-type > summary"} {
		tb.must(chromedp.Do(tb.ctx, chromedp.Click(chromedp.CSS(part))))
	}
	tb.fill("e-filter", `{"pointer": "/status", "op": "equals", "value": "LOST"}`)
	tb.press("Try it")
	tb.wants("#tried + p", "not matched", "/status")
	tb.press("Save")
	tb.wants(".note", "Callback 1 is changed")
	var cb struct{ Filter json.RawMessage }
	if s.get(tb.t, "/companies/"+company+"/config/callbacks/1", &cb); !strings.Contains(string(cb.Filter), "LOST") {
		tb.t.Errorf("the filter is %s", cb.Filter)
	}
}

// awaitAll waits until so many of a company's deliveries have a state.
func (s *scene) awaitAll(t *testing.T, company, state string, want int) {
	t.Helper()
	s.await(t, func() bool {
		var list struct{ Deliveries []json.RawMessage }
		s.get(t, "/companies/"+company+"/deliveries?state="+state, &list)
		return len(list.Deliveries) == want
	})
}

// tryLink opens a link that is bounded, looks at what lies within and outside, and is out once the link is revoked.
func tryLink(t *testing.T, b *browser, s *scene) {
	tb := b.open(t, s.server)
	var sent []string // what the browser tells of where it comes from
	tb.must(chromedp.Listen(tb.ctx, func(event any) {
		if request, ok := event.(*network.EventRequestWillBeSentExtraInfo); ok {
			tb.mu.Lock()
			defer tb.mu.Unlock()
			for name, value := range request.Headers {
				sent = append(sent, fmt.Sprintf("%s: %v", strings.ToLower(name), value))
			}
		}
	}))
	tell(tb, network.Enable, network.EnableParams{})
	path, id := s.portalLink(t, "acme", map[string]any{"callback_ids": []int64{s.good}, "read_only": true})
	for range 2 { // looking at it does not use it up
		tb.visit(path)
	}
	tb.press("Open")
	tb.wants("main", fmt.Sprintf("%d wallet_item_install", s.good))
	if said := tb.text("html"); strings.Contains(said, "payment_proof") || !strings.Contains(said, "read only") {
		t.Errorf("the page shows what lies outside the link's bounds:\n%s", said)
	}
	tb.mu.Lock()
	for _, line := range sent {
		_, token, _ := strings.Cut(path, "/enter/")
		if strings.HasPrefix(line, "referer:") && strings.Contains(line, token) || line == "origin: null" {
			t.Errorf("the browser tells %s", line)
		}
	}
	if !strings.Contains(strings.Join(sent, "\n"), "origin: "+s.server) {
		t.Errorf("no form says where it comes from: %q", sent)
	}
	tb.mu.Unlock()
	tb.press(fmt.Sprintf("%d wallet_item_install", s.good))
	if said := tb.text("main"); strings.Contains(said, "Pause…") || strings.Contains(said, "Edit…") {
		t.Errorf("whoever may only look is shown buttons:\n%s", said)
	}
	for _, foreign := range []string{fmt.Sprintf("callbacks/%d", s.bad), "events/" + s.events[0], "deliveries/" + s.delivery(t, s.events[0], s.bad)} {
		if status := tb.visit("/portal/companies/acme/" + foreign); status != http.StatusNotFound {
			t.Errorf("%s: %d", foreign, status)
		}
	}
	if status := tb.visit(path); status != http.StatusOK {
		t.Errorf("the link's page: %d", status)
	}
	if status := tb.press("Open"); status != http.StatusUnauthorized {
		t.Errorf("the link opens twice: %d", status)
	}
	tb.wants("main", "This link was used before")
	if status := tb.visit("/portal/"); status != http.StatusOK {
		t.Fatalf("the visit is over: %d", status)
	}
	remove(t, s.server+"/companies/acme/portal-links/"+id)
	for polls := 1; ; polls++ {
		if status := tb.visit("/portal/"); status == http.StatusUnauthorized {
			break
		}
		if polls == 50 { // five seconds of a tenth each
			t.Fatal("whoever came by a revoked link is still in")
		}
		<-time.After(100 * time.Millisecond)
	}
	tb.wants("main", "Your visit has ended: ask whoever gave you the link for another one")
	tb.wantsPeace()
}

// remove deletes a thing by the API.
func remove(t *testing.T, at string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, at, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer dev")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		t.Fatalf("DELETE %s: %s", at, resp.Status)
	}
}

// portalPages are the partners' pages, by the name of their picture.
func (s *scene) portalPages(t *testing.T) map[string]string {
	t.Helper()
	link, _ := s.portalLink(t, "acme", map[string]any{})
	company, bad := "/portal/companies/acme", fmt.Sprintf("/portal/companies/acme/callbacks/%d", s.bad)
	return map[string]string{
		"enter":        link,
		"login":        "/portal/login",
		"home":         "/portal/",
		"new":          company + "/new",
		"new-fetched":  company + "/new?pull",
		"callback":     bad,
		"edit":         bad + "/edit",
		"secret":       bad + "/secret",
		"key":          bad + "/signing-key",
		"delete":       bad + "/delete",
		"test":         bad + "/test",
		"start-replay": bad + "/replay",
		"deliveries":   company + "/deliveries",
		"delivery":     company + "/deliveries/" + s.delivery(t, s.events[0], s.bad),
		"event":        company + "/events/" + s.events[0],
		"types":        "/portal/types",
		"type":         "/portal/types/payment_proof",
		"verification": "/portal/verification",
	}
}

// TestPortalInAFrame has the portal in a page of another site, as an operator allows it: a link is opened, used, and logged out of within the frame. Pages of
// sites that nobody named cannot have it, and no other page's form reaches it.
func TestPortalInAFrame(t *testing.T) {
	b := openBrowser(t)
	outer := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, `<!doctype html><title>A partner's own page</title><main><form method="post" target="portal" action=%q><button>Forge</button></form></main>
			<iframe name="portal" src=%q width="900" height="700"></iframe>`, r.URL.Query().Get("forge"), r.URL.Query().Get("page"))
	}))
	t.Cleanup(outer.Close)
	_, port, _ := strings.Cut(strings.TrimPrefix(outer.URL, "https://"), ":")
	named, unnamed := "https://partners.test:"+port, "https://strangers.test:"+port
	s := &scene{server: "https://ringback.test:" + freePort(t)}
	api := serveEmbedded(t, s.server, named)

	embed := func(site, page string) string {
		return site + "/?" + url.Values{"page": {s.server + page}, "forge": {s.server + "/portal/logout"}}.Encode()
	}
	var link struct{ URL string }
	api(http.MethodPost, "/companies/acme/portal-links", &link)
	path := strings.TrimPrefix(link.URL, s.server)

	tb := b.open(t, "")
	tb.visit(embed(unnamed, path))
	tb.mu.Lock()
	if said := strings.Join(tb.troubles, "\n"); !strings.Contains(said, "frame-ancestors") {
		t.Errorf("a page that nobody named has the portal in a frame: %q", said)
	}
	tb.mu.Unlock()
	tb.visit(unnamed + "/?page=about:blank") // the frame is gone

	tb = b.open(t, "")
	tb.visit(embed(named, path))
	frame := tb.frame(s.server)
	frame.click("Open")
	frame.awaits("main", "its events go nowhere")
	frame.click("Events there are")
	frame.awaits("h1", "Callback types")
	frame.click("Callbacks")
	frame.awaits("main", "Register a callback…")
	frame.click("Register a callback…")
	frame.awaits("h1", "Register a callback")
	frame.fill("e-type", "payment_proof")
	frame.fill("e-url", "https://partner.example.com/hook")
	frame.click("Register")
	frame.awaits("main", "whsec_")

	tb.must(chromedp.Do(tb.ctx, chromedp.Click(chromedp.Search(`//button[text()="Forge"]`))))
	frame.awaits("main", "This form was sent from another site")
	tb.visit(embed(named, "/portal/"))
	frame = tb.frame(s.server)
	frame.awaits("main", "1 payment_proof") // whoever is in stays in
	frame.click("Log out")
	frame.awaits("main", "API key")
	tb.visit(embed(named, "/portal/"))
	tb.frame(s.server).awaits("main", "API key")
	tb.wantsPeace()
	frame.wantsPeace()
}

// frame is a tab on the frame of another site in a page. There is one in the whole browser.
func (tb *tab) frame(origin string) *tab {
	tb.t.Helper()
	for deadline := time.After(patience); ; {
		targets, err := chromedp.Targets(tb.ctx)
		tb.must(err)
		for _, info := range targets {
			if info.Type == "iframe" && strings.HasPrefix(info.URL, origin+"/") {
				return tb.at(info)
			}
		}
		select {
		case <-deadline:
			tb.t.Fatalf("there is no frame of %s: %s", origin, tb.text("html"))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (tb *tab) at(info *target.Info) *tab {
	tb.t.Helper()
	ctx, end := chromedp.NewContext(tb.ctx, chromedp.WithTargetID(info.TargetID))
	tb.t.Cleanup(end)
	return tb.listening(ctx)
}

// click presses a button, or follows a link, and does not wait for what comes of it.
func (tb *tab) click(words string) {
	tb.t.Helper()
	ctx, end := context.WithTimeout(tb.ctx, patience)
	defer end()
	if err := chromedp.Do(ctx, chromedp.Click(chromedp.Search(fmt.Sprintf(`(//main//button | //main//a | //header//button | //header//a)[normalize-space()=%q]`, words)))); err != nil {
		tb.t.Fatalf("%q: %v\nat %s", words, err, tb.text("html"))
	}
}

// serveEmbedded serves Ringback at an address with TLS, for pages of an origin. It returns who calls its API as an operator.
func serveEmbedded(t *testing.T, server, origin string) func(method, path string, into any) {
	t.Helper()
	dir := t.TempDir()
	nobody := newAuthority(t, "nobody's")
	c, k := nobody.issue(1, x509.ExtKeyUsageServerAuth)
	env := []string{"RINGBACK_REDIS=" + redistest.Start(t).URL(), "RINGBACK_KEYSET_FILE=" + filepath.Join(dir, "keyset.json"), "RINGBACK_PORTAL_EMBED=" + origin, "RINGBACK_PUBLIC_URL=" + server}
	key := strings.TrimSpace(ringback(t, env, "keys", "create", "--role", "operator"))
	_, port, _ := strings.Cut(strings.TrimPrefix(server, "https://"), ":")
	startPlain(t, env, "serve", "--listen", "127.0.0.1:"+port, "--tls-cert", write(t, dir+"/cert.pem", c), "--tls-key", write(t, dir+"/key.pem", k)).await(`"ready"`)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: nobody.pool(), MinVersion: tls.VersionTLS12}}}
	t.Cleanup(client.CloseIdleConnections)
	return func(method, path string, into any) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "https://127.0.0.1:"+port+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+key)
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if err := json.NewDecoder(resp.Body).Decode(into); err != nil || resp.StatusCode/100 != 2 {
			t.Fatalf("%s %s: %s %v", method, path, resp.Status, err)
		}
	}
}
