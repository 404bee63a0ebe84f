package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/registry"
)

type (
	whoamiOut struct{ Body shownCaller }

	// shownCaller is what callers are told of themselves.
	shownCaller struct {
		ID        string        `json:"id" doc:"Names the key in public." example:"rbk_1f6k2m9q"`
		Role      registry.Role `json:"role" enum:"operator,producer,partner,viewer"`
		Company   string        `json:"company" doc:"* where it is for all companies." example:"acme"`
		ExpiresAt time.Time     `json:"expires_at,omitzero" doc:"Absent where it does not expire."`
		RateLimit float64       `json:"rate_limit,omitempty" doc:"How many changes a second it may make. Absent: any number."`
		Callbacks []int64       `json:"callback_ids,omitempty" nullable:"false" doc:"The callbacks that it is bounded to, if it is."`
		ReadOnly  bool          `json:"read_only,omitempty" doc:"Whether it may look and do no more."`
	}
)

func (s *server) whoami() {
	register(s, operation{need: readFates, bounds: ofNoCallback, Operation: huma.Operation{
		OperationID: "get-caller", Method: http.MethodGet, Path: "/caller", Tags: []string{"Operations"}, Summary: "Whose key is this?",
		Description: "What is known of the key that the request shows. Any key will do.",
	}}, func(ctx context.Context, _ *struct{}) (*whoamiOut, error) {
		key := keyOf(ctx)
		return &whoamiOut{shownCaller{key.ID, key.Role, key.Company, key.ExpiresAt, key.Limit(), key.Callbacks, key.ReadOnly}}, nil
	})
}
