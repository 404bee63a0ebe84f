package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// pollPatience is how long the answer to a poll may take: its wait, and some.
const pollPatience = dispatcher.MaxPollWait + 10*time.Second

type (
	pollIn struct {
		Company    string `path:"company"`
		CallbackID int64  `path:"callback_id"`
		After      string `query:"after" doc:"Begin behind this cursor, of a poll before. Left out: behind what was acknowledged."`
		Limit      int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
		Wait       string `query:"wait" doc:"How long to wait for something to fetch, if there is nothing: 30s at most."`
	}
	pollOut            struct{ Body *dispatcher.Polled }
	acknowledgementOut struct {
		Body *dispatcher.Acknowledgement
	}

	ackDoc struct {
		_       struct{} `additionalProperties:"false"`
		Through string   `json:"through" doc:"The cursor up to which deliveries are delivered: next of a poll, or a delivery's." example:"1769933698020-0"`
	}
	seekDoc struct {
		_  struct{} `additionalProperties:"false"`
		To string   `json:"to" doc:"Where to go on fetching: behind a cursor, before what was written at a time (RFC 3339), at start or at end." example:"2026-02-01T08:00:00Z"`
	}
)

// pulls registers what partners fetch with.
func (s *server) pulls() {
	chapter := []string{"Fetching"}
	register(s, operation{need: steerDeliveries, bounds: ofCallback, patience: pollPatience, Operation: huma.Operation{
		OperationID: "poll-callback", Method: http.MethodGet, Path: callbackRoute + "/poll", Tags: chapter, Summary: "Fetch deliveries",
		Description: "For a callback whose `destination` is `{\"pull\": true}`: what waits, in the order in which it was written. Each delivery has a cursor, and what is written later " +
			"has a higher one, whenever its event was accepted. Fetching changes nothing: acknowledge `next`, and go on behind it. An answer has a megabyte of payload at most, " +
			"but for the first. With `wait`, the answer comes as soon as there is something, or empty. A process that is about to end answers at once. While the callback is paused: 409.",
		Errors: []int{http.StatusConflict},
	}}, s.pollCallback)
	register(s, operation{need: steerDeliveries, bounds: ofCallback, long: true, body: &body{schema: reflect.TypeFor[ackDoc]()}, repeats: actsOnce, Operation: huma.Operation{
		OperationID: "acknowledge-deliveries", Method: http.MethodPost, Path: callbackRoute + "/ack", Tags: chapter, Summary: "Say what was fetched",
		Description: "All deliveries up to the cursor `through` are delivered by this. An earlier cursor than before changes nothing, so it can be repeated. Nothing is delivered that no poll gave: `acknowledged` says how far that is. A cursor that no clock can have given yet is refused. What is not acknowledged waits, " +
			"as long as deliveries may be held, and as many as may.",
		Errors: []int{http.StatusConflict},
	}}, s.acknowledge)
	register(s, operation{need: steerDeliveries, bounds: ofCallback, long: true, body: &body{schema: reflect.TypeFor[seekDoc]()}, repeats: actsOnce, Operation: huma.Operation{
		OperationID: "seek-callback", Method: http.MethodPost, Path: callbackRoute + "/seek", Tags: chapter, Summary: "Go to another place",
		Description: "Back: what was acknowledged is fetched again, as far as it is kept, and stays delivered. On: what waits before that place is cancelled, and can be replayed.",
		Errors:      []int{http.StatusConflict},
	}}, s.seekCallback)
}

func (s *server) pollCallback(ctx context.Context, in *pollIn) (*pollOut, error) {
	var wait time.Duration
	if in.Wait != "" {
		var err error
		if wait, err = time.ParseDuration(in.Wait); err != nil || wait < 0 || wait > dispatcher.MaxPollWait {
			return nil, &payloads.InvalidError{Fields: []payloads.FieldError{{
				Location: "query.wait", Value: in.Wait, Message: "must be a duration from 0s to 30s, such as 30s",
			}}}
		}
	}
	if wait > 0 {
		leave, err := s.polls.enter(keyOf(ctx))
		if err != nil {
			return nil, err
		}
		defer leave()
	}
	polled, err := s.Client.Poll(ctx, dispatcher.Poll{Company: in.Company, CallbackID: in.CallbackID, After: in.After, Limit: in.Limit, Wait: wait, Place: placeFor})
	return &pollOut{polled}, cursorAt("query.after", in.After, err)
}

// placeFor gives an operation's request a place for a while.
func placeFor(ctx context.Context) (release func(), err error) { return visitOf(ctx).place(ctx, 0) }

func (s *server) acknowledge(ctx context.Context, in *steerIn) (*acknowledgementOut, error) {
	through, err := oneText(in.RawBody, "through", "a cursor that a poll gave")
	if err != nil {
		return nil, err
	}
	done, err := s.Client.Acknowledge(ctx, in.Company, in.CallbackID, through)
	return &acknowledgementOut{done}, cursorAt("body.through", through, err)
}

func (s *server) seekCallback(ctx context.Context, in *steerIn) (*acknowledgementOut, error) {
	to, err := oneText(in.RawBody, "to", "a cursor that a poll gave, a time, start or end")
	if err != nil {
		return nil, err
	}
	place := dispatcher.Seek{Cursor: to, Start: to == "start", End: to == "end"}
	if at, err := time.Parse(time.RFC3339, to); err == nil {
		place.Time = at
	}
	done, err := s.Client.Seek(ctx, in.Company, in.CallbackID, place)
	return &acknowledgementOut{done}, cursorAt("body.to", to, err)
}

// cursorAt says of a cursor that no poll gave where it stands.
func cursorAt(location, cursor string, err error) error {
	if !errors.Is(err, dispatcher.ErrBadCursor) {
		return err
	}
	return &payloads.InvalidError{Fields: []payloads.FieldError{{Location: location, Value: cursor, Message: "is no cursor that a poll of this callback gave: take next of a poll, or a delivery's cursor"}}}
}

// oneText reads a body whose only member is a string, which there must be.
func oneText(body []byte, member, what string) (value string, err error) {
	missing := true
	err = registry.Members(body, func(name string, raw json.RawMessage) string {
		if name != member {
			return "is not known here: the only member is " + member
		}
		missing = false
		return text(raw, &value)
	})
	if err == nil && missing {
		err = &payloads.InvalidError{Fields: []payloads.FieldError{{Location: "body." + member, Message: "is missing: give " + what}}}
	}
	return value, err
}
