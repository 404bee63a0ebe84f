package console

import (
	"net/url"
	"strconv"

	"github.com/ringback/ringback/dispatcher/client"
)

// A decisionRow is what became of an event at one callback.
type decisionRow struct {
	client.Decision
	Href, DeliveryHref string
}

// eventPage explains an event, callback by callback.
func eventPage(v *visit) error {
	company, id := v.r.PathValue("company"), v.r.PathValue("event")
	given, query := v.r.URL.Query(), url.Values{}
	for _, name := range []string{"cursor", "callback_id"} {
		if value := given.Get(name); value != "" {
			query.Set(name, value)
		}
	}
	var x client.Explanation
	if err := v.get(&x, query, "companies", company, "events", id); err != nil {
		return err
	}
	page := struct {
		*client.Explanation
		Rows  []decisionRow
		Pager pager
		Only  string // the one callback that is asked for
		All   string // leads to all of them

		Payload *payload // nil: the caller may not see it
	}{Explanation: &x, Pager: v.pagerOf(x.NextCursor), Only: query.Get("callback_id"), All: v.path("companies", company, "events", id)}
	var err error
	if page.Payload, err = v.payloadOf(company, id); err != nil {
		return err
	}
	for _, d := range x.Callbacks {
		row := decisionRow{Decision: d}
		if d.CallbackType != "" {
			row.Href = v.path("companies", company, "callbacks", strconv.FormatInt(d.CallbackID, 10))
		}
		if d.Delivery != nil {
			row.DeliveryHref = v.path("companies", company, "deliveries", d.Delivery.DeliveryID)
		}
		page.Rows = append(page.Rows, row)
	}
	return v.show(sheet{template: "event", title: x.EventID, kicker: "Event", company: company, crumbs: v.above(company), main: page})
}
