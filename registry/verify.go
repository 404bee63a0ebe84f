package registry

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// prove notes what came of a challenge to the callback of version ARGV[2]: ARGV[4] is why it failed, or empty. Then an unverified gate leaves
// behind what was there before it, with line ARGV[3] of the audit trail. It returns what read returns: a callback of another version is left
// alone.
var prove = redis.NewScript(AuditLua + opened + `
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
return {sealed, at, redis.call('GET', KEYS[3]), redis.call('HGET', KEYS[6], ARGV[1])}`)

// Verified notes that the endpoint of a callback of that version answered its
// challenge: an unverified one is then what it was before, and what waits for it is
// let out. A reason says in a word why it did not. It returns the callback as it then
// is; one that changed meanwhile has another Version, and is left alone. ErrNotFound
// if there is none.
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
