package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/payloads"
)

const (
	replaysRoute = "/companies/{company}/replays"
	replayRoute  = replaysRoute + "/{replay_id}"
)

type (
	replayIn struct {
		Company  string `path:"company"`
		ReplayID string `path:"replay_id"`
	}
	replaysIn struct {
		Company string `path:"company"`
	}
	startedOut struct {
		Location string `header:"Location"`
		Body     *dispatcher.Replay
	}
	replayOut  struct{ Body *dispatcher.Replay }
	replaysOut struct{ Body replayList }

	replayList struct {
		Replays []*dispatcher.Replay `json:"replays"`
	}
)

func (s *server) replays() {
	chapter := []string{"Replays"}
	register(s, operation{need: steerDeliveries, bounds: ofCallback, long: true, body: &body{schema: reflect.TypeFor[replayQueryDoc](), optional: true}, repeats: actsOnce, Operation: huma.Operation{
		OperationID: "replay-callback", Method: http.MethodPost, Path: callbackRoute + "/replay", Tags: chapter, DefaultStatus: http.StatusAccepted,
		Summary: "Deliver many again",
		Description: "All deliveries of the callback that are in one of `states` and fit the rest. They go out oldest first and paced, each as if it " +
			"had been replayed by itself: with the webhook-id it had. Retrying ones make their next attempt at once, as with POST …/now. `dry_run` counts them and sends nothing. Those whose events are kept without their bodies are skipped, and counted in `body_left`. A quota bounds how many replays of a company may be under way.",
		Errors: []int{http.StatusConflict},
	}}, s.replayCallback)
	register(s, operation{need: readCallbacks, bounds: ofThose, Operation: huma.Operation{
		OperationID: "list-replays", Method: http.MethodGet, Path: replaysRoute, Tags: chapter, Summary: "List replays",
		Description: "Newest first: those that run, and those that ended within the last seven days; a hundred at most. One over callbacks stands there by itself, and " +
			"beside it the one of each callback that it is done in, with its id as `bulk_id`.",
	}}, s.listReplays)
	register(s, operation{need: readCallbacks, bounds: ofReplay, Operation: huma.Operation{
		OperationID: "get-replay", Method: http.MethodGet, Path: replayRoute, Tags: chapter, Summary: "Show how far a replay is",
	}}, s.getReplay)
	register(s, operation{need: steerDeliveries, bounds: ofReplay, Operation: huma.Operation{
		OperationID: "cancel-replay", Method: http.MethodDelete, Path: replayRoute, Tags: chapter, Summary: "Stop a replay",
		Description: "What it has let out stays on its way. To stop one that has ended changes nothing.",
	}}, s.cancelReplay)
}

func (s *server) replayCallback(ctx context.Context, in *steerIn) (*startedOut, error) {
	q, err := decodeReplay(in.RawBody)
	if err != nil {
		return nil, err
	}
	r, err := s.Client.ReplayCallback(ctx, in.Company, in.CallbackID, q)
	if err != nil {
		return nil, err
	}
	return &startedOut{Location: "/companies/" + in.Company + "/replays/" + r.ReplayID, Body: r}, nil
}

// decodeReplay reads which deliveries are meant. All members are optional.
func decodeReplay(body []byte) (q dispatcher.ReplayQuery, err error) {
	err = optionalMembers(body, func(name string, value json.RawMessage) string {
		wrong, known := replayMember(name, value, &q)
		if !known {
			return "is not known here: the members are " + replayMembers
		}
		return wrong
	})
	if err == nil {
		err = spans(q)
	}
	return q, err
}

const replayMembers = "since, until, states, event_type, reason, pace and dry_run"

// replayMember reads a member that all bodies have which select deliveries.
func replayMember(name string, value json.RawMessage, q *dispatcher.ReplayQuery) (wrong string, known bool) {
	read, known := map[string]func() string{
		"since":      func() string { return moment(value, &q.Since) },
		"until":      func() string { return moment(value, &q.Until) },
		"states":     func() string { return states(value, &q.States) },
		"event_type": func() string { return text(value, &q.EventType) },
		"reason":     func() string { return text(value, (*string)(&q.Reason)) },
		"pace":       func() string { return pace(value, &q.Pace) },
		"dry_run":    func() string { return boolean(value, &q.DryRun) },
	}[name]
	if !known || isNull(value) {
		return "", known
	}
	return read(), true
}

// spans wants some time between since and until.
func spans(q dispatcher.ReplayQuery) error {
	if q.Until.IsZero() || q.Since.Before(q.Until) {
		return nil
	}
	return &payloads.InvalidError{Fields: []payloads.FieldError{{
		Location: "body.until", Message: "must be later than since: nothing lies between them", Value: q.Until,
	}}}
}

// states reads a list of states. Which of them may be replayed, the dispatcher knows.
func states(value json.RawMessage, into *[]dispatcher.State) (wrong string) {
	if json.Unmarshal(value, into) != nil {
		return "must be a list of states, such as [\"dead\"]"
	}
	if len(*into) == 0 {
		return "names no state: leave it out for [\"dead\"]"
	}
	return ""
}

// pace reads how many deliveries a second may go.
func pace(value json.RawMessage, into *int64) (wrong string) {
	if json.Unmarshal(value, into) != nil || *into < 1 || *into > dispatcher.MaxPace {
		return fmt.Sprintf("must be a whole number of deliveries a second, 1 to %d", dispatcher.MaxPace)
	}
	return ""
}

func (s *server) listReplays(ctx context.Context, in *replaysIn) (*replaysOut, error) {
	list, err := s.Client.Replays(ctx, in.Company)
	if err != nil {
		return nil, err
	}
	key := keyOf(ctx)
	list = slices.DeleteFunc(list, func(r *dispatcher.Replay) bool { return !key.Sees(r.CallbackID) })
	return &replaysOut{replayList{orEmpty(list)}}, nil
}

func (s *server) getReplay(ctx context.Context, in *replayIn) (*replayOut, error) {
	r, err := s.Client.ReplayProgress(ctx, in.Company, in.ReplayID)
	return &replayOut{r}, replayError(err)
}

func (s *server) cancelReplay(ctx context.Context, in *replayIn) (*noContent, error) {
	return &noContent{}, replayError(s.Client.CancelReplay(ctx, in.Company, in.ReplayID))
}
