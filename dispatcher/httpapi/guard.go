package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/registry"
)

// The functions in this file stand between a request and the operation that it asks for.

// guard admits requests to an operation of the API, and no more of a key at a time than the key may have.
func (s *server) guard(n need) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(ctx)
		c, err := s.admit(r, n)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		v, err := s.door.enter(c.Key.ID)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		defer v.leave()
		known := context.WithValue(registry.WithCaller(registry.WithActor(ctx.Context(), c.Key.ID), c), visiting{}, v)
		if c.Key.Role != registry.Partner { // partners choose host names, and must not learn by trying which of them exist inside
			known = dispatcher.Unmasked(known)
		}
		next(huma.WithContext(ctx, context.WithValue(known, aboutCompany{}, r.PathValue("company"))))
	}
}

// guarded admits requests to a handler that is not one of the API's operations.
func (s *server) guarded(n need, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := s.admit(r, n); err != nil {
			s.refuse(w, r, err)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// placed lets an operation begin when it has a place.
func (s *server) placed(ctx huma.Context, next func(huma.Context)) {
	v := visitOf(ctx.Context())
	release, err := v.place(ctx.Context(), v.bytes/copies)
	s.letIn(ctx, release, err, next)
}

// placedLong lets an operation that takes long begin when it has a place among those.
func (s *server) placedLong(ctx huma.Context, next func(huma.Context)) {
	release, err := visitOf(ctx.Context()).longPlace(ctx.Context())
	s.letIn(ctx, release, err, next)
}

// letIn goes on to the operation with a place, or says why there is none.
func (s *server) letIn(ctx huma.Context, release func(), err error, next func(huma.Context)) {
	if err != nil {
		r, w := humago.Unwrap(ctx)
		s.refuse(w, r, err)
		return
	}
	defer release()
	next(ctx)
}

// patient moves the server's deadline for writing the answer.
func patient(d time.Duration) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		_, w := humago.Unwrap(ctx)
		rc := http.NewResponseController(w)
		_ = rc.SetWriteDeadline(time.Now().Add(d))              // not every writer can
		defer func() { _ = rc.SetWriteDeadline(time.Time{}) }() // the server sets one for the next request, if it wants to
		next(ctx)
	}
}
