package registry

import "context"

// knowWire makes sure that all processes know what a callback has that it had not before, when it was before or, as nil, not there.
func (r *Registry) knowWire(ctx context.Context, cb, before *Callback) error {
	what, level := newer(cb, before)
	if what == "" {
		return nil
	}
	return r.KnownEverywhere(ctx, what, level)
}
