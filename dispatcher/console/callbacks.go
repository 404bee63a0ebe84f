package console

import (
	"encoding/json"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/ringback/ringback/dispatcher/client"
)

// A callbackRow is a callback in a list.
type callbackRow struct {
	*client.Callback
	Href string
	Last template.HTML // a drawing of the last deliveries; empty: none
}

// A companyView is a company's page.
type companyView struct {
	Rows     []callbackRow
	Statuses []choice
	Action   string
	Type     string
	On       bool
	Links    []link
	Pager    pager
	Company  string

	Sparks  bool       // callbacks have a drawing of their last deliveries
	Notices []notice   // what needs the partner
	New     string     // where a callback is registered; empty: not here
	Find    *eventForm // finds the company's events; nil: not here

	Certificate *client.TLS // that callbacks show which have none of their own; nil: none
}

// companyPage lists a company's callbacks.
func companyPage(v *visit) error {
	company := v.r.PathValue("company")
	given := v.r.URL.Query()
	query := url.Values{}
	for _, name := range []string{"status", "callback_type", "cursor"} {
		if value := given.Get(name); value != "" {
			query.Set(name, value)
		}
	}
	if v.partners {
		query.Set("limit", strconv.Itoa(sparkRows))
	}
	var list client.CallbackPage
	if err := v.get(&list, query, "companies", company, "config", "callbacks"); err != nil {
		return err
	}
	page := companyView{Action: v.r.URL.EscapedPath(), Type: given.Get("callback_type"), Pager: v.pagerOf(list.NextCursor), On: query.Has("status") || query.Has("callback_type"), Company: company, Sparks: v.partners}
	page.Links = []link{
		{v.path("companies", company, "deliveries"), "Deliveries"},
		{v.path("companies", company, "deliveries") + "?state=dead", "Dead"},
		{v.path("companies", company, "deliveries") + "?state=held&state=retrying", "Waiting"},
		{v.path("companies", company, "replays"), "Replays"},
	}
	if v.operatesAll() {
		page.New = v.path("companies", company, "new")
	}
	if v.operates() && !v.partners {
		page.Links = append(page.Links, link{v.path("companies", company, "replays", "start"), "Replay…"}, link{v.path("keys") + "?" + url.Values{"company": {company}}.Encode(), "Keys"})
		page.Links = append(page.Links, link{v.path("audit") + "?" + url.Values{"company": {company}}.Encode(), "Audit"})
	}
	if !v.partners {
		f, err := v.eventFormOf(url.Values{"company": {company}})
		if err != nil {
			return err
		}
		f.AsksCompany, f.Company, page.Find = false, company, &f
	}
	var err error
	if page.Certificate, err = v.certificateOf(company); err != nil {
		return err
	}
	for _, status := range []string{"", "enabled", "paused", "disabled", "unverified"} {
		label := pillOf(status).Word
		if status == "" {
			label = "any"
		}
		page.Statuses = append(page.Statuses, choice{"status", status, label, given.Get("status") == status})
	}
	for _, cb := range list.Callbacks {
		page.Rows = append(page.Rows, callbackRow{Callback: cb, Href: v.path("companies", company, "callbacks", strconv.FormatInt(cb.CallbackID, 10))})
	}
	if v.partners {
		if err := v.forPartners(&page, list.Callbacks); err != nil {
			return err
		}
	}
	return v.show(sheet{template: "company", title: company, kicker: "Company", company: company, main: page})
}

// certificateOf is the company's client certificate; nil if it has none, or the visitor may not see it.
func (v *visit) certificateOf(company string) (*client.TLS, error) {
	t := &client.TLS{}
	err := v.get(t, nil, "companies", company, "tls")
	if refused, ok := errors.AsType[*client.APIError](err); ok && (refused.Status == http.StatusNotFound || refused.Status == http.StatusForbidden) {
		return nil, nil //nolint:nilnil // documented
	}
	return t, err
}

// forPartners adds what the page of a company has for its partner.
func (v *visit) forPartners(page *companyView, shown []*client.Callback) (err error) {
	if page.Notices, err = v.notices(page.Company, shown); err != nil {
		return err
	}
	of := link{v.path("companies", page.Company), "all callbacks without one of their own"}
	if n, ok := expiring(page.Certificate, of, "give the company the next one in time", time.Now()); ok {
		page.Notices = append(page.Notices, n)
	}
	for i := range page.Rows {
		if page.Rows[i].Last, err = v.lastOf(page.Company, page.Rows[i].CallbackID); err != nil {
			return err
		}
	}
	return nil
}

