package console

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
)

// link is the token of a new portal link.
func (h *house) link(company, terms string) (token, id string) {
	h.t.Helper()
	var made struct{ URL, ID string }
	h.must(json.Unmarshal([]byte(h.tell("POST", "/companies/"+company+"/portal-links", terms)), &made))
	token, ok := strings.CutPrefix(made.URL, "https://ringback.example.com/portal/enter/")
	if !ok {
		h.t.Fatalf("the link leads to %s", made.URL)
	}
	return token, made.ID
}

// by is a visitor who came by a portal link of those terms.
func (h *house) by(company, terms string) *visitor {
	h.t.Helper()
	token, _ := h.link(company, terms)
	v := &visitor{h, "", map[string]string{}}
	a := v.submit(v.get("/portal/enter/"+token), "/portal/enter", nil)
	if a.status != http.StatusSeeOther || a.header.Get("Location") != "/portal/" || v.cookies["ringback_portal"] == "" {
		h.t.Fatalf("no visit: %d %s", a.status, a.text)
	}
	return v
}

// portalPaths are all pages of the portal, by pattern, with what the house has in the place of names.
func (h *house) portalPaths(method string) map[string]string {
	h.t.Helper()
	names := strings.NewReplacer("{company}", "acme", "{callback}", fmt.Sprint(h.bad), "{delivery}", path.Base(h.delivery(h.bad)), "{event}", h.event,
		"{replay}", h.replay(), "{name}", "payment_proof", "{$}", "")
	all := map[string]string{}
	for pattern := range (&door{}).portalRoutes() {
		if verb, at, _ := strings.Cut(pattern, " "); verb == method {
			all[pattern] = PortalRoot + names.Replace(at)
		}
	}
	return all
}

// stream asks for a stream, and wants no more of it than how it begins: the answer is the API's own.
func (v *visitor) stream(at string) answer {
	v.t.Helper()
	ctx, end := context.WithTimeout(v.t.Context(), 100*time.Millisecond)
	defer end()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	for name, value := range v.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	w := httptest.NewRecorder()
	v.guest.ServeHTTP(w, r)
	return answer{w.Code, w.Result().Header, w.Body.String()}
}

// deeds are the ends of addresses whose pages are forms, or whose forms do something.
var deeds = []string{"/new", "/edit", "/secret", "/signing-key", "/delete", "/pause", "/resume", "/test", "/replay", "/start", "/cancel", "/verify", "/now"}

func isDeed(address string) bool {
	return slices.ContainsFunc(deeds, func(deed string) bool { return strings.HasSuffix(address, deed) })
}

// Every page of the portal stands, for whoever came by a link and for a partner's key, and whoever may only look sees no button.
func TestEveryPortalPageStands(t *testing.T) {
	h := newHouse(t)
	all, looks := h.by("acme", ""), h.by("acme", `{"read_only":true}`)
	for pattern, at := range h.portalPaths(http.MethodGet) {
		if strings.HasSuffix(pattern, "/live") {
			continue
		}
		for name, v := range map[string]*visitor{"by link": all, "with a key": h.showing("partner"), "read only": looks} {
			a := v.get(at)
			if strings.HasSuffix(pattern, "/payload") {
				a.want(t, http.StatusOK, `"requestId":"r-1"`)
				if a.header.Get("Content-Disposition") != `attachment; filename="proof-1.json"` {
					t.Errorf("a payload is a page: %v", a.header)
				}
				continue
			}
			want := http.StatusOK
			if pattern == "GET /find" {
				want = http.StatusSeeOther
			}
			if a.want(t, want); want == http.StatusOK {
				a.wantSound(t)
			}
			for _, theirs := range []string{"/console/", "egress", "lane", "Operations", "/audit", "/monitoring", "/docs"} {
				if strings.Contains(a.text, theirs) {
					t.Errorf("%s, %s: %q is an operator's", pattern, name, theirs)
				}
			}
			if name != "read only" || isDeed(at) {
				continue
			}
			for n := range elements(a.parse(t), "") {
				if to := attribute(n, "href") + attribute(n, "action"); isDeed(to) || attribute(n, "method") == "post" && to != "/portal/logout" {
					t.Errorf("%s shows a button to somebody who may only look: %s", pattern, to)
				}
			}
		}
	}
	all.get("/portal/").want(t, http.StatusOK, "Register a callback…", "Of the last 1: 1 dead", "Of the last 1: 1 retrying")
}

