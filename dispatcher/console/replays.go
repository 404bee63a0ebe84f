package console

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/ringback/ringback/dispatcher/client"
)

// A replayRow is a replay with the places that it leads to.
type replayRow struct {
	*client.Replay
	Href, CallbackHref string
	BulkHref           string // of the one that it is a part of
}

// Over is what a replay goes over, in words.
func (r replayRow) Over() string {
	var ids []string
	for _, id := range r.CallbackIDs {
		ids = append(ids, strconv.FormatInt(id, 10))
	}
	switch {
	case len(ids) > 0:
		return "callbacks " + strings.Join(ids, ", ")
	case len(r.Companies) > 0:
		return "all of " + strings.Join(r.Companies, ", ")
	default:
		return "all companies"
	}
}

// facts of a replay, for the page that asks whether to stop it.
func (r replayRow) facts() []fact {
	all := []fact{
		{"Over", r.Over(), ""},
		{"States", strings.Join(r.States, ", "), ""},
		{"Event type", r.EventType, ""},
		{"Reason", r.Reason, ""},
		factAt("Begun", r.CreatedAt),
	}
	if r.CallbackHref != "" {
		all[0] = fact{"Callback", strconv.FormatInt(r.CallbackID, 10), r.CallbackHref}
	}
	return slices.DeleteFunc(all, func(f fact) bool { return f.Value == "" })
}

func (v *visit) replayRow(company string, r *client.Replay) replayRow {
	row := replayRow{Replay: r, Href: v.path(replaysAt(company, r.ReplayID)...)}
	if r.CallbackID > 0 {
		row.CallbackHref = v.path("companies", company, "callbacks", strconv.FormatInt(r.CallbackID, 10))
	}
	if r.BulkID != "" && v.everywhere() {
		row.BulkHref = v.path("find") + "?" + url.Values{"company": {company}, "id": {r.BulkID}}.Encode()
	}
	return row
}

// replaysAt are the segments of the path of a company's replays, or of those over companies, where company is empty. They are the same in the API.
func replaysAt(company string, more ...string) []string {
	if company == "" {
		return append([]string{"replays"}, more...)
	}
	return append([]string{"companies", company, "replays"}, more...)
}

// replaysPage lists a company's replays, or those over companies, but for those that only counted.
func replaysPage(v *visit) error {
	company := v.r.PathValue("company")
	var list client.ReplayList
	if err := v.get(&list, nil, replaysAt(company)...); err != nil {
		return err
	}
	page := struct {
		Start      string
		Everywhere bool
		Rows       []replayRow
	}{Everywhere: company == ""}
	if v.operatesAll() {
		page.Start = v.path(replaysAt(company, "start")...)
	}
	for _, r := range list.Replays {
		if r.State == client.ReplayDryRun { // somebody looked how many there are
			continue
		}
		page.Rows = append(page.Rows, v.replayRow(company, r))
	}
	return v.show(sheet{template: "replays", title: "Replays", company: company, crumbs: v.aboveReplays(company), main: page})
}

// aboveReplays are the pages above a company's replays, or above those over companies.
func (v *visit) aboveReplays(company string, more ...link) []link {
	if company == "" {
		return more
	}
	return v.above(company, more...)
}

// replayPage shows how far a replay is.
func replayPage(v *visit) error {
	company, id := v.r.PathValue("company"), v.r.PathValue("replay")
	here := replaysAt(company, id)
	var r client.Replay
	if err := v.get(&r, nil, here...); err != nil {
		return err
	}
	page := struct {
		replayRow
		Cancel    string
		Running   bool
		Counted   bool // it only counted
		PartHrefs []link
	}{replayRow: v.replayRow(company, &r), Running: r.State == client.ReplayRunning, Counted: r.State == client.ReplayDryRun}
	for _, p := range r.Parts {
		page.PartHrefs = append(page.PartHrefs, link{v.path(replaysAt(p.Company)...), p.Company})
	}
	if page.Running && v.operates() {
		page.Cancel = v.path(slices.Concat(here, []string{"cancel"})...)
	}
	return v.show(sheet{template: "replay", title: r.ReplayID, kicker: "Replay", company: company, crumbs: v.aboveReplays(company, link{v.path(replaysAt(company)...), "replays"}), main: page})
}

// cancelReplayPage asks whether to stop a replay, and does it.
func cancelReplayPage(v *visit) error {
	company, id := v.r.PathValue("company"), v.r.PathValue("replay")
	here := replaysAt(company, id)
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
	return v.show(sheet{template: "confirm", title: "Stop this replay?", company: company, crumbs: v.aboveReplays(company, link{v.path(here...), "replay " + id}), main: confirmation{
		Says: []string{figure(r.Replayed) + " of " + count(r.Matched, "delivery") + " went out again so far. Those stay on their way; the others stay as they are."},
		Act:  v.act("Stop the replay", "danger", slices.Concat(here, []string{"cancel"})...), Back: v.path(here...), Facts: v.replayRow(company, &r).facts(),
	}})
}
