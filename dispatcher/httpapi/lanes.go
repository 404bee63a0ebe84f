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

const lanesRoute = "/lanes"

type (
	lanesIn  struct{ RawBody []byte }
	lanesOut struct{ Body *dispatcher.Lanes }

	// lanesDoc stands for [dispatcher.Lanes].
	lanesDoc struct {
		Count    int       `json:"count" doc:"Deliveries are spread over so many, by callback."`
		Draining []string  `json:"draining" doc:"Lanes above the number, which workers look into until they are empty."`
		Lanes    []laneDoc `json:"lanes" doc:"All that workers look into; ringback-slow, which is none of the number, is last."`
	}
	laneDoc struct {
		Lane      string `json:"lane" example:"ringback-0"`
		Pending   int    `json:"pending" doc:"Tasks that wait for a worker."`
		Active    int    `json:"active" doc:"Tasks that a worker has."`
		Scheduled int    `json:"scheduled" doc:"Not used."`
		Retry     int    `json:"retry" doc:"Tasks that wait for their time."`
		Node      string `json:"node,omitempty" doc:"On a Redis Cluster, the master that the lane lies on."`
	}
	laneChangeDoc struct {
		_     struct{} `additionalProperties:"false"`
		Count int      `json:"count" minimum:"1" maximum:"64"`
	}
)

func (s *server) lanes() {
	chapter := []string{"Operations"}
	register(s, operation{need: manageLanes, Operation: huma.Operation{
		OperationID: "get-lanes", Method: http.MethodGet, Path: lanesRoute, Tags: chapter, Summary: "Show the lanes that deliveries go by",
		Description: "A lane is one of asynq's queues. Takes an operator's key for all companies.",
	}}, func(ctx context.Context, _ *struct{}) (*lanesOut, error) {
		lanes, err := s.Client.Lanes(ctx)
		return &lanesOut{lanes}, err
	})
	register(s, operation{need: manageLanes, body: &body{schema: reflect.TypeFor[laneChangeDoc]()}, Operation: huma.Operation{
		OperationID: "set-lanes", Method: http.MethodPut, Path: lanesRoute, Tags: chapter, Summary: "Change how many lanes there are",
		Description: "While everything runs. What is in a lane above the number goes out from there. It is refused while a process of an older version is running, " +
			"and after it none starts. Takes an operator's key for all companies.",
		Errors: []int{http.StatusConflict},
	}}, func(ctx context.Context, in *lanesIn) (*lanesOut, error) {
		count, err := decodeLanes(in.RawBody)
		if err != nil {
			return nil, err
		}
		lanes, err := s.Client.SetLanes(ctx, count)
		return &lanesOut{lanes}, err
	})
}

// decodeLanes reads {"count": 8}.
func decodeLanes(body []byte) (count int, err error) {
	err = registry.Members(body, func(name string, value json.RawMessage) string {
		switch {
		case name != "count":
			return "is no setting of the lanes: there is count"
		case json.Unmarshal(value, &count) != nil:
			return "must be a whole number"
		}
		return ""
	})
	return count, err
}