// No page of the portal leads to where there is none: what it shares with the console leads to no page that only the console has.
func TestPortalPagesLeadSomewhere(t *testing.T) {
	h := newHouse(t)
	v := h.by("acme", "")
	seen := map[string]string{}
	for pattern, at := range h.portalPaths(http.MethodGet) {
		if strings.HasSuffix(pattern, "/live") || strings.HasSuffix(pattern, "/payload") || pattern == "GET /find" {
			continue
		}
		for n := range elements(v.get(at).parse(t), "") {
			for _, name := range []string{"href", "action", "data-live"} {
				to, _, _ := strings.Cut(attribute(n, name), "?")
				if strings.HasPrefix(to, "/") {
					seen[to] = pattern
				}
			}
		}
	}
	for to, pattern := range seen {
		if strings.HasSuffix(to, "/live") {
			continue
		}
		if a := h.serve(v.request(http.MethodGet, to)); a.status == http.StatusNotFound {
			t.Errorf("%s leads to %s, where there is nothing", pattern, to)
		}
	}
	if len(seen) < 30 {
		t.Errorf("the pages lead to %d places only", len(seen))
	}
}

// request is one of a visitor.
func (v *visitor) request(method, at string) *http.Request {
	r := httptest.NewRequestWithContext(v.t.Context(), method, at, nil)
	for name, value := range v.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	return r
}

// Whoever may only look changes nothing, whatever form is sent: the API's sentence is the page's message.
func TestWhoMayOnlyLookChangesNothing(t *testing.T) {
	h := newHouse(t)
	v := h.by("acme", `{"read_only":true}`)
	form := url.Values{"token": {tokenOn(t, v.get("/portal/types"))}, "state": {"dead"}, "do": {"start"}, "callback_type": {"payment_proof"}, "url": {h.partner}, "overlap": {"0s"}}
	for pattern, at := range h.portalPaths(http.MethodPost) {
		if pattern == "POST /logout" {
			continue
		}
		a := v.send(at, form)
		a.want(t, http.StatusForbidden)
		a.wantSound(t)
		if strings.Contains(a.text, "whsec_") || !strings.Contains(a.text, "may look and change nothing") && !strings.Contains(a.text, "only look, may not do this") {
			t.Errorf("%s: %s", pattern, a.text)
		}
	}
	for line := range strings.Lines(h.tell("GET", "/audit", "")) {
		if strings.Contains(line, `"actor":"lnk_`) && !strings.Contains(line, `"portal_link.use"`) {
			t.Errorf("somebody who may only look changed something: %s", line)
		}
	}
}

// Whoever came by another company's link, or by one to another callback, gets of acme's what there is of what never was.
func TestPortalLinksShowNothingForeign(t *testing.T) {
	h := newHouse(t)
	foreign, bounded := h.by("other", ""), h.by("acme", fmt.Sprintf(`{"callback_ids":[%d]}`, h.waits))
	ids := []string{fmt.Sprint(h.bad), path.Base(h.delivery(h.bad)), h.event, h.replay()}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		for pattern, at := range h.portalPaths(method) {
			if !strings.Contains(pattern, "{company}") {
				continue
			}
			ask := func(v *visitor, at string) answer {
				if strings.HasSuffix(at, "/live") {
					return v.stream(at)
				}
				if method == http.MethodGet {
					return v.get(at)
				}
				return v.send(at, url.Values{"token": {tokenOn(t, v.get("/portal/types"))}, "state": {"dead"}, "url": {h.partner}, "callback_type": {"*"}, "overlap": {"0s"}})
			}
			want := http.StatusNotFound
			if method == http.MethodGet && (strings.HasSuffix(at, "/new") || strings.HasSuffix(at, "/pause") || strings.HasSuffix(at, "/replay") || strings.HasSuffix(at, "/start")) {
				continue // a form that asks the API nothing; what it sends is refused
			}
			a, never := ask(foreign, at), ask(foreign, strings.Replace(at, "/acme", "/never", 1))
			if a.status != want || never.status != want || a.text != strings.ReplaceAll(never.text, "never", "acme") {
				t.Errorf("%s by another company's link: %d, and %d of a company that never was\n%s\n%s", pattern, a.status, never.status, a.text, never.text)
			}
			if !strings.Contains(pattern, "{callback}") && !strings.Contains(pattern, "{delivery}") {
				continue
			}
			if a := ask(bounded, at); a.status != http.StatusNotFound {
				t.Errorf("%s by a link to another callback: %d %s", pattern, a.status, a.text)
			}
		}
	}
	for _, at := range []string{"/portal/", "/portal/companies/acme/deliveries", "/portal/companies/acme/replays", "/portal/companies/acme/events/" + h.event} {
		a := bounded.get(at)
		for _, id := range []string{"/callbacks/" + ids[0], ids[1]} {
			if a.want(t, http.StatusOK); strings.Contains(a.text, id+`"`) {
				t.Errorf("%s shows %s, which lies outside", at, id)
			}
		}
	}
	bounded.get("/portal/companies/acme/events/elsewhere").want(t, http.StatusNotFound)
	bounded.get("/portal/companies/other/events/elsewhere").want(t, http.StatusNotFound)
	if a := bounded.get("/portal/"); strings.Contains(a.text, "/new") {
		t.Error("whoever is bounded to some callbacks is offered to register others")
	}
	bounded.get(fmt.Sprintf("/portal/companies/acme/callbacks/%d", h.waits)).want(t, http.StatusOK, "Pause…")
	if a := bounded.stream("/portal/companies/acme/live"); a.status != http.StatusOK || a.header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("the list does not go live: %d %s", a.status, a.text)
	}
}

