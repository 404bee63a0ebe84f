-- Lets deliveries out of a callback's room, and buries what has waited too long in it.
-- ARGV: callback id, max, barred ('1': the worker may not call the callback's host name, so nothing goes out), a text that never was and will be
-- -> {'closed'} | {'busy'} | {'deleted'} | {'open', left in the room, ms until time lets more out (0: only room can), member, ticket, ...}
local SOME = 32 -- how many may go into empty lanes
local cb = ARGV[1]
local closed = gate(cb)
if deleted(closed) then return {'deleted'} end
local room = prefix .. 'room:' .. cb

-- What was accepted after this cannot have waited too long.
local latest = int((now - HOLD_AGE * 1000) * ORDER_SCALE)
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
local excess = math.min(held(cb) - HOLD_MAX, tonumber(ARGV[2]))
for _, member in ipairs(excess > 0 and redis.call('ZRANGE', room, 0, excess - 1) or {}) do
  local r, ev, field = load(member)
  if r and r.s == 'H' then bury(r, ev, field, member, cb, 'hold_full') else unhold(cb, member) end
end

local function again(ms)
  if held(cb) == 0 then redis.call('ZREM', rooms, cb) else redis.call('ZADD', rooms, int(now + ms), cb) end
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
  again((#page == tonumber(ARGV[2]) or excess == tonumber(ARGV[2])) and 0 or AIRING)
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
