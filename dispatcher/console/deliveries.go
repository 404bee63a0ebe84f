package console

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher/client"
)

// states are those of deliveries, in the order in which they are come through.
var states = []string{client.Pending, client.Active, client.Retrying, client.Held, client.Delivered, client.Dead, client.Cancelled}

// A deliveryList is a table of deliveries.
type deliveryList struct {
	Caption, Empty string
	Callbacks      bool // whether the callback has a column
	Rows           []deliveryRow
	Pager          pager
	SearchedBackTo time.Time
	Live           *live // nil: the list stands still
}

// A live list is one that the script keeps up with what happens.
type live struct {
	Href       string // of the stream
	Deliveries string // where deliveries' pages lie
	Callbacks  string // where callbacks' pages lie
	States     string // only of these, with spaces between; empty: of all
	Words      []string
}

// A deliveryRow is a delivery with the places that it leads to.
type deliveryRow struct {
	*client.Delivery
	Href, CallbackHref string
	Said               string    // its summary, see briefly
	Next               time.Time // of its next attempt, where Said leaves that out
}

// briefly keeps a list from saying one sentence over and over: of rows whose last attempts went the same way, the first says how and what comes next, and the
// others say the word for it and when that comes. Of what is held at a callback for the same reason, the first says what that means.
func briefly(rows []deliveryRow) {
	said := map[string]bool{}
	for i := range rows {
		d := &rows[i]
		d.Said = d.Summary
		if d.State == client.Held {
			why := fmt.Sprint(d.CallbackID, d.HeldReason)
			if d.HeldReason == "ordering" { // each line waits for a delivery of its own
				why += d.Summary
			}
			if said[why] && d.HeldReason != "" {
				d.Said = "`" + d.HeldReason + "`, as above"
			}
			said[why] = true
			continue
		}
		if len(d.Attempts) == 0 {
			continue
		}
		last := d.Attempts[len(d.Attempts)-1]
		before, _, found := strings.Cut(d.Summary, last.Detail)
		if said[last.Detail] && last.Reason != "" && found {
			d.Said, d.Next = before+"`"+last.Reason+"`", d.NextAttemptAt
		}
		said[last.Detail] = true
	}
}

// A pager leads to the other pages of a list. Empty addresses lead nowhere.
type pager struct{ Next, First string }

// pagerOf leads on from the page that is shown, with all that its address asks for.
func (v *visit) pagerOf(next string) pager {
	var p pager
	query := v.r.URL.Query()
	if query.Has("cursor") {
		query.Del("cursor")
		p.First = "?" + query.Encode()
	}
	if next != "" {
		query.Set("cursor", next)
		p.Next = "?" + query.Encode()
	}
	return p
}

// A filter is the form above a list of deliveries. It is as it was sent, so that it can be mended.
type filter struct {
	Action       string
	States       []choice
	Type         string
	Callback     string // empty where the page is about one callback, and asks for no other
	AsksCallback bool
	Since, Until string
	On           bool // something is filtered
	Clear        string
	Trouble      *trouble
}

// filterOf reads the form, and makes of it what the API is asked.
func (v *visit) filterOf(callback int64) (filter, url.Values, error) {
	form := v.r.URL.Query()
	f := filter{
		Action: v.r.URL.EscapedPath(), Clear: v.r.URL.EscapedPath(), Type: strings.TrimSpace(form.Get("event_type")), AsksCallback: callback == 0,
		Callback: strings.TrimSpace(form.Get("callback_id")), Since: form.Get("since"), Until: form.Get("until"),
	}
	query := url.Values{}
	for _, s := range states {
		on := slices.Contains(form["state"], s)
		f.States = append(f.States, choice{"state", s, pillOf(s).Word, on})
		if on {
			query.Add("state", s)
		}
	}
	set := func(name, value string) {
		if value != "" {
			query.Set(name, value)
		}
	}
	set("event_type", f.Type)
	if callback > 0 {
		query.Set("callback_id", strconv.FormatInt(callback, 10))
	} else {
		set("callback_id", f.Callback)
	}
	var faults []client.FieldErr
	for _, name := range []string{"since", "until"} {
		t, err := moment(form.Get(name), v.now)
		if err != nil {
			faults = append(faults, client.FieldErr{Location: name, Message: err.Error()})
		} else if !t.IsZero() {
			query.Set(name, t.Format(time.RFC3339))
		}
	}
	f.On = len(query) > 1 || callback == 0 && len(query) > 0
	set("cursor", form.Get("cursor"))
	if len(faults) > 0 {
		return f, query, &client.APIError{Status: http.StatusUnprocessableEntity, Detail: "the filter cannot be read", Errors: faults}
	}
	return f, query, nil
}

