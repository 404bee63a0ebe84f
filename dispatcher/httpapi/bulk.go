package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/registry"
)

const (
	bulksRoute = "/replays"
	bulkRoute  = bulksRoute + "/{replay_id}"
)

type (
	bulkIn struct {
		RawBody []byte `contentType:"application/json" required:"false"`
	}
	companyBulkIn struct {
		Company string `path:"company"`
		RawBody []byte `contentType:"application/json" required:"false"`
	}
	bulkIDIn struct {
		ReplayID string `path:"replay_id"`
	}
)

func (s *server) bulkReplays() {
	chapter := []string{"Replays"}
	const how = "It is done in the callbacks, each for itself, as if it had been asked for there, by the workers and beside other replays of the company: so no callback that is slow or " +
		"paused holds up another. Matches are counted for some seconds: with `estimate` there may be more. `dry_run` counts and sends nothing."
	register(s, operation{need: manageEverywhere, long: true, body: &body{schema: reflect.TypeFor[bulkQueryDoc](), optional: true}, repeats: actsOnceInBulk, Operation: huma.Operation{
		OperationID: "replay-companies", Method: http.MethodPost, Path: bulksRoute, Tags: chapter, DefaultStatus: http.StatusAccepted,
		Summary:     "Deliver many again, over companies",
		Description: "All deliveries of `companies`, or of all, that are in one of `states` and fit the rest. " + how + " Takes an operator's key for all companies.",
		Errors:      []int{http.StatusConflict},
	}}, s.replayAll)
	register(s, operation{need: steerDeliveries, long: true, body: &body{schema: reflect.TypeFor[companyBulkQueryDoc](), optional: true}, repeats: actsOnceInBulk, Operation: huma.Operation{
		OperationID: "replay-company", Method: http.MethodPost, Path: replaysRoute, Tags: chapter, DefaultStatus: http.StatusAccepted,
		Summary:     "Deliver many again, over callbacks",
		Description: "All deliveries of the company, or of the callbacks that `callback_ids` names, that are in one of `states` and fit the rest. " + how,
		Errors:      []int{http.StatusConflict},
	}}, s.replayCompany)
	register(s, operation{need: watch, Operation: huma.Operation{
		OperationID: "list-bulk-replays", Method: http.MethodGet, Path: bulksRoute, Tags: chapter, Summary: "List replays over companies",
		Description: "Newest first: those that run, and those that ended within the last seven days; a hundred at most, without their parts.",
	}}, s.listBulks)
	register(s, operation{need: watch, Operation: huma.Operation{
		OperationID: "get-bulk-replay", Method: http.MethodGet, Path: bulkRoute, Tags: chapter, Summary: "Show how far a replay over companies is",
		Description: "With a part for each company in which there is something to do, 500 at most, those with something left first. A part is there once the workers have come to its company.",
	}}, s.getBulk)
	register(s, operation{need: manageEverywhere, Operation: huma.Operation{
		OperationID: "cancel-bulk-replay", Method: http.MethodDelete, Path: bulkRoute, Tags: chapter, Summary: "Stop a replay over companies",
		Description: "It ends in all callbacks within a few seconds. What it has let out stays on its way. To stop one that has ended changes nothing.",
	}}, s.cancelBulk)
}

func (s *server) replayAll(ctx context.Context, in *bulkIn) (*startedOut, error) {
	q, err := decodeBulk(in.RawBody, true)
	if err != nil {
		return nil, err
	}
	return started(s.Client.ReplayAll(ctx, "", q))("")
}

func (s *server) replayCompany(ctx context.Context, in *companyBulkIn) (*startedOut, error) {
	q, err := decodeBulk(in.RawBody, false)
	if err == nil {
		err = within(keyOf(ctx), &q)
	}
	if err != nil {
		return nil, err
	}
	return started(s.Client.ReplayAll(ctx, in.Company, q))("/companies/" + in.Company)
}

// within keeps a query to the callbacks that the caller may see. One that it may not see is as one that there is not.
func within(key registry.Key, q *dispatcher.BulkQuery) error {
	if key.Callbacks == nil {
		return nil
	}
	if q.Callbacks == nil {
		q.Callbacks = key.Callbacks
	}
	for i, id := range q.Callbacks {
		if !key.Sees(id) {
			return dispatcher.NoSuchCallback(i, id)
		}
	}
	return nil
}

// started answers with a replay that began below a path.
func started(r *dispatcher.Replay, err error) func(path string) (*startedOut, error) {
	return func(path string) (*startedOut, error) {
		if err != nil {
			return nil, err
		}
		return &startedOut{Location: path + bulksRoute + "/" + r.ReplayID, Body: r}, nil
	}
}

// decodeBulk reads which deliveries are meant. All members are optional.
func decodeBulk(body []byte, everywhere bool) (q dispatcher.BulkQuery, err error) {
	members := "callback_ids, " + replayMembers
	if everywhere {
		members = "companies, " + members
	}
	err = optionalMembers(body, func(name string, value json.RawMessage) string {
		switch wrong, known := replayMember(name, value, &q.ReplayQuery); {
		case known:
			return wrong
		case name == "companies" && everywhere:
			return list(value, &q.Companies, "companies, such as [\"acme\"]")
		case name == "callback_ids":
			return list(value, &q.Callbacks, "callbacks' ids, such as [11887]")
		}
		return "is not known here: the members are " + members
	})
	if err == nil {
		err = spans(q.ReplayQuery)
	}
	return q, err
}

// list reads a list that is not empty; null is none.
func list[T any](value json.RawMessage, into *[]T, of string) (wrong string) {
	if isNull(value) {
		return ""
	}
	if json.Unmarshal(value, into) != nil {
		return "must be a list of " + of
	}
	if len(*into) == 0 {
		return "names none: leave it out for all"
	}
	return ""
}

func (s *server) listBulks(ctx context.Context, _ *struct{}) (*replaysOut, error) {
	list, err := s.Client.Replays(ctx, "")
	if err != nil {
		return nil, err
	}
	return &replaysOut{replayList{orEmpty(list)}}, nil
}

func (s *server) getBulk(ctx context.Context, in *bulkIDIn) (*replayOut, error) {
	r, err := s.Client.ReplayProgress(ctx, "", in.ReplayID)
	return &replayOut{r}, replayError(err)
}

func (s *server) cancelBulk(ctx context.Context, in *bulkIDIn) (*noContent, error) {
	return &noContent{}, replayError(s.Client.CancelReplay(ctx, "", in.ReplayID))
}
