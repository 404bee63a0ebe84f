package console

import (
	"fmt"
	"html/template"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher/client"
)

// An overview is the answer of GET /overview, as far as the page shows it.
type overview struct {
	AsOf    time.Time `json:"as_of"`
	Verdict struct {
		Side, Sentence string
		Ours, Theirs   []string
		Outages        []struct {
			Process                 string
			Since                   time.Time
			Destinations, Unreached int
		}
	}
	Worst struct {
		Sentence  string
		Callbacks []worstCallback
		Of        int64
		Reasons   []struct {
			Reason, Side, Detail string
			Callbacks, Waiting   int64
		}
	}
	Waiting struct {
		Sentence                       string
		Total, Pending, Retrying, Held int64
		OldestAt                       time.Time `json:"oldest_at"`
		Company                        string
		CallbackID                     int64 `json:"callback_id"`
	}
	Dead struct {
		Sentence       string
		Total, Counted int64
		Reasons        []deadReason
	}
	Wave struct {
		Sentence string
		DueNow   int64 `json:"due_now"`
		Minutes  []int64
		Later    int64
	}
	Rates struct {
		Sentence string
		Minutes  []minute
	}
	Callbacks, Workers struct{ Sentence string }
	Egress             struct{ Sentence, Status string }
	Redis              struct {
		Sentence         string
		Faults, Warnings int
		Findings         []finding
	}
	Certificates struct {
		Sentence  string
		Callbacks []expiringCertificate
		Of        int64
	}
	Unread []string
}

type (
	// A worstCallback is one of those that do worst.
	worstCallback struct {
		Company                    string
		CallbackID                 int64  `json:"callback_id"`
		CallbackType               string `json:"callback_type"`
		Host, Status, Breaker      string
		Words, Side                string
		Waiting, Pending, Retrying int64
		Held, Dead                 int64
		OldestWaitingAt            time.Time       `json:"oldest_waiting_at"`
		LastFailure                *client.Failure `json:"last_failure"`

		Href, Replay string `json:"-"` // no address: the caller may not
	}
	// A deadReason is why some of the dead are dead.
	deadReason struct {
		Reason, Side    string
		Dead, Callbacks int64

		Replay string `json:"-"` // no address: the caller may not
	}
	// A minute is what happened in one.
	minute struct {
		At                          time.Time
		Accepted, Delivered, Failed int64
	}
	// An expiringCertificate is a callback whose client certificate expires soon.
	expiringCertificate struct {
		Company    string
		CallbackID int64     `json:"callback_id"`
		NotAfter   time.Time `json:"not_after"`

		Href, Whose string `json:"-"`
	}
	// A finding is one about Redis.
	finding struct {
		Node, Check, Level, Found, Cure string
	}
)

// overviewPage answers what somebody on call asks first. A caller of one company begins at that company.
func overviewPage(v *visit) error {
	if !v.everywhere() {
		return v.redirect("companies", v.key.Company)
	}
	var o overview
	if err := v.get(&o, nil, "overview"); err != nil {
		return err
	}
	v.leadOn(&o)
	// The first of these is in the sentence already.
	said := func(point string) bool { return strings.Contains(o.Verdict.Sentence, point) }
	o.Verdict.Ours, o.Verdict.Theirs = slices.DeleteFunc(o.Verdict.Ours, said), slices.DeleteFunc(o.Verdict.Theirs, said)
	page := struct {
		*overview
		Whose      pill
		Drawn      drawing // the retries to come
		Flow       drawing // what happened
		NotWell    string  // how many callbacks are not
		OldestHref string
		Retry      string // no address: nothing is retrying, or the caller may not
		Operations string
		Findings   []finding
	}{overview: &o, Whose: sideOf(o.Verdict.Side), Drawn: waveOf(&o), Flow: flowOf(o.Rates.Minutes), Operations: v.path("operations")}
	page.NotWell = count(o.Worst.Of, "callback") + " not well, worst first"
	if shown := int64(len(o.Worst.Callbacks)); shown < o.Worst.Of {
		page.NotWell += "; the first " + figure(shown) + " of them"
	}
	if v.operates() && o.Waiting.Retrying > 0 {
		page.Retry = v.path("replays", "start") + "?state=retrying"
	}
	if o.Waiting.CallbackID > 0 {
		page.OldestHref = v.path("companies", o.Waiting.Company, "callbacks", strconv.FormatInt(o.Waiting.CallbackID, 10))
	}
	for _, f := range o.Redis.Findings {
		if f.Level != "ok" {
			page.Findings = append(page.Findings, f)
		}
	}
	return v.show(sheet{template: "overview", title: "Overview", main: page})
}

// leadOn gives what an overview names the addresses of its pages, and of what may be done about it.
func (v *visit) leadOn(o *overview) {
	for i := range o.Worst.Callbacks {
		w := &o.Worst.Callbacks[i]
		w.Words = strings.TrimPrefix(w.Words, "breaker "+pillOf(w.Breaker).Word+": ") // the pill says so
		id := strconv.FormatInt(w.CallbackID, 10)
		w.Href = v.path("companies", w.Company, "callbacks", id)
		if v.operates() && w.Dead+w.Retrying > 0 {
			w.Replay = v.path("companies", w.Company, "callbacks", id, "replay") + "?state=dead&state=retrying"
		}
	}
	for i := range o.Dead.Reasons {
		if r := &o.Dead.Reasons[i]; v.operates() {
			r.Replay = v.path("replays", "start") + "?" + url.Values{"reason": {r.Reason}}.Encode()
		}
	}
	for i := range o.Certificates.Callbacks {
		e := &o.Certificates.Callbacks[i]
		e.Href, e.Whose = v.path("companies", e.Company), e.Company
		if e.CallbackID != 0 {
			id := strconv.FormatInt(e.CallbackID, 10)
			e.Href, e.Whose = v.path("companies", e.Company, "callbacks", id), e.Company+" "+id
		}
	}
}

