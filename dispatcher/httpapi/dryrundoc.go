package httpapi

import "encoding/json"

// The types in this file are documentation; see schema.go.

type dryRunOfDoc struct {
	_         struct{}        `additionalProperties:"false"`
	Callback  *patchDoc       `json:"callback,omitempty" doc:"A merge patch of the callback, to try before it is made."`
	EventType string          `json:"event_type,omitempty" doc:"The type of the event. Needed where the callback is for a glob." example:"wallet_item_install"`
	Payload   json.RawMessage `json:"payload,omitempty" doc:"The event's payload. Default: the type's example."`
}

type dryRunRequestDoc struct {
	_          struct{}        `additionalProperties:"false"`
	Callback   *patchDoc       `json:"callback,omitempty" doc:"A registration, or, with callback_id, a merge patch of that callback."`
	CallbackID int64           `json:"callback_id,omitempty" minimum:"1" doc:"A callback that is registered."`
	EventType  string          `json:"event_type,omitempty" doc:"The type of the event. Needed where the callback is for a glob." example:"wallet_item_install"`
	Payload    json.RawMessage `json:"payload,omitempty" doc:"The event's payload. Default: the type's example."`
}

type dryRunDoc struct {
	EventType      string      `json:"event_type" example:"wallet_item_install"`
	Matches        bool        `json:"matches" doc:"Whether such an event, accepted now, would go to the callback."`
	Why            string      `json:"why" doc:"Why, or why not, as a sentence."`
	Clause         *missDoc    `json:"clause,omitempty" doc:"What of the filter keeps the event away. Absent if it matches, or if something else does."`
	Warnings       []string    `json:"warnings,omitempty" nullable:"false" doc:"What of the payload does not fit its type, where the type takes it all the same."`
	Request        *RequestDoc `json:"request,omitempty" doc:"What a first attempt would send, whether the event matches or not."`
	RequestMissing string      `json:"request_missing,omitempty" doc:"Why there is no request: it cannot be made, and a delivery would be dead at once. Or nothing is sent, as the partner fetches."`
	Payload        any         `json:"payload,omitempty" doc:"What the partner would fetch, where it fetches."`
}

type missDoc struct {
	Location string          `json:"location" doc:"Where it stands. If none of an any holds, that is the group." example:"filter.all[0]"`
	Pointer  string          `json:"pointer,omitempty" doc:"That of the clause. Absent for a group." example:"/amount"`
	Op       string          `json:"op,omitempty" example:"gt"`
	Value    json.RawMessage `json:"value,omitempty"`
}
