-- Lets deliveries out of a callback's room, and buries what has waited too long in it. Looks after the callback's lines.
-- ARGV: callback id, max, barred ('1': the worker may not call the callback's host name, so nothing goes out), a text that never was and will be
-- -> {'closed'} | {'busy'} | {'deleted'} | {'open', left in the room, ms until time lets more out (0: only room can), member, ticket, ...}
local SOME = 32 -- how many may go into empty lanes
local cb = ARGV[1]
local closed = gate(cb)
if deleted(closed) then return {'deleted'} end
local room = prefix .. 'room:' .. cb

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
    if #late == tonumber(most) then return 0 end
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

-- What was accepted after this cannot have waited too long.
local latest = int((now - HOLD_AGE * 1000) * ORDER_SCALE)
local behind, others = prefix .. 'behind:' .. cb, {}
if isSpecial() then others = redis.call('ZRANGEBYSCORE', behind, '-inf', latest, 'LIMIT', 0, ARGV[2]) end
for _, member in ipairs(others) do
  local r, ev, field = load(member)
  if not r or r.s ~= 'H' then
    redis.call('ZREM', behind, member)
  elseif r.at < now - HOLD_AGE * 1000 then
    bury(r, ev, field, member, cb, 'hold_expired')
  end
end
local page = redis.call('ZRANGEBYSCORE', room, '-inf', latest, 'LIMIT', 0, ARGV[2])
for _, member in ipairs(page) do
  local r, ev, field = load(member)
  if not r or r.s ~= 'H' then
    unhold(cb, member)
  elseif r.at < now - HOLD_AGE * 1000 then
    bury(r, ev, field, member, cb, 'hold_expired')
  end
end

-- More than the room may hold is there only if that was less than it was before.
local excess = math.min(waiters(cb) - HOLD_MAX, tonumber(ARGV[2]))
for _ = 1, excess do makeRoom(cb) end

local lines = isSpecial() and queue().behind(cb) > 0 and inspect(closed or ARGV[3] == '1', ARGV[2])
local function again(ms)
  if lines and (lines < ms or held(cb) == 0) then ms = lines end
  if lines or held(cb) > 0 then redis.call('ZADD', rooms, int(now + ms), cb) else redis.call('ZREM', rooms, cb) end
end
-- Whoever fetches takes deliveries one by one: batches that came into the room before, as a whole, come apart.
local function scatter()
  for _, batch in ipairs(redis.call('ZRANGEBYSCORE', batches, int(now + FAR / 2), '+inf')) do
    local of, hash, field, whose = load(batch)
    if whose == cb and of and of.s == 'H' then
      for _, event in ipairs(aboardOf(hash)) do
        local member = event .. '/' .. cb
        local r, ev = load(member)
        if r and ending().batchOf(r, cb) == batch then
          ending().alight(r, cb)
          hold(r, ev, field, member, cb, closed)
        end
      end
      unhold(cb, batch)
      ending().forget(hash, batch, cb)
    end
  end
end
if pulled(closed) and special then scatter() end
if closed or ARGV[3] == '1' then
  again((#page == tonumber(ARGV[2]) or #others == tonumber(ARGV[2]) or excess == tonumber(ARGV[2])) and 0 or AIRING)
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
local out, wait = release(cb, math.min(tonumber(ARGV[2]), math.max(SOME, there)), nil, nil, ARGV[4])
again(together(cb) and wait > 0 and wait or math.min(5000, math.max(1000, wait))) -- whoever was told to wait may be gone, or the rate limit another
table.insert(out, 1, int(wait))
table.insert(out, 1, held(cb))
table.insert(out, 1, 'open')
return out
