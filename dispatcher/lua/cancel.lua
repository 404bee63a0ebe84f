-- Cancels an unfinished delivery. ARGV: member, line of the audit trail -> {'ok'|'final'|'none'}
local member = ARGV[1]
local r, ev, field, cb = load(member)
if not r then return {'none'} end
if final(r.s) then return {'final'} end
ending().alight(r, cb)
if r.s ~= 'A' then r.tok = '-' end -- an attempt under way keeps its token: its outcome is still recorded
retriesNoMore(r, member, cb)
local STATES = {P = 'pending', A = 'active', R = 'retrying', H = 'held'}
audit(trail, ARGV[2], {{field = 'state', old = STATES[r.s], new = 'cancelled'}})
r.s, r.at = 'C', now
redis.call('HSET', ev, field, format(r))
close(ev, member, cb, 'C')
tell(member, 'C')
return {'ok'}
