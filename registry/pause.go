package registry

import (
	"context"

	"github.com/ringback/ringback/registry/once"
)

// opened defines two functions for callback ARGV[1]. open replaces the gate was by left, or opens it if left is nil, and returns the changes for
// the audit trail. lookAfter has the callback looked after.
const opened = `
local function open(was, left)
	local changes = {{field = 'status', old = was.status, new = left and left.status ~= 'pull' and left.status or 'enabled'}}
	if was.status == 'disabled' and was.reason then changes[2] = {field = 'disabled_reason', old = was.reason} end
	if left then redis.call('SET', KEYS[3], cjson.encode(left)) else redis.call('DEL', KEYS[3]) end
	return changes
end
local function lookAfter()
	redis.call('ZADD', KEYS[4], 0, ARGV[1])
end
`

// isThere tells the answers of [read] about a callback that there is from the others.
const isThere = `type(reply[1]) == 'string' and reply[1] ~= 'asleep'`

// ifAwake lets a script only go on with a callback that there is if its company is awake.
const ifAwake = AwakeLua + `if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then` + awakeHere + `end
`

// pause closes an open gate as ARGV[2], or has an unverified one leave that behind. One that never opens closes behind it. If that changed something,
// it writes line ARGV[3] of the audit trail. It returns what read returns.
var pause = once.New("pause", AuditLua+ifAwake+`
local sealed = redis.call('HGET', KEYS[1], ARGV[1])
local closed = redis.call('GET', KEYS[3])
if sealed and not closed then
	redis.call('SET', KEYS[3], ARGV[2])
	audit(KEYS[5], ARGV[3], {{field = 'status', old = 'enabled', new = 'paused'}})
elseif sealed then
	local gate = cjson.decode(closed)
	if gate.status == 'pull' then
		local new = cjson.decode(ARGV[2])
		new['then'] = gate
		redis.call('SET', KEYS[3], cjson.encode(new))
		audit(KEYS[5], ARGV[3], {{field = 'status', old = 'enabled', new = 'paused'}})
	elseif gate.status == 'unverified' and not gate['then'] then
		gate['then'] = cjson.decode(ARGV[2])
		redis.call('SET', KEYS[3], cjson.encode(gate))
		audit(KEYS[5], ARGV[3], {{field = 'status_once_verified', old = 'enabled', new = 'paused'}})
	end
end
return {sealed, redis.call('ZSCORE', KEYS[2], ARGV[1]), redis.call('GET', KEYS[3]), redis.call('HGET', KEYS[6], ARGV[1])}`, isThere)

// resume opens the gate, or leaves the one behind that never opens, and has the callback looked after. If ARGV[3] is 'verify', an unverified gate stays, and will leave an open one behind.
// If that changed something, it writes line ARGV[2] of the audit trail. It returns what read returns.
var resume = once.New("resume", AuditLua+ifAwake+opened+`
local sealed = redis.call('HGET', KEYS[1], ARGV[1])
if sealed then
	local closed = redis.call('GET', KEYS[3])
	if closed then
		local was = cjson.decode(closed)
		if was.status == 'pull' then -- it never opens
		elseif was.status == 'paused' then
			audit(KEYS[5], ARGV[2], open(was, was['then']))
		elseif was.status ~= 'unverified' or ARGV[3] ~= 'verify' then
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
return {sealed, redis.call('ZSCORE', KEYS[2], ARGV[1]), redis.call('GET', KEYS[3]), redis.call('HGET', KEYS[6], ARGV[1])}`, isThere)

// Pause closes the gate of a callback: its deliveries are held from then on, and
// events still match. Pausing a paused one changes nothing. A disabled one stays
// disabled, as the result's Status says. An unverified one stays unverified, and is
// paused when it is verified. If there is none, Pause returns ErrNotFound.
func (r *Registry) Pause(ctx context.Context, company string, id int64) (*Callback, error) {
	line := AuditLine(ctx, company, "callback.pause", CallbackObject(id))
	return r.runOnOne(ctx, pause, company, id, "pause", Gate{Status: Paused, At: now()}.String(), line)
}

// Resume opens the gate of a callback, paused or disabled, and has the deliveries
// that wait let out. Resuming an enabled one changes nothing. If this registry asks
// for proof, an unverified one stays so, and is enabled when it is verified. If there
// is none, Resume returns ErrNotFound.
func (r *Registry) Resume(ctx context.Context, company string, id int64) (*Callback, error) {
	word := ""
	if r.verify {
		word = "verify"
	}
	return r.runOnOne(ctx, resume, company, id, "resume", AuditLine(ctx, company, "callback.resume", CallbackObject(id)), word)
}
