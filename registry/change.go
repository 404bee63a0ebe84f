package registry

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/payloads"
)

// Create registers a callback from the JSON of a registration and returns it with
// a fresh signing secret, unless the registration brings one. [Callback.WithSecret]
// shows a fresh one. Every event that any
// process accepts after Create has returned is matched against it.
//
// A body that is no JSON gives ErrBadJSON. One that does not fit gives an
// *payloads.InvalidError that lists every fault. A company that has as many as its
// quota allows gives a *QuotaError.
func (r *Registry) Create(ctx context.Context, company string, body []byte) (*Callback, error) {
	if cb, err := r.savedBefore(ctx, company); cb != nil || err != nil {
		return cb, err
	}
	cb, err := r.registration(ctx, company, body)
	if err != nil {
		return nil, err
	}
	cb.CreatedAt = now()
	cb.UpdatedAt = cb.CreatedAt
	if !cb.StartDateGiven {
		cb.StartDate = cb.CreatedAt
	}
	if cb.SecretGiven = cb.Secrets != nil; !cb.SecretGiven {
		cb.Secrets = []SigningSecret{{Secret: payloads.NewSecret()}}
	}
	cb.adoptKeys(nil, cb.CreatedAt, cb.Signature.wantsKeys() && r.publishesKeys(ctx, company, cb.CreatedAt))
	if err := r.completeWire(ctx, cb, nil); err != nil {
		return nil, err
	}
	cb.Status = Enabled
	var gate Gate
	switch {
	case cb.Destination.Pull:
		gate = Gate{Status: Pulled, At: cb.CreatedAt}
	case r.verify:
		if gate, err = r.unverified(ctx, cb); err != nil {
			return nil, err
		}
	}

	if err := r.note(ctx, company); err != nil { // it may have been erased since this process did last
		return nil, err
	}
	for range tries {
		if cb.ID, err = r.redis.Incr(ctx, sequenceKey(company)).Result(); err != nil {
			return nil, fmt.Errorf("registry: number a callback of company %s: %w", company, err)
		}
		line, err := callbackLine(ctx, r.keyset, "callback.create", nil, cb)
		if err != nil {
			return nil, err
		}
		if err := r.certify(ctx, company, cb.ID, cb.Certificate(), nil); err != nil {
			return nil, err
		}
		answer, err := r.save(ctx, cb, "", line, gate, false)
		if err != nil {
			return nil, err
		}
		if answer == "saved" {
			r.forgetKeys(company)
			r.certified(ctx, company, cb.ID, cb.Certificate(), nil)
			r.log.InfoContext(ctx, "callback created", "callback", cb)
			return cb, nil
		}
		// The number is taken: Redis lost its count, but not the callback.
	}
	return nil, fmt.Errorf("registry: no free number for a callback of company %s after %d tries", company, tries)
}

// registration reads a company's registration, by the types as they are now.
func (r *Registry) registration(ctx context.Context, company string, body []byte) (*Callback, error) {
	if err := checkCompany(company); err != nil {
		return nil, err
	}
	types, err := r.types.Fresh(ctx)
	if err != nil {
		return nil, err
	}
	cb, err := decode(types, r.checkURL, body, nil)
	if err != nil {
		return nil, err
	}
	cb.Company = company
	return cb, nil
}

// Patch changes a callback by a merge patch (RFC 7396) of its JSON. "***" leaves
// a secret as it is, and members that are not the client's to change may only
// repeat what is there. Another signing secret takes the place of all that there are,
// at once. Each of several concurrent patches sees the one before. It
// returns the callback as it then is. If there is none, it returns ErrNotFound. For a
// patch that does not fit it returns the errors of Create.
func (r *Registry) Patch(ctx context.Context, company string, id int64, mergePatch []byte, conditions ...Condition) (*Callback, error) {
	types, err := r.types.Fresh(ctx)
	if err != nil {
		return nil, err
	}
	return r.update(ctx, company, id, conditions, func(cb *Callback) (*Callback, string, error) {
		next, err := applyPatch(types, r.checkURL, cb, mergePatch)
		if err != nil {
			return nil, "", err
		}
		next.adoptKeys(cb, now(), true)
		line, err := callbackLine(ctx, r.keyset, "callback.update", cb, next)
		return next, line, err
	})
}

