-- Writes a replay of many down; the same again, which is a command repeated for its lost answer, changes nothing.
-- ARGV: replay id, ms to keep it once it is done, ms to keep one that does not run, how many may run where no quota is set,
--       line of the audit trail, field, value, ...
-- -> {'ok'} | {'quota', limit, how many run} | sleeping's
local key = prefix .. 'replay:' .. ARGV[1]
if redis.call('EXISTS', key) == 1 then return {'ok'} end
local field = {}
for i = 6, #ARGV, 2 do field[ARGV[i]] = ARGV[i + 1] end
if field.state == 'running' then
  -- A part of a bulk replay leaves a place to who asks for one replay.
  local most, running = tonumber(redis.call('HGET', prefix .. 'quota', 'replays') or ARGV[4]), redis.call('SCARD', prefix .. 'replaying')
  if field.bulk and most > 1 then most = most - 1 end
  if running >= most then return {'quota', int(most), int(running)} end
  local nap = sleeping()
  if nap then return nap end
end
for i = 6, #ARGV, 2 do redis.call('HSET', key, ARGV[i], ARGV[i + 1]) end
redis.call('ZADD', prefix .. 'replays', redis.call('HGET', key, 'created'), ARGV[1])
if redis.call('HGET', key, 'state') == 'running' then
  redis.call('SADD', prefix .. 'replaying', ARGV[1])
  audit(trail, ARGV[5])
else
  age(key, tonumber(ARGV[3]))
end
return {'ok'}
