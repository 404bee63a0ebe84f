-- Lets deliveries out of a callback's room. ARGV: callback id, max, window
-- -> {'closed'} | {'busy'} | {'deleted'} | {'open', left in the room, member, generation, ...}
local cb = ARGV[1]
local closed = gate(cb)
if deleted(closed) then return {'deleted'} end
local room = prefix .. 'room:' .. cb
if closed then
  if redis.call('LLEN', room) == 0 then redis.call('ZREM', rooms, cb) else redis.call('ZADD', rooms, int(NEVER), cb) end
  return {'closed'}
end
if redis.call('EXISTS', prefix .. 'busy:' .. cb) == 1 then
  redis.call('ZADD', rooms, int(now + 1000), cb)
  return {'busy'}
end
local out = release(cb, tonumber(ARGV[2]), tonumber(ARGV[3]))
local left = redis.call('LLEN', room)
if left == 0 then redis.call('ZREM', rooms, cb) else redis.call('ZADD', rooms, int(now + 1000), cb) end
table.insert(out, 1, left)
table.insert(out, 1, 'open')
return out