// deliveriesOf asks for a list of deliveries. If the filter is at fault, the list is empty, and the filter says why.
func (v *visit) deliveriesOf(company string, callback int64) (filter, deliveryList, error) {
	f, query, err := v.filterOf(callback)
	list := deliveryList{Caption: "Deliveries, newest first", Empty: "There are none.", Callbacks: callback == 0}
	if f.On {
		list.Empty = "None fits the filter."
	}
	var page client.DeliveryPage
	if err == nil {
		err = v.get(&page, query, "companies", company, "deliveries")
	}
	if t := troubleOf(err); err != nil && (t.Status == http.StatusUnprocessableEntity || t.Status == http.StatusBadRequest) {
		f.Trouble = &t
		return f, list, nil
	}
	if err != nil {
		return f, list, err
	}
	list.Pager, list.SearchedBackTo = v.pagerOf(page.NextCursor), page.SearchedBackTo
	if !query.Has("cursor") && !query.Has("since") && !query.Has("until") {
		list.Live = v.liveOf(company, query)
	}
	for _, d := range page.Deliveries {
		list.Rows = append(list.Rows, v.deliveryRow(company, d))
	}
	briefly(list.Rows)
	return f, list, nil
}

// liveOf is how the first page of a list goes on by itself.
func (v *visit) liveOf(company string, query url.Values) *live {
	only := url.Values{}
	for _, name := range []string{"callback_id", "event_type"} {
		if value := query.Get(name); value != "" {
			only.Set(name, value)
		}
	}
	return &live{
		Href: v.path("companies", company, "live") + "?" + only.Encode(), Deliveries: v.path("companies", company, "deliveries"), Callbacks: v.path("companies", company, "callbacks"),
		States: strings.Join(query["state"], " "), Words: states,
	}
}

func (v *visit) deliveryRow(company string, d *client.Delivery) deliveryRow {
	return deliveryRow{
		Delivery: d, Href: v.path("companies", company, "deliveries", d.DeliveryID),
		CallbackHref: v.path("companies", company, "callbacks", strconv.FormatInt(d.CallbackID, 10)),
	}
}

// deliveriesPage lists a company's deliveries.
func deliveriesPage(v *visit) error {
	company := v.r.PathValue("company")
	f, list, err := v.deliveriesOf(company, 0)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if f.Trouble != nil {
		status = f.Trouble.Status
	}
	return v.show(sheet{template: "deliveries", status: status, title: "Deliveries", company: company, crumbs: v.above(company), main: struct {
		Filter filter
		List   deliveryList
	}{f, list}})
}

// above are the pages above one of a company's.
func (v *visit) above(company string, more ...link) []link {
	return append([]link{{v.path("companies", company), company}}, more...)
}

type (
	// A sentAttempt is an attempt with its request as it went out.
	sentAttempt struct {
		client.Attempt
		Request        *sentRequest `json:"request"`
		RequestMissing string       `json:"request_missing"` // why there is none
		Timing         *timing      `json:"timing"`
	}
	sentRequest struct {
		Method, URL  string
		Headers      map[string]string
		Incomplete   bool
		Body         *string
		BodyEncoding string `json:"body_encoding"`
		BodyMissing  string `json:"body_missing"`
		Elements     []sentElement
	}
	// A sentElement is a delivery's part of a batch's request. Href leads to the delivery.
	sentElement struct {
		client.Element
		Href string `json:"-"`
	}
	// A timing is where an attempt's time went, in milliseconds.
	timing struct {
		DNS       float64 `json:"dns_ms"`
		Connect   float64 `json:"connect_ms"`
		TLS       float64 `json:"tls_ms"`
		FirstByte float64 `json:"first_byte_ms"`
		Total     float64 `json:"total_ms"`
		Reused    bool
	}
	// A sentDelivery is a delivery whose attempts have their requests.
	sentDelivery struct {
		client.Delivery
		Attempts []sentAttempt `json:"attempts"`
	}

	// An attemptRow is an attempt on a timeline. The last answer that was kept is open.
	attemptRow struct {
		sentAttempt
		Open bool
	}
)

