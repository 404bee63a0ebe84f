package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/registry"
)

const (
	callbacksRoute = "/companies/{company}/config/callbacks"
	callbackRoute  = callbacksRoute + "/{callback_id}"
)

type (
	callbackIn struct {
		Company    string `path:"company"`
		CallbackID int64  `path:"callback_id"`
	}
	registrationIn struct {
		Company string `path:"company"`
		RawBody []byte `contentType:"application/json"`
	}
	patchIn struct {
		Company    string  `path:"company"`
		CallbackID int64   `path:"callback_id"`
		IfMatch    ifMatch `header:"If-Match"`
		RawBody    []byte  `contentType:"application/merge-patch+json"`
	}
	deleteIn struct {
		Company    string  `path:"company"`
		CallbackID int64   `path:"callback_id"`
		IfMatch    ifMatch `header:"If-Match"`
	}
	// rotateIn is steerIn for what changes a callback's settings.
	rotateIn struct {
		Company    string  `path:"company"`
		CallbackID int64   `path:"callback_id"`
		IfMatch    ifMatch `header:"If-Match"`
		RawBody    []byte  `contentType:"application/json"`
	}
	// steerIn steers a callback. Its body is JSON, and may be left out.
	steerIn struct {
		Company    string `path:"company"`
		CallbackID int64  `path:"callback_id"`
		RawBody    []byte `contentType:"application/json"`
	}
	callbacksIn struct {
		Company      string `path:"company"`
		Limit        int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
		Cursor       string `query:"cursor"`
		CallbackType string `query:"callback_type" doc:"Only callbacks registered for this type, written as registered."`
		Status       string `query:"status" enum:"enabled,paused,disabled,unverified"`
	}

	createdOut struct {
		Location string `header:"Location"`
		ETag     string `header:"ETag"`
		Body     registry.Revealed
	}
	revealedOut struct {
		ETag string `header:"ETag"`
		Body registry.Revealed
	}
	callbackOut struct {
		ETag string `header:"ETag" doc:"Names the callback's settings as they are. Its status and its health are none of them."`
		Body *registry.Callback
	}
	// healthyOut shows a callback and how its deliveries do.
	healthyOut struct {
		ETag string `header:"ETag" doc:"Names the callback's settings as they are. Its status and its health are none of them."`
		Body callbackHealth
	}
	callbacksOut struct{ Body callbackPage }
	testOut      struct{ Body *dispatcher.TestResult }
	challengeOut struct {
		Body *dispatcher.ChallengeResult
	}

	callbackPage struct {
		Callbacks  []callbackHealth `json:"callbacks"`
		NextCursor string           `json:"next_cursor,omitempty" doc:"Absent on the last page."`
	}

	// callbackHealth is a callback and how its deliveries do, as one object.
	callbackHealth struct {
		callback *registry.Callback
		health   dispatcher.Health
		company  string // in lists over all companies
	}
)

