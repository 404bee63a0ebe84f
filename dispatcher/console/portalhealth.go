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

// A notice is what callbacks need of their partner.
type notice struct {
	Tone     string
	What     string // such as: Failing
	Of       []link // the callbacks
	Means    string
	Why      string // in the API's words; empty: the list below has it
	Unlisted bool   // the callback is on another page of the list
}

// notices are about the callbacks that are disabled or unverified, on whichever page of the list they are, and about those of this page that fail. Those of
// this page that need the same share a notice: why each of them does is in the list.
func (v *visit) notices(company string, shown []*client.Callback) ([]notice, error) {
	var all []notice
	add := func(cb *client.Callback) {
		n := v.notice(company, cb)
		n.Unlisted = !slices.ContainsFunc(shown, func(other *client.Callback) bool { return other.CallbackID == cb.CallbackID })
		if !n.Unlisted {
			n.Why = ""
			if at := slices.IndexFunc(all, func(a notice) bool { return !a.Unlisted && a.What == n.What }); at >= 0 {
				all[at].Of = append(all[at].Of, n.Of...)
				return
			}
		}
		all = append(all, n)
	}
	for _, status := range []string{"disabled", "unverified"} {
		var list client.CallbackPage
		if err := v.get(&list, url.Values{"status": {status}, "limit": {strconv.Itoa(sparkRows)}}, "companies", company, "config", "callbacks"); err != nil {
			return nil, err
		}
		for _, cb := range list.Callbacks {
			add(cb)
		}
	}
	for _, cb := range shown {
		if cb.Status == "enabled" && cb.Breaker != "closed" {
			add(cb)
		}
	}
	for _, cb := range shown {
		if unfetched(cb, v.now) {
			add(cb)
		}
	}
	for _, cb := range shown {
		id := strconv.FormatInt(cb.CallbackID, 10)
		of := link{v.path("companies", company, "callbacks", id), "callback " + id}
		if n, ok := expiring(cb.TLS, of, "give the callback the next one in time", time.Now()); ok {
			all = append(all, n)
		}
	}
	return all, nil
}

// expiring is the notice of a callback, or a company, whose client certificate expires within a month. t may be nil.
func expiring(t *client.TLS, of link, means string, at time.Time) (n notice, ok bool) {
	if t == nil || t.ClientCertificate == "" || t.NotAfter.Sub(at) > 30*24*time.Hour {
		return n, false
	}
	n = notice{Tone: "warn", What: "Client certificate", Of: []link{of}, Means: "it " + t.Expiry(at) + ": " + means}
	if t.NotAfter.Sub(at) < 24*time.Hour {
		n.Tone = "bad"
	}
	return n, true
}

func (v *visit) notice(company string, cb *client.Callback) notice {
	id := strconv.FormatInt(cb.CallbackID, 10)
	n := notice{Tone: "bad", Of: []link{{v.path("companies", company, "callbacks", id), "callback " + id}}}
	switch {
	case cb.Status == "disabled":
		n.What, n.Means = "Disabled", "what is for it waits until it is resumed"
		if cb.DisabledReason != "" {
			n.What += " (" + strings.ReplaceAll(cb.DisabledReason, "_", " ") + ")"
		}
	case cb.Status == "unverified":
		n.Tone, n.What, n.Means = "warn", "Unverified", "what is for it waits until its endpoint answers the challenge, and shows that it wants to be called"
		return n
	case unfetched(cb, v.now):
		n.Tone, n.What, n.Means = "warn", "Not fetched", "deliveries wait for more than an hour to be fetched and acknowledged, and what waits too long is given up"
		return n
	case cb.Breaker == "half_open":
		n.Tone, n.What, n.Means = "warn", "Beginning to answer again", "a few deliveries go out at a time"
	default:
		n.What, n.Means = "Failing", "deliveries wait, and one at a time tries whether it is answered again"
	}
	if cb.LastFailure != nil {
		n.Why = "Last failure: " + cb.LastFailure.Detail
	}
	return n
}
