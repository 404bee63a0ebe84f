-- Writes the deliveries of an event's next page. Those that are there already stay: a run that failed had written them.
-- ARGV: event id -> {how many pages are left, member, ticket, ...} | {'gone'}: an event of that id is being erased
local id = ARGV[1]
local ev = prefix .. 'ev:' .. id
local h = redis.call('HMGET', ev, 'm', 'e')
local left, callbacks = string.match(h[2] or '', '^(%d+) (%d+)$')
local gone = redis.call('EXISTS', prefix .. 'gone:' .. id) == 1 -- one that had the same id
if not h[1] or not left then
  if gone then return {'gone'} end
  redis.call('ZREM', paged, id)
  return {0}
end
redis.call('ZADD', paged, int(now + PATIENCE), id)
local out, field, share = {left - 1}, 'e' .. left, shareOf(callbacks)
for cb in string.gmatch(redis.call('HGET', ev, field) or '', '%d+') do
  if redis.call('HEXISTS', ev, 'd' .. cb) == 0 then
    local r, member = {gen = 1, num = 0, spent = 0, log = ''}, id .. '/' .. cb
    if admit(r, ev, 'd' .. cb, member, cb, share) then
      out[#out + 1] = member
      out[#out + 1] = ticket(r)
    end
  end
end
redis.call('HDEL', ev, field)
if left == '1' then
  redis.call('HDEL', ev, 'e')
  if not gone then redis.call('ZREM', paged, id) end
else
  redis.call('HSET', ev, 'e', left - 1 .. ' ' .. callbacks)
end
return out
