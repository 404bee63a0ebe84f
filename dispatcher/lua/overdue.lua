-- Looks at deliveries whose time to worry has come, and at events of which nobody writes or erases the next page.
-- ARGV: limit, attempt line of an unknown outcome with %n and %t for number and start
-- -> '1' if there may be more, kind, member, generation, ... ; kind: 'check' enqueue under the same task id, 'again' a lost attempt's new
--    generation, 'paged' the member is an event's id, whose pages nobody goes on with
local out, limit, ended = {}, tonumber(ARGV[1]), 0 -- ended: of batches, their members
for _, id in ipairs(redis.call('ZRANGEBYSCORE', paged, '-inf', int(now), 'LIMIT', 0, ARGV[1])) do
  redis.call('ZADD', paged, int(now + PATIENCE), id)
  for _, v in ipairs({'paged', id, '0'}) do out[#out + 1] = v end
end
local page = redis.call('ZRANGEBYSCORE', due, '-inf', int(now), 'LIMIT', 0, limit)
local more = #page == limit
for _, member in ipairs(page) do
  if ended >= limit then
    more = true
    break
  end
  local r, ev, field, cb = load(member)
  if r and final(r.s) and isBatch(member) then -- not all of its members are
    ended = ended + close(ev, member, cb, r.s)
  elseif not r or final(r.s) or r.s == 'H' then
    redis.call('ZREM', due, member)
  elseif r.s == 'A' then
    local line = string.gsub(ARGV[2], '%%(%a)', {n = int(r.num), t = int(r.at)})
    if isBatch(member) then line = string.sub(line, 1, -2) .. ',"bt":"' .. (redis.call('HGET', ev, 'w') or '') .. '"}' end
    local _, lines = string.gsub(r.log, '\n', '')
    if lines < 200 then r.log = r.log .. '\n' .. line end -- what kills every owner must not grow without end
    r.tok, r.gen = '-', r.gen + 1
    local closed = gate(cb)
    if deleted(closed) then
      r.s, r.at = 'C', now
      redis.call('HSET', ev, field, format(r))
      ended = ended + (close(ev, member, cb, 'C') or 1)
      tell(member, 'C')
    elseif closed or pace(cb).limit or pace(cb).tokens then -- many at once may have lost their owner
      hold(r, ev, field, member, cb, closed)
    else
      r.s, r.at = 'P', now
      redis.call('HSET', ev, field, format(r))
      redis.call('ZADD', due, int(now + PATIENCE), member)
      tell(member, 'P')
      for _, v in ipairs({'again', member, int(r.gen)}) do out[#out + 1] = v end
    end
  else
    redis.call('ZADD', due, int(now + PATIENCE), member)
    for _, v in ipairs({'check', member, int(r.gen)}) do out[#out + 1] = v end
  end
end
table.insert(out, 1, more and '1' or '')
return out
