-- Prunes a page of the dead-letter book: what has been dead for longer than it is kept leaves it, and goes with its event from then on. How far it
-- is, and what it found, is in a hash of its own, so that whoever has the next turn goes on. Nothing is pruned that was not announced for a tenth
-- of that time, and looked after all along: fields since (ms) the first of it was found, keep (ms) as it was then, at (ms) of the last page,
-- expiring as of the last time through, said (ms) in the log.
-- ARGV: how long the dead are kept (ms), limit -> {'more'|'end', pruned, expiring (at the end), '1' if that is to be said now} | sleeping's
local keep, limit, key = tonumber(ARGV[1]), tonumber(ARGV[2]), prefix .. 'prune'
local notice = keep / 10
-- No page for so long (ms): no worker ran, and nobody could have been told. Each company has one a minute at least.
local GAP = math.max(180000, math.min(600000, notice))
local h = redis.call('HMGET', key, 'rank', 'soon', 'since', 'keep', 'expiring', 'said', 'at')
local rank, soon, since = tonumber(h[1] or 0), tonumber(h[2] or 0), tonumber(h[3])
if since and (keep < tonumber(h[4]) or now - tonumber(h[7] or 0) > GAP) then since = now end -- kept for less than was announced, or announced to nobody
local announced = since and now - since >= notice
if since or h[1] then -- what is begun is work
  local nap = sleeping()
  if nap then return nap end
end

local page = redis.call('ZRANGE', dead, rank, rank + limit - 1, 'WITHSCORES')
local through, taken = #page < 2 * limit, 0
for i = 1, #page, 2 do
  if tonumber(page[i + 1]) > now - keep + notice then -- accepted too late to be dead for so long
    through = true
    break
  end
  local r, ev, field, cb = load(page[i])
  if not r then
    redis.call('ZREM', dead, page[i])
  elseif r.s == 'X' and r.at <= now - keep and announced then
    unbook(ev, page[i], cb)
    r.tok = (r.tok == '-' and '' or r.tok .. '.') .. PRUNED
    redis.call('HSET', ev, field, format(r))
    settle(ev)
    taken = taken + 1
  else
    rank = rank + 1
    if r.s == 'X' and r.at <= now - keep + notice then soon = soon + 1 end
  end
end

if through and soon == 0 and taken == 0 then
  redis.call('DEL', key)
  return {'end', 0, 0, ''}
end
local nap = sleeping()
if nap then return nap end
if since or soon > 0 then redis.call('HSET', key, 'since', int(since or now), 'keep', int(keep), 'at', int(now)) end
if not through then
  redis.call('HSET', key, 'rank', rank, 'soon', soon)
  return {'more', taken, 0, ''}
end
redis.call('HSET', key, 'rank', 0, 'soon', 0, 'expiring', soon)
local say = soon > 0 and (tonumber(h[5] or 0) == 0 or now - tonumber(h[6] or 0) >= 86400000)
if say then redis.call('HSET', key, 'said', int(now)) end
return {'end', taken, soon, say and '1' or ''}
