-- Has a retrying delivery make its next attempt at once. It is an ordinary attempt, early: it counts, and is paid for from the budget.
-- ARGV: member, line of the audit trail
-- -> {'ready', ticket, old generation, whose: the delivery or its batch} | {'held', generation, old generation, whose} | {'late', generation, whose}: it is pending, and nobody began it for long
--  | {'soon'}: it is pending or under way | {'waits'}: it is held | {'closed', the callback's status, which is deleted or keeps an unfinished one in} | {'final'|'none'|'full'} | sleeping's
local member = ARGV[1]
local r, ev, field, cb = load(member)
if not r then return {'none'} end
local batch = ending().batchOf(r, cb)
if batch then -- all of them go at once
  member = batch
  r, ev, field = load(member)
end
local closed = gate(cb)
if deleted(closed) then return {'closed', statusOf(closed)} end
if final(r.s) then return {'final'} end
if r.s == 'H' then return {'waits'} end
if closed and r.s ~= 'A' then return {'closed', statusOf(closed)} end
if r.s == 'P' and now - r.at >= PATIENCE then return {'late', int(r.gen), member} end
if r.s ~= 'R' then return {'soon'} end
if waiters(cb) >= HOLD_MAX then return {'full'} end -- as the oldest it would be buried at once
local nap = sleeping()
if nap then return nap end
local old = r.gen
local goes = early(r, ev, field, member, cb)
audit(trail, ARGV[2], {{field = 'state', old = 'retrying', new = goes and 'pending' or 'held'}})
if goes then return {'ready', ticket(r), int(old), member} end
return {'held', int(r.gen), int(old), member}
