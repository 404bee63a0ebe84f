package registry

import (
	"context"
	"fmt"
	"time"

	"github.com/ringback/ringback/payloads"
)

// maxSecrets is how many signing secrets of a callback may be live at once. Each adds a
// signature to every request.
const maxSecrets = 5

// RotateSecret gives a callback a new signing secret, which [Callback.WithSecret]
// shows. Until overlap has passed, from 0 to MaxOverlap, requests are signed with
// the secrets it had as well. A style that carries one signature takes no overlap.
func (r *Registry) RotateSecret(ctx context.Context, company string, id int64, overlap time.Duration) (*Callback, error) {
	return r.RotateSecretTo(ctx, company, id, "", overlap)
}

// RotateSecretTo is RotateSecret to a secret that the caller brings, unless own is
// empty. It may be the one that the callback has: then only those before are ended by
// that time. So repeating the call is safe.
func (r *Registry) RotateSecretTo(ctx context.Context, company string, id int64, own string, overlap time.Duration, conditions ...Condition) (*Callback, error) {
	if overlap < 0 || overlap > MaxOverlap {
		return nil, invalid("body.overlap", "must be a duration from 0s to "+formatDuration(MaxOverlap), nil)
	}
	if cb, err := r.savedBefore(ctx, company); cb != nil || err != nil {
		return rotatedTo(own, cb), err
	}
	line := AuditLine(ctx, company, "callback.rotate_secret", CallbackObject(id), AuditChange{"secret", Masked, Masked}, AuditChange{Field: "overlap", New: formatDuration(overlap)})
	cb, err := r.update(ctx, company, id, conditions, func(cb *Callback) (*Callback, string, error) {
		next, err := cb.rotated(own, overlap, now())
		return next, line, err
	})
	if err != nil {
		return nil, err
	}
	return rotatedTo(own, cb), nil
}

// rotatedTo shows the secret of a callback, unless the caller brought it.
func rotatedTo(own string, cb *Callback) *Callback {
	if cb == nil {
		return nil
	}
	shown := *cb
	shown.SecretGiven = own != ""
	return &shown
}

// rotated is the callback with a new secret, own or one that is made.
func (cb *Callback) rotated(own string, overlap time.Duration, at time.Time) (*Callback, error) {
	secret := payloads.NewSecret()
	if own != "" {
		var err error
		if secret, err = cb.HeaderStyle.ParseSecret(own); err != nil {
			return nil, invalid("body.secret", badSecret+err.Error(), nil)
		}
	}
	if overlap > 0 && cb.HeaderStyle.Signatures() == 1 {
		return nil, invalid("body.overlap", fmt.Sprintf("must be \"0s\": header_style %s carries one signature, so the secret before ends when the new one begins; have the receiver take both meanwhile", cb.HeaderStyle), nil)
	}
	next := *cb
	next.Secrets = []SigningSecret{{Secret: secret}}
	for _, s := range cb.Secrets {
		if end := at.Add(overlap); s.ExpiresAt.IsZero() || end.Before(s.ExpiresAt) {
			s.ExpiresAt = end
		}
		if !s.ended(at) && !s.Secret.Equal(secret) {
			next.Secrets = append(next.Secrets, s)
		}
	}
	if len(next.Secrets) > maxSecrets {
		return nil, invalid("body.overlap", fmt.Sprintf("must be shorter: %d signing secrets would be live at once; with \"0s\" the earlier ones end now", len(next.Secrets)), nil)
	}
	return &next, nil
}
