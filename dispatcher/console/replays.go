package console

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher/client"
)

// A replayRow is a replay with the places that it leads to.
type replayRow struct {
	*client.Replay
	Href, CallbackHref string
}

func (v *visit) replayRow(company string, r *client.Replay) replayRow {
	row := replayRow{Replay: r, Href: v.path("companies", company, "replays", r.ReplayID)}
	if r.CallbackID > 0 {
		row.CallbackHref = v.path("companies", company, "callbacks", strconv.FormatInt(r.CallbackID, 10))
	}
	return row
}

// replaysPage lists a company's replays, but for those that only counted.
func replaysPage(v *visit) error {
	company := v.r.PathValue("company")
	var list client.ReplayList
	if err := v.get(&list, nil, "companies", company, "replays"); err != nil {
		return err
	}
	var rows []replayRow
	for _, r := range list.Replays {
		if r.State == client.ReplayDryRun { // somebody looked how many there are
			continue
		}
		rows = append(rows, v.replayRow(company, r))
	}
	return v.show(sheet{template: "replays", title: "Replays", company: company, crumbs: v.above(company), main: rows})
}

// replayPage shows how far a replay is.
func replayPage(v *visit) error {
	company, id := v.r.PathValue("company"), v.r.PathValue("replay")
	here := []string{"companies", company, "replays", id}
	var r client.Replay
	if err := v.get(&r, nil, here...); err != nil {
		return err
	}
	page := struct {
		replayRow
		Cancel  string
		Running bool
	}{replayRow: v.replayRow(company, &r), Running: r.State == client.ReplayRunning}
	if page.Running && v.operates() {
		page.Cancel = v.path(slices.Concat(here, []string{"cancel"})...)
	}
	return v.show(sheet{template: "replay", title: r.ReplayID, kicker: "Replay", company: company, crumbs: v.above(company, link{v.path("companies", company, "replays"), "replays"}), main: page})
}

// cancelReplayPage asks whether to stop a replay, and does it.
func cancelReplayPage(v *visit) error {
	company, id := v.r.PathValue("company"), v.r.PathValue("replay")
	here := []string{"companies", company, "replays", id}
	if v.r.Method == http.MethodPost {
		if err := v.delete(here...); err != nil {
			return err
		}
		return v.seen("The replay is stopped. What it has let out stays on its way.", here...)
	}
	var r client.Replay
	if err := v.get(&r, nil, here...); err != nil {
		return err
	}
	return v.show(sheet{template: "confirm", title: "Stop this replay?", company: company, crumbs: v.above(company, link{v.path(here...), "replay " + id}), main: confirmation{
		Says: []string{figure(r.Replayed) + " of " + count(r.Matched, "delivery") + " went out again so far. Those stay on their way; the others stay as they are."},
		Act:  v.act("Stop the replay", "danger", slices.Concat(here, []string{"cancel"})...), Back: v.path(here...),
	}})
}

// A replayForm says which of a callback's deliveries are to go out again.
type replayForm struct {
	Act          *act
	Back         string
	States       []choice
	Type, Reason string
	Since, Until string
	Trouble      *trouble
}

// startReplayPage asks which deliveries are to go out again, counts them, and after that begins the replay. Whoever sends the form gets the count first: only
// the form below the count begins anything.
func startReplayPage(v *visit) error {
	company, id, here := v.at()
	form := v.r.URL.Query()
	if v.r.Method == http.MethodPost {
		form = v.r.PostForm
	}
	f := replayForm{
		Act: v.act("Count them", "primary", slices.Concat(here, []string{"replay"})...), Back: v.path(here...),
		Type: strings.TrimSpace(form.Get("event_type")), Reason: strings.TrimSpace(form.Get("reason")), Since: form.Get("since"), Until: form.Get("until"),
	}
	chosen := form["state"]
	if v.r.Method == http.MethodGet && len(chosen) == 0 {
		chosen = []string{client.Dead}
	}
	for _, s := range []string{client.Dead, client.Delivered, client.Cancelled} {
		f.States = append(f.States, choice{"state", s, pillOf(s).Word, slices.Contains(chosen, s)})
	}
	status := http.StatusOK
	if v.r.Method == http.MethodPost {
		done, err := v.replay(f, chosen, form.Get("do") == "start")
		if done || err == nil {
			return err
		}
		t := troubleOf(err)
		f.Trouble, status = &t, t.Status
	}
	return v.show(sheet{template: "startreplay", status: status, title: "Replay deliveries of callback " + id, company: company, crumbs: v.above(company, link{v.path(here...), "callback " + id}), main: f})
}

// replay counts the deliveries that a form is about, and shows how many they are; or, if start is set, begins the replay. It reports whether it
// has answered: if it has not, the error says what is wrong with the form.
func (v *visit) replay(f replayForm, chosen []string, start bool) (answered bool, err error) {
	company, id, here := v.at()
	var faults []client.FieldErr
	read := func(name, text string) time.Time {
		t, err := moment(text, v.now)
		if err != nil {
			faults = append(faults, client.FieldErr{Location: name, Message: err.Error()})
		}
		return t
	}
	q := client.ReplayQuery{Since: read("since", f.Since), Until: read("until", f.Until), States: chosen, EventType: f.Type, Reason: f.Reason, DryRun: !start}
	if len(chosen) == 0 {
		faults = append(faults, client.FieldErr{Location: "state", Message: "choose one at least"})
	}
	if len(faults) > 0 {
		return false, &client.APIError{Status: http.StatusUnprocessableEntity, Detail: "the form cannot be read", Errors: faults}
	}
	var r client.Replay
	if err := v.post(&r, q, "companies", company, "config", "callbacks", id, "replay"); err != nil {
		return false, err
	}
	if start {
		return true, v.seen(count(r.Matched, "delivery")+" go out again, oldest first and paced.", "companies", company, "replays", r.ReplayID)
	}
	says := "This is " + count(r.Matched, "delivery") + ": " + strings.Join(chosen, ", ")
	if f.Type != "" {
		says += ", of type " + f.Type
	}
	if f.Reason != "" {
		says += ", ended by " + f.Reason
	}
	c := confirmation{
		Says: []string{says + ".", "They go out again oldest first and paced, each under the webhook-id that it had: the receiver recognises what it got before."},
		Act:  v.act("Replay "+count(r.Matched, "delivery"), "primary", slices.Concat(here, []string{"replay"})...), Back: v.path(here...),
		Hidden: [][2]string{{"do", "start"}, {"event_type", f.Type}, {"reason", f.Reason}, {"since", exact(q.Since)}, {"until", exact(r.Until)}},
	}
	for _, s := range chosen {
		c.Hidden = append(c.Hidden, [2]string{"state", s})
	}
	if !q.Since.IsZero() {
		c.Says = append(c.Says, "Accepted since "+q.Since.Format("2006-01-02 15:04:05 MST")+".")
	}
	if r.BodyLeft > 0 {
		c.Says = append(c.Says, count(r.BodyLeft, "more delivery")+" cannot be sent: their events are kept without their bodies.")
	}
	if r.Matched == 0 {
		return false, &client.APIError{Status: http.StatusOK, Detail: "no delivery fits: nothing would go out"}
	}
	return true, v.show(sheet{template: "confirm", title: "Replay " + count(r.Matched, "delivery") + "?", company: company, crumbs: v.above(company, link{v.path(here...), "callback " + id}), main: c})
}

// exact is a time as a form holds it, so that what is counted and what is sent are the same.
func exact(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
