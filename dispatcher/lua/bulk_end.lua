-- Ends a bulk replay. ARGV: its id, 'cancel', who cancels it, line of the audit trail: if it runs, it names no company from now on; a worker stops its parts
--                      | its id, 'over', ms to keep it: nothing of it runs
-- -> 0 if there is none
local id, mode = ARGV[1], ARGV[2]
local key, parts = prefix .. 'replay:' .. id, prefix .. 'parts:' .. id
local state = redis.call('HGET', key, 'state')
if mode == 'over' then redis.call('SREM', prefix .. 'replaying', id) end
if not state then return 0 end
if state == 'running' then redis.call('HSET', key, 'state', mode == 'over' and 'done' or 'cancelled', 'finished', int(now)) end
if state == 'running' and mode == 'cancel' then
  redis.call('HSET', key, 'by', ARGV[3])
  audit(trail, ARGV[4])
end
if mode == 'over' then
  redis.call('HDEL', key, 'after')
  age(key, tonumber(ARGV[3]))
  age(parts, tonumber(ARGV[3]))
end
return 1
