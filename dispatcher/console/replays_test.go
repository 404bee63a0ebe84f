package console

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// Deliveries of many callbacks and companies go out again once their number was shown: the dead, by reason, since a time, at a pace; and those that are
// retrying, whose next attempt is made at once. How far it is, is shown, and it is stopped once somebody said so twice.
func TestReplaysOverCompanies(t *testing.T) {
	h := newHouse(t)
	v := h.loggedIn("operator")
	const start = "/console/replays/start"
	form := v.get(start+"?reason=status_503").want(t, http.StatusOK, `name="reason" value="status_503"`, `name="companies"`, `value="dead" checked`)
	v.submit(form, start, url.Values{"reason": {"timeout"}}).want(t, http.StatusOK, "No delivery fits")
	for says, fill := range map[string]url.Values{
		"from 1; leave it out": {"pace": {"fast"}}, "deliveries a second, 1 to": {"pace": {"99999999"}}, "choose one at least": {"state": nil}, "is no company": {"companies": {"nobody"}},
	} {
		v.submit(form, start, fill).want(t, http.StatusUnprocessableEntity, says).wantSound(t)
	}
	ask := v.submit(form, start, url.Values{"companies": {"acme, other"}, "since": {"1h"}, "pace": {"5"}}).want(t, http.StatusOK, "This is 1 delivery: dead.", "acme, other", "status_503")
	ask.wantSound(t)
	v.get("/console/replays").want(t, http.StatusOK, "There is none")
	shown := v.follow(v.submit(ask, start, nil)).want(t, http.StatusOK, "1 delivery go out again", "acme, other", "5 at most", "status_503")
	shown.wantSound(t)
	v.get("/console/replays").want(t, http.StatusOK, "rpl_", "all of acme, other", "of 1")

	// What is retrying goes now.
	ask = v.submit(v.get(start+"?state=retrying").want(t, http.StatusOK), start, nil).want(t, http.StatusOK, "retrying.", "make their next attempt at once")
	running := v.follow(v.submit(ask, start, nil)).want(t, http.StatusOK, "Load again")
	delivery := h.delivery(h.waits)
	h.await(func() bool { return strings.Contains(v.get("/console"+delivery).text, "Attempt 2 ") })
	at := idOf(t, running)
	ask = v.get(at+"/cancel").want(t, http.StatusOK, "went out again so far")
	v.follow(v.submit(ask, at+"/cancel", nil)).want(t, http.StatusOK, "The replay is stopped.")

	h.await(func() bool { return strings.Contains(v.get(at).text, "Company by company") })
	v.get(at).want(t, http.StatusOK, "/console/companies/acme/replays").wantSound(t)
}

// idOf is the address of the replay that a page shows.
func idOf(t *testing.T, a answer) string {
	t.Helper()
	for n := range elements(a.parse(t), "a") {
		if href := attribute(n, "href"); strings.HasSuffix(href, "/cancel") {
			return strings.TrimSuffix(href, "/cancel")
		}
	}
	t.Fatalf("nothing stops it: %s", a.text)
	return ""
}

// A company's own replay goes over its callbacks, or some of them.
func TestReplaysOverCallbacks(t *testing.T) {
	h := newHouse(t)
	v := h.showing("acme operator")
	const start = "/console/companies/acme/replays/start"
	v.get("/console/companies/acme").want(t, http.StatusOK, start)
	form := v.get(start).want(t, http.StatusOK, `name="callback_ids"`)
	v.submit(form, start, url.Values{"callback_ids": {"all"}}).want(t, http.StatusUnprocessableEntity, "must be callbacks&#39; ids").wantSound(t)
	v.submit(form, start, url.Values{"callback_ids": {"7"}}).want(t, http.StatusUnprocessableEntity, "is no callback of this company").wantSound(t)
	v.submit(form, start, url.Values{"callback_ids": {fmt.Sprint(h.waits)}}).want(t, http.StatusOK, "No delivery fits")
	ask := v.submit(form, start, url.Values{"callback_ids": {fmt.Sprintf("%d, %d", h.bad, h.waits)}}).want(t, http.StatusOK, "This is 1 delivery: dead.")
	v.follow(v.submit(ask, start, nil)).want(t, http.StatusOK, fmt.Sprintf("callbacks %d, %d", h.bad, h.waits))
	v.get("/console/companies/acme/replays").want(t, http.StatusOK, fmt.Sprintf("callbacks %d, %d", h.bad, h.waits), start)
	for _, at := range []string{"/console/replays", "/console/replays/" + h.bulk()} {
		v.get(at).want(t, http.StatusForbidden)
	}
}

// From the overview a way leads to sending again what is dead, by reason and by callback, and to trying now what is retrying; for operators alone.
func TestTheOverviewLeadsToReplays(t *testing.T) {
	h := newHouse(t)
	ways := []string{"/console/replays/start?reason=status_503", "/console/replays/start?state=retrying", fmt.Sprintf("/console/companies/acme/callbacks/%d/replay?state=dead&amp;state=retrying", h.bad)}
	h.showing("operator").get("/console/").want(t, http.StatusOK, ways...)
	for _, way := range ways {
		h.showing("operator").get(strings.ReplaceAll(way, "&amp;", "&")).want(t, http.StatusOK, "checked").wantSound(t)
		if strings.Contains(h.showing("viewer").get("/console/").text, way) {
			t.Errorf("a viewer is led to %s", way)
		}
	}
}