// A link is used up by its button alone. Whatever is wrong with it is said, with what to do.
func TestPortalLinksOpenOnce(t *testing.T) {
	h := newHouse(t)
	token, id := h.link("acme", "")
	v := &visitor{h, "", map[string]string{}}
	var page answer
	for range 3 { // mail scanners, and people who look twice
		page = v.get("/portal/enter/" + token)
		page.want(t, http.StatusOK, "Open").wantSound(t)
		v.do(httptest.NewRequestWithContext(t.Context(), http.MethodHead, "/portal/enter/"+token, nil)).want(t, http.StatusOK)
	}
	if policy := page.header.Get("Referrer-Policy"); policy != "strict-origin" {
		t.Errorf("the token gets out with Referrer-Policy %q", policy)
	}
	if said := h.tell("GET", "/companies/acme/portal-links/"+id, ""); !strings.Contains(said, `"status":"unused"`) || len(v.cookies) > 0 {
		t.Fatalf("looking at the link used it: %s", said)
	}
	v.follow(v.submit(page, "/portal/enter", nil)).want(t, http.StatusOK, "acme")
	if strings.Contains(v.cookies["ringback_portal"], token) {
		t.Error("the link's token is in the cookie")
	}
	other := &visitor{h, "", map[string]string{}}
	other.submit(page, "/portal/enter", nil).want(t, http.StatusUnauthorized, "This link was used before", "ask for another one").wantSound(t)
	for _, wrong := range []string{"", "rbl_nonsense", token[:len(token)-1], strings.Replace(token, "acme", "other", 1)} {
		other.submit(page, "/portal/enter", url.Values{"link": {wrong}}).want(t, http.StatusUnauthorized, "not one of ours, or it was taken back", "ask whoever gave it to you").wantSound(t)
	}
	revoked, id := h.link("acme", "")
	h.tell("DELETE", "/companies/acme/portal-links/"+id, "")
	other.submit(page, "/portal/enter", url.Values{"link": {revoked}}).want(t, http.StatusUnauthorized, "taken back")
	if len(other.cookies) > 0 {
		t.Errorf("a link that does not open gave a cookie: %v", other.cookies)
	}
	v.get("/portal/").want(t, http.StatusOK)
	for _, at := range []string{"/portal/enter/" + token, "/portal/types"} {
		for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodPost} {
			r := httptest.NewRequestWithContext(t.Context(), method, at, nil)
			r.Header.Set("Sec-Fetch-Site", "same-origin")
			a := v.do(r)
			if a.want(t, http.StatusMethodNotAllowed, "This page takes no "+method); a.header.Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s allows %q", method, at, a.header.Get("Allow"))
			}
		}
	}
}

// A link that has expired says so.
func TestExpiredPortalLinks(t *testing.T) {
	h := newHouse(t)
	token, id := h.link("acme", "")
	rdb := h.redis.Client()
	stored, err := rdb.HGet(t.Context(), "{acme}:links", id).Result()
	h.must(err)
	var l map[string]any
	h.must(json.Unmarshal([]byte(stored), &l))
	l["ends"] = time.Now().Add(-time.Minute).UnixMilli()
	text, err := json.Marshal(l)
	h.must(err)
	h.must(rdb.HSet(t.Context(), "{acme}:links", id, text).Err())
	v := &visitor{h, "", map[string]string{}}
	v.submit(v.get("/portal/enter/"+token), "/portal/enter", nil).want(t, http.StatusUnauthorized, "This link has expired", "ask whoever gave it to you for another one").wantSound(t)
}

