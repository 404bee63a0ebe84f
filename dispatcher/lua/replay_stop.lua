-- Ends a replay of many, if it runs. ARGV: replay id, ms to keep it, line of the audit trail -> 0 if there is none
local key = prefix .. 'replay:' .. ARGV[1]
local state = redis.call('HGET', key, 'state')
if not state then return 0 end
if state == 'running' then
  redis.call('HSET', key, 'state', 'cancelled', 'finished', int(now))
  age(key, tonumber(ARGV[2]))
  audit(trail, ARGV[3])
end
redis.call('SREM', prefix .. 'replaying', ARGV[1])
return 1
