package console

import (
	"fmt"
	"html/template"
	"net/url"
	"strconv"
	"strings"

	"github.com/ringback/ringback/dispatcher/client"
)

// sparkRows is how many callbacks a page has where each one's last deliveries are drawn: that takes a question each.
const sparkRows = 20

// lastOf draws a callback's last deliveries.
func (v *visit) lastOf(company string, callback int64) (template.HTML, error) {
	var page client.DeliveryPage
	query := url.Values{"callback_id": {strconv.FormatInt(callback, 10)}, "limit": {strconv.Itoa(sparkLast)}}
	err := v.get(&page, query, "companies", company, "deliveries")
	return drawn(page.Deliveries), err
}

// drawn are deliveries, which come newest first: the newest is on the right. If there are none, there is no drawing.
func drawn(deliveries []*client.Delivery) template.HTML {
	if len(deliveries) == 0 {
		return ""
	}
	counts := map[string]int{}
	fates := make([]fate, len(deliveries))
	for i, d := range deliveries {
		counts[d.State]++
		fates[len(fates)-1-i] = fateOf(d.State)
	}
	var said []string
	for _, state := range states {
		if n := counts[state]; n > 0 {
			said = append(said, fmt.Sprintf("%d %s", n, pillOf(state).Word))
		}
	}
	return fatesDrawn("Of the last "+strconv.Itoa(len(deliveries))+": "+strings.Join(said, ", "), fates)
}

// fateOf is how a state is drawn.
func fateOf(state string) fate {
	switch state {
	case client.Delivered:
		return up
	case client.Dead, client.Retrying:
		return down
	}
	return flat
}

// A notice is a callback that needs its partner.
type notice struct {
	Tone, Href, Of, Text string
	Why                  string // in the API's words; empty: it says no more
}

// notices are about the callbacks that are disabled or unverified, on whichever page of the list they are, and about those of this page that fail.
func (v *visit) notices(company string, shown []*client.Callback) ([]notice, error) {
	var all []notice
	for _, status := range []string{"disabled", "unverified"} {
		var list client.CallbackPage
		if err := v.get(&list, url.Values{"status": {status}, "limit": {strconv.Itoa(sparkRows)}}, "companies", company, "config", "callbacks"); err != nil {
			return nil, err
		}
		for _, cb := range list.Callbacks {
			all = append(all, v.notice(company, cb))
		}
	}
	for _, cb := range shown {
		if cb.Status == "enabled" && cb.Breaker != "closed" {
			all = append(all, v.notice(company, cb))
		}
	}
	return all, nil
}

func (v *visit) notice(company string, cb *client.Callback) notice {
	id := strconv.FormatInt(cb.CallbackID, 10)
	n := notice{Tone: "bad", Href: v.path("companies", company, "callbacks", id), Of: "Callback " + id}
	switch {
	case cb.Status == "disabled":
		n.Text = "(" + cb.CallbackType + ") is disabled: what is for it waits until it is resumed"
		if cb.DisabledReason != "" {
			n.Text = "(" + cb.CallbackType + ") is disabled (" + strings.ReplaceAll(cb.DisabledReason, "_", " ") + "): what is for it waits until it is resumed"
		}
	case cb.Status == "unverified":
		n.Tone, n.Text = "warn", "("+cb.CallbackType+") has not shown yet that it wants to be called: what is for it waits until its endpoint answers the challenge"
		return n
	case cb.Breaker == "half_open":
		n.Tone, n.Text = "warn", "("+cb.CallbackType+") failed, and begins to answer again: a few deliveries go out at a time"
	default:
		n.Text = "(" + cb.CallbackType + ") keeps failing: its deliveries wait, and one at a time tries whether it answers again"
	}
	if cb.LastFailure != nil {
		n.Why = "Last failure: " + cb.LastFailure.Detail
	}
	return n
}