// Whoever guesses links has to wait, as whoever guesses keys does. A good link opens all the same.
func TestGuessersOfLinksWait(t *testing.T) {
	h := newHouse(t)
	v := &visitor{h, "", map[string]string{}}
	token, _ := h.link("acme", "")
	page := v.get("/portal/enter/" + token)
	var last answer
	for range 110 {
		last = v.submit(page, "/portal/enter", url.Values{"link": {"rbl_guess"}})
	}
	last.want(t, http.StatusTooManyRequests, "Too many wrong links").wantSound(t)
	if last.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	for range 110 { // each second there is one guess more
		last = v.send("/portal/login", url.Values{"key": {"rbk_guess"}})
	}
	last.want(t, http.StatusTooManyRequests)
	v.submit(page, "/portal/enter", nil).want(t, http.StatusSeeOther)
}

// A visit ends with the logout, and with the link at once.
func TestPortalVisitsEnd(t *testing.T) {
	h := newHouse(t)
	v := h.by("acme", "")
	cookie := v.cookies["ringback_portal"]
	v.submit(v.get("/portal/"), "/portal/logout", nil).want(t, http.StatusSeeOther)
	v.cookies["ringback_portal"] = cookie
	v.get("/portal/").want(t, http.StatusUnauthorized, "Your visit has ended: ask whoever gave you the link for another one").wantSound(t)

	token, id := h.link("acme", "")
	v = &visitor{h, "", map[string]string{}}
	v.follow(v.submit(v.get("/portal/enter/"+token), "/portal/enter", nil)).want(t, http.StatusOK)
	page := v.get("/portal/types")
	h.tell("DELETE", "/companies/acme/portal-links/"+id, "")
	v.get("/portal/").want(t, http.StatusUnauthorized, "Your visit has ended")
	v.submit(page, "/portal/logout", nil).want(t, http.StatusUnauthorized)

	v = &visitor{h, "", map[string]string{}}
	v.send("/portal/login", url.Values{"key": {h.has["partner"]}}).want(t, http.StatusSeeOther)
	if strings.Contains(v.cookies["ringback_portal"], h.has["partner"]) {
		t.Error("the key is in the cookie")
	}
	v.get("/portal/").want(t, http.StatusOK)
	v.cookies["ringback_console"] = v.cookies["ringback_portal"]
	v.get("/console/types").want(t, http.StatusUnauthorized)
	h.must(h.keys.Revoke(t.Context(), registryID(h.has["partner"])))
	v.get("/portal/").want(t, http.StatusUnauthorized)
	for _, actor := range []string{"operator", "viewer", "acme operator", "producer"} {
		h.showing(actor).get("/portal/").want(t, http.StatusForbidden, "These pages are for partners")
	}
}

