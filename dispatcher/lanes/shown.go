package lanes

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
)

// shownTask is what asynq's UI shows as a task's payload.
type shownTask struct {
	Company    string       `json:"company"`
	CallbackID int64        `json:"callback_id"`
	EventType  string       `json:"event_type,omitempty"`
	EventID    string       `json:"event_id"`
	DeliveryID string       `json:"delivery_id"`
	State      ledger.State `json:"state,omitempty"`
	Attempt    int          `json:"attempt,omitempty"` // the last that began
	Generation int64        `json:"generation"`
}

// showWithin is how long the UI waits for what a task's record says.
const showWithin = 300 * time.Millisecond

// Show is what asynq's UI shows as a task's payload: names and numbers, and how the delivery stands now; never the event's content.
func (l *Lanes) Show(kind string, payload []byte) string {
	t, ok := readTask(kind, payload)
	if !ok {
		return "(not a delivery)"
	}
	shown := shownTask{Company: t.Company, CallbackID: t.Callback, EventID: t.Event, DeliveryID: t.DeliveryID(), Generation: t.Generation}
	ctx, cancel := context.WithTimeout(context.Background(), showWithin)
	defer cancel()
	if e, err := l.ledger.Deliveries(ctx, []ledger.Ref{t.Ref}); err == nil && e[0] != nil { // else the names have to do
		rec := e[0].Records[t.Callback]
		shown.EventType, shown.State, shown.Attempt = e[0].Meta.Type, ledger.StateOf[rec.State], rec.Number
	}
	text, _ := json.Marshal(shown) // strings and numbers always encode
	return string(text)
}

// A log hands asynq's messages to slog: one a second at most, for asynq repeats itself quickly while Redis is away.
type log struct {
	to    *slog.Logger
	often *rate.Sometimes
}

func newLog(to *slog.Logger) log { return log{to, &rate.Sometimes{First: 10, Interval: time.Second}} }

func (l log) Debug(...any)      {}
func (l log) Info(...any)       {}
func (l log) Warn(args ...any)  { l.say(slog.LevelWarn, args) }
func (l log) Error(args ...any) { l.say(slog.LevelError, args) }

// Fatal is called where asynq would end the process; that is not a library's to decide.
func (l log) Fatal(args ...any) { l.say(slog.LevelError, args) }

func (l log) say(level slog.Level, args []any) {
	l.often.Do(func() {
		l.to.Log(context.Background(), level, "asynq: "+verdict.Clip(verdict.Printable(strings.TrimSpace(fmt.Sprint(args...))), 500))
	})
}
