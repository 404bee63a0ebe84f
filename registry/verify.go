package registry

import (
	"context"

	"github.com/ringback/ringback/registry/once"
)

// prove notes how a challenge to the callback of version ARGV[2] ended. ARGV[4] is why it failed. If that is empty, an unverified gate leaves
// behind the gate that was there before it, with line ARGV[3] of the audit trail. A callback of another version is left alone. It returns what
// read returns.
var prove = once.New("prove", AuditLua+ifAwake+opened+`
local sealed, at = redis.call('HGET', KEYS[1], ARGV[1]), redis.call('ZSCORE', KEYS[2], ARGV[1])
local closed = redis.call('GET', KEYS[3])
if sealed and closed and tonumber(at) == tonumber(ARGV[2]) then
	local was = cjson.decode(closed)
	if was.status == 'unverified' and ARGV[4] ~= '' then
		was.reason = ARGV[4]
		redis.call('SET', KEYS[3], cjson.encode(was))
	elseif was.status == 'unverified' then
		audit(KEYS[5], ARGV[3], open(was, was['then']))
		lookAfter()
	end
end
return {sealed, at, redis.call('GET', KEYS[3]), redis.call('HGET', KEYS[6], ARGV[1])}`, isThere)

// Verified notes how a challenge to a callback of that version ended. If reason is
// empty, the endpoint answered: an unverified callback is what it was before, and its
// deliveries that wait are let out. Else reason says in a word why it did not answer.
// Verified returns the callback as it then is. If the callback changed meanwhile, it
// has another Version, and is left alone. If there is none, it returns ErrNotFound.
func (r *Registry) Verified(ctx context.Context, company string, id, version int64, reason string) (*Callback, error) {
	return r.runOnOne(ctx, prove, company, id, "verify", version, AuditLine(ctx, company, "callback.verify", CallbackObject(id)), reason)
}

// VerifiesDestinations is [Config.VerifyDestinations].
func (r *Registry) VerifiesDestinations() bool { return r.verify }

// unverified returns the gate of a callback that is new, or goes elsewhere, and shows it in cb.
func (r *Registry) unverified(ctx context.Context, cb *Callback) (Gate, error) {
	if err := r.KnownEverywhere(ctx, "a callback that is held until its endpoint has proved itself (--verify-destinations)", announcedLevel); err != nil {
		return Gate{}, err
	}
	cb.Status, cb.StatusAt, cb.DisabledReason, cb.UnverifiedReason, cb.Moved = Unverified, cb.UpdatedAt, "", "", true
	return Gate{Status: Unverified, At: cb.UpdatedAt}, nil
}
