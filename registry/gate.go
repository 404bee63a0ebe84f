package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// Gate says why a callback's deliveries are held. It is stored as JSON under
// [GateKey]; where that key is absent the gate is open.
type Gate struct {
	Status Status    `json:"status"`           // Paused, Disabled, Unverified or Deleted
	Reason string    `json:"reason,omitempty"` // a short word, such as gone
	At     time.Time `json:"at"`

	// Then is the gate that an Unverified one leaves behind once the endpoint
	// has answered its challenge. Nil: an open one.
	Then *Gate `json:"then,omitempty"`
}

// String is the gate as it is stored.
func (g Gate) String() string {
	text, err := json.Marshal(g)
	if err != nil { // a year beyond 9999
		return fmt.Sprintf(`{"status":%q}`, g.Status)
	}
	return string(text)
}

// ParseGate reads what is stored under [GateKey]. The empty string, for an
// absent key, is an open gate: one with the status Enabled.
func ParseGate(stored string) (Gate, error) {
	if stored == "" {
		return Gate{Status: Enabled}, nil
	}
	var g Gate
	if err := json.Unmarshal([]byte(stored), &g); err != nil {
		return Gate{}, fmt.Errorf("registry: a gate is not readable: %w", err)
	}
	switch g.Status {
	case Paused, Disabled, Unverified, Deleted:
		return g, nil
	default:
		return Gate{}, fmt.Errorf("registry: a gate has the unknown status %.32q", g.Status)
	}
}

// setGate fills in the status from a stored gate.
func (cb *Callback) setGate(stored string) error {
	gate, err := ParseGate(stored)
	if err != nil {
		return fmt.Errorf("%v: %w", cb, err)
	}
	cb.Status, cb.StatusAt, cb.DisabledReason, cb.UnverifiedReason = gate.Status, gate.At, "", ""
	switch gate.Status {
	case Disabled:
		cb.DisabledReason = gate.Reason
	case Unverified:
		cb.UnverifiedReason = gate.Reason
	}
	return nil
}

// pause closes an open gate as ARGV[2], or has an unverified one leave that behind, with line ARGV[3] of the audit trail, and returns what read
// returns.
var pause = redis.NewScript(AuditLua + `
local sealed = redis.call('HGET', KEYS[1], ARGV[1])
local closed = redis.call('GET', KEYS[3])
if sealed and not closed then
	redis.call('SET', KEYS[3], ARGV[2])
	audit(KEYS[5], ARGV[3], {{field = 'status', old = 'enabled', new = 'paused'}})
elseif sealed then
	local gate = cjson.decode(closed)
	if gate.status == 'unverified' and not gate['then'] then
		gate['then'] = cjson.decode(ARGV[2])
		redis.call('SET', KEYS[3], cjson.encode(gate))
		audit(KEYS[5], ARGV[3], {{field = 'status_once_verified', old = 'enabled', new = 'paused'}})
	end
end
return {sealed, redis.call('ZSCORE', KEYS[2], ARGV[1]), redis.call('GET', KEYS[3]), redis.call('HGET', KEYS[6], ARGV[1])}`)

// opened defines what opens a gate as if was: was ARGV[1]'s, and what it leaves behind.
const opened = `
local function open(was, left)
	local changes = {{field = 'status', old = was.status, new = left and left.status or 'enabled'}}
	if was.status == 'disabled' and was.reason then changes[2] = {field = 'disabled_reason', old = was.reason} end
	if left then redis.call('SET', KEYS[3], cjson.encode(left)) else redis.call('DEL', KEYS[3]) end
	return changes
end
local function lookAfter()
	local t = redis.call('TIME')
	redis.call('ZADD', KEYS[4], string.format('%.0f', tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)), ARGV[1])
end
`

// resume opens the gate, with line ARGV[2] of the audit trail if it was closed, has the room looked after, and returns what read returns. An
// unverified one stays if ARGV[3] is 'verify', and will leave an open one behind.
var resume = redis.NewScript(AuditLua + opened + `
local sealed = redis.call('HGET', KEYS[1], ARGV[1])
if sealed then
	local closed = redis.call('GET', KEYS[3])
	if closed then
		local was = cjson.decode(closed)
		if was.status ~= 'unverified' or ARGV[3] ~= 'verify' then
			audit(KEYS[5], ARGV[2], open(was))
		elseif was['then'] then
			local changes = {{field = 'status_once_verified', old = was['then'].status, new = 'enabled'}}
			was['then'] = nil
			redis.call('SET', KEYS[3], cjson.encode(was))
			audit(KEYS[5], ARGV[2], changes)
		end
	end
	lookAfter()
end
return {sealed, redis.call('ZSCORE', KEYS[2], ARGV[1]), redis.call('GET', KEYS[3]), redis.call('HGET', KEYS[6], ARGV[1])}`)

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

// Pause closes the gate of a callback: its deliveries are held from then on, and
// events still match. Pausing a paused one changes nothing; a disabled one stays
// disabled, as the result's Status says. An unverified one stays unverified, and is
// paused once it is verified. ErrNotFound if there is none.
func (r *Registry) Pause(ctx context.Context, company string, id int64) (*Callback, error) {
	line := AuditLine(ctx, company, "callback.pause", CallbackObject(id))
	return r.runOnOne(ctx, pause, company, id, "pause", Gate{Status: Paused, At: now()}.String(), line)
}

// Resume opens the gate of a callback, paused or disabled, and has the deliveries
// that wait let out. Resuming an enabled one changes nothing. An unverified one
// stays so, and is enabled once it is verified, unless this registry asks for no
// proof. ErrNotFound if there is none.
func (r *Registry) Resume(ctx context.Context, company string, id int64) (*Callback, error) {
	word := ""
	if r.verify {
		word = "verify"
	}
	return r.runOnOne(ctx, resume, company, id, "resume", AuditLine(ctx, company, "callback.resume", CallbackObject(id)), word)
}

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