// at names the callback that a page is about.
func (v *visit) at() (company, id string, path []string) {
	company, id = v.r.PathValue("company"), v.r.PathValue("callback")
	return company, id, []string{"companies", company, "callbacks", id}
}

// callbackOf asks for the callback that a page is about.
func (v *visit) callbackOf() (*client.Callback, error) {
	cb, _, err := v.versionOf()
	return cb, err
}

// versionOf asks for the callback that a page is about, and for the version that its settings have.
func (v *visit) versionOf() (cb *client.Callback, version string, err error) {
	company, id, _ := v.at()
	got, err := v.raw("companies", company, "config", "callbacks", id)
	if err != nil {
		return nil, "", err
	}
	cb = &client.Callback{}
	return cb, got.header.Get("ETag"), json.Unmarshal(got.body.Bytes(), cb)
}

// callbackPage shows a callback and its deliveries.
func callbackPage(v *visit) error {
	company, id, here := v.at()
	cb, err := v.callbackOf()
	if err != nil {
		return err
	}
	f, list, err := v.deliveriesOf(company, cb.CallbackID)
	if err != nil {
		return err
	}
	page := struct {
		*client.Callback
		Filter                            filter
		List                              deliveryList
		FailureHref, TokenFailureHref     string
		Pause, Resume, Test, Replay, Back string
		Verify                            *act
		Edit, Secret, Key                 string
		Delete, Code                      string // of partners' pages
	}{Callback: cb, Filter: f, List: list}
	page.FailureHref, page.TokenFailureHref = v.failureHref(company, cb.LastFailure), v.failureHref(company, cb.LastTokenFailure)
	if v.operates() {
		to := func(verb string) string { return v.path(slices.Concat(here, []string{verb})...) }
		switch cb.Status {
		case "enabled":
			page.Pause = to("pause")
		case "unverified":
			page.Verify = v.act("Challenge the endpoint", "primary", slices.Concat(here, []string{"verify"})...)
			page.Resume = to("resume")
		default:
			page.Resume = to("resume")
		}
		page.Replay = to("replay")
		if !cb.Destination.Pull {
			page.Test = to("test")
		}
		page.Edit = to("edit")
		if v.partners {
			page.Delete = to("delete")
		}
		if !cb.Destination.Pull {
			page.Secret = to("secret")
		}
		if signsByKey(cb) {
			page.Key = to("signing-key")
		}
	}
	if v.partners && !cb.Destination.Pull {
		page.Code = v.path("verification")
	}
	status := http.StatusOK
	if f.Trouble != nil {
		status = f.Trouble.Status
	}
	return v.show(sheet{template: "callback", status: status, title: "Callback " + id, kicker: "", company: company, crumbs: v.above(company), main: page})
}

// failureHref leads to the delivery that failed last.
func (v *visit) failureHref(company string, f *client.Failure) string {
	if f == nil || f.DeliveryID == "" {
		return ""
	}
	return v.path("companies", company, "deliveries", f.DeliveryID)
}

// waiting says how many deliveries of a callback wait, and for how long.
func waiting(v *visit, cb *client.Callback) string {
	if cb.Held+cb.Pending == 0 {
		return "Nothing waits for it at the moment."
	}
	said := count(cb.Held, "delivery") + " in its room, and " + count(cb.Pending, "delivery") + " on the way or to be tried again"
	if !cb.OldestWaitingAt.IsZero() {
		said += "; the oldest was accepted " + apart(cb.OldestWaitingAt, v.now)
	}
	return said + "."
}

// facts of a callback, for a page that asks whether to do something to it.
func (v *visit) facts(company string, cb *client.Callback) []fact {
	id := strconv.FormatInt(cb.CallbackID, 10)
	facts := []fact{
		{"Company", company, v.path("companies", company)},
		{"Callback", id + " " + cb.CallbackType, v.path("companies", company, "callbacks", id)},
		{"Destination", goesTo(cb.Destination), ""},
		{"Status", pillOf(cb.Status).Word + ", breaker " + pillOf(cb.Breaker).Word, ""},
		{"Dead", figure(cb.Dead), ""},
		{"Failures in a row", figure(cb.ConsecutiveFailures), ""},
	}
	if cb.Description != "" {
		facts = append(facts, fact{"Description", cb.Description, ""})
	}
	if cb.LastFailure != nil {
		facts = append(facts, fact{"Last failure", sentence(cb.LastFailure.Detail), v.failureHref(company, cb.LastFailure)})
	}
	return facts
}