// timeline is a delivery's attempts, the last one first.
func timeline(attempts []sentAttempt) []attemptRow {
	rows := make([]attemptRow, 0, len(attempts))
	for _, a := range slices.Backward(attempts) {
		rows = append(rows, attemptRow{a, len(rows) == 0})
	}
	return rows
}

// link has the elements of batches lead to their deliveries.
func (d *sentDelivery) link(to func(id string) string) {
	for _, a := range d.Attempts {
		if a.Request == nil {
			continue
		}
		for i := range a.Request.Elements {
			e := &a.Request.Elements[i]
			e.Href = to(e.DeliveryID)
		}
	}
}

// deliveryPage shows a delivery.
func deliveryPage(v *visit) error {
	company, id := v.r.PathValue("company"), v.r.PathValue("delivery")
	var d sentDelivery
	if err := v.get(&d, url.Values{"include": {"request"}}, "companies", company, "deliveries", id); err != nil {
		return err
	}
	d.link(func(other string) string { return v.path("companies", company, "deliveries", other) })
	callback := strconv.FormatInt(d.CallbackID, 10)
	page := struct {
		*client.Delivery
		EventHref, CallbackHref string
		Timeline                []attemptRow
		Replay                  *act
		Cancel                  string
	}{
		Delivery: &d.Delivery, Timeline: timeline(d.Attempts), CallbackHref: v.path("companies", company, "callbacks", callback),
	}
	if d.DecisionID == "" {
		page.EventHref = v.path("companies", company, "events", d.EventID)
	}
	if v.operates() && d.DecisionID == "" {
		switch d.State {
		case client.Delivered, client.Dead, client.Cancelled:
			page.Replay = v.act("Replay", "primary", "companies", company, "deliveries", id, "replay")
		case client.Retrying:
			page.Replay = v.act("Try now", "primary", "companies", company, "deliveries", id, "now")
			page.Cancel = v.path("companies", company, "deliveries", id, "cancel")
		default:
			page.Cancel = v.path("companies", company, "deliveries", id, "cancel")
		}
	}
	return v.show(sheet{
		template: "delivery", title: d.EventID, kicker: "Delivery of", company: company, main: page,
		crumbs: v.above(company, link{page.CallbackHref, "callback " + callback}),
	})
}

// replayDelivery sends a delivery again.
func replayDelivery(v *visit) error {
	company, id := v.r.PathValue("company"), v.r.PathValue("delivery")
	var d client.Delivery
	if err := v.post(&d, nil, "companies", company, "deliveries", id, "replay"); err != nil {
		return err
	}
	return v.seen("It goes out again. "+d.Summary, "companies", company, "deliveries", id)
}

// hastenDelivery tries a delivery now that waits for its next attempt.
func hastenDelivery(v *visit) error {
	company, id := v.r.PathValue("company"), v.r.PathValue("delivery")
	if err := v.post(nil, nil, "companies", company, "deliveries", id, "now"); err != nil {
		return err
	}
	return v.seen("It goes out again, with its next attempt.", "companies", company, "deliveries", id)
}

// cancelDeliveryPage asks whether to cancel a delivery, and does it.
func cancelDeliveryPage(v *visit) error {
	company, id := v.r.PathValue("company"), v.r.PathValue("delivery")
	here := []string{"companies", company, "deliveries", id}
	if v.r.Method == http.MethodPost {
		if err := v.post(nil, nil, append(here, "cancel")...); err != nil {
			return err
		}
		return v.seen("The delivery is cancelled. It can be replayed.", here...)
	}
	var d client.Delivery
	if err := v.get(&d, nil, here...); err != nil {
		return err
	}
	return v.show(sheet{template: "confirm", title: "Cancel this delivery?", company: company, crumbs: v.above(company, link{v.path(here...), "delivery of " + d.EventID}), main: confirmation{
		Says: []string{sentence(d.Summary), "It is given up and sent no more, unless an attempt is under way: that one finishes. It can be replayed."},
		Act:  v.act("Cancel the delivery", "danger", append(here, "cancel")...), Back: v.path(here...),
		Facts: []fact{
			{"Company", company, v.path("companies", company)},
			{"Event", d.EventID, v.path("companies", company, "events", d.EventID)},
			{"Type", d.EventType, ""},
			{"Callback", strconv.FormatInt(d.CallbackID, 10), v.path("companies", company, "callbacks", strconv.FormatInt(d.CallbackID, 10))},
			{"State", pillOf(d.State).Word, ""},
			factAt("Accepted", d.AcceptedAt),
		},
	}})
}
