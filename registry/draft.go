package registry

import (
	"context"

	"github.com/ringback/ringback/payloads"
)

// Draft is the callback that Create would make of a registration, with a signing secret and key that are nobody's. Nothing is stored, and no other process is asked what
// it knows. Errors are those of Create.
func (r *Registry) Draft(ctx context.Context, company string, body []byte) (*Callback, error) {
	cb, err := r.registration(ctx, company, body)
	if err != nil {
		return nil, err
	}
	if err := r.addressed(cb, nil); err != nil {
		return nil, err
	}
	cb.Status, cb.CreatedAt = Enabled, now()
	return cb.drafted(), nil
}

// PatchDraft is a callback as Patch would leave it, with a signing secret and key that are nobody's. Nothing is stored. Errors are those of Patch.
func (r *Registry) PatchDraft(ctx context.Context, company string, id int64, mergePatch []byte) (*Callback, error) {
	cb, err := r.Get(ctx, company, id)
	if err != nil {
		return nil, err
	}
	types, err := r.types.Fresh(ctx)
	if err != nil {
		return nil, err
	}
	next, err := applyPatch(types, r.checkURL, cb, mergePatch)
	if err != nil {
		return nil, err
	}
	if err := r.addressed(next, cb); err != nil {
		return nil, err
	}
	next.Status = cb.Status
	return next.drafted(), nil
}

// drafted has a callback sign with a secret and a key that are made up: what a draft signs proves nothing to anybody. The key signs at once, as the callback's own
// does once it was announced.
func (cb *Callback) drafted() *Callback {
	cb.Secrets = []SigningSecret{{Secret: payloads.NewSecret()}}
	cb.adoptKeys(nil, now(), false)
	return cb
}
