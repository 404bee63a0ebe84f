-- Sends a delivery again, or now: a new generation with a fresh budget. ARGV: member, line of the audit trail
-- -> {'ready', ticket, old generation} | {'held', generation, old generation} | {'waiting'|'none'|'deleted'|'full'|'bodiless'} | sleeping's
local member = ARGV[1]
local r, ev, field, cb = load(member)
if not r then return {'none'} end
if deleted(gate(cb)) then return {'deleted'} end
ending().alight(r, cb)
if not final(r.s) and r.s ~= 'R' then return {'waiting'} end
if underWay(r, cb) then return {'waiting'} end
if redis.call('HEXISTS', ev, 'b') == 0 then return {'bodiless'} end -- there is nothing to send
if waiters(cb) >= HOLD_MAX then return {'full'} end -- as the oldest it would be buried at once
local nap = sleeping()
if nap then return nap end
local old = r.gen
local STATES = {R = 'retrying', D = 'delivered', X = 'dead', C = 'cancelled'}
local was = STATES[r.s]
local goes = again(r, ev, field, member, cb)
audit(trail, ARGV[2], {{field = 'state', old = was, new = goes and 'pending' or 'held'}})
if goes then return {'ready', ticket(r), int(old)} end
return {'held', int(r.gen), int(old)}
