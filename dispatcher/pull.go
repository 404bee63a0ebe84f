package dispatcher

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/once"
)

// A partner who cannot be called fetches: deliveries to a callback whose destination is to be pulled wait in its room, in the order in which they were written,
// until the partner acknowledges them. Nothing of them comes into a lane.

// The bounds of a [Poll].
const (
	DefaultPollLimit = 50
	MaxPollLimit     = 500
	MaxPollWait      = 30 * time.Second
)

// A Poll asks for what there is to fetch.
type Poll struct {
	Company    string
	CallbackID int64
	After      string        // a cursor; empty: behind what was acknowledged
	Limit      int           // 0: 50; at most 500
	Wait       time.Duration // for something to fetch, if there is nothing; 30 s at most
	// Place, if it is not nil, is asked for leave to look. What it returns ends that; a poll that waits does not hold it.
	Place func(context.Context) (release func(), err error)
}

// Polled is the answer to a [Poll].
type Polled struct {
	Deliveries []Pulled `json:"deliveries"` // in the order in which they were written
	// Next is the cursor behind the last of them, to go on from and to acknowledge. If there are none, it is where the poll began.
	Next         string `json:"next"`
	Acknowledged string `json:"acknowledged"` // up to which cursor deliveries were acknowledged
	More         bool   `json:"more"`         // there is more to fetch by now
}

// A Pulled is a delivery as it is fetched.
type Pulled struct {
	Cursor     string    `json:"cursor"`
	DeliveryID string    `json:"delivery_id"` // the same however often it is fetched, replays included
	EventID    string    `json:"event_id"`
	EventType  string    `json:"event_type"`
	AcceptedAt time.Time `json:"accepted_at"`
	OccurredAt time.Time `json:"occurred_at,omitzero"`
	Replayed   bool      `json:"replayed,omitempty"` // somebody asked for it to be delivered again
	// Payload is what a request would carry: in the shape of the callback's template, and in its envelope, as they are when it is fetched. It is missing, and
	// PayloadLeft is set, if the event is kept without it: then it was acknowledged before. And it is missing if none can be made of it, as PayloadFault says.
	Payload      json.RawMessage `json:"payload,omitempty"`
	PayloadLeft  bool            `json:"payload_left,omitempty"`
	PayloadFault string          `json:"payload_fault,omitempty"`
}

// An Acknowledgement says how far a partner's acknowledgement, or a seek, came.
type Acknowledgement struct {
	Acknowledged string `json:"acknowledged"` // the cursor from which on deliveries are fetched
	Delivered    int    `json:"delivered"`    // by this acknowledgement
	Cancelled    int    `json:"cancelled"`    // by this seek
}

