package console

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher/client"
)

// A replayScope is what a replay goes over: a callback, a company's callbacks, or companies.
type replayScope struct {
	company, callback string // empty: several
	here              []string
	api               []string // what begins it
	title             string
	above             link
}

func (v *visit) replayScope() replayScope {
	s := replayScope{company: v.r.PathValue("company"), callback: v.r.PathValue("callback")}
	switch {
	case s.callback != "":
		_, _, at := v.at()
		s.here, s.api = slices.Concat(at, []string{"replay"}), []string{"companies", s.company, "config", "callbacks", s.callback, "replay"}
		s.title, s.above = "Replay deliveries of callback "+s.callback, link{v.path(at...), "callback " + s.callback}
	case s.company != "":
		s.title = "Replay deliveries of company " + s.company
	default:
		s.title = "Replay deliveries over companies"
	}
	if s.callback == "" {
		s.here, s.api, s.above = replaysAt(s.company, "start"), replaysAt(s.company), link{v.path(replaysAt(s.company)...), "replays"}
	}
	return s
}

// A replayForm says which deliveries are to go out again, and how fast. It is as it was sent, so that it can be mended.
type replayForm struct {
	Act                          *act
	Back                         string
	States                       []choice
	Companies, Callbacks         string
	AsksCompanies, AsksCallbacks bool
	Type, Reason, Since, Until   string
	Pace                         string
	Trouble                      *trouble
}

// replayable are the states that a replay may take, with what becomes of those.
var replayable = [][2]string{{client.Dead, "dead"}, {client.Retrying, "retrying: their next attempt is made now"}, {client.Delivered, "delivered"}, {client.Cancelled, "cancelled"}}

// startReplayPage asks which deliveries are to go out again, counts them, and after that begins the replay. Whoever sends the form gets the count first: only
// the form below the count begins anything.
func startReplayPage(v *visit) error {
	s, form := v.replayScope(), v.r.URL.Query()
	if v.r.Method == http.MethodPost {
		form = v.r.PostForm
	}
	field := func(name string) string { return strings.TrimSpace(form.Get(name)) }
	f := replayForm{
		Act: v.act("Count them", "primary", s.here...), Back: s.above.Href, Companies: field("companies"), Callbacks: field("callback_ids"),
		AsksCompanies: s.company == "", AsksCallbacks: s.callback == "" && s.company != "",
		Type: field("event_type"), Reason: field("reason"), Since: field("since"), Until: field("until"), Pace: field("pace"),
	}
	chosen := form["state"]
	if v.r.Method == http.MethodGet && len(chosen) == 0 {
		chosen = []string{client.Dead}
	}
	for _, state := range replayable {
		f.States = append(f.States, choice{"state", state[0], state[1], slices.Contains(chosen, state[0])})
	}
	status := http.StatusOK
	if v.r.Method == http.MethodPost {
		done, err := v.replay(s, f, chosen, form.Get("do") == "start")
		if done || err == nil {
			return err
		}
		t := troubleOf(err)
		f.Trouble, status = &t, t.Status
	}
	return v.show(sheet{template: "startreplay", status: status, title: s.title, company: s.company, crumbs: v.aboveReplays(s.company, s.above), main: f})
}

// queryOf makes of a form what the API is asked.
func (v *visit) queryOf(f replayForm, chosen []string) (client.BulkReplayQuery, error) {
	var q client.BulkReplayQuery
	var faults []client.FieldErr
	fault := func(name, message string) { faults = append(faults, client.FieldErr{Location: name, Message: message}) }
	read := func(name, text string) time.Time {
		t, err := moment(text, v.now)
		if err != nil {
			fault(name, err.Error())
		}
		return t
	}
	q.ReplayQuery = client.ReplayQuery{Since: read("since", f.Since), Until: read("until", f.Until), States: chosen, EventType: f.Type, Reason: f.Reason}
	if len(chosen) == 0 {
		fault("state", "choose one at least")
	}
	if f.Pace != "" {
		pace, err := strconv.ParseInt(f.Pace, 10, 64)
		if err != nil || pace < 1 {
			fault("pace", "must be a whole number of deliveries a second, from 1; leave it out for as fast as the callbacks take them")
		}
		q.Pace = pace
	}
	if f.AsksCompanies {
		q.Companies = listOf(f.Companies)
	}
	if f.AsksCallbacks {
		for _, text := range listOf(f.Callbacks) {
			id, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				fault("callback_ids", "must be callbacks' ids, such as 11887, 11888; leave it out for all")
			}
			q.CallbackIDs = append(q.CallbackIDs, id)
		}
	}
	if len(faults) > 0 {
		return q, &client.APIError{Status: http.StatusUnprocessableEntity, Detail: "the form cannot be read", Errors: faults}
	}
	return q, nil
}

