package httpapi

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/registry"
)

// answer returns what the caller hears of an error, and logs what the operator must hear of it. If a partner did not decide, nothing is
// logged here: the dispatcher logs all decisions.
func (s *server) answer(ctx context.Context, doing string, err error) (*huma.ErrorModel, http.Header) {
	p, header := explain(err)
	if old, ok := errors.AsType[*registry.OldProcessError](err); ok && isOperator(ctx) {
		p.Detail = old.Error()
	}
	p.Detail = s.hintAtCompanies(ctx, p.Status, p.Detail)
	if keyOf(ctx).Role == registry.Operator {
		forOperators(p)
	}
	_, undecided := errors.AsType[*dispatcher.NoDecisionError](err)
	if e, ok := errors.AsType[*refusal](err); ok && e.shed {
		s.shed(ctx, e.detail)
		return p, header
	}
	if p.Status >= http.StatusInternalServerError && ctx.Err() == nil && !undecided {
		s.Logger.ErrorContext(ctx, "request failed", "request", doing, "status", p.Status, "error", err)
	}
	return p, header
}

// forOperators has a problem about a URL say what an operator can do about it.
func forOperators(p *huma.ErrorModel) {
	p.Detail = egress.ForOperators(p.Detail)
	for _, e := range p.Errors {
		e.Message = egress.ForOperators(e.Message)
	}
}

// refuse answers a request with an error.
func (s *server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	p, header := s.answer(r.Context(), r.Method+" "+routeOf(r), err)
	maps.Copy(w.Header(), header)
	writeJSON(w, p.Status, p.ContentType("application/json"), p)
}

// routeOf names a request in logs. It is the pattern, for a path may hold secrets.
func routeOf(r *http.Request) string {
	if _, path, ok := strings.Cut(r.Pattern, " "); ok {
		return path
	}
	return "(unrouted)"
}

// survive turns a panic into a 500. If the answer has begun, survive cuts the connection instead: half an answer must not look whole.
func (s *server) survive(w *trackingWriter, r *http.Request) {
	cause := recover()
	if cause == nil {
		return
	}
	if cause == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so, too
		panic(cause)
	}
	s.panicked(r.Context(), r.Method+" "+routeOf(r), cause)
	if w.begun {
		panic(http.ErrAbortHandler)
	}
	p, _ := explain(errPanicked)
	writeJSON(w, p.Status, p.ContentType("application/json"), p)
}

// panicked logs a panic that was caught.
func (s *server) panicked(ctx context.Context, doing string, cause any) {
	s.Logger.ErrorContext(ctx, "request panicked", "request", doing)
	s.Client.Panicked(ctx, dispatcher.PlaceHTTP, cause)
}

// shed notes that a request was turned away, and logs it now and then.
func (s *server) shed(ctx context.Context, detail string) {
	if count, due := s.sheds.note(time.Now()); due {
		s.Logger.WarnContext(ctx, "requests are turned away", "reason", detail, "count", count)
	}
}
