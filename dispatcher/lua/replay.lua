-- Sends a delivery again, or now: a new generation with a fresh budget. ARGV: member, window
-- -> {'ready', generation, old generation} | {'held'} | {'waiting'|'none'|'deleted'}
local member = ARGV[1]
local r, ev, field, cb = load(member)
if not r then return {'none'} end
if deleted(gate(cb)) then return {'deleted'} end
if not final(r.s) and r.s ~= 'R' then return {'waiting'} end
-- A cancelled attempt that is still under way would race with the replay.
if r.s == 'C' and r.tok ~= '-' and now - r.at < 120000 then return {'waiting'} end
if final(r.s) then
  redis.call('HINCRBY', ev, 'n', 1)
  redis.call('PERSIST', ev)
  if r.s == 'X' then
    redis.call('HINCRBY', ev, 'x', -1)
    redis.call('ZREM', dead, member)
  end
end
local old = r.gen
r.gen, r.spent = r.gen + 1, 0
local ready = admit(r, member, cb, tonumber(ARGV[2]))
redis.call('HSET', ev, field, format(r))
if ready then return {'ready', int(r.gen), int(old)} end
return {'held', int(r.gen), int(old)}