// A form of the portal is taken from a page of the same origin with the token of the visit, and of nobody else.
func TestPortalFormsFromElsewhereAreRefused(t *testing.T) {
	h := newHouse(t)
	v, other := h.by("acme", ""), h.by("acme", "")
	pause := fmt.Sprintf("/portal/companies/acme/callbacks/%d/pause", h.waits)
	link, _ := h.link("acme", "")
	from := func(v *visitor, at, origin, site string, form url.Values) answer {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, at, strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", origin)
		if site != "" {
			r.Header.Set("Sec-Fetch-Site", site)
		}
		return v.do(r)
	}
	own := url.Values{"token": {tokenOn(t, v.get("/portal/types"))}}
	for name, a := range map[string]answer{
		"no token":               from(v, pause, "http://example.com", "same-origin", nil),
		"another visitor's":      from(v, pause, "http://example.com", "same-origin", url.Values{"token": {tokenOn(t, other.get("/portal/types"))}}),
		"another site":           from(v, pause, "http://evil.example", "cross-site", own),
		"another site, old":      from(v, pause, "http://evil.example", "", own),
		"a site beside this one": from(v, pause, "http://www.example.com", "same-site", own),
		"no origin":              from(v, pause, "null", "", own),
		"a link from elsewhere":  from(other, "/portal/enter", "http://evil.example", "cross-site", url.Values{"link": {link}}),
		"a login from elsewhere": from(other, "/portal/login", "http://evil.example", "cross-site", url.Values{"key": {h.has["partner"]}}),
	} {
		if a.status != http.StatusForbidden {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
	}
	for pattern, at := range h.portalPaths(http.MethodPost) {
		for _, v := range []*visitor{v, h.showing("partner")} {
			if a := v.send(at, url.Values{"token": {"AAAA"}}); a.status != http.StatusForbidden {
				t.Errorf("%s without a token: %d", pattern, a.status)
			}
		}
	}
	if said := h.tell("GET", fmt.Sprintf("/companies/acme/config/callbacks/%d", h.waits), ""); !strings.Contains(said, `"status":"enabled"`) {
		t.Errorf("a forged form was taken: %s", said)
	}
	from(v, pause, "http://example.com", "same-origin", own).want(t, http.StatusSeeOther)
}

// A partner registers a callback, tests it, sees why it fails, mends it, and sends again what failed, without script.
func TestPartnerHelpsHimself(t *testing.T) {
	h := newHouse(t)
	v := h.by("other", "")
	const company = "/portal/companies/other"
	form := v.get(company+"/new").want(t, http.StatusOK)
	v.submit(form, company+"/new", url.Values{"callback_type": {"payment_prof"}, "url": {"ftp://x"}, "timeout": {"soon"}, "match": {"a"}}).
		want(t, http.StatusUnprocessableEntity, "must have a line for each attribute", `value="payment_prof"`).wantSound(t)
	v.submit(form, company+"/new", url.Values{"callback_type": {"payment_prof"}, "url": {"ftp://x"}, "timeout": {"soon"}, "max_attempts": {"many"}}).
		want(t, http.StatusUnprocessableEntity, "payment_proof", "body.destination.url", "body.timeout", "must be a whole number from 1 to 100", `value="ftp://x"`).wantSound(t)
	made := v.submit(form, company+"/new", url.Values{"callback_type": {"payment_proof"}, "url": {h.partner + "/down"}, "max_attempts": {"1"}})
	made.want(t, http.StatusOK, "is registered", "whsec_", "data-instead=").wantSound(t)
	var at strings.Builder
	for n := range elements(made.parse(t), "section") {
		at.WriteString(attribute(n, "data-instead"))
	}
	if page := v.get(at.String()).want(t, http.StatusOK, "Edit…", "New secret…"); strings.Contains(page.text, "whsec_") {
		t.Error("the secret is shown twice")
	}
	v.submit(v.get(at.String()+"/test"), at.String()+"/test", nil).want(t, http.StatusOK, "HTTP 503", "the endpoint is down or overloaded")

	h.tell("POST", "/companies/other/events", `{"event_type":"payment_proof","event_id":"lost","payload":{"requestId":"r-9","status":"OK"}}`)
	h.await(func() bool { return strings.Contains(v.get(company+"/deliveries?state=dead").text, `>lost<`) })

	edit := v.get(at.String()+"/edit").want(t, http.StatusOK, `value="`+h.partner+`/down"`)
	v.submit(edit, at.String()+"/edit", url.Values{"url": {"http://10.0.0.1/x"}}).want(t, http.StatusUnprocessableEntity).wantSound(t)
	v.follow(v.submit(edit, at.String()+"/edit", url.Values{"url": {h.partner + "/well"}})).want(t, http.StatusOK, "is changed")
	v.submit(v.get(at.String()+"/test"), at.String()+"/test", nil).want(t, http.StatusOK, "delivered")
	ask := v.submit(v.get(at.String()+"/replay"), at.String()+"/replay", url.Values{"since": {"1h"}}).want(t, http.StatusOK, "This is 1 delivery: dead.")
	v.follow(v.submit(ask, at.String()+"/replay", nil)).want(t, http.StatusOK, "1 delivery go out again")
	h.await(func() bool { return strings.Contains(v.get(company+"/deliveries?state=delivered").text, `>lost<`) })

	rotate := v.get(at.String()+"/secret").want(t, http.StatusOK, "for a day")
	v.submit(rotate, at.String()+"/secret", nil).want(t, http.StatusOK, "has a new secret", "whsec_", "requests are signed with the secret before, too").wantSound(t)
	v.get(at.String()+"/secret").want(t, http.StatusOK, "At the moment a secret before signs, too, until")
	v.submit(rotate, at.String()+"/secret", nil).want(t, http.StatusPreconditionFailed, "It may have a new secret already") // as a browser does that loads the page again
	if now := v.submit(v.get(at.String()+"/secret"), at.String()+"/secret", url.Values{"overlap": {"0s"}}).want(t, http.StatusOK, "whsec_"); strings.Contains(now.text, "secret before, too") {
		t.Error("an overlap is shown where there is none")
	}
	ask = v.get(at.String()+"/delete").want(t, http.StatusOK, "<dt>Destination</dt><dd>"+h.partner+"/well</dd>")
	v.follow(v.submit(ask, at.String()+"/delete", nil)).want(t, http.StatusOK, "is deleted")
	v.get(at.String()).want(t, http.StatusNotFound)
}

// A partner sends again what failed, over all callbacks of the company, once it was counted. Whoever is bounded to some callbacks is not offered that.
func TestPartnersReplayAll(t *testing.T) {
	h := newHouse(t)
	v, bounded := h.by("acme", ""), h.by("acme", fmt.Sprintf(`{"callback_ids":[%d]}`, h.bad))
	const replays = "/portal/companies/acme/replays"
	v.get(replays).want(t, http.StatusOK, replays+"/start")
	ask := v.submit(v.get(replays+"/start"), replays+"/start", url.Values{"state": {"dead"}, "since": {"1h"}}).want(t, http.StatusOK, "1 delivery")
	shown := v.follow(v.submit(ask, replays+"/start", nil)).want(t, http.StatusOK, "1 delivery go out again")
	shown.wantSound(t)
	v.get(replays).want(t, http.StatusOK, "/replays/rpl_")
	if a := bounded.get(replays).want(t, http.StatusOK); strings.Contains(a.text, "/start") {
		t.Error("whoever is bounded to some callbacks is offered to replay all")
	}
	bounded.submit(bounded.get(replays+"/start"), replays+"/start", url.Values{"state": {"dead"}}).want(t, http.StatusForbidden)
}

// What a form does not show stays as it is, and so does what nobody touched.
func TestEditsKeepWhatIsSetElsewhere(t *testing.T) {
	h := newHouse(t)
	v := h.by("acme", "")
	var made struct {
		ID int64 `json:"callback_id"`
	}
	h.must(json.Unmarshal([]byte(h.tell("POST", "/companies/acme/config/callbacks", `{"callback_type":"payment_proof","batch":{"max_events":250,"element":"envelope"},
		"destination":{"url":"`+h.partner+`/well"}}`)), &made))
	of := fmt.Sprintf("/portal/companies/acme/callbacks/%d", made.ID)
	v.get(of).want(t, http.StatusOK, "up to 250 events")
	v.submit(v.get(of+"/edit"), of+"/edit", url.Values{"timeout": {"30s"}}).want(t, http.StatusSeeOther)
	v.get(of).want(t, http.StatusOK, "30s", "up to 250 events or 262144 bytes, for up to 5s, each as envelope")

	h.must(json.Unmarshal([]byte(h.tell("POST", "/companies/acme/config/callbacks", `{"callback_type":"wallet_item_install","wallet_item_install":{"campaign_token":"r3zhm8"},
		"destination":{"url":"`+h.partner+`/well?token=s3cr3t","method":"PUT","content_type":"application/x-www-form-urlencoded"},"description":"two\nlines ",
		"headers":{"X-Tenant":"t-1"},"auth":{"type":"basic","username":"u","password":"p"},"trace":true,"timeout":"20s","success":"any_2xx",
		"retry":{"initial_interval":"7s","multiplier":3,"max_interval":"2h","max_attempts":4},"rate_limit":{"per_second":2.5,"burst":9},"envelope":"cloudevents-binary","ordering":{"key":"/wallet_item/uuid","skip_after":"24h"},
		"filter":{"not":[{"pointer":"/wallet_item/uuid","op":"equals","value":"<x>"}]},"template":{"item":{"$pointer":"/wallet_item"}}}`)), &made))
	path := fmt.Sprintf("/companies/acme/config/callbacks/%d", made.ID)
	at := fmt.Sprintf("/portal/companies/acme/callbacks/%d", made.ID)
	read := func() map[string]any {
		var cb map[string]any
		h.must(json.Unmarshal([]byte(h.tell("GET", path, "")), &cb))
		for _, moves := range []string{"updated_at"} {
			delete(cb, moves)
		}
		return cb
	}
	if page := v.get(at).text; !strings.Contains(page, "&lt;x&gt;") || !strings.Contains(page, "$pointer") || !strings.Contains(page, "by <code>/wallet_item/uuid</code>; the next waits for 24h") {
		t.Errorf("the page does not show the filter and the template: %s", page)
	}
	before := read()
	same := func(fill url.Values, change func(map[string]any)) {
		t.Helper()
		v.submit(v.get(at+"/edit"), at+"/edit", fill).want(t, http.StatusSeeOther)
		change(before)
		want, _ := json.Marshal(before)
		got, _ := json.Marshal(read())
		if string(got) != string(want) {
			t.Errorf("after %v:\n%s\nwant\n%s", fill, got, want)
		}
	}
	same(nil, func(map[string]any) {})
	same(url.Values{"timeout": {"30s"}, "max_attempts": {"5"}}, func(cb map[string]any) {
		cb["timeout"] = "30s"
		cb["retry"].(map[string]any)["max_attempts"] = 5
	})
	same(url.Values{"per_second": {"3"}}, func(cb map[string]any) { cb["rate_limit"].(map[string]any)["per_second"] = 3 })
	same(url.Values{"per_second": {""}, "description": {""}, "success": {""}}, func(cb map[string]any) {
		delete(cb, "rate_limit")
		delete(cb, "description")
		delete(cb, "success")
	})
	same(url.Values{"match": {"campaign_token=other"}}, func(cb map[string]any) { cb["wallet_item_install"] = map[string]any{"campaign_token": "other"} })
	same(url.Values{"match": {""}}, func(cb map[string]any) { delete(cb, "wallet_item_install") })
	same(url.Values{"match": {"campaign_token=r3zhm8"}}, func(cb map[string]any) { cb["wallet_item_install"] = map[string]any{"campaign_token": "r3zhm8"} })
	same(url.Values{"callback_type": {"wallet_*"}, "match": {""}}, func(cb map[string]any) {
		delete(cb, "wallet_item_install")
		cb["callback_type"], cb["event_type"] = "wallet_*", "wallet_*"
	})
}

// What needs the partner is said on the first page: once for the callbacks whose rows say why, and with the API's words for those of other pages.
func TestNotices(t *testing.T) {
	h := newHouse(t)
	v := h.by("acme", "")
	if a := v.get("/portal/"); strings.Contains(a.text, "What needs you") {
		t.Error("there is nothing to say yet")
	}
	gone := []int64{h.register("acme", h.partner+"/gone", `"retry":{"max_attempts":1}`), h.register("acme", h.partner+"/gone", `"retry":{"max_attempts":1}`)}
	h.tell("POST", "/companies/acme/events", `{"event_type":"payment_proof","event_id":"last","payload":{"requestId":"r-9","status":"OK"}}`)
	for _, id := range gone {
		h.await(func() bool {
			return strings.Contains(h.tell("GET", fmt.Sprintf("/companies/acme/config/callbacks/%d", id), ""), `"status":"disabled"`)
		})
	}
	link := func(id int64) string {
		return fmt.Sprintf(`<a href="/portal/companies/acme/callbacks/%[1]d">callback %[1]d</a>`, id)
	}
	a := v.get("/portal/").want(t, http.StatusOK, "What needs you", "<b>Disabled (gone):</b> "+link(gone[0])+", "+link(gone[1])+". What is for it waits", "410")
	a.wantSound(t)
	if strings.Contains(a.text, "Last failure: ") {
		t.Error("a notice says what the list says")
	}
	v.get("/portal/?status=enabled").want(t, http.StatusOK, "<b>Disabled (gone):</b> "+link(gone[1])+". What is for it waits until it is resumed. Last failure: ", "410")
}

// An event's page shows the payload, as text, to whoever may see it.
func TestPayloads(t *testing.T) {
	h := newHouse(t)
	at := "companies/acme/events/markup"
	h.tell("POST", "/companies/acme/events", `{"event_type":"payment_proof","event_id":"markup","payload":{"requestId":"<b>r</b>","status":"OK"}}`)
	h.showing("partner").get("/portal/"+at).want(t, http.StatusOK, `{&#34;requestId&#34;:&#34;&lt;b&gt;r&lt;/b&gt;&#34;`, `href="/portal/`+at+`/payload"`)
	h.showing("operator").get("/console/"+at).want(t, http.StatusOK, "&lt;b&gt;r&lt;/b&gt;", `href="/console/`+at+`/payload"`)
	if a := h.showing("operator").get("/console/" + at + "/payload"); a.text != `{"requestId":"<b>r</b>","status":"OK"}` || a.header.Get("Content-Type") != "application/json" || a.header.Get("Repr-Digest") == "" {
		t.Errorf("%v %s", a.header, a.text)
	}
	if a := h.showing("viewer").get("/console/"+at).want(t, http.StatusOK); strings.Contains(a.text, "Payload") || strings.Contains(a.text, "requestId") {
		t.Error("a viewer sees a payload")
	}
	h.showing("viewer").get("/console/"+at+"/payload").want(t, http.StatusForbidden)
	long := strings.Repeat("x", maxShown)
	h.tell("POST", "/companies/acme/events", `{"event_type":"payment_proof","event_id":"long","payload":{"requestId":"`+long+`","status":"OK"}}`)
	if a := h.showing("partner").get("/portal/companies/acme/events/long").want(t, http.StatusOK, "As a file", "bytes, as they came in"); strings.Contains(a.text, long) {
		t.Error("a long payload is on the page")
	}
}

// serve has the portal answer a request as it is.
func (h *house) serve(r *http.Request) answer {
	w := httptest.NewRecorder()
	h.guest.ServeHTTP(w, r)
	return answer{w.Code, w.Result().Header, w.Body.String()}
}

// raw asks the portal for a path, as nobody.
func (h *house) raw(path string) answer {
	return h.serve(httptest.NewRequestWithContext(h.t.Context(), http.MethodGet, path, nil))
}

// newForm is a form that a page of the same origin sends.
func newForm(t *testing.T, path string, form url.Values) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", "http://"+r.Host)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return r
}