// pausePage asks whether to pause a callback, and does it.
func pausePage(v *visit) error {
	company, id, here := v.at()
	if v.r.Method == http.MethodPost {
		if err := v.post(nil, nil, "companies", company, "config", "callbacks", id, "pause"); err != nil {
			return err
		}
		return v.seen("Callback "+id+" is paused.", here...)
	}
	cb, err := v.callbackOf()
	if err != nil {
		return err
	}
	return v.show(sheet{template: "confirm", title: "Pause callback " + id + "?", company: company, crumbs: v.above(company, link{v.path(here...), "callback " + id}), main: confirmation{
		Says: []string{waiting(v, cb), "While it is paused, its deliveries are held: none goes out, and none is lost. What is under way finishes."},
		Act:  v.act("Pause", "primary", slices.Concat(here, []string{"pause"})...), Back: v.path(here...), Facts: v.facts(company, cb),
	}})
}

// resumePage says what waits for a callback, asks what to do with it, and resumes the callback.
func resumePage(v *visit) error {
	company, id, here := v.at()
	if v.r.Method == http.MethodPost {
		skip := v.r.PostForm.Get("held") == "skip"
		var cb client.Callback
		if err := v.post(&cb, map[string]bool{"skip_held": skip}, "companies", company, "config", "callbacks", id, "resume"); err != nil {
			return err
		}
		if cb.Destination.Pull && !skip {
			return v.seen("Callback "+id+" is resumed. What waited for it can be fetched.", here...)
		}
		if skip {
			return v.seen("Callback "+id+" is resumed. What waited for it is cancelled.", here...)
		}
		return v.seen("Callback "+id+" is resumed. What waited for it goes out, oldest first.", here...)
	}
	cb, err := v.callbackOf()
	if err != nil {
		return err
	}
	c := confirmation{Says: []string{waiting(v, cb)}, Act: v.act("Resume", "primary", slices.Concat(here, []string{"resume"})...), Back: v.path(here...), Facts: v.facts(company, cb)}
	if cb.Held > 0 {
		c.Legend = "What is held (" + figure(cb.Held) + ")"
		goes := "goes out, oldest first and paced"
		if cb.Destination.Pull {
			goes = "can be fetched"
		}
		c.Choices = []choice{{"held", "send", goes, true}, {"held", "skip", "is cancelled; it can be replayed", false}}
	}
	return v.show(sheet{template: "confirm", title: "Resume callback " + id + "?", company: company, crumbs: v.above(company, link{v.path(here...), "callback " + id}), main: c})
}

// verifyCallback challenges a callback's endpoint.
func verifyCallback(v *visit) error {
	company, id, here := v.at()
	var result client.ChallengeResult
	if err := v.post(&result, nil, "companies", company, "config", "callbacks", id, "verify"); err != nil {
		return err
	}
	return v.seen(sentence(result.Detail), here...)
}

// testPage asks for the type of a test, sends it, and shows the attempt.
func testPage(v *visit) error {
	company, id, here := v.at()
	cb, err := v.callbackOf()
	if err != nil {
		return err
	}
	page := struct {
		Act      *act
		Back     string
		Type     string
		Glob     bool
		URL      string
		Result   *client.TestResult
		Attempts []attemptRow
		Trouble  *trouble
		Facts    []fact
	}{
		Act: v.act("Send the test", "primary", slices.Concat(here, []string{"test"})...), Back: v.path(here...), URL: cb.Destination.URL,
		Type: v.r.PostForm.Get("event_type"), Glob: isGlob(cb.CallbackType), Facts: v.facts(company, cb),
	}
	status := http.StatusOK
	if v.r.Method == http.MethodPost {
		var body any
		if page.Type != "" {
			body = map[string]string{"event_type": page.Type}
		}
		var result client.TestResult
		if err := v.post(&result, body, "companies", company, "config", "callbacks", id, "test"); err != nil {
			t := troubleOf(err)
			page.Trouble, status = &t, t.Status
		} else {
			page.Result = &result
			page.Attempts = timeline([]sentAttempt{{Attempt: client.Attempt{
				Number: result.Number, StartedAt: result.StartedAt, DurationMS: result.DurationMS, StatusCode: result.StatusCode, Verdict: result.Verdict,
				Reason: result.Reason, Detail: result.Detail, ResponseHeaders: result.ResponseHeaders, ResponseBody: result.ResponseBody,
			}}})
		}
	}
	return v.show(sheet{template: "test", status: status, title: "Test callback " + id, company: company, crumbs: v.above(company, link{v.path(here...), "callback " + id}), main: page})
}

// isGlob reports whether a callback is for several types.
func isGlob(callbackType string) bool { return slices.Contains([]byte(callbackType), '*') }
