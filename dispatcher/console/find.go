package console

import (
	"net/http"
	"strings"

	"github.com/ringback/ringback/registry"
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

// findPage goes to what an id names. If it may name several things, it shows them all. Without an id, it goes to the company.
func findPage(v *visit) error {
	company, id := strings.TrimSpace(v.r.URL.Query().Get("company")), strings.TrimSpace(v.r.URL.Query().Get("id"))
	if company == "" && v.key.Company != registry.AllCompanies {
		company = v.key.Company
	}
	page := struct {
		Trouble     *trouble
		Found       []found
		AsksCompany bool
	}{AsksCompany: !v.partners}
	status := http.StatusOK
	switch {
	case company == "":
		page.Trouble, status = &trouble{Says: "Which company? An id is one of a company’s."}, http.StatusUnprocessableEntity
	case id == "":
		return v.redirect("companies", company)
	default:
		for _, p := range placesOf(company, id) {
			switch err := v.get(nil, nil, p.api...); {
			case err == nil:
				page.Found = append(page.Found, found{link{v.path(p.page...), p.page[2] + "/" + id}, p.page})
			case !missing(err):
				return err
			}
		}
		if len(page.Found) == 1 {
			return v.redirect(page.Found[0].page...)
		}
		if len(page.Found) == 0 {
			page.Trouble, status = &trouble{Says: "Company " + company + " has no event, delivery, callback or replay " + id + ", or it is no longer kept."}, http.StatusNotFound
		}
	}
	return v.show(sheet{template: "find", status: status, title: "Find", company: company, main: page})
}
