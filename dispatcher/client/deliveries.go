package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"strings"
	"time"
)

// The states of a delivery. Delivered, dead and cancelled ones are finished, and can be replayed.
const (
	Pending   = "pending"   // its first attempt is due
	Active    = "active"    // an attempt is under way
	Retrying  = "retrying"  // it failed, and will be tried again
	Held      = "held"      // it waits, see Delivery.HeldReason
	Delivered = "delivered" // the partner took it
	Dead      = "dead"      // given up
	Cancelled = "cancelled" // called off
)

// A Delivery is one event's way to one callback: what became of it and what comes next.
type Delivery struct {
	Answer
	Company       string    `json:"company,omitempty"`     // in lists over all companies
	DeliveryID    string    `json:"delivery_id"`           // also the webhook-id that the partner sees, on every attempt
	DecisionID    string    `json:"decision_id,omitempty"` // set on what is no delivery but a decision, see [Client.Ask]
	EventID       string    `json:"event_id"`
	EventType     string    `json:"event_type"`
	CallbackID    int64     `json:"callback_id"`
	Sequence      int64     `json:"sequence,omitempty"` // its number among those of its callback and key; 0: it has no order, or this is a list
	State         string    `json:"state"`
	HeldReason    string    `json:"held_reason,omitempty"` // why a held one waits: paused, disabled, unverified, name_not_allowed, pull (until the partner fetches it), breaker, host, ordering, rate_limit or window
	Reason        string    `json:"reason,omitempty"`      // why a dead one is dead: hold_expired, hold_full, or its last attempt's
	Summary       string    `json:"summary"`               // a sentence: what happened last, what comes next and when
	AcceptedAt    time.Time `json:"accepted_at"`
	Attempts      []Attempt `json:"attempts"`
	NextAttemptAt time.Time `json:"next_attempt_at,omitzero"` // set while retrying
	TraceID       string    `json:"trace_id,omitempty"`       // of the trace (W3C Trace Context) that its event came in with
}

// An Attempt is one request to the partner, or the try at one.
type Attempt struct {
	Number          int               `json:"number"` // counts from 1 and goes on over replays
	StartedAt       time.Time         `json:"started_at"`
	DurationMS      int64             `json:"duration_ms"`
	StatusCode      int               `json:"status_code,omitempty"` // the partner's, 0 if there was no answer
	Verdict         string            `json:"verdict"`               // delivered, retry, dead or gone
	Reason          string            `json:"reason,omitempty"`      // a word, such as timeout or status_500
	Detail          string            `json:"detail"`                // a sentence that the partner can act on
	BatchID         string            `json:"batch_id,omitempty"`    // the webhook-id of the batch that the delivery travelled in; empty: it went by itself
	ResponseHeaders map[string]string `json:"response_headers,omitempty"`
	ResponseBody    string            `json:"response_body,omitempty"` // its beginning

	// What [Client.DeliveryWithRequests] shows beside: the request that went out, or why there is none to show, and where the time went.
	Request        *Request `json:"request,omitempty"`
	RequestMissing string   `json:"request_missing,omitempty"`
	Timing         *Timing  `json:"timing,omitempty"`
}

// A DeliveriesQuery narrows a list of deliveries. The zero value is all of them.
type DeliveriesQuery struct {
	States     []string
	CallbackID int64
	EventType  string
	Since      time.Time // only of events accepted at this time or later
	Until      time.Time // only of events accepted before this time
	Limit      int       // of a page, 1 to 500; default 50
	Cursor     string    // the NextCursor of the page before
	Decisions  bool      // decisions instead, see [Client.Ask]
}

// A DeliveryPage is a part of a list of deliveries. It may be short, even empty, and still not be the last.
type DeliveryPage struct {
	Answer
	Deliveries []*Delivery `json:"deliveries"`
	NextCursor string      `json:"next_cursor,omitempty"` // empty on the last page
	// SearchedBackTo is set on a page that is short since the search took too long: all that was accepted after this time was searched.
	SearchedBackTo time.Time `json:"searched_back_to,omitzero"`
}

