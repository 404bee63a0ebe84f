package dispatcher

import (
	"encoding/json"
	"time"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// encoded is the body of a request that is made at that time: the payload as it was accepted, in the shape that the callback's template gives it, stamped as its
// type wants it, and encoded as the callback takes it. It is made anew for each attempt, of the callback as it is then. So a template that changed under retries
// holds from the next attempt on, as another destination does.
//
// It has no envelope, and is not thin: what is fetched with a ticket is this, made when it is fetched.
func encoded(cb *registry.Callback, typ *payloads.Type, payload json.RawMessage, at time.Time) ([]byte, error) {
	said, err := content(cb, typ, payload, at)
	if err != nil {
		return nil, err
	}
	return payloads.Encode(cb.Destination.ContentType, said)
}

// content is what a body says, as JSON: the payload in the callback's shape, stamped.
func content(cb *registry.Callback, typ *payloads.Type, payload json.RawMessage, at time.Time) (json.RawMessage, error) {
	shaped, err := cb.Template.Apply(payload)
	if err != nil {
		return nil, err
	}
	return typ.Stamped(shaped, at), nil
}
