package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/dispatcher"
)

type overviewOut struct{ Body *dispatcher.Overview }

func (s *server) overview() {
	register(s, operation{need: watch, Operation: huma.Operation{
		OperationID: "overview", Method: http.MethodGet, Path: "/overview", Tags: []string{"Operations"}, Summary: "How the whole installation does",
		Description: "What somebody on call asks first, over all companies: is it us or them; which callbacks are worst and why; what waits, how old the oldest is and whose; " +
			"how many are dead and why; when the next retries come; what was accepted, delivered and failed by the minute; and how callbacks, egress, workers and Redis stand. " +
			"Each part has a `sentence`. The answer is up to a few seconds old (`as_of`), however many ask. For an operator's or viewer's key of all companies.",
	}}, func(ctx context.Context, _ *struct{}) (*overviewOut, error) {
		o, err := s.overviews.Overview(ctx)
		return &overviewOut{o}, err
	})
}
