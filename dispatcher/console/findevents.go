package console

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher/client"
)

// An eventForm asks for events. It is as it was sent, so that it can be mended. The match attributes that the chosen type has are fields of it.
type eventForm struct {
	Action             string
	Company            string
	AsksCompany        bool
	Types              []choice
	EventID, WebhookID string
	Since, Until       string
	Attributes         []attributeField
	Trouble            *trouble
}

// An attributeField is a match attribute's. Its name in the form begins with attributePrefix: attributes may be called anything.
type attributeField struct{ Name, Value string }

const attributePrefix = "a."

// An eventList is what was found.
type eventList struct {
	Everywhere     bool // over all companies
	Rows           []eventRow
	Pager          pager
	SearchedBackTo time.Time
}

// An eventRow is an event that was found, with how many deliveries it has in each state.
type eventRow struct {
	*client.EventItem
	Href   string
	Whose  string
	States []stateCount
}

type stateCount struct {
	State string
	Count int64
}

// eventFormOf is the form, filled in with a query. It takes the types there are.
func (v *visit) eventFormOf(query url.Values) (eventForm, error) {
	f := eventForm{
		Action: v.path("find"), Company: strings.TrimSpace(query.Get("company")), AsksCompany: v.everywhere(), EventID: strings.TrimSpace(query.Get("event_id")),
		WebhookID: strings.TrimSpace(query.Get("webhook_id")), Since: query.Get("since"), Until: query.Get("until"),
	}
	if !f.AsksCompany {
		f.Company = v.key.Company
	}
	var types client.TypeList
	if err := v.get(&types, nil, "callback-types"); err != nil {
		return f, err
	}
	chosen := query.Get("event_type")
	f.Types = []choice{{"event_type", "", "any", chosen == ""}}
	known := chosen == ""
	for _, t := range types.CallbackTypes {
		if t.Synchronous {
			continue // it is asked, and no event is kept of it
		}
		f.Types = append(f.Types, choice{"event_type", t.Name, t.Name, t.Name == chosen})
		if t.Name != chosen {
			continue
		}
		known = true
		for _, name := range slices.Sorted(maps.Keys(t.Match)) {
			f.Attributes = append(f.Attributes, attributeField{name, query.Get(attributePrefix + name)})
		}
	}
	if !known { // one that is gone: its events are still there
		f.Types = append(f.Types, choice{"event_type", chosen, chosen, true})
	}
	return f, nil
}

// eventsOf finds events. If nothing was asked for yet, the list is nil. If the form is at fault, it says why.
func (v *visit) eventsOf(given url.Values) (eventForm, *eventList, error) {
	f, err := v.eventFormOf(given)
	if err != nil || len(given) == 0 {
		return f, nil, err
	}
	company := f.Company
	if company == "" {
		company = client.AllOfThem
	}
	query := url.Values{"event_type": {given.Get("event_type")}, "event_id": {f.EventID}, "webhook_id": {f.WebhookID}, "cursor": {given.Get("cursor")}}
	for _, a := range f.Attributes {
		query.Set(a.Name, strings.TrimSpace(a.Value))
	}
	var faults []client.FieldErr
	for _, name := range []string{"since", "until"} {
		t, err := moment(given.Get(name), v.now)
		if err != nil {
			faults = append(faults, client.FieldErr{Location: name, Message: err.Error()})
		} else if !t.IsZero() {
			query.Set(name, t.Format(time.RFC3339))
		}
	}
	maps.DeleteFunc(query, func(_ string, values []string) bool { return values[0] == "" })
	var page client.EventPage
	if len(faults) > 0 {
		err = &client.APIError{Status: http.StatusUnprocessableEntity, Detail: "the form cannot be read", Errors: faults}
	} else {
		err = v.get(&page, query, "companies", company, "events")
	}
	if t := troubleOf(err); err != nil && (t.Status == http.StatusUnprocessableEntity || t.Status == http.StatusBadRequest || t.Status == http.StatusNotFound) {
		f.Trouble = &t
		return f, nil, nil
	}
	if err != nil {
		return f, nil, err
	}
	return f, v.eventList(company, &page), nil
}

// eventList is a page of events for people.
func (v *visit) eventList(company string, page *client.EventPage) *eventList {
	list := &eventList{Everywhere: company == client.AllOfThem, Pager: v.pagerOf(page.NextCursor), SearchedBackTo: page.SearchedBackTo}
	for _, e := range page.Events {
		row := eventRow{EventItem: e, Whose: company}
		if e.Company != "" {
			row.Whose = e.Company
		}
		row.Href = v.path("companies", row.Whose, "events", e.EventID)
		for _, state := range states {
			if n := int64(e.Deliveries[state]); n > 0 {
				row.States = append(row.States, stateCount{state, n})
			}
		}
		list.Rows = append(list.Rows, row)
	}
	return list
}
