package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"github.com/ringback/ringback/dispatcher/client"
)

// An auditRow is a change, with the page of what was changed.
type auditRow struct {
	client.AuditEntry
	Href  string
	Lines []auditLine
}

// Many reports whether the fields are so many that they are folded where it is narrow.
func (r auditRow) Many() bool { return len(r.Lines) > 4 }

// An auditLine is one field of a change.
type auditLine struct{ Field, Old, New string }

// objectOf are the objects of the audit trail that have a page.
var objectOf = regexp.MustCompile(`^(callbacks|deliveries|replays)/([^/]+)$`)

// auditPage lists who changed what.
func auditPage(v *visit) error {
	given, query := v.r.URL.Query(), url.Values{}
	for _, name := range []string{"company", "cursor"} {
		if value := given.Get(name); value != "" {
			query.Set(name, value)
		}
	}
	page := struct {
		Action, Company, Since string
		On, AsksCompany        bool
		Rows                   []auditRow
		Pager                  pager
		Trouble                *trouble
	}{Action: v.path("audit"), Company: given.Get("company"), Since: given.Get("since"), On: given.Has("company") || given.Has("since"), AsksCompany: v.everywhere()}
	since, err := moment(page.Since, v.now)
	if err != nil {
		err = &client.APIError{Status: http.StatusUnprocessableEntity, Detail: "the filter cannot be read", Errors: []client.FieldErr{{Location: "since", Message: err.Error()}}}
	} else if !since.IsZero() {
		query.Set("since", since.Format(time.RFC3339))
	}
	var list client.AuditPage
	if err == nil {
		err = v.get(&list, query, "audit")
	}
	status := http.StatusOK
	if t := troubleOf(err); err != nil && t.Status == http.StatusUnprocessableEntity {
		page.Trouble, status = &t, t.Status
	} else if err != nil {
		return err
	}
	page.Pager = v.pagerOf(list.NextCursor)
	for _, e := range list.Entries {
		row := auditRow{AuditEntry: e}
		if m := objectOf.FindStringSubmatch(e.Object); m != nil && e.Company != "" {
			row.Href = v.path("companies", e.Company, m[1], m[2])
		}
		for _, c := range e.Changes {
			row.Lines = append(row.Lines, auditLine{c.Field, said(c.Old), said(c.New)})
		}
		page.Rows = append(page.Rows, row)
	}
	return v.show(sheet{template: "audit", status: status, title: "Audit", company: page.Company, main: page})
}

// said is a value of a field for people. There may be none.
func said(value any) string {
	switch value := value.(type) {
	case nil:
		return ""
	case string:
		return value
	default:
		text, err := json.Marshal(value)
		if err != nil {
			return fmt.Sprint(value)
		}
		return string(text)
	}
}
