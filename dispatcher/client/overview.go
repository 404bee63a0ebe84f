package client

import (
	"context"
	"iter"
	"net/http"
	"time"
)

// An Overview says how the whole installation does. Each part has a sentence.
type Overview struct {
	Answer
	AsOf      time.Time         `json:"as_of"` // when it was looked; answers are kept for a few seconds
	Verdict   OverallVerdict    `json:"verdict"`
	Worst     WorstCallbacks    `json:"worst"`
	Waiting   WaitingDeliveries `json:"waiting"`
	Dead      DeadLetters       `json:"dead"`
	Wave      RetryWave         `json:"wave"`
	Rates     Rates             `json:"rates"`
	Callbacks CallbackCounts    `json:"callbacks"`
	Egress    Said              `json:"egress"`
	Workers   Said              `json:"workers"`
	Redis     Said              `json:"redis"`
	Unread    []string          `json:"unread"` // what could not be read, a sentence each

	Certificates Certificates `json:"certificates"`
}

// Said is a part of an overview of which no more than its sentence is read here.
type Said struct {
	Sentence string `json:"sentence"`
}

// An OverallVerdict says whether it is us or them.
type OverallVerdict struct {
	Side     string   `json:"side"` // nobody, theirs, ours or both
	Sentence string   `json:"sentence"`
	Ours     []string `json:"ours"`
	Theirs   []string `json:"theirs"`
}

// WorstCallbacks are the callbacks that do worst, of all companies.
type WorstCallbacks struct {
	Sentence  string          `json:"sentence"`
	Callbacks []WorstCallback `json:"callbacks"`
	Of        int64           `json:"of"` // how many are not well
}

// A WorstCallback is a callback that does not do well.
type WorstCallback struct {
	Company      string   `json:"company"`
	CallbackID   int64    `json:"callback_id"`
	CallbackType string   `json:"callback_type,omitempty"`
	Host         string   `json:"host,omitempty"`
	Status       string   `json:"status"`
	Breaker      string   `json:"breaker"`
	Words        string   `json:"words"` // how it stands
	Waiting      int64    `json:"waiting"`
	Dead         int64    `json:"dead"`
	LastFailure  *Failure `json:"last_failure,omitempty"`
	Side         string   `json:"side"` // theirs, ours or unclear
}

// WaitingDeliveries are what waits, of all companies, and whose the oldest is.
type WaitingDeliveries struct {
	Sentence   string    `json:"sentence"`
	Total      int64     `json:"total"`
	OldestAt   time.Time `json:"oldest_at,omitzero"`
	Company    string    `json:"company,omitempty"`
	CallbackID int64     `json:"callback_id,omitempty"`
}

// DeadLetters are how many deliveries are dead, and why.
type DeadLetters struct {
	Sentence string       `json:"sentence"`
	Total    int64        `json:"total"`
	Counted  int64        `json:"counted"` // the reasons are of so many, the newest
	Reasons  []DeadReason `json:"reasons"`
}

// A DeadReason is how many of the dead have a reason.
type DeadReason struct {
	Reason    string `json:"reason"`
	Dead      int64  `json:"dead"`
	Callbacks int64  `json:"callbacks"`
	Side      string `json:"side"`
}

// A RetryWave is when deliveries are tried again.
type RetryWave struct {
	Sentence string  `json:"sentence"`
	DueNow   int64   `json:"due_now"`
	Minutes  []int64 `json:"minutes"` // the next 60
	Later    int64   `json:"later"`
}

// Rates are what happened in the last hours.
type Rates struct {
	Sentence string   `json:"sentence"`
	Minutes  []Minute `json:"minutes"`
}

// A Minute is what happened in one.
type Minute struct {
	At        time.Time `json:"at"`
	Accepted  int64     `json:"accepted"`
	Delivered int64     `json:"delivered"`
	Failed    int64     `json:"failed"`
}

// CallbackCounts are how all callbacks stand.
type CallbackCounts struct {
	Sentence   string `json:"sentence"`
	Enabled    int64  `json:"enabled"`
	Paused     int64  `json:"paused"`
	Disabled   int64  `json:"disabled"`
	Unverified int64  `json:"unverified"`
}

// Certificates are the client certificates that expire within 7 days, or have expired, of all companies.
type Certificates struct {
	Sentence  string                `json:"sentence"`  // empty: the server is older
	Callbacks []ExpiringCertificate `json:"callbacks"` // that have them, the one that ends first first
	Of        int64                 `json:"of"`        // how many there are
	Expired   int64                 `json:"expired"`   // of them
}

