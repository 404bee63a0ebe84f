-- Has the second half of a batch's members travel in a batch of their own: the request was too large. Both may go at once, under other webhook-ids.
-- ARGV: member, token, attempts whole, spent, a text that never was and will be, field, value, ... that are written with the record: what is
-- kept of the exchange -> {'ok', member, ticket, member, ticket} | {'one'}: it cannot be split | {'lost'}
local member = ARGV[1]
local r, batch, field, cb = load(member)
if not r or r.s ~= 'A' or r.tok ~= ARGV[2] then return {'lost'} end
if not forming().aboard(r, batch, member, cb) then return {'one'} end -- all have left it: who owns the attempt ends it
local events = aboardOf(batch)
if #events < 2 then return {'one'} end
local half = math.ceil(#events / 2)

-- The new one is written before its members leave the old one, and that misses them in any case.
local name, mine = string.sub(redis.sha1hex(ARGV[5]), 1, 24), string.match(member, '^(~.*)/')
local other, second = '~' .. name .. '/' .. cb, prefix .. 'batch:' .. name
r.s, r.gen, r.at, r.tok, r.log, r.spent = 'P', r.gen + 1, now, '-', ARGV[3], tonumber(ARGV[4])
redis.call('ZADD', due, int(now + PATIENCE), other)
redis.call('ZADD', batches, int(now + FAR), other)
redis.call('HSET', second, 'a', redis.call('HGET', prefix .. 'ev:' .. events[half + 1], 'a'), 'e', table.concat(events, ' ', half + 1), 'k', redis.call('HGET', batch, 'k'), field, format(r))
enter(cb, other)
for i = half + 1, #events do
  local ev = prefix .. 'ev:' .. events[i]
  local head, log = string.match(redis.call('HGET', ev, field) or '', '^(A %d+ %d+ %d+ %d+ )%S+(.*)$')
  if head then redis.call('HSET', ev, field, head .. '~' .. name .. log) end
end
redis.call('HSET', batch, 'e', table.concat(events, ' ', 1, half), field, format(r), unpack(ARGV, 6))
redis.call('HDEL', batch, 'w')
redis.call('ZADD', due, int(now + PATIENCE), member)
r.slow = fails(pace(cb))
tell(member, 'P')
tell(other, 'P')
return {'ok', member, ticket(r), other, ticket(r)}
