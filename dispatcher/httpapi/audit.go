package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/registry"
)

type (
	auditIn struct {
		Company string    `query:"company" doc:"Only changes to this company, its API keys included. A key of one company sees no others."`
		Since   time.Time `query:"since" doc:"Only changes at this time or later."`
		Until   time.Time `query:"until" doc:"Only changes before this time."`
		Limit   int       `query:"limit" minimum:"1" maximum:"500" default:"50"`
		Cursor  string    `query:"cursor"`
	}
	auditOut struct{ Body auditPage }

	auditPage struct {
		Entries    []registry.AuditEntry `json:"entries"`
		NextCursor string                `json:"next_cursor,omitempty" doc:"Absent on the last page. A page that is followed by another may have fewer entries than limit, or none: where many are about other companies, each request looks through some of them."`
	}

	// auditEntryDoc is a registry.AuditEntry.
	auditEntryDoc struct {
		ID      string           `json:"id" doc:"Unique, and the same whenever it is read."`
		At      time.Time        `json:"at" doc:"By Redis's clock."`
		Company string           `json:"company,omitempty" doc:"Absent where the change is to the whole installation."`
		Actor   string           `json:"actor" doc:"The id of the API key that made the change; engine where Ringback did so by itself, cli where a command did that talks to Redis."`
		Action  string           `json:"action" doc:"What was done." example:"callback.update"`
		Object  string           `json:"object" doc:"To what." example:"callbacks/11887"`
		Changes []auditChangeDoc `json:"changes" nullable:"false" doc:"Field by field. Secrets are \"***\", URLs are without their query, and long texts are cut off."`
		Sealed  bool             `json:"sealed,omitempty" doc:"There are changes, and they are sealed with a key that the keyset does not have any more."`
	}
	auditChangeDoc struct {
		Field string `json:"field"`
		Old   any    `json:"old,omitempty" doc:"Absent where there was none."`
		New   any    `json:"new,omitempty" doc:"Absent where there is none any more."`
	}
)

func (s *server) audit() {
	register(s, operation{need: readAudit, Operation: huma.Operation{
		OperationID: "list-audit", Method: http.MethodGet, Path: "/audit", Tags: []string{"Operations"}, Summary: "Who changed what",
		Description: "Newest first: every change to callbacks, API keys, callback types, quotas, replays, deliveries by hand, egress and lanes, and every erasure, kept for " +
			"90 days. A line is written in the same step as the change that it tells of. A company that was erased leaves one line.",
	}}, s.listAudit)
}

// listAudit lists changes. A key of one company sees those that concern its company.
func (s *server) listAudit(ctx context.Context, in *auditIn) (*auditOut, error) {
	key := keyOf(ctx)
	if in.Company == "" && key.Company != registry.AllCompanies {
		in.Company = key.Company
	}
	if in.Company != "" && !key.Covers(in.Company) {
		return nil, errHidden
	}
	entries, next, err := s.Registry.Audit(ctx, registry.AuditQuery{Company: in.Company, Since: in.Since, Until: in.Until, Limit: in.Limit, Cursor: in.Cursor})
	if err != nil {
		return nil, err
	}
	return &auditOut{auditPage{orEmpty(entries), next}}, nil
}
