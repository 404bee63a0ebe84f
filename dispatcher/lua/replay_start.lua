-- Writes a replay of many down; the same again, which is a command repeated for its lost answer, changes nothing.
-- ARGV: replay id, ms to keep it once it is done, ms to keep one that does not run, field, value, ...
local key = prefix .. 'replay:' .. ARGV[1]
if redis.call('EXISTS', key) == 1 then return 0 end
for i = 4, #ARGV, 2 do redis.call('HSET', key, ARGV[i], ARGV[i + 1]) end
redis.call('ZADD', prefix .. 'replays', redis.call('HGET', key, 'created'), ARGV[1])
redis.call('ZREMRANGEBYSCORE', prefix .. 'replays', '-inf', int(now - 4 * tonumber(ARGV[2])))
if redis.call('HGET', key, 'state') == 'running' then
  redis.call('SADD', prefix .. 'replaying', ARGV[1])
else
  redis.call('PEXPIRE', key, ARGV[3])
end
return 1
