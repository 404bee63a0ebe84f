package dispatcher

import (
	"time"

	"github.com/ringback/ringback/payloads"
)

// encoded is the body of a request that is made at that time: the payload as it was accepted, in the shape that the callback's template gives it, stamped as its type
// wants it, and encoded as the callback takes it. It is made anew for each attempt, of the callback as it is then. So a template that changed under retries holds
// from the next attempt on, as another destination does.
func (a *attempt) encoded(at time.Time) ([]byte, error) {
	shaped, err := a.callback.Template.Apply(a.body)
	if err != nil {
		return nil, err
	}
	return payloads.Encode(a.callback.Destination.ContentType, a.typ.Stamped(shaped, at))
}