// Deliveries lists a page of a company's deliveries, newest first.
func (c *Client) Deliveries(ctx context.Context, company string, q DeliveriesQuery) (*DeliveryPage, error) {
	kind := ""
	if q.Decisions {
		kind = "decision"
	}
	return ask[DeliveryPage](ctx, c, request{
		method: http.MethodGet, path: []string{"companies", company, "deliveries"},
		query: query("kind", kind, "state", strings.Join(q.States, ","), "callback_id", number(q.CallbackID), "event_type", q.EventType,
			"since", moment(q.Since), "until", moment(q.Until), "limit", number(q.Limit), "cursor", q.Cursor),
	})
}

// AllDeliveries are a company's deliveries, newest first, page after page from q.Cursor on. An error ends them.
func (c *Client) AllDeliveries(ctx context.Context, company string, q DeliveriesQuery) iter.Seq2[*Delivery, error] {
	return all(func(cursor string) ([]*Delivery, string, error) {
		q.Cursor = cursor
		page, err := c.Deliveries(ctx, company, q)
		if err != nil {
			return nil, "", err
		}
		return page.Deliveries, page.NextCursor, nil
	}, q.Cursor)
}

// all are the entries of all pages from a cursor on.
func all[T any](page func(cursor string) (entries []T, next string, err error), cursor string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for at := cursor; ; {
			entries, next, err := page(at)
			if err != nil {
				yield(*new(T), err)
				return
			}
			for _, entry := range entries {
				if !yield(entry, nil) {
					return
				}
			}
			if at = next; at == "" {
				return
			}
		}
	}
}

// Delivery shows one delivery.
func (c *Client) Delivery(ctx context.Context, company, deliveryID string) (*Delivery, error) {
	return ask[Delivery](ctx, c, request{method: http.MethodGet, path: []string{"companies", company, "deliveries", deliveryID}})
}

// DeliveryWithRequests shows one delivery, and what its last attempts sent.
func (c *Client) DeliveryWithRequests(ctx context.Context, company, deliveryID string) (*Delivery, error) {
	return ask[Delivery](ctx, c, request{
		method: http.MethodGet, path: []string{"companies", company, "deliveries", deliveryID}, query: query("include", "request"),
	})
}

// ReplayDelivery delivers a finished delivery again, under the same webhook-id. An [*APIError] of 409 says that it is not finished.
func (c *Client) ReplayDelivery(ctx context.Context, company, deliveryID string) (*Delivery, error) {
	return ask[Delivery](ctx, c, request{method: http.MethodPost, path: []string{"companies", company, "deliveries", deliveryID, "replay"}})
}

// HastenDelivery has a retrying delivery tried at once, which counts as one of its attempts. One that is on its way already stays so. An [*APIError] of 409
// says that it is held, and what lets it out, or that it is finished.
func (c *Client) HastenDelivery(ctx context.Context, company, deliveryID string) (*Delivery, error) {
	return ask[Delivery](ctx, c, request{method: http.MethodPost, path: []string{"companies", company, "deliveries", deliveryID, "now"}})
}

// CancelDelivery gives up a delivery that is not finished; an attempt in flight finishes. An [*APIError] of 409 says that it is finished.
func (c *Client) CancelDelivery(ctx context.Context, company, deliveryID string) (*Delivery, error) {
	return ask[Delivery](ctx, c, request{method: http.MethodPost, path: []string{"companies", company, "deliveries", deliveryID, "cancel"}})
}

// A ReplayQuery says which of a callback's deliveries are to go out again. The zero value is all dead ones.
type ReplayQuery struct {
	Since     time.Time `json:"since,omitzero"`       // only of events accepted at this time or later
	Until     time.Time `json:"until,omitzero"`       // only of events accepted before this time
	States    []string  `json:"states,omitempty"`     // among dead, retrying, delivered and cancelled; default dead
	EventType string    `json:"event_type,omitempty"` // only of events of this type
	Reason    string    `json:"reason,omitempty"`     // only those whose last attempt had this reason
	Pace      int64     `json:"pace,omitempty"`       // at most so many a second; 0: as fast as the callback takes them
	DryRun    bool      `json:"dry_run,omitempty"`    // only count them
}

