package httpapi

import (
	"context"
	"net/http"
	"strings"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// manyNames is among how many companies near names are looked for: more take too long to compare.
const manyNames = 20_000

// aboutCompany is where an operation's context holds the company of its path.
type aboutCompany struct{}

// noCompany says of a request that was answered 404 that there is no company of the name in its path, and which names are near. It says so to keys of all
// companies alone: for others, companies that they may not see do not exist. Else it is empty.
func (s *server) noCompany(ctx context.Context) string {
	company, _ := ctx.Value(aboutCompany{}).(string)
	if keyOf(ctx).Company != registry.AllCompanies || company == "" || company == registry.AllCompanies {
		return ""
	}
	if known, err := s.Registry.Known(ctx, company); known || err != nil {
		return ""
	}
	said := "there is no company " + company + ": it was never used, or is erased"
	names, err := s.overviews.Names(ctx)
	if err != nil || len(names) > manyNames {
		return said
	}
	if near := payloads.Near(company, names); len(near) > 0 {
		said += "; near: " + strings.Join(near, ", ")
	}
	return said + "; GET /companies lists those there are"
}

// hintAtCompanies has a 404 say that the company is the fault.
func (s *server) hintAtCompanies(ctx context.Context, status int, detail string) string {
	if status != http.StatusNotFound {
		return detail
	}
	if said := s.noCompany(ctx); said != "" {
		return said
	}
	return detail
}
