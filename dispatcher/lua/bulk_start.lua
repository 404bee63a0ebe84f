-- Writes a bulk replay down; the same again, which is a command repeated for its lost answer, changes nothing. The keys are those of a company that there
-- cannot be.
-- Of those of a scope that do not run, so many are kept: else whoever counts again and again would push out those of others (bulk_tidy.lua).
-- ARGV: its id, ms to keep one that does not run, how many of the same scope may run, line of the audit trail, how many of those that do not run are kept,
--       field, value, ...
-- -> {'ok'} | {'quota', limit, how many run}
local key = prefix .. 'replay:' .. ARGV[1]
if redis.call('EXISTS', key) == 1 then return {'ok'} end
local field = {}
for i = 6, #ARGV, 2 do field[ARGV[i]] = ARGV[i + 1] end
if field.state == 'running' then
  local most, running = tonumber(ARGV[3]), 0
  for _, id in ipairs(redis.call('SMEMBERS', prefix .. 'replaying')) do
    local h = redis.call('HMGET', prefix .. 'replay:' .. id, 'company', 'state')
    if h[1] == field.company and h[2] == 'running' then running = running + 1 end
  end
  if running >= most then return {'quota', int(most), int(running)} end
end
local book, over = prefix .. 'replays', {}
for _, id in ipairs(redis.call('ZRANGE', book, 0, -1)) do
  local other = prefix .. 'replay:' .. id
  if redis.call('HGET', other, 'company') == field.company and ages(other) then over[#over + 1] = id end
end
for i = 1, #over - tonumber(ARGV[5]) + 1 do
  redis.call('UNLINK', prefix .. 'replay:' .. over[i], prefix .. 'parts:' .. over[i])
  redis.call('ZREM', book, over[i])
end
for i = 6, #ARGV, 2 do redis.call('HSET', key, ARGV[i], ARGV[i + 1]) end
redis.call('ZADD', book, field.created, ARGV[1])
if field.state == 'running' then
  redis.call('SADD', prefix .. 'replaying', ARGV[1])
  audit(trail, ARGV[4])
else
  age(key, tonumber(ARGV[2]))
end
return {'ok'}
