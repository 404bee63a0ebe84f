package console

import (
	"net/http"
	"net/url"

	"github.com/ringback/ringback/dispatcher/client"
)

// A laneRow is a lane, with its place in asynq's UI.
type laneRow struct {
	client.Lane
	Href string
}

// operationsPage shows what is the same for all companies: whether anything goes out, and the lanes.
func operationsPage(v *visit) error {
	page := struct {
		Egress        client.Egress
		EgressTrouble string
		Lanes         client.Lanes
		LaneTrouble   string
		Rows          []laneRow
		Pause, Resume string
		Monitoring    string
	}{Monitoring: "/monitoring/"}
	if err := v.get(&page.Egress, nil, "egress"); err != nil {
		page.EgressTrouble = troubleOf(err).Says
	}
	if err := v.get(&page.Lanes, nil, "lanes"); err != nil {
		page.LaneTrouble = troubleOf(err).Says
	}
	for _, l := range page.Lanes.Lanes {
		page.Rows = append(page.Rows, laneRow{l, "/monitoring/queues/" + url.PathEscape(l.Lane)})
	}
	if v.operates() && v.everywhere() && page.EgressTrouble == "" {
		if page.Egress.Status == client.EgressPaused {
			page.Resume = v.path("operations", "resume")
		} else {
			page.Pause = v.path("operations", "pause")
		}
	}
	return v.show(sheet{template: "operations", title: "Operations", main: page})
}

// pauseEgressPage asks whether to stop everything that goes out, and does it.
func pauseEgressPage(v *visit) error {
	return v.steerEgress("pause", confirmation{
		Says: []string{
			"This stops everything that goes out, of all companies: deliveries wait, decisions and tests are refused. Events are accepted as ever. What is under way finishes.",
		},
		Act: v.act("Stop everything that goes out", "danger", "operations", "pause"),
	}, "Stop everything that goes out?", "Nothing goes out any more.")
}

// resumeEgressPage asks whether to let everything go out again, and does it.
func resumeEgressPage(v *visit) error {
	return v.steerEgress("resume", confirmation{
		Says: []string{"What waited goes out at once."}, Act: v.act("Let everything go out", "primary", "operations", "resume"),
	}, "Let everything go out again?", "Everything goes out again.")
}

// flowFacts are what goes out and what waits. Whoever has to stop everything can do so also while nobody knows that: then there are none.
func (v *visit) flowFacts() []fact {
	var o overview
	if err := v.get(&o, nil, "overview"); err != nil {
		return nil
	}
	return []fact{
		{"Waiting", o.Waiting.Sentence, ""},
		{"Lately", o.Rates.Sentence, ""},
		{"Us or them", o.Verdict.Sentence, ""},
		{"Callbacks", o.Callbacks.Sentence, ""},
		{"Workers", o.Workers.Sentence, ""},
	}
}

func (v *visit) steerEgress(verb string, c confirmation, asks, done string) error {
	if v.r.Method == http.MethodPost {
		if err := v.post(nil, nil, "egress", verb); err != nil {
			return err
		}
		return v.seen(done, "operations")
	}
	c.Back, c.Facts = v.path("operations"), v.flowFacts()
	return v.show(sheet{template: "confirm", title: asks, crumbs: []link{{c.Back, "operations"}}, main: c})
}
