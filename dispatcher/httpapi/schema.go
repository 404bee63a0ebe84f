package httpapi

import (
	"encoding/json"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/dispatcher"
)

// The types in this file are documentation: they describe in /openapi.json what other packages read and write in their
// own way. A test compares them with what is really answered.

type destinationDoc struct {
	URL         string `json:"url" maxLength:"2048" doc:"Called exactly as it is: nothing is appended, normalised, re-encoded or followed." example:"https://partner.example/hook"`
	Method      string `json:"method,omitempty" enum:"POST,PUT,PATCH" default:"POST"`
	ContentType string `json:"content_type,omitempty" enum:"application/json,application/x-www-form-urlencoded" default:"application/json"`
}

type authDoc struct {
	Type     string `json:"type" enum:"bearer,basic"`
	Token    string `json:"token,omitempty" doc:"With bearer. Write-only."`
	Username string `json:"username,omitempty" doc:"With basic."`
	Password string `json:"password,omitempty" doc:"With basic. Write-only."`
}

type retryDoc struct {
	InitialInterval string  `json:"initial_interval,omitempty" default:"5s" doc:"Before the first retry: 1s or more."`
	Multiplier      float64 `json:"multiplier,omitempty" minimum:"1" maximum:"10" default:"2.5"`
	MaxInterval     string  `json:"max_interval,omitempty" default:"12h" doc:"Between two attempts, before jitter."`
	MaxAttempts     int     `json:"max_attempts,omitempty" minimum:"1" maximum:"100" default:"15"`
}

// settingsDoc are the optional members of a registration.
type settingsDoc struct {
	Description string            `json:"description,omitempty"`
	Headers     map[string]string `json:"headers,omitempty" doc:"Sent with every request. Values are write-only: they come back as \"***\"."`
	Auth        *authDoc          `json:"auth,omitempty"`
	Success     string            `json:"success,omitempty" enum:"json_200_or_204,any_2xx,any_response" doc:"Which answers count as delivered. Default: the callback type's."`
	Trace       bool              `json:"trace,omitempty" doc:"Send traceparent."`
	Timeout     string            `json:"timeout,omitempty" default:"15s" doc:"Of one attempt: 1s to 60s."`
	Retry       *retryDoc         `json:"retry,omitempty"`
}

type registrationDoc struct {
	_            struct{}       `additionalProperties:"true"`
	CallbackType string         `json:"callback_type" doc:"A callback type, or a glob over types such as customer.* or *. A member named after the type narrows the match: {\"wallet_item_install\": {\"campaign_token\": \"r3zhm8\"}}."`
	EventType    string         `json:"event_type,omitempty" deprecated:"true" doc:"Alias of callback_type."`
	Destination  destinationDoc `json:"destination"`
	StartDate    time.Time      `json:"start_date,omitzero" doc:"Events accepted before do not match. Default: now."`
	settingsDoc
}

type patchDoc struct {
	_            struct{}        `additionalProperties:"true"`
	CallbackType string          `json:"callback_type,omitempty"`
	Destination  *destinationDoc `json:"destination,omitempty"`
	StartDate    time.Time       `json:"start_date,omitzero"`
	settingsDoc
}

type callbackDoc struct {
	CallbackID   int64          `json:"callback_id" example:"11887"`
	CallbackType string         `json:"callback_type" example:"wallet_item_install"`
	EventType    string         `json:"event_type" deprecated:"true" doc:"The same as callback_type."`
	Destination  destinationDoc `json:"destination"`
	settingsDoc
	StartDate      time.Time `json:"start_date"`
	URL            string    `json:"url" doc:"Where in this API the callback is."`
	CreatedAt      time.Time `json:"created_at"`
	UpdatedAt      time.Time `json:"updated_at"`
	Status         string    `json:"status" enum:"enabled,paused,disabled"`
	StatusAt       time.Time `json:"status_at,omitzero" doc:"Since when it is paused or disabled."`
	DisabledReason string    `json:"disabled_reason,omitempty"`
}

type createdCallbackDoc struct {
	callbackDoc
	Secret string `json:"secret" doc:"The signing secret (Standard Webhooks), shown this once." example:"whsec_…"`
}

type resumeDoc struct {
	_        struct{} `additionalProperties:"false"`
	SkipHeld bool     `json:"skip_held,omitempty" doc:"Cancel what waits instead of delivering it."`
}

type eventDoc struct {
	_          struct{}        `additionalProperties:"false"`
	EventType  string          `json:"event_type" doc:"A callback type." example:"wallet_item_install"`
	EventID    string          `json:"event_id,omitempty" minLength:"1" maxLength:"128" pattern:"^[A-Za-z0-9_.:-]+$" doc:"Unique in the company. Made up if left out; give one, so that repeating is safe."`
	OccurredAt time.Time       `json:"occurred_at,omitzero"`
	Payload    json.RawMessage `json:"payload" doc:"What partners receive, byte for byte. It must fit the type's schema."`
}

type attemptDoc struct {
	Number          int               `json:"number" doc:"Counts from 1 and goes on over replays."`
	StartedAt       time.Time         `json:"started_at"`
	DurationMS      int64             `json:"duration_ms"`
	StatusCode      int               `json:"status_code,omitempty" doc:"Absent if there was no answer."`
	Verdict         string            `json:"verdict" doc:"delivered, retry, dead or gone."`
	Reason          string            `json:"reason,omitempty"`
	Detail          string            `json:"detail" doc:"A sentence to act on."`
	ResponseHeaders map[string]string `json:"response_headers,omitempty"`
	ResponseBody    string            `json:"response_body,omitempty" doc:"Its beginning; of the last three attempts that did not deliver."`
}

type callbackTypeDoc struct {
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Match       map[string]string `json:"match" doc:"What registrations may narrow the match by: name to JSON Pointer into the payload."`
	MatchBlocks []string          `json:"match_blocks" doc:"The names a registration's block may have."`
	Success     string            `json:"success" enum:"json_200_or_204,any_2xx,any_response"`
	Schema      json.RawMessage   `json:"schema" doc:"The JSON Schema (2020-12) of its payloads."`
	Example     json.RawMessage   `json:"example"`
}

// stateDoc describes a dispatcher.State.
type stateDoc string

// Schema lists the states.
func (stateDoc) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, state := range dispatcher.States {
		s.Enum = append(s.Enum, string(state))
	}
	return s
}