// sideOf is whose fault it is, in a word.
func sideOf(side string) pill {
	switch side {
	case "nobody":
		return pill{"All is well", "tick", "good"}
	case "theirs":
		return pill{"It is them", "warn", "warn"}
	case "ours":
		return pill{"It is us", "cross", "bad"}
	case "both":
		return pill{"It is us, and them", "cross", "bad"}
	default:
		return pillOf(side)
	}
}

// A drawing is a picture, and what it says of its axis. There may be nothing to draw.
type drawing struct {
	Picture template.HTML
	Axis    string
}

// waveOf draws the retries of the next hour, by the minute. It ends where no more are due: retries that are due soon would stand in a corner.
func waveOf(o *overview) drawing {
	last := len(o.Wave.Minutes)
	for last > 0 && o.Wave.Minutes[last-1] == 0 {
		last--
	}
	if last == 0 {
		return drawing{}
	}
	end, axis, every := len(o.Wave.Minutes), "By the minute.", 10
	if soon := (last + 9) / 10 * 10; soon < end {
		end, axis = soon, fmt.Sprintf("The next %d minutes, by the minute; none is due in the rest of the hour.", soon)
	}
	if end <= 20 {
		every = 2
	}
	var bars []bar
	for i, n := range o.Wave.Minutes[:end] {
		at := o.AsOf.Add(time.Duration(i) * time.Minute).UTC()
		b := bar{Says: fmt.Sprintf("%s UTC: %s", at.Format("15:04"), count(n, "retry")), Value: n, At: at}
		if i%every == 0 {
			b.Label = at.Format("15:04")
		}
		bars = append(bars, b)
	}
	return drawing{histogram("Retries by the minute, over the next hour. "+o.Wave.Sentence, bars), axis}
}

const (
	// flowEvery is how many minutes of the last hours one point stands for, unless all that happened did so in the last flowShort of them: then one
	// stands for one, and only the tens of minutes are drawn in which something did.
	flowEvery = 5
	flowShort = 30
	flowTens  = 10
)

// flowOf draws what was accepted, delivered and failed in the last hours, from the first of it on.
func flowOf(minutes []minute) drawing {
	first := slices.IndexFunc(minutes, func(m minute) bool { return m.Accepted+m.Delivered+m.Failed > 0 })
	if first < 0 {
		return drawing{}
	}
	every, axis := flowEvery, "By five minutes."
	if since := len(minutes) - first; since <= flowShort {
		since = min(len(minutes), (since+flowTens-1)/flowTens*flowTens)
		every, axis, first = 1, fmt.Sprintf("The last %d minutes, by the minute; before, nothing happened.", since), len(minutes)-since
	}
	return drawing{lines(flowSeries(minutes[first/every*every:], every)), axis}
}

// flowSeries are what lines needs.
func flowSeries(minutes []minute, every int) ([]series, []time.Time, int) {
	var sets [3][]int64
	var times []time.Time
	for some := range slices.Chunk(minutes, every) {
		var sum minute
		for _, m := range some {
			sum.Accepted, sum.Delivered, sum.Failed = sum.Accepted+m.Accepted, sum.Delivered+m.Delivered, sum.Failed+m.Failed
		}
		times = append(times, some[0].At)
		for i, n := range []int64{sum.Accepted, sum.Delivered, sum.Failed} {
			sets[i] = append(sets[i], n)
		}
	}
	return []series{{"events accepted", "first", sets[0]}, {"deliveries delivered", "second", sets[1]}, {"attempts failed", "third", sets[2]}}, times, every
}

// A companyRow is a company in the list.
type companyRow struct {
	Company                    string
	Callbacks                  int64
	Words                      string
	Waiting, Pending, Retrying int64
	Held, Dead, Failing        int64
	OldestWaitingAt            time.Time `json:"oldest_waiting_at"`

	Href string `json:"-"`
}

// companiesPage lists the companies.
func companiesPage(v *visit) error {
	given, query := v.r.URL.Query(), url.Values{}
	for _, name := range []string{"prefix", "cursor"} {
		if value := given.Get(name); value != "" {
			query.Set(name, value)
		}
	}
	var list struct {
		Companies  []companyRow
		NextCursor string `json:"next_cursor"`
	}
	if err := v.get(&list, query, "companies"); err != nil {
		return err
	}
	for i := range list.Companies {
		list.Companies[i].Href = v.path("companies", list.Companies[i].Company)
	}
	return v.show(sheet{template: "companies", title: "Companies", main: struct {
		Rows           []companyRow
		Action, Prefix string
		Pager          pager
	}{list.Companies, v.path("companies"), query.Get("prefix"), v.pagerOf(list.NextCursor)}})
}