// An ExpiringCertificate is a callback whose client certificate expires soon.
type ExpiringCertificate struct {
	Company      string    `json:"company"`
	CallbackID   int64     `json:"callback_id,omitempty"` // 0: it is the company's, for callbacks that have none
	CallbackType string    `json:"callback_type,omitempty"`
	NotAfter     time.Time `json:"not_after"`
	Subject      string    `json:"subject"`
	Fingerprint  string    `json:"fingerprint"` // SHA-256, in hex
}

// Overview says how the whole installation does. It takes an operator's or viewer's key of all companies.
func (c *Client) Overview(ctx context.Context) (*Overview, error) {
	return ask[Overview](ctx, c, request{method: http.MethodGet, path: []string{"overview"}})
}

// A Company is one in a list, and how it stands.
type Company struct {
	Company         string    `json:"company"`
	Callbacks       int64     `json:"callbacks"`
	Words           string    `json:"words"`
	Waiting         int64     `json:"waiting"` // deliveries that are not finished
	Pending         int64     `json:"pending"` // of those: pending or active
	Retrying        int64     `json:"retrying"`
	Held            int64     `json:"held"`
	OldestWaitingAt time.Time `json:"oldest_waiting_at,omitzero"`
	Dead            int64     `json:"dead"`
	Failing         int64     `json:"failing"` // callbacks whose last attempt failed
	Paused          int64     `json:"paused"`  // callbacks, as the next two
	Disabled        int64     `json:"disabled"`
	Unverified      int64     `json:"unverified"`
}

// A CompaniesQuery narrows a list of companies. The zero value is all of them.
type CompaniesQuery struct {
	Prefix string // what their names begin with
	Limit  int    // of a page, 1 to 500; default 50
	Cursor string // the NextCursor of the page before
}

// A CompanyPage is a part of a list of companies.
type CompanyPage struct {
	Answer
	Companies  []*Company `json:"companies"`
	NextCursor string     `json:"next_cursor,omitempty"` // empty on the last page
}

// Companies lists a page of the companies, by name. It takes an operator's or viewer's key of all companies.
func (c *Client) Companies(ctx context.Context, q CompaniesQuery) (*CompanyPage, error) {
	return ask[CompanyPage](ctx, c, request{
		method: http.MethodGet, path: []string{"companies"}, query: query("prefix", q.Prefix, "limit", number(q.Limit), "cursor", q.Cursor),
	})
}

// An EventItem is an event in a list.
type EventItem struct {
	Company    string         `json:"company,omitempty"` // in lists over all companies
	EventID    string         `json:"event_id"`
	EventType  string         `json:"event_type"`
	AcceptedAt time.Time      `json:"accepted_at"`
	OccurredAt time.Time      `json:"occurred_at,omitzero"`
	Deliveries map[string]int `json:"deliveries"` // how many there are in each state
	Expanding  bool           `json:"expanding,omitempty"`
	BodyLeft   bool           `json:"body_left,omitempty"` // its payload is no longer kept
}

// An EventsQuery narrows a list of events. The zero value is all of them.
type EventsQuery struct {
	EventType string
	EventID   string            // of one event; with a * at its end, what ids begin with
	WebhookID string            // the id of one of its deliveries
	Match     map[string]string // values of match attributes of callback types, by name
	Since     time.Time         // only events accepted at this time or later
	Until     time.Time         // only events accepted before this time
	Limit     int               // of a page, 1 to 500; default 50
	Cursor    string            // the NextCursor of the page before
}

// An EventPage is a part of a list of events. It may be short, even empty, and still not be the last.
type EventPage struct {
	Answer
	Events     []*EventItem `json:"events"`
	NextCursor string       `json:"next_cursor,omitempty"` // empty on the last page
	// SearchedBackTo is set on a page that is short since the search took too long: all that was accepted after this time was searched.
	SearchedBackTo time.Time `json:"searched_back_to,omitzero"`
}

// Events finds a page of a company's events, newest first.
func (c *Client) Events(ctx context.Context, company string, q EventsQuery) (*EventPage, error) {
	params := query("event_type", q.EventType, "event_id", q.EventID, "webhook_id", q.WebhookID, "since", moment(q.Since), "until", moment(q.Until),
		"limit", number(q.Limit), "cursor", q.Cursor)
	for name, value := range q.Match {
		params.Set(name, value)
	}
	return ask[EventPage](ctx, c, request{method: http.MethodGet, path: []string{"companies", company, "events"}, query: params})
}

// AllEvents are a company's events, newest first, page after page from q.Cursor on. An error ends them.
func (c *Client) AllEvents(ctx context.Context, company string, q EventsQuery) iter.Seq2[*EventItem, error] {
	return all(func(cursor string) ([]*EventItem, string, error) {
		q.Cursor = cursor
		page, err := c.Events(ctx, company, q)
		if err != nil {
			return nil, "", err
		}
		return page.Events, page.NextCursor, nil
	}, q.Cursor)
}
