package dispatcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// The operational types: what Ringback tells a company about its callbacks.
const (
	typeFailing  = ledger.TypeFailing
	typeDisabled = ledger.TypeDisabled
)

// A notice is an entry of a company's outbox, as finish.lua writes it.
type notice struct {
	Callback     int64  `json:"cb"`
	CallbackType string `json:"ct"`
	Since        int64  `json:"fs"` // ms
	Failures     int64  `json:"fn"`
	Percent      int    `json:"p"`  // of a warning
	Disables     int64  `json:"d"`  // ms, of a warning
	At           int64  `json:"at"` // ms, of a warning
	Gate         string `json:"g"`  // of what was disabled
	Attempt      string `json:"e"`  // the last failure's line
}

// The payloads of the operational types (payloads/contracts/operational.json).
type (
	failing struct {
		Company      string      `json:"company"`
		CallbackID   int64       `json:"callback_id"`
		CallbackType string      `json:"callback_type"`
		FailingSince time.Time   `json:"failing_since"`
		Attempts     int64       `json:"attempts"`
		Percent      int         `json:"percent"`
		DisablesAt   time.Time   `json:"disables_at"`
		LastFailure  lastFailure `json:"last_failure"`
	}
	disabled struct {
		Company      string      `json:"company"`
		CallbackID   int64       `json:"callback_id"`
		CallbackType string      `json:"callback_type"`
		Reason       string      `json:"reason"`
		DisabledAt   time.Time   `json:"disabled_at"`
		FailingSince time.Time   `json:"failing_since"`
		Attempts     int64       `json:"attempts"`
		LastFailure  lastFailure `json:"last_failure"`
	}
	lastFailure struct {
		At         time.Time `json:"at"`
		Reason     Reason    `json:"reason"`
		StatusCode int       `json:"status_code,omitempty"`
		Detail     string    `json:"detail"`
	}
)

// event is the notice as the company's callbacks get it. The same notice makes the same event, byte for byte: sent twice, it is a duplicate.
func (n notice) event(company, id string) (e payloads.Event, gate registry.Gate, err error) {
	var last ledger.Entry
	if err := json.Unmarshal([]byte(n.Attempt), &last); err != nil {
		return e, gate, ledger.ErrBadRecord
	}
	failure := lastFailure{At: ledger.FromMS(last.Started), Reason: last.Reason, StatusCode: last.Status, Detail: last.Detail()}
	e = payloads.Event{Company: company, ID: id, OccurredAt: ledger.FromMS(n.At)}
	var payload any
	switch kind, _, _ := strings.Cut(id, ":"); kind {
	case typeFailing:
		e.Type = kind
		payload = failing{
			Company: company, CallbackID: n.Callback, CallbackType: n.CallbackType, FailingSince: ledger.FromMS(n.Since), Attempts: n.Failures,
			Percent: n.Percent, DisablesAt: ledger.FromMS(n.Disables), LastFailure: failure,
		}
	case typeDisabled:
		if gate, err = registry.ParseGate(n.Gate); err != nil {
			return e, gate, err
		}
		e.Type, e.OccurredAt = kind, gate.At
		payload = disabled{
			Company: company, CallbackID: n.Callback, CallbackType: n.CallbackType, Reason: gate.Reason, DisabledAt: gate.At,
			FailingSince: ledger.FromMS(n.Since), Attempts: n.Failures, LastFailure: failure,
		}
	default:
		return e, gate, ledger.ErrBadRecord
	}
	e.Payload, err = json.Marshal(payload)
	return e, gate, err
}

// tellNotices sends what is in a company's outbox. If one fails, it stays there, and the reconciler's next round repeats it.
func (c *Client) tellNotices(ctx context.Context, company string) {
	if err := c.sendNotices(context.WithoutCancel(ctx), company); err != nil {
		c.log.WarnContext(ctx, "telling how a callback does failed; the reconciler will repeat it", "company", company, "error", err)
	}
}

func (c *Client) sendNotices(ctx context.Context, company string) error {
	waiting, err := c.ledger.Notices(ctx, company)
	if err != nil {
		return err
	}
	var failed []error // one must not keep the others back
	for id, text := range waiting {
		if err := c.sendNotice(ctx, company, id, text); err != nil {
			failed = append(failed, fmt.Errorf("%s of %s: %w", id, company, err))
		}
	}
	return errors.Join(failed...)
}

// sendNotice sends one, and takes it out of the outbox. Of several who do so at a time, the one that took it out tells log and metrics. One
// that cannot be read is dropped: it will not be readable the next time either.
func (c *Client) sendNotice(ctx context.Context, company, id, text string) error {
	var n notice
	err := json.Unmarshal([]byte(text), &n)
	var e payloads.Event
	var gate registry.Gate
	if err == nil {
		e, gate, err = n.event(company, id)
	}
	if err != nil {
		c.log.ErrorContext(ctx, "what is to be told of a callback cannot be read; dropped", "company", company, "event", verdict.Clip(id, 200), "error", err)
		_, err := c.ledger.DropNotice(ctx, company, id)
		return err
	}
	there, err := c.ledger.HasNotice(ctx, company, id)
	if err != nil || !there { // told by another, or erased with its company: it must not come back
		return err
	}
	if _, err := c.send(ctx, e, true); err != nil && !errors.Is(err, ErrEventConflict) { // of its id there is no other
		return err
	}
	c.at("told")
	mine, err := c.ledger.DropNotice(ctx, company, id)
	if err != nil || !mine {
		return err
	}
	args := []any{"company", company, "callback", n.Callback, "type", n.CallbackType, "failing_since", ledger.FromMS(n.Since), "attempts", n.Failures, "event", id}
	if e.Type == typeFailing {
		c.metrics.warned(ctx, n.Percent)
		c.log.WarnContext(ctx, "callback fails and fails; it will be disabled", append(args, "percent", n.Percent, "disables_at", ledger.FromMS(n.Disables))...)
		return nil
	}
	c.metrics.disabledCallback(ctx, gate.Reason)
	c.log.WarnContext(ctx, "callback disabled; what is for it is held until it is resumed", append(args, "reason", gate.Reason)...)
	return nil
}
