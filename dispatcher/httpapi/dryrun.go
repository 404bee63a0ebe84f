package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// A dry run tries a callback's filter, template and all else that makes its requests, on a payload. It sends nothing and keeps nothing.

type (
	dryRunIn struct {
		Company string `path:"company"`
		RawBody []byte `contentType:"application/json"`
	}
	dryRunOut struct{ Body *dispatcher.DryRunResult }

	// dryRun is what a dry run is asked with.
	dryRun struct {
		callback  json.RawMessage // a registration, or a patch of the callback with that id
		id        int64           // 0: none
		eventType string
		payload   json.RawMessage
	}
)

func (s *server) dryRuns() {
	chapter := []string{"Callbacks"}
	const said = "Says whether an event of that type and payload would match, names the clause of the `filter` that keeps it away, and shows the request that a first attempt " +
		"would make, in the shape that the `template` gives it. Nothing is sent, and nothing is kept. Secrets are `***`, and the signature is by a secret, or a key, that is made up. "
	register(s, operation{need: manageCallbacks, body: &body{schema: reflect.TypeFor[dryRunRequestDoc]()}, repeats: actsAnew, Operation: huma.Operation{
		OperationID: "dry-run", Method: http.MethodPost, Path: callbacksRoute + "/dry-run", Tags: chapter, Summary: "Try what a callback would match and be sent",
		Description: said + "`callback` is a registration that need not be registered, or, with `callback_id`, a merge patch to try on one that is.",
		Errors:      []int{http.StatusUnprocessableEntity, http.StatusNotFound},
	}}, s.dryRun)
	register(s, operation{need: manageCallbacks, bounds: ofCallback, body: &body{schema: reflect.TypeFor[dryRunOfDoc](), optional: true}, repeats: actsAnew, Operation: huma.Operation{
		OperationID: "dry-run-callback", Method: http.MethodPost, Path: callbackRoute + "/dry-run", Tags: chapter, Summary: "Try what this callback would match and be sent",
		Description: said + "`callback` is a merge patch to try first, which changes nothing.",
	}}, s.dryRunCallback)
}

func (s *server) dryRun(ctx context.Context, in *dryRunIn) (*dryRunOut, error) {
	q, err := decodeDryRun(in.RawBody, true)
	if err != nil {
		return nil, err
	}
	return s.tryDry(ctx, in.Company, q)
}

func (s *server) dryRunCallback(ctx context.Context, in *steerIn) (*dryRunOut, error) {
	q, err := decodeDryRun(in.RawBody, false)
	if err != nil {
		return nil, err
	}
	q.id = in.CallbackID
	return s.tryDry(ctx, in.Company, q)
}

func (s *server) tryDry(ctx context.Context, company string, q dryRun) (*dryRunOut, error) {
	var draft *registry.Callback
	var err error
	switch {
	case q.id == 0:
		draft, err = s.Registry.Draft(ctx, company, q.callback)
	case q.callback == nil:
		draft, err = s.Registry.PatchDraft(ctx, company, q.id, []byte("{}"))
	default:
		draft, err = s.Registry.PatchDraft(ctx, company, q.id, q.callback)
	}
	if err != nil {
		return nil, withinCallback(err)
	}
	result, err := s.Client.DryRun(ctx, draft, q.eventType, q.payload)
	return &dryRunOut{result}, err
}

// withinCallback has the faults of a registration name the member that it stands in.
func withinCallback(err error) error {
	misfit, ok := errors.AsType[*payloads.InvalidError](err)
	if !ok {
		return err
	}
	inner := &payloads.InvalidError{}
	for _, f := range misfit.Fields {
		if rest, ok := strings.CutPrefix(f.Location, "body"); ok {
			f.Location = "body.callback" + rest
		}
		inner.Fields = append(inner.Fields, f)
	}
	return inner
}

// decodeDryRun reads {"callback": {…}, "callback_id": 12, "event_type": "payment_proof", "payload": {…}}. Where the path names the callback, all are optional, and
// callback_id is not known.
func decodeDryRun(body []byte, any bool) (q dryRun, err error) {
	known := "callback, event_type and payload"
	if any {
		known = "callback, callback_id, event_type and payload"
	}
	err = optionalMembers(body, func(name string, value json.RawMessage) string {
		switch {
		case name == "payload":
			q.payload = value
			return ""
		case isNull(value) && (name == "callback" || name == "event_type" || any && name == "callback_id"):
			return ""
		case name == "callback":
			if q.callback = value; value[0] != '{' {
				return "must be an object"
			}
			return ""
		case name == "event_type":
			return text(value, &q.eventType)
		case name == "callback_id" && any:
			if q.id, err = strconv.ParseInt(string(value), 10, 64); err != nil || q.id < 1 {
				return "must be the number of a callback"
			}
			return ""
		}
		return "is not known here: there are " + known
	})
	if err == nil && any && q.id == 0 && q.callback == nil {
		return q, &payloads.InvalidError{Fields: []payloads.FieldError{{Location: "body.callback", Message: "is missing: give a registration to try, or the callback_id of one that is registered"}}}
	}
	return q, err
}
