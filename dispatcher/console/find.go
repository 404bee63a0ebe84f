package console

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/ringback/ringback/dispatcher/client"
)

// A place is where an id may lead: the API's path to look at, and the page.
type place struct{ api, page []string }

// found is a page that an id leads to.
type found struct {
	link
	page []string
}

// placesOf are where an id of a company may lead, by its look. An event's id may look like anything.
func placesOf(company, id string) []place {
	event := place{[]string{"companies", company, "events", id}, []string{"companies", company, "events", id}}
	switch {
	case strings.HasPrefix(id, "dlv_"), strings.HasPrefix(id, "dec_"):
		return []place{{[]string{"companies", company, "deliveries", id}, []string{"companies", company, "deliveries", id}}, event}
	case strings.HasPrefix(id, "rpl_"):
		return []place{{[]string{"companies", company, "replays", id}, []string{"companies", company, "replays", id}}, event}
	case strings.Trim(id, "0123456789") == "":
		return []place{{[]string{"companies", company, "config", "callbacks", id}, []string{"companies", company, "callbacks", id}}, event}
	default:
		return []place{event}
	}
}

// findPage finds events by what is asked for, or goes to what an id names. Partners' pages do the latter alone.
func findPage(v *visit) error {
	query := v.r.URL.Query()
	if query.Has("id") || v.partners {
		return v.lookUp(strings.TrimSpace(query.Get("company")), strings.TrimSpace(query.Get("id")))
	}
	f, list, err := v.eventsOf(query)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if f.Trouble != nil {
		status = f.Trouble.Status
	}
	return v.show(sheet{template: "events", status: status, title: "Find events", company: f.Company, main: struct {
		Form eventForm
		List *eventList
	}{f, list}})
}

// lookUp goes to what an id names. If it may name several things, it shows them all. Without an id, it goes to the company.
func (v *visit) lookUp(company, id string) error {
	if company == "" && !v.everywhere() {
		company = v.key.Company
	}
	page := struct {
		Trouble     *trouble
		Found       []found
		AsksCompany bool
		Action      string
		Company, ID string
	}{AsksCompany: !v.partners, Action: v.path("find"), Company: company, ID: id}
	status := http.StatusOK
	switch {
	case company == "" && id == "":
		return v.redirect("find")
	case id == "":
		return v.redirect("companies", company)
	}
	places, err := v.placesOf(company, id)
	if err != nil {
		return err
	}
	for _, p := range places {
		switch err := v.get(nil, nil, p.api...); {
		case err == nil:
			page.Found = append(page.Found, found{link{v.path(p.page...), strings.Join(p.page, "/")}, p.page})
		case !missing(err):
			return err
		}
	}
	switch {
	case len(page.Found) == 1:
		return v.redirect(page.Found[0].page...)
	case len(page.Found) == 0 && company == "":
		page.Trouble, status = &trouble{Says: "No company has an event, delivery or replay " + id + ", or it is no longer kept. A callback’s id takes its company."}, http.StatusNotFound
	case len(page.Found) == 0:
		page.Trouble, status = &trouble{Says: "Company " + company + " has no event, delivery, callback or replay " + id + ", or it is no longer kept."}, http.StatusNotFound
	}
	return v.show(sheet{template: "find", status: status, title: "Find", company: company, main: page})
}

// placesOf are where an id may lead. Without a company, the API is asked whose it is.
func (v *visit) placesOf(company, id string) ([]place, error) {
	if company != "" {
		places := placesOf(company, id)
		if v.everywhere() && strings.HasPrefix(id, "rpl_") {
			places = append(places, place{[]string{"replays", id}, []string{"replays", id}})
		}
		return places, nil
	}
	by := "event_id"
	switch {
	case strings.HasPrefix(id, "rpl_"):
		return []place{{[]string{"replays", id}, []string{"replays", id}}}, nil
	case strings.HasPrefix(id, "dlv_"):
		by = "webhook_id"
	}
	var list client.EventPage
	if err := v.get(&list, url.Values{by: {id}}, "companies", client.AllOfThem, "events"); err != nil {
		return nil, err
	}
	var places []place
	for _, e := range list.Events {
		if by == "event_id" {
			id = e.EventID
		}
		places = append(places, placesOf(e.Company, id)[0])
	}
	return places, nil
}