func (s *server) callbacks() {
	chapter := []string{"Callbacks"}
	registration := reflect.TypeFor[RegistrationDoc]()
	register(s, operation{need: manageCallbacks, patience: s.challengePatience(), body: &body{schema: registration}, repeats: actsOnce, Operation: huma.Operation{
		OperationID: "create-callback", Method: http.MethodPost, Path: callbacksRoute, Tags: chapter, DefaultStatus: http.StatusCreated,
		Summary: "Register a callback",
		Description: "The answer is the only one that shows the signing secret, and only one that was made: a `secret` of your own is never shown. Events accepted from now on reach the callback if they match. " +
			"Where the installation wants proof of control, the endpoint is challenged first (see `verify-callback`), and the answer's `status` is `unverified` if it did not answer that.",
		Errors: []int{http.StatusConflict, http.StatusUnprocessableEntity},
	}}, s.createCallback)
	register(s, operation{need: readCallbacks, bounds: ofCallback, Operation: huma.Operation{
		OperationID: "get-callback", Method: http.MethodGet, Path: callbackRoute, Tags: chapter, Summary: "Show a callback and how it does",
	}}, s.getCallback)
	register(s, operation{need: manageCallbacks, bounds: ofCallback, patience: s.challengePatience(), body: &body{schema: reflect.TypeFor[patchDoc](), mediaTypes: []string{mediaMergePatch, mediaJSON}}, Operation: huma.Operation{
		OperationID: "update-callback", Method: http.MethodPatch, Path: callbackRoute, Tags: chapter, Summary: "Change a callback",
		Description: "A JSON Merge Patch (RFC 7396): members that are given replace, null removes, \"***\" leaves a secret as it is. " +
			"Another `secret` takes the place of all that sign, at once; /secret lets the one before sign for a while. " +
			"Where the installation wants proof of control, another `url` or `token_url` is challenged as that of a new callback is.",
		Errors: []int{http.StatusConflict, http.StatusPreconditionFailed, http.StatusUnprocessableEntity},
	}}, s.patchCallback)
	register(s, operation{need: manageCallbacks, bounds: ofCallback, Operation: huma.Operation{
		OperationID: "delete-callback", Method: http.MethodDelete, Path: callbackRoute, Tags: chapter, Summary: "Delete a callback",
		Description: "What waits for it is cancelled; an attempt in flight finishes. Its keys leave the company's key set at once, so a receiver may find no key for that attempt.",
		Errors:      []int{http.StatusPreconditionFailed},
	}}, s.deleteCallback)
	register(s, operation{need: manageCallbacks, bounds: ofCallback, repeats: actsOnce, Operation: huma.Operation{
		OperationID: "pause-callback", Method: http.MethodPost, Path: callbackRoute + "/pause", Tags: chapter, Summary: "Pause a callback",
		Description: "Its deliveries are held until it is resumed.",
	}}, s.pauseCallback)
	register(s, operation{need: manageCallbacks, bounds: ofCallback, body: &body{schema: reflect.TypeFor[resumeDoc](), optional: true}, repeats: actsOnce, Operation: huma.Operation{
		OperationID: "resume-callback", Method: http.MethodPost, Path: callbackRoute + "/resume", Tags: chapter, Summary: "Resume a callback",
		Description: "Enables a disabled one, too; an unverified one only where the installation wants no proof of control. What was held goes out, oldest first and paced, or is cancelled with `skip_held`.",
		Errors:      []int{http.StatusUnprocessableEntity},
	}}, s.resumeCallback)
	register(s, operation{need: manageCallbacks, bounds: ofCallback, body: &body{schema: reflect.TypeFor[rotationDoc](), optional: true}, repeats: actsOnce, Operation: huma.Operation{
		OperationID: "rotate-secret", Method: http.MethodPost, Path: callbackRoute + "/secret", Tags: chapter, Summary: "Give a callback a new signing secret",
		Description: "The answer shows it, this once, unless you bring it yourself (`secret`). Until `overlap` has passed requests carry a signature by the new and by each earlier secret. " +
			"With `header_style` github there is one signature, and `overlap` must be \"0s\". It is safe to repeat with the same `secret`.",
		Errors: []int{http.StatusConflict, http.StatusPreconditionFailed, http.StatusUnprocessableEntity},
	}}, s.rotateSecret)
	register(s, operation{need: manageCallbacks, bounds: ofCallback, patience: testPatience, body: &body{schema: reflect.TypeFor[testRequestDoc](), optional: true}, repeats: actsAnew, Operation: huma.Operation{
		OperationID: "test-callback", Method: http.MethodPost, Path: callbackRoute + "/test", Tags: chapter, Summary: "Try a callback out",
		Description: "One attempt, now, with the example of its callback type: signed like any delivery, and marked with the header Ringback-Test: 1. " +
			"200 says that there is an attempt to show; whether it would have delivered is its `verdict`, where `retry` means that a real delivery would be tried again. " +
			"Nothing of it is kept. Works while the callback is paused or disabled, too, but not while it is unverified.",
	}}, s.testCallback)
	register(s, operation{need: manageCallbacks, bounds: ofCallback, patience: testPatience, repeats: actsOnce, Operation: huma.Operation{
		OperationID: "verify-callback", Method: http.MethodPost, Path: callbackRoute + "/verify", Tags: chapter, Summary: "Challenge a callback's endpoint",
		Description: "Asks the endpoint whether it wants to be called: by the OPTIONS handshake of CloudEvents webhooks, then by a request like a delivery, signed, with the " +
			"event type `callback.challenge` and the body `{\"challenge\": \"…\"}`. It agrees by allowing the origin, or by answering 2xx with a JSON object whose " +
			"`challenge` is the same. Then an `unverified` callback is what it was before, and what waited for it goes out. " +
			"200 says that there is an answer to show; whether it is proof is `verified`. A callback that is not `unverified` stays as it is.",
		Errors: []int{http.StatusConflict, http.StatusTooManyRequests},
	}}, s.verifyCallback)
}