// The states of a replay.
const (
	ReplayRunning   = "running"
	ReplayDone      = "done"
	ReplayCancelled = "cancelled"
	ReplayDryRun    = "dry_run" // it was only to be counted
)

// A ReplayPart is what a replay over callbacks does in a company. It is there once the server has come to the company.
type ReplayPart struct {
	Company     string  `json:"company"`
	State       string  `json:"state"` // running or done
	Matched     int64   `json:"matched"`
	BodyLeft    int64   `json:"body_left,omitempty"`
	Replayed    int64   `json:"replayed"`
	Left        int64   `json:"left"`
	CallbackIDs []int64 `json:"callback_ids,omitempty"` // that are not through yet
}

// A Replay is many deliveries going out again, paced: those of one callback, or over callbacks and companies (see [Client.ReplayCompanies]).
type Replay struct {
	Answer
	ReplayID    string       `json:"replay_id"`
	CallbackID  int64        `json:"callback_id,omitempty"`  // 0: it goes over callbacks
	Companies   []string     `json:"companies,omitempty"`    // that it goes over; empty of one callback's, and where it goes over all
	CallbackIDs []int64      `json:"callback_ids,omitempty"` // that it goes over; empty: all
	Parts       []ReplayPart `json:"parts,omitempty"`        // of one over callbacks that is shown by itself: 500 at most, those with something left first
	PartsLeft   int64        `json:"parts_left,omitempty"`   // companies with something left
	Estimate    bool         `json:"estimate,omitempty"`     // counting took too long: there may be more than Matched
	State       string       `json:"state"`
	Matched     int64        `json:"matched"`  // how many deliveries it is about
	Replayed    int64        `json:"replayed"` // how many of them were let out
	// BodyLeft is how many more it would be about, if their events had not left their bodies behind.
	BodyLeft   int64     `json:"body_left,omitempty"`
	States     []string  `json:"states"`
	Since      time.Time `json:"since,omitzero"`
	Until      time.Time `json:"until,omitzero"`
	EventType  string    `json:"event_type,omitempty"`
	Reason     string    `json:"reason,omitempty"`
	Pace       int64     `json:"pace,omitempty"`    // deliveries a second, at most
	BulkID     string    `json:"bulk_id,omitempty"` // of the replay over callbacks that it is a part of
	CreatedAt  time.Time `json:"created_at"`
	FinishedAt time.Time `json:"finished_at,omitzero"` // once it has ended
}

// A ReplayList is a company's replays, newest first. They are kept for 7 days after they ended.
type ReplayList struct {
	Answer
	Replays []*Replay `json:"replays"`
}

// ReplayCallback lets a callback's finished deliveries go out again, each under its own webhook-id. It returns while that is under
// way: ask [Client.Replay] how far it is.
func (c *Client) ReplayCallback(ctx context.Context, company string, callbackID int64, q ReplayQuery) (*Replay, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	return ask[Replay](ctx, c, request{method: http.MethodPost, path: callbackPath(company, callbackID, "replay"), body: body})
}

// Replay shows how far a replay is.
func (c *Client) Replay(ctx context.Context, company, replayID string) (*Replay, error) {
	return ask[Replay](ctx, c, request{method: http.MethodGet, path: []string{"companies", company, "replays", replayID}})
}

// Replays lists a company's replays.
func (c *Client) Replays(ctx context.Context, company string) (*ReplayList, error) {
	return ask[ReplayList](ctx, c, request{method: http.MethodGet, path: []string{"companies", company, "replays"}})
}

// CancelReplay stops a replay. What it has let out stays so.
func (c *Client) CancelReplay(ctx context.Context, company, replayID string) error {
	return c.send(ctx, request{method: http.MethodDelete, path: []string{"companies", company, "replays", replayID}})
}
