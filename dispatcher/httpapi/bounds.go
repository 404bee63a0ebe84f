package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/registry"
)

// bounds say how an operation keeps a bounded caller to its bounds: to some of its company's callbacks, or to looking. An operation that says nothing is
// refused to every bounded caller.
type bounds int

const (
	refusedBounded bounds = iota
	// ofNoCallback: the operation shows nothing of any callback.
	ofNoCallback
	// ofCallback, ofDelivery, ofEvent and ofReplay: the operation is about what the path names, which has to be the caller's to see. An event is, if one of
	// its deliveries is.
	ofCallback
	ofDelivery
	ofEvent
	ofReplay
	// ofThose: the operation selects what the caller sees.
	ofThose
)

var (
	errBounded  = &refusal{status: http.StatusForbidden, detail: "whoever may see some callbacks only, or only look, may not do this: it takes an API key, or a portal link without such bounds"}
	errReadOnly = &refusal{status: http.StatusForbidden, detail: "this session may look and change nothing: it takes an API key, or a portal link that is not read_only"}
)

// within lets a bounded caller go on if the operation keeps it to its bounds. What it may not see does not exist for it.
func (s *server) within(b bounds) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		if key := keyOf(ctx.Context()); key.Bounded() {
			r, w := humago.Unwrap(ctx)
			if err := s.bound(ctx.Context(), key, b, r); err != nil {
				s.refuse(w, r, err)
				return
			}
		}
		next(ctx)
	}
}

// bound judges a request of a bounded caller.
func (s *server) bound(ctx context.Context, key registry.Key, b bounds, r *http.Request) error {
	if b == refusedBounded {
		return errBounded
	}
	if key.ReadOnly && r.Method != http.MethodGet && r.Method != http.MethodHead {
		return errReadOnly
	}
	if key.Callbacks == nil {
		return nil
	}
	company := r.PathValue("company")
	switch b {
	case ofNoCallback, ofThose:
		return nil
	case ofCallback:
		id, err := strconv.ParseInt(r.PathValue("callback_id"), 10, 64)
		if err != nil || !key.Sees(id) {
			return errNoCallback
		}
		return nil
	case ofDelivery:
		d, err := s.Client.Delivery(ctx, company, r.PathValue("delivery_id"))
		if err == nil && !key.Sees(d.CallbackID) {
			return errNoRecord
		}
		return err
	case ofEvent:
		_, err := s.Client.Explain(ctx, company, r.PathValue("event_id"), dispatcher.ExplainQuery{Within: key.Callbacks, Limit: 1})
		return err
	case ofReplay:
		replay, err := s.Client.ReplayProgress(ctx, company, r.PathValue("replay_id"))
		if err == nil && !key.Sees(replay.CallbackID) {
			return errNoReplay
		}
		return replayError(err)
	}
	return fmt.Errorf("bounds %d are not known", b)
}

// replayError turns the dispatcher's "not found" into one that speaks of a replay.
func replayError(err error) error {
	if errors.Is(err, dispatcher.ErrNotFound) {
		return errNoReplay
	}
	return err
}
