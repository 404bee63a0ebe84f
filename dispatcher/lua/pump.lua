-- Lets deliveries out of a callback's room, and buries what has waited too long in it. Looks after the callback's lines.
-- ARGV: callback id, max, barred ('1': the worker may not call the callback's host name, so nothing goes out), a text that never was and will be
-- -> {'closed'} | {'busy'} | {'deleted'} | {'open', ms until time lets more out (0: only room can), member, ticket, ...}
local SOME = 32 -- how many may go into empty lanes
local cb = ARGV[1]
local closed = gate(cb)
if deleted(closed) then return {'deleted'} end

-- Looks at some lines in which others wait. A head that was attempted, and has kept the others waiting for too long, leaves its line, and goes on by itself. A
-- head that was not attempted yet, or whose callback may not be called, has its time anew. A line whose first is nobody's head, as after a step that failed
-- half-way, gets one.
-- -> in how long (ms) the lines are to be looked at again
local function inspect(closed, most)
  local heads, look = prefix .. 'heads:' .. cb, AIRING
  local skip = (way(cb) or {}).skip or 0
  if skip > 0 then
    local late = redis.call('ZRANGEBYSCORE', heads, '-inf', int(now - skip), 'LIMIT', 0, most)
    for _, key in ipairs(late) do
      local line = queue().names(cb, key)
      local head = redis.call('ZRANGE', line, 0, 0)[1]
      local r = head and load(head)
      if r and not final(r.s) and (closed or r.num == 0) then
        redis.call('ZADD', heads, int(now), key)
      else
        if head then redis.call('ZREM', line, head) end
        queue().promote(cb, key)
      end
    end
    if #late == most then return 0 end
    local first = redis.call('ZRANGE', heads, 0, 0, 'WITHSCORES')[2]
    if first then look = math.max(0, math.min(look, tonumber(first) + skip - now)) end
  end
  local health = prefix .. 'health:' .. cb
  local cursor, at = string.match(redis.call('HGET', health, 'lc') or '', '^(%d+) (%d+)$')
  if cursor == '0' and math.abs(now - tonumber(at)) < AIRING then return math.min(look, math.max(0, tonumber(at) + AIRING - now)) end
  local page = redis.call('ZSCAN', heads, cursor or '0', 'COUNT', most)
  for i = 1, #page[2], 2 do
    local head = redis.call('ZRANGE', (queue().names(cb, page[2][i])), 0, 0)[1]
    local r = head and load(head)
    if not r or final(r.s) or r.s == 'H' and r.tok == LINE then queue().promote(cb, page[2][i]) end
  end
  redis.call('HSET', health, 'lc', page[1] .. ' ' .. int(now))
  return page[1] == '0' and look or 0
end

-- Buries who waits in a set and has done so for too long, in pages. All of a run, it buries no more than a page, but for the last batch's members.
-- -> whether there may be more
local most, buried = tonumber(ARGV[2]), 0
local latest = int((now - HOLD_AGE * 1000) * ORDER_SCALE) -- what was accepted after this cannot have waited too long
local function air(key, drop)
  local page = redis.call('ZRANGEBYSCORE', key, '-inf', latest, 'LIMIT', 0, most)
  for _, member in ipairs(page) do
    if buried >= most then return true end
    local r, ev, field = load(member)
    if not r or r.s ~= 'H' then
      drop(member)
    elseif r.at < now - HOLD_AGE * 1000 then
      buried = buried + bury(r, ev, field, member, cb, 'hold_expired')
    end
  end
  return #page == most
end
local behind = prefix .. 'behind:' .. cb
local more = isSpecial() and air(behind, function(member) redis.call('ZREM', behind, member) end)
more = air(prefix .. 'room:' .. cb, function(member) unhold(cb, member) end) or more

-- More than the room may hold is there only if that was less than it was before.
for _ = 1, math.min(waiters(cb) - HOLD_MAX, most) do
  if buried < most then buried = buried + makeRoom(cb) end
end
more = more or waiters(cb) > HOLD_MAX

local lines = isSpecial() and queue().behind(cb) > 0 and inspect(closed or ARGV[3] == '1', most)
local function again(ms)
  if lines and (lines < ms or held(cb) == 0) then ms = lines end
  if lines or held(cb) > 0 then redis.call('ZADD', rooms, int(now + ms), cb) else redis.call('ZREM', rooms, cb) end
end
if closed or ARGV[3] == '1' then
  again(more and 0 or AIRING)
  return {'closed'}
end
-- Where a worker had no turn left, what ends lets others out: as long as there is enough that will.
local there = lanes(cb)
local before, at = string.match(redis.call('GET', prefix .. 'busy:' .. cb) or '', '^(%d+) ?(%d*)$')
local recent = before and (at == '' or math.abs(now - tonumber(at)) < BUSY) -- Redis's expiry follows its clock's steps
if recent and there > 0 and 2 * there >= tonumber(before) then
  again(1000)
  return {'busy'}
end
-- At most twice as many as there are in the lanes: nobody knows how many processes there are to attempt them.
local out, wait = release(cb, math.min(most, math.max(SOME, there)), nil, nil, ARGV[4])
again(together(cb) and wait > 0 and math.min(wait, AIRING) or math.min(5000, math.max(1000, wait))) -- whoever was told to wait may be gone, or the rate limit another
table.insert(out, 1, int(wait))
table.insert(out, 1, 'open')
return out