// Poll reads what there is to fetch from a callback, and waits for it for a while if there is nothing. It changes nothing: what is fetched is delivered once it
// is acknowledged. If the process is about to end, it does not wait.
//
// Errors: [ErrBadCursor], registry.ErrNotFound, *[StateError] if the callback is paused, or its partner is called, [ErrUnavailable], and those of
// Place.
func (c *Client) Poll(ctx context.Context, p Poll) (*Polled, error) {
	f := ledger.Fetch{Company: p.Company, Callback: p.CallbackID, Behind: p.After == "", Limit: min(max(defaulted(p.Limit, DefaultPollLimit), 1), MaxPollLimit)}
	if p.After != "" {
		var ok bool
		if f.After, ok = ledger.ParseCursor(p.After); !ok {
			return nil, ErrBadCursor
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	timer := time.NewTimer(min(p.Wait, MaxPollWait))
	defer timer.Stop()
	for waited := p.Wait <= 0; ; {
		out, given, err := c.look(ctx, p, f)
		if err != nil || waited && !out.More || len(out.Deliveries) > 0 {
			return out, err
		}
		if out.More { // all that was looked at has gone with its events
			f.After, _ = ledger.ParseCursor(out.Next)
			f.Behind = false
			continue
		}
		waited = c.wait(ctx, ledger.Ref{Company: p.Company, Callback: p.CallbackID}, given, timer.C)
	}
}

// look answers a poll with what there is. given is the last cursor of the callback.
func (c *Client) look(ctx context.Context, p Poll, f ledger.Fetch) (out *Polled, given ledger.Cursor, err error) {
	if p.Place != nil {
		release, err := p.Place(ctx)
		if err != nil {
			return nil, 0, err
		}
		defer release()
	}
	found, err := c.ledger.Fetch(ctx, f)
	if err != nil {
		return nil, 0, unavailable(ctx, c, "reading what is to be fetched", err)
	}
	if found.Closed != "" {
		return nil, 0, c.notFetched(ctx, p.Company, p.CallbackID, found.Closed)
	}
	out, err = c.polled(ctx, p, found)
	return out, found.Given, err
}

// wait waits for something of a callback behind a cursor. over: there will be no more time to wait.
func (c *Client) wait(ctx context.Context, callback ledger.Ref, behind ledger.Cursor, timeUp <-chan time.Time) (over bool) {
	one := c.pollers.enter(callback, behind) //nolint:contextcheck // who looks does so for all who wait
	defer c.pollers.leave(one)
	select {
	case <-one.over:
		return c.pollers.isOver()
	case <-timeUp:
	case <-ctx.Done():
	}
	return true
}

// polled is what was found as the partner is shown it.
func (c *Client) polled(ctx context.Context, p Poll, found ledger.Fetched) (*Polled, error) {
	out := &Polled{Deliveries: []Pulled{}, Next: found.Next.String(), Acknowledged: found.Acknowledged.String(), More: found.More}
	if len(found.Deliveries) == 0 {
		return out, nil
	}
	cb, err := c.registry.Get(ctx, p.Company, p.CallbackID)
	if errors.Is(err, registry.ErrNotFound) {
		return nil, err // deleted just now
	}
	if err != nil {
		return nil, unavailable(ctx, c, "reading the callback", err)
	}
	now := time.Now()
	for i := range found.Deliveries {
		d, err := c.pulled(ctx, cb, &found.Deliveries[i], now)
		if err != nil {
			return nil, err
		}
		out.Deliveries = append(out.Deliveries, d)
	}
	return out, nil
}

// pulled is a delivery as a callback's partner is shown it at a time.
func (c *Client) pulled(ctx context.Context, cb *registry.Callback, d *ledger.Fetchable, at time.Time) (Pulled, error) {
	p := Pulled{
		Cursor: d.Cursor.String(), DeliveryID: d.DeliveryID(), EventID: d.Event, EventType: d.Meta.Type, AcceptedAt: ledger.LogTime(d.LogID),
		OccurredAt: ledger.FromMS(d.Meta.Occurred), Replayed: d.Replayed, PayloadLeft: d.Payload == nil,
	}
	if d.Payload == nil {
		return p, nil
	}
	typ, _, err := c.registry.Types().Accepted(ctx, d.Meta.Type)
	if err != nil {
		return p, unavailable(ctx, c, "reading the callback types", err)
	}
	a := &attempt{ref: d.Ref, callback: cb, typ: typ, meta: d.Meta, body: d.Payload, accepted: p.AcceptedAt, begun: at}
	made, err := a.outgoing(&c.sender, at)
	if err != nil {
		p.PayloadFault = unsendable(err).Note
		return p, nil
	}
	p.Payload = made.body
	return p, nil
}

// notFetched says why nothing can be fetched from a callback.
func (c *Client) notFetched(ctx context.Context, company string, callbackID int64, status registry.Status) error {
	cb, err := c.registry.Get(ctx, company, callbackID)
	switch {
	case err != nil:
		return err
	case !cb.Destination.Pull:
		return &StateError{Message: "this callback's deliveries are sent to its destination.url, so there is nothing to fetch: a callback to fetch from is registered with \"destination\": {\"pull\": true}"}
	case status == registry.Paused:
		return &StateError{Message: "this callback is paused: resume it to fetch what waits"}
	}
	return &StateError{Message: "this callback changed just now: try again"}
}

// Acknowledge says that a partner has what it fetched, up to a cursor, as a poll gave it: that is delivered. What no poll gave is not, whatever the cursor: Acknowledged
// says how far it is. It goes page by page. If it ends early, what came so
// far is delivered, and the caller repeats it.
//
// Errors: [ErrBadCursor] if no poll can have given that cursor, and those of Poll.
func (c *Client) Acknowledge(ctx context.Context, company string, callbackID int64, through string) (*Acknowledgement, error) {
	to, ok := ledger.ParseCursor(through)
	if !ok {
		return nil, ErrBadCursor
	}
	out := &Acknowledgement{}
	err := c.move(ctx, company, callbackID, out, &out.Delivered, func() (ledger.Moved, error) { return c.ledger.Acknowledge(ctx, company, callbackID, to) })
	c.metrics.acknowledged(ctx, out.Delivered)
	c.minutes.acknowledged(out.Delivered)
	return out, err
}

// A Seek says where to go on fetching.
type Seek struct {
	Cursor string    // as a poll gave it
	Time   time.Time // before the first that was written then or later
	Start  bool      // before all that is kept
	End    bool      // behind all there is
}

// Seek goes back, to where what was acknowledged is fetched again as long as it is kept, and stays delivered; or on, over what waits, which is cancelled. It goes
// page by page, as Acknowledge does. Errors: those of Acknowledge.
func (c *Client) Seek(ctx context.Context, company string, callbackID int64, s Seek) (*Acknowledgement, error) {
	to := ledger.Cursor(0)
	switch {
	case s.End:
		to = ledger.LastCursor
	case s.Start:
	case !s.Time.IsZero():
		to = ledger.CursorAt(s.Time)
	default:
		var ok bool
		if to, ok = ledger.ParseCursor(s.Cursor); !ok {
			return nil, ErrBadCursor
		}
	}
	out := &Acknowledgement{}
	line := registry.UniqueAuditLine(ctx, company, "callback.seek", registry.CallbackObject(callbackID))
	err := c.move(ctx, company, callbackID, out, &out.Cancelled, func() (ledger.Moved, error) {
		moved, err := c.ledger.Seek(ctx, company, callbackID, to, line)
		line = "" // it is told with the first page
		return moved, err
	})
	return out, err
}

// noteMoved is the note of how many were delivered, or cancelled, before a page.
const noteMoved = "moved"

// move goes on page by page, and counts.
func (c *Client) move(ctx context.Context, company string, callbackID int64, out *Acknowledgement, n *int, page func() (ledger.Moved, error)) error {
	if _, err := once.Noted(ctx, noteMoved, n); err != nil {
		return err
	}
	for {
		if err := once.Note(ctx, noteMoved, *n); err != nil {
			return err
		}
		moved, err := page()
		switch {
		case errors.Is(err, ledger.ErrBadRecord):
			return err
		case err != nil:
			return unavailable(ctx, c, "acknowledging", err)
		case moved.Closed != "":
			return c.notFetched(ctx, company, callbackID, moved.Closed)
		case moved.Ahead:
			return ErrBadCursor
		}
		c.at("acknowledged")
		out.Acknowledged = moved.Acknowledged.String()
		if *n += moved.Deliveries; !moved.More {
			return nil
		}
	}
}

// acknowledged counts deliveries that were fetched and acknowledged. Nothing is known of how long that took.
func (m *metrics) acknowledged(ctx context.Context, n int) {
	if n > 0 {
		m.attempts.Add(ctx, int64(n), metric.WithAttributes(attribute.String("verdict", string(verdict.Delivered)), attribute.String("reason", string(verdict.ReasonAcknowledged))))
	}
}
