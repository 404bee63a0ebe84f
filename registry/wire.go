package registry

import "context"

// completeWire gives a callback what its fields need on the wire, and makes sure that all processes know what it has that it had not before, when it was
// before or, as nil, not there.
func (r *Registry) completeWire(ctx context.Context, cb, before *Callback) error {
	if err := r.addressed(cb, before); err != nil {
		return err
	}
	if cb.Body == BodyThin {
		cb.giveTicketKey(before)
	}
	what, level := newer(cb, before)
	if what == "" {
		return nil
	}
	return r.KnownEverywhere(ctx, what, level)
}

// addressed gives a callback with a thin body the address that its requests' addresses begin with.
func (r *Registry) addressed(cb, before *Callback) error {
	if cb.Body != BodyThin {
		return nil
	}
	if cb.PublicURL = r.publicURL; cb.PublicURL == "" && before != nil {
		cb.PublicURL = before.PublicURL
	}
	if cb.PublicURL == "" {
		return errNoAddress
	}
	return nil
}

// PublicURL is the address that thin bodies begin theirs with: this process's, or else that of the process which registered the callback last.
func (r *Registry) PublicURL(cb *Callback) string {
	if r.publicURL != "" {
		return r.publicURL
	}
	return cb.PublicURL
}