func (s *server) createCallback(ctx context.Context, in *registrationIn) (*createdOut, error) {
	cb, err := s.Registry.Create(ctx, in.Company, in.RawBody)
	if err != nil {
		return nil, err
	}
	cb = s.challenged(ctx, cb)
	return &createdOut{
		ETag:     cb.ETag(),
		Location: fmt.Sprintf("/companies/%s/config/callbacks/%d", cb.Company, cb.ID),
		Body:     cb.WithSecret(),
	}, nil
}

func (s *server) listCallbacks(ctx context.Context, in *callbacksIn) (*callbacksOut, error) {
	list, next, err := s.Registry.List(ctx, in.Company, registry.Filter{
		Type: in.CallbackType, Status: registry.Status(in.Status), Limit: in.Limit, Cursor: in.Cursor,
		Within: keyOf(ctx).Callbacks,
	})
	if err != nil {
		return nil, err
	}
	page, err := s.withHealth(ctx, in.Company, list...)
	if err != nil {
		return nil, err
	}
	return &callbacksOut{callbackPage{Callbacks: page, NextCursor: next}}, nil
}

func (s *server) getCallback(ctx context.Context, in *callbackIn) (*healthyOut, error) {
	cb, err := s.Registry.Get(ctx, in.Company, in.CallbackID)
	if err != nil {
		return nil, err
	}
	page, err := s.withHealth(ctx, in.Company, cb)
	if err != nil {
		return nil, err
	}
	return &healthyOut{cb.ETag(), page[0]}, nil
}

// withHealth adds to callbacks how their deliveries do. It asks for all of them together.
func (s *server) withHealth(ctx context.Context, company string, list ...*registry.Callback) ([]callbackHealth, error) {
	ids := make([]int64, len(list))
	for i, cb := range list {
		ids[i] = cb.ID
	}
	health, err := s.Client.Health(ctx, company, ids...)
	if err != nil {
		return nil, err
	}
	page := make([]callbackHealth, len(list))
	for i, cb := range list {
		if keyOf(ctx).Role == registry.Viewer { // a viewer needs no tokens, and some URLs hold one
			cb = cb.WithoutQueries()
		}
		page[i] = callbackHealth{callback: cb, health: health[i]}
	}
	return page, nil
}

// MarshalJSON puts the members of health after those of the callback.
func (c callbackHealth) MarshalJSON() ([]byte, error) {
	callback, err := c.callback.MarshalJSON()
	if err != nil {
		return nil, err
	}
	health, err := encode(c.health)
	if err != nil {
		return nil, err
	}
	if c.company != "" {
		callback = fmt.Appendf(callback[:len(callback)-1], `,"company":%q}`, c.company) // a company's name needs no escapes
	}
	return slices.Concat(callback[:len(callback)-1], []byte{','}, health[1:]), nil // neither is ever {}
}

