package dispatcher

import (
	"errors"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry/once"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrNotFound: no such event or delivery, or no longer kept.
	ErrNotFound = errors.New("not found")
	// ErrEventConflict: the event id was used before, for other content.
	ErrEventConflict = errors.New("this event_id was accepted before with other content: send new content under a new event_id")
	// ErrUnavailable: Redis did not answer as it should. Whether the event was accepted is open: repeat it with the same event id.
	ErrUnavailable = errors.New("the store is not available: try again with the same event_id")
	// ErrOverloaded: Redis is so full that taking more could stop the workers, too. Nothing was accepted: repeat it later.
	ErrOverloaded = errors.New("the store is nearly full, so no events are taken: try again later")
	// ErrBodyLeft: the event is kept without its body (Config.BodyRetention), so that there is nothing to show or to send again.
	ErrBodyLeft = ledger.ErrBodyLeft
	// ErrClaimTaken: a repeat of the request goes on with it. Nothing was done.
	ErrClaimTaken = once.ErrTaken
	// ErrBadCursor: the cursor is not one that a list of this kind gave out.
	ErrBadCursor = errors.New("the cursor is not one this list gave out: start again without it")
)

// A StateError says that a delivery is not in a state for what was asked.
type StateError struct {
	Delivery *Delivery
	Message  string
	Err      error // [ErrBodyLeft], if that is why; else nil
}

func (e *StateError) Error() string { return e.Message }

// Unwrap returns Err.
func (e *StateError) Unwrap() error { return e.Err }

// misfit says what is wrong with what a caller handed over, and where.
func misfit(location, message string) error {
	return &payloads.InvalidError{Fields: []payloads.FieldError{{Location: location, Message: message}}}
}
