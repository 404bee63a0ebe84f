package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/dispatcher"
)

type (
	companiesIn struct {
		Prefix string `query:"prefix" doc:"Only companies whose names begin so." example:"ac"`
		Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
		Cursor string `query:"cursor"`
	}
	companiesOut struct{ Body companyPage }
	companyPage  struct {
		Companies  []*dispatcher.CompanyItem `json:"companies"`
		NextCursor string                    `json:"next_cursor,omitempty" doc:"Absent on the last page."`
	}
)

func (s *server) companies() {
	register(s, operation{need: watch, Operation: huma.Operation{
		OperationID: "list-companies", Method: http.MethodGet, Path: "/companies", Tags: []string{"Operations"}, Summary: "List the companies",
		Description: "By name, each with what waits and how its callbacks stand. A company exists from its first use. For an operator's or viewer's key of all companies.",
	}}, func(ctx context.Context, in *companiesIn) (*companiesOut, error) {
		list, next, err := s.overviews.Companies(ctx, in.Prefix, in.Limit, in.Cursor)
		return &companiesOut{companyPage{orEmpty(list), next}}, err
	})
}
