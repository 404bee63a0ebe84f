-- Opens the record of a decision, if exactly one of the matching callbacks may be asked.
-- ARGV: registry version matched at, decision id, type, lease ms, traceparent, callback id...
-- -> {'version', current} | {'none'} | {'several', callback id, ...} | {'closed', callback id, gate, ...} | {'go', callback id, now}
local version = redis.call('GET', prefix .. 'ver') or '0'
if version ~= ARGV[1] then return {'version', version} end
local open, closed = {'several'}, {'closed'}
for i = 6, #ARGV do
  local g = gate(ARGV[i])
  if not g then
    open[#open + 1] = ARGV[i]
  elseif not deleted(g) then
    closed[#closed + 1] = ARGV[i]
    closed[#closed + 1] = g
  end
end
if #open > 2 then return open end
if #open == 1 then
  if #closed == 1 then return {'none'} end
  return closed
end

local id, key, book = ARGV[2], prefix .. 'ask:' .. ARGV[2], prefix .. 'asks'
redis.call('HSET', key, 't', ARGV[3], 'c', open[2], 'a', int(now), 'u', int(now + tonumber(ARGV[4])), 'p', ARGV[5])
age(key, RETENTION * 1000)
-- The book names what is kept: each decision takes some of those along whose time is up, and the sweep takes the last of them (trim.lua).
for _, old in ipairs(redis.call('ZRANGEBYSCORE', book, '-inf', '(' .. int(now - RETENTION * 1000), 'LIMIT', 0, 10)) do
  redis.call('UNLINK', prefix .. 'ask:' .. old)
  redis.call('ZREM', book, old)
end
redis.call('ZADD', book, int(now), id)
return {'go', open[2], int(now)}
