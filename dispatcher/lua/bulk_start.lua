-- Writes a bulk replay down; the same again, which is a command repeated for its lost answer, changes nothing. The keys are those of a company that there
-- cannot be.
-- ARGV: its id, ms to keep one that does not run, how many of the same scope may run, line of the audit trail, field, value, ...
-- -> {'ok'} | {'quota', limit, how many run}
local key = prefix .. 'replay:' .. ARGV[1]
if redis.call('EXISTS', key) == 1 then return {'ok'} end
local field = {}
for i = 5, #ARGV, 2 do field[ARGV[i]] = ARGV[i + 1] end
if field.state == 'running' then
  local most, running = tonumber(ARGV[3]), 0
  for _, id in ipairs(redis.call('SMEMBERS', prefix .. 'replaying')) do
    local h = redis.call('HMGET', prefix .. 'replay:' .. id, 'company', 'state')
    if h[1] == field.company and h[2] == 'running' then running = running + 1 end
  end
  if running >= most then return {'quota', int(most), int(running)} end
end
for i = 5, #ARGV, 2 do redis.call('HSET', key, ARGV[i], ARGV[i + 1]) end
redis.call('ZADD', prefix .. 'replays', field.created, ARGV[1])
if field.state == 'running' then
  redis.call('SADD', prefix .. 'replaying', ARGV[1])
  audit(trail, ARGV[4])
else
  age(key, tonumber(ARGV[2]))
end
return {'ok'}