// update applies change to a callback for which the conditions hold, until nobody else
// has changed it meanwhile. change also returns the line of the audit trail.
func (r *Registry) update(ctx context.Context, company string, id int64, conditions []Condition, change func(*Callback) (*Callback, string, error)) (*Callback, error) {
	for range tries {
		cb, err := r.Get(ctx, company, id)
		if err != nil {
			return nil, err
		}
		if err := hold(conditions, cb.ETag()); err != nil {
			return nil, err
		}
		next, line, err := change(cb)
		if err != nil {
			return nil, err
		}
		next.Version, next.UpdatedAt = cb.Version, cb.UpdatedAt
		next.Status, next.StatusAt, next.DisabledReason, next.UnverifiedReason = cb.Status, cb.StatusAt, cb.DisabledReason, cb.UnverifiedReason
		if err := r.completeWire(ctx, next, cb); err != nil {
			return nil, err
		}
		if reflect.DeepEqual(cb, next) {
			// The call before this one may have ended before the endpoint was challenged.
			cb.Moved = r.verify && cb.Status == Unverified && cb.UnverifiedReason == ""
			return cb, nil
		}
		next.UpdatedAt = now()
		var gate Gate
		moved := next.goesElsewhere(cb)
		if r.verify && moved {
			if gate, err = r.unverified(ctx, next); err != nil {
				return nil, err
			}
		}
		if err := r.certify(ctx, company, id, next.Certificate(), cb.Certificate()); err != nil {
			return nil, err
		}
		answer, err := r.save(ctx, next, strconv.FormatInt(cb.Version, 10), line, gate, moved)
		switch {
		case err != nil:
			return nil, err
		case answer == "saved":
			r.forgetKeys(company)
			r.certified(ctx, company, id, next.Certificate(), cb.Certificate())
			r.log.InfoContext(ctx, "callback changed", "callback", next)
			return next, nil
		case answer == "gone":
			return nil, ErrNotFound
		}
	}
	return nil, fmt.Errorf("%w: callback %d of company %s", ErrBusy, id, company)
}

// remove deletes callback ARGV[1], closes its gate as ARGV[2], and writes line ARGV[3]
// of the audit trail. The gate tells its own earlier run from another's. If there is
// nothing to delete, it returns 0. If ARGV[4] is the version that the callback must still
// have, and it has another one, it returns -1.
var remove = redis.NewScript(AuditLua + AwakeLua + `
if redis.call('HEXISTS', KEYS[3], ARGV[1]) == 1 then` + awakeHere + `
	if ARGV[4] ~= '' and tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1])) ~= tonumber(ARGV[4]) then return -1 end
end
if redis.call('HDEL', KEYS[3], ARGV[1]) == 0 then
	return redis.call('GET', KEYS[4]) == ARGV[2] and 1 or 0
end
redis.call('SET', KEYS[4], ARGV[2])
redis.call('DEL', KEYS[6])
redis.call('HDEL', KEYS[8], ARGV[1])
redis.call('SREM', KEYS[9], ARGV[1])
` + nextVersion + `
redis.call('ZADD', KEYS[5], string.format('%.0f', ms), ARGV[1])
audit(KEYS[7], ARGV[3])
return 1`)

// Delete removes a callback, or returns ErrNotFound. No event accepted afterwards
// matches it. Its gate says Deleted, and its room is put up to be cleared.
func (r *Registry) Delete(ctx context.Context, company string, id int64, conditions ...Condition) error {
	if err := checkCompany(company); err != nil {
		return err
	}
	gate := Gate{Status: Deleted, At: time.Now().UTC()} // to the nanosecond: it tells this call from others
	for range tries {
		expected := ""
		if len(conditions) > 0 {
			cb, err := r.Get(ctx, company, id)
			if err != nil {
				return err
			}
			if err := hold(conditions, cb.ETag()); err != nil {
				return err
			}
			expected = strconv.FormatInt(cb.Version, 10)
		}
		removed, err := r.remove(ctx, company, id, gate, expected)
		switch {
		case err != nil:
			return err
		case removed == 0:
			return ErrNotFound
		case removed == 1:
			r.forgetKeys(company)
			r.log.InfoContext(ctx, "callback deleted", "callback", slog.GroupValue(slog.String("company", company), slog.Int64("callback", id)))
			return nil
		}
	}
	return fmt.Errorf("%w: callback %d of company %s", ErrBusy, id, company)
}

// remove runs the script of that name.
func (r *Registry) remove(ctx context.Context, company string, id int64, gate Gate, expected string) (removed int, err error) {
	keys := []string{VersionKey(company), changesKey(company), callbacksKey(company), GateKey(company, id), RoomsKey(company), RateKey(company, id), AuditKey(company), anchorsKey(company), orderedKey(company)}
	removed, err = r.whileAwake(ctx, remove, company, keys, id, gate.String(), AuditLine(ctx, company, "callback.delete", CallbackObject(id)), expected).Int()
	if err != nil {
		return 0, fmt.Errorf("registry: delete callback %d of company %s: %w", id, company, err)
	}
	return removed, nil
}