// listOf are the words of a field that takes several, with commas or spaces between.
func listOf(text string) []string {
	return strings.FieldsFunc(text, func(c rune) bool { return c == ',' || c == ' ' || c == '\t' })
}

// replay counts the deliveries that a form is about, and shows how many they are; or, if start is set, begins the replay. It reports whether it
// has answered: if it has not, the error says what is wrong with the form.
func (v *visit) replay(s replayScope, f replayForm, chosen []string, start bool) (answered bool, err error) {
	q, err := v.queryOf(f, chosen)
	if err != nil {
		return false, err
	}
	q.DryRun = !start
	var r client.Replay
	if err := v.post(&r, q, s.api...); err != nil {
		return false, err
	}
	if start {
		return true, v.seen(count(r.Matched, "delivery")+" go out again, oldest first and paced.", replaysAt(s.company, r.ReplayID)...)
	}
	if r.Matched == 0 && !r.Estimate {
		return false, &client.APIError{Status: http.StatusOK, Detail: "no delivery fits: nothing would go out"}
	}
	many := count(r.Matched, "delivery")
	if r.Estimate {
		many = "at least " + many
	}
	c := confirmation{
		Says: saysOf(&r, many, chosen), Act: v.act("Replay "+many, "primary", s.here...), Back: v.path(s.here...) + "?" + f.again(chosen).Encode(),
		Facts: factsOfReplay(f, &r),
		Hidden: [][2]string{
			{"do", "start"},
			{"companies", f.Companies},
			{"callback_ids", f.Callbacks},
			{"event_type", f.Type},
			{"reason", f.Reason},
			{"pace", f.Pace},
			{"since", exact(q.Since)},
			{"until", exact(r.Until)},
		},
	}
	for _, state := range chosen {
		c.Hidden = append(c.Hidden, [2]string{"state", state})
	}
	return true, v.show(sheet{template: "confirm", title: "Replay " + many + "?", company: s.company, crumbs: v.aboveReplays(s.company, s.above), main: c})
}

// again is the form as its page's address holds it.
func (f replayForm) again(chosen []string) url.Values {
	query := url.Values{"state": chosen}
	for name, value := range map[string]string{
		"companies": f.Companies, "callback_ids": f.Callbacks, "event_type": f.Type, "reason": f.Reason, "since": f.Since, "until": f.Until, "pace": f.Pace,
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	return query
}

// saysOf says what a replay would do.
func saysOf(r *client.Replay, many string, chosen []string) []string {
	says := []string{
		"This is " + many + ": " + strings.Join(chosen, ", ") + ".",
		"They go out again oldest first and paced, each under the webhook-id that it had: the receiver recognises what it got before.",
	}
	if r.Estimate {
		says = append(says, "Counting took too long: there may be more, and those go out, too.")
	}
	if slices.Contains(chosen, client.Retrying) {
		says = append(says, "Those that are retrying make their next attempt at once. It counts: one whose last attempt fails is dead.")
	}
	if r.BodyLeft > 0 {
		says = append(says, count(r.BodyLeft, "more delivery")+" cannot be sent: their events are kept without their bodies.")
	}
	return says
}

// factsOfReplay are what a replay would go by.
func factsOfReplay(f replayForm, r *client.Replay) []fact {
	all := []fact{
		{"Companies", f.Companies, ""},
		{"Callbacks", f.Callbacks, ""},
		{"Event type", f.Type, ""},
		{"Reason", f.Reason, ""},
		{"Accepted since", "", ""},
		factAt("Accepted before", r.Until),
		{"Deliveries a second", f.Pace, ""},
	}
	if !r.Since.IsZero() {
		all[4] = factAt("Accepted since", r.Since)
	}
	if f.AsksCompanies && f.Companies == "" {
		all[0].Value = "all"
	}
	if f.Pace == "" {
		all[6].Value = "as many as the callbacks take"
	}
	return slices.DeleteFunc(all, func(f fact) bool { return f.Value == "" })
}

// exact is a time as a form holds it, so that what is counted and what is sent are the same.
func exact(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
