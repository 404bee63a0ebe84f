package registry

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ringback/ringback/payloads"
)

// RotateKey gives a callback that signs by keys a new one, in three stages: it is
// announced, published and without signing, for as long as announce says, from KeyLead
// to MaxAnnounce. Then it signs beside the key before, until overlap has passed, from 0
// to MaxOverlap. Then the key before is retired, and a little later no longer published.
func (r *Registry) RotateKey(ctx context.Context, company string, id int64, announce, overlap time.Duration, conditions ...Condition) (*Callback, error) {
	var fields []payloads.FieldError
	if announce < KeyLead || announce > MaxAnnounce {
		fields = append(fields, payloads.FieldError{Location: "body.announce", Message: fmt.Sprintf(
			"must be a duration from %s, for receivers may remember a company's keys for %s, to %s", formatDuration(KeyLead), formatDuration(KeysMaxAge), formatDuration(MaxAnnounce),
		)})
	}
	if overlap < 0 || overlap > MaxOverlap {
		fields = append(fields, payloads.FieldError{Location: "body.overlap", Message: "must be a duration from 0s to " + formatDuration(MaxOverlap)})
	}
	if len(fields) > 0 {
		return nil, &payloads.InvalidError{Fields: fields}
	}
	if cb, err := r.savedBefore(ctx, company); cb != nil || err != nil {
		return cb, err
	}
	return r.update(ctx, company, id, conditions, func(cb *Callback) (*Callback, string, error) {
		next, err := cb.rotatedKey(now(), announce, overlap)
		if err != nil {
			return nil, "", err
		}
		before := ""
		for _, k := range cb.Signature.Keys {
			if k.SignsUntil.IsZero() {
				before = k.Key.Public().KID()
			}
		}
		line := AuditLine(ctx, company, "callback.rotate_key", CallbackObject(id), AuditChange{"signature.keys", before, next.Signature.Keys[0].Key.Public().KID()},
			AuditChange{Field: "announce", New: formatDuration(announce)}, AuditChange{Field: "overlap", New: formatDuration(overlap)})
		return next, line, nil
	})
}

// rotatedKey is the callback with a new key, announced at a time.
func (cb *Callback) rotatedKey(at time.Time, announce, overlap time.Duration) (*Callback, error) {
	if !cb.Signature.wantsKeys() {
		return nil, invalid("path.callback_id", "is a callback that signs by no key: give it signature.ed25519 or signature.rfc9421 first, whereupon it has one", cb.ID)
	}
	keys := published(cb.Signature.Keys, at)
	for _, k := range keys {
		if k.Stage(at) == KeyAnnounced {
			return nil, invalid("body.announce", "comes too soon: a key is announced already, and signs from "+k.SignsFrom.Format(time.RFC3339)+" on; make another one after that", nil)
		}
	}
	if len(keys) >= maxKeys {
		return nil, invalid("body.announce", fmt.Sprintf("comes too soon: %d keys of this callback are published, as many as there may be; try again when one of them is no longer", len(keys)), nil)
	}
	fresh := SigningKey{Key: payloads.NewSigningKey(), AnnouncedAt: at, SignsFrom: at.Add(announce)}
	for i := range keys {
		if keys[i].SignsUntil.IsZero() {
			keys[i].SignsUntil = fresh.SignsFrom.Add(overlap)
		}
	}
	next, signature := *cb, *cb.Signature
	signature.Keys = slices.Insert(keys, 0, fresh)
	next.Signature = &signature
	return &next, nil
}
