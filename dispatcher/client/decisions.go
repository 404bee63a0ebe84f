package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"
)

// A Question is what a partner is asked to decide while you wait.
type Question struct {
	Type    string          // a synchronous callback type; required
	Payload json.RawMessage // required
	// Timeout is how long the partner has, 100 ms to 60 s. Zero: as long as its callback says.
	Timeout time.Duration
}

// A PartnerAnswer is the partner's decision: a rejection, too, which is for you to read in its Body.
type PartnerAnswer struct {
	Answer
	DecisionID string          `json:"decision_id"` // under which it is recorded; also the webhook-id that the partner saw
	CallbackID int64           `json:"callback_id"`
	StatusCode int             `json:"status_code"`
	Body       json.RawMessage `json:"body"` // the partner's JSON, null if there is none
	DurationMS int64           `json:"duration_ms"`
}

// askGrace is what an answer may take beyond the partner's time: the way to the server and back.
const askGrace = 15 * time.Second

// Ask puts a question to the company's one enabled callback for a synchronous type, once: neither server nor client repeat it. An
// [*APIError] of 404 says that there is no such callback, 409 that there is not exactly one, 502 and 504 that the partner did not decide:
// then [APIError.Decision] says more.
func (c *Client) Ask(ctx context.Context, company string, q Question) (*PartnerAnswer, error) {
	if !json.Valid(q.Payload) {
		return nil, errors.New("client: Question.Payload is not JSON")
	}
	body := struct {
		EventType string          `json:"event_type"`
		Payload   json.RawMessage `json:"payload"`
		Timeout   Duration        `json:"timeout,omitzero"`
	}{q.Type, q.Payload, Duration(q.Timeout)}
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return ask[PartnerAnswer](ctx, c, request{
		method: http.MethodPost, path: []string{"companies", company, "decisions"}, body: text, timeout: time.Minute + askGrace, once: true,
	})
}

// An Undecided says more of a decision that did not come.
type Undecided struct {
	DecisionID    string  `json:"decision_id"` // under which it is recorded; empty if nobody was asked
	CallbackID    int64   `json:"callback_id"`
	Reason        string  `json:"reason"`         // a word, such as timeout or status_404
	PartnerStatus int     `json:"partner_status"` // 0 if there was no answer
	PartnerBody   string  `json:"partner_body"`   // its beginning
	CallbackIDs   []int64 `json:"callback_ids"`   // with a 409: the callbacks there are
}