func (s *server) patchCallback(ctx context.Context, in *patchIn) (*callbackOut, error) {
	cb, err := s.Registry.Patch(ctx, in.Company, in.CallbackID, in.RawBody, in.IfMatch.conditions()...)
	if err != nil {
		return nil, err
	}
	return shown(s.challenged(ctx, cb), nil)
}

func (s *server) deleteCallback(ctx context.Context, in *deleteIn) (*noContent, error) {
	return &noContent{}, s.Registry.Delete(ctx, in.Company, in.CallbackID, in.IfMatch.conditions()...)
}

func (s *server) pauseCallback(ctx context.Context, in *callbackIn) (*callbackOut, error) {
	return shown(s.Registry.Pause(ctx, in.Company, in.CallbackID))
}

func (s *server) resumeCallback(ctx context.Context, in *steerIn) (*callbackOut, error) {
	skipHeld, err := decodeResume(in.RawBody)
	if err != nil {
		return nil, err
	}
	if skipHeld { // the deliveries are cancelled page by page, and there may be a hundred thousand
		release, err := visitOf(ctx).longPlace(ctx)
		if err != nil {
			return nil, err
		}
		defer release()
	}
	return shown(s.Client.Resume(ctx, in.Company, in.CallbackID, skipHeld))
}

func (s *server) rotateSecret(ctx context.Context, in *rotateIn) (*revealedOut, error) {
	own, overlap, err := decodeRotation(in.RawBody)
	if err != nil {
		return nil, err
	}
	cb, err := s.Registry.RotateSecretTo(ctx, in.Company, in.CallbackID, own, overlap, in.IfMatch.conditions()...)
	if err != nil {
		return nil, err
	}
	return &revealedOut{cb.ETag(), cb.WithSecret()}, nil
}

func (s *server) testCallback(ctx context.Context, in *steerIn) (*testOut, error) {
	eventType, err := decodeTest(in.RawBody)
	if err != nil {
		return nil, err
	}
	var result *dispatcher.TestResult
	err = s.asTest(ctx, func() (err error) {
		result, err = s.Client.Test(ctx, in.Company, in.CallbackID, eventType)
		return err
	})
	return &testOut{result}, err
}

func (s *server) verifyCallback(ctx context.Context, in *callbackIn) (*challengeOut, error) {
	result, err := s.verify(ctx, in.Company, in.CallbackID)
	return &challengeOut{result}, err
}

func shown(cb *registry.Callback, err error) (*callbackOut, error) {
	if err != nil {
		return nil, err
	}
	return &callbackOut{cb.ETag(), cb}, nil
}

// decodeResume reads {"skip_held": true}. The member is optional.
func decodeResume(body []byte) (skipHeld bool, err error) {
	err = optionalMembers(body, func(name string, value json.RawMessage) string {
		if name != "skip_held" {
			return "is not known here: the only member is skip_held"
		}
		return boolean(value, &skipHeld)
	})
	return skipHeld, err
}

// defaultOverlap is a day: time to bring the new secret to every place that verifies signatures.
const defaultOverlap = 24 * time.Hour

// decodeRotation reads {"overlap": "24h", "secret": "whsec_…"}. Both members are optional.
func decodeRotation(body []byte) (own string, overlap time.Duration, err error) {
	overlap = defaultOverlap
	err = optionalMembers(body, func(name string, value json.RawMessage) string {
		switch {
		case name == "overlap":
			return duration(value, &overlap)
		case name != "secret":
			return "is not known here: the members are overlap and secret"
		case isNull(value):
			return ""
		}
		if why := text(value, &own); why != "" {
			return why
		}
		if own == "" {
			return "is empty: leave it out to have one made"
		}
		return ""
	})
	return own, overlap, err
}

// decodeTest reads {"event_type": "payment_proof"}. The member is optional.
func decodeTest(body []byte) (eventType string, err error) {
	err = optionalMembers(body, func(name string, value json.RawMessage) string {
		if name != "event_type" {
			return "is not known here: the only member is event_type"
		}
		if isNull(value) {
			return ""
		}
		return text(value, &eventType)
	})
	return eventType, err
}