// A patch names what differs, and nothing else, so that what others change meanwhile stays.
func TestPatchesNameWhatDiffers(t *testing.T) {
	had := map[string]string{"callback_type": "wallet_item_install", "url": "https://a.example", "timeout": "15s", "match": "campaign_token=a\nuuid=b"}
	for name, tt := range map[string]struct {
		change map[string]string
		block  string
		want   string
	}{
		"nothing":                {nil, "wallet_item_install", `{}`},
		"lines end otherwise":    {map[string]string{"match": "campaign_token=a\r\nuuid=b\r\n"}, "wallet_item_install", `{}`},
		"a setting":              {map[string]string{"url": "https://b.example"}, "wallet_item_install", `{"destination":{"url":"https://b.example"}}`},
		"an emptied setting":     {map[string]string{"timeout": ""}, "wallet_item_install", `{"timeout":null}`},
		"an attribute":           {map[string]string{"match": "uuid=c=d"}, "wallet_item_install", `{"wallet_item_install":{"campaign_token":null,"uuid":"c=d"}}`},
		"under another's name":   {map[string]string{"match": "uuid=c"}, "wallet_item_remove", `{"wallet_item_remove":{"campaign_token":null,"uuid":"c"}}`},
		"no attributes":          {map[string]string{"match": ""}, "wallet_item_install", `{"wallet_item_install":null}`},
		"the first attribute":    {map[string]string{"match": "uuid=c"}, "", `{"wallet_item_install":{"uuid":"c"}}`},
		"another type":           {map[string]string{"callback_type": "wallet_item_remove"}, "wallet_item_install", `{"callback_type":"wallet_item_remove","wallet_item_install":null,"wallet_item_remove":{"campaign_token":"a","uuid":"b"}}`},
		"another type, no match": {map[string]string{"callback_type": "*", "match": ""}, "wallet_item_install", `{"callback_type":"*","wallet_item_install":null}`},
	} {
		given := maps.Clone(had)
		maps.Copy(given, tt.change)
		for field := range given {
			given[field] = sentText(given[field])
		}
		before := maps.Clone(had)
		if tt.block == "" {
			before["match"] = ""
		}
		patch, err := patchOf(before, given, tt.block)
		if got, _ := json.Marshal(patch); string(got) != tt.want || err != nil {
			t.Errorf("%s: %s, want %s (%v)", name, got, tt.want, err)
		}
	}
	if _, err := patchOf(had, map[string]string{"match": "no equals sign"}, ""); err == nil {
		t.Error("a line without a value is taken")
	}
}

// The page with the code that verifies has all of it, each with one place for the secret.
func TestVerificationCode(t *testing.T) {
	h := newHouse(t)
	page := h.by("acme", `{"read_only":true}`).get("/portal/verification").want(t, http.StatusOK)
	var shown []string
	for n := range elements(page.parse(t), "pre") {
		shown = append(shown, strings.Join(strings.Fields(fieldText(n)), " "))
	}
	for i, s := range snippets() {
		if i >= len(shown) || shown[i] != strings.Join(strings.Fields(s.Text), " ") || strings.Count(shown[i], "whsec_…") != 1 {
			t.Errorf("the page does not show %s", s.Language)
		}
	}
}
