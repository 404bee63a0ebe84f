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
	register(s, operation{need: steerDeliveries, bounds: ofCallback, long: true, body: &body{schema: reflect.TypeFor[replayQueryDoc](), optional: true}, Operation: huma.Operation{
		OperationID: "replay-callback", Method: http.MethodPost, Path: callbackRoute + "/replay", Tags: chapter, DefaultStatus: http.StatusAccepted,
		Summary: "Deliver many again",
		Description: "All deliveries of the callback that are in one of `states` and fit the rest. They go out oldest first and paced, each as if it " +
			"had been replayed by itself: with the webhook-id it had. Retrying ones make their next attempt at once, as with POST …/now. `dry_run` counts them and sends nothing. Those whose events are kept without their bodies are skipped, and counted in `body_left`. A quota bounds how many replays of a company may be under way.",
		Errors: []int{http.StatusConflict},
	}}, s.replayCallback)
	register(s, operation{need: readCallbacks, bounds: ofThose, Operation: huma.Operation{
		OperationID: "list-replays", Method: http.MethodGet, Path: replaysRoute, Tags: chapter, Summary: "List replays",
		Description: "Newest first: those that run, and those that ended within the last seven days; a hundred at most.",
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
		if isNull(value) {
			return ""
		}
		switch name {
		case "since":
			return moment(value, &q.Since)
		case "until":
			return moment(value, &q.Until)
		case "states":
			if json.Unmarshal(value, &q.States) != nil {
				return "must be a list of states, such as [\"dead\"]"
			}
			if len(q.States) == 0 {
				return "names no state: leave it out for [\"dead\"]"
			}
			return ""
		case "event_type":
			return text(value, &q.EventType)
		case "reason":
			return text(value, (*string)(&q.Reason))
		case "pace":
			return pace(value, &q.Pace)
		case "dry_run":
			return boolean(value, &q.DryRun)
		}
		return "is not known here: the members are since, until, states, event_type, reason, pace and dry_run"
	})
	if err == nil && !q.Until.IsZero() && !q.Since.Before(q.Until) {
		return q, &payloads.InvalidError{Fields: []payloads.FieldError{{
			Location: "body.until", Message: "must be later than since: nothing lies between them", Value: q.Until,
		}}}
	}
	return q, err
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
