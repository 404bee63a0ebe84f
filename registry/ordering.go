package registry

import (
	"fmt"
	"strconv"
	"time"

	"github.com/ringback/ringback/payloads"
)

// The bounds of an [Ordering].
const (
	minSkipAfter = time.Second
	maxSkipAfter = 30 * 24 * time.Hour

	// MaxOrdered is how many callbacks of a company may have an ordering: their deliveries are always written with the event, which is what puts them in order,
	// and never in one of the pages that come later.
	MaxOrdered = 100
)

// An Ordering has deliveries to a callback go out one after another, where their events have the same value at Key: the next goes once the one before is delivered,
// dead or cancelled. Events without a value there have no order.
type Ordering struct {
	Key       *payloads.Key `json:"key"`
	SkipAfter time.Duration `json:"skip_after,omitempty"` // how long a delivery may keep those behind it waiting; 0: until it has ended
}

// String is the ordering as the dispatcher's scripts read it in a callback's health. That of nil is empty.
func (o *Ordering) String() string {
	if o == nil {
		return ""
	}
	return "order " + strconv.FormatInt(o.SkipAfter.Milliseconds(), 10)
}

// orderedKey is the set of a company's callbacks with an ordering.
func orderedKey(company string) string { return "{" + company + "}:ordered" }

// errTooManyOrdered refuses an ordering where so many callbacks have one already.
var errTooManyOrdered error = &payloads.InvalidError{Fields: []payloads.FieldError{{
	Location: "body.ordering", Message: fmt.Sprintf("may not be given: %d callbacks of this company have one, which is as many as may", MaxOrdered),
}}}

// orderingSettings are an ordering as the API shows it.
type orderingSettings struct {
	Key       string `json:"key"`
	SkipAfter string `json:"skip_after,omitempty"`
}

func (o *Ordering) settings() *orderingSettings {
	if o == nil {
		return nil
	}
	s := &orderingSettings{Key: o.Key.String()}
	if o.SkipAfter > 0 {
		s.SkipAfter = formatDuration(o.SkipAfter)
	}
	return s
}
