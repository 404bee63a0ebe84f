-- How callbacks of a company stand, for who looks over all companies. Only those are answered of which there is anything to say: something waits, or is dead,
-- or fails, or the gate is closed.
-- ARGV: how many are looked at, from which place on in the order of their changes
-- -> {how many callbacks there are, entries in the book, earliest time to worry (ms) or '', places, enabled callbacks among those looked at,
--     {callback, gate or '', pending or active, retrying, held, accepted (ms) of the longest waiting or '', dead, failures in a row,
--      what the breaker bounds or '', last failure or '', last token failure or '', last delivered (ms) or ''}, ...}
local first = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')[2]
local busy = first or redis.call('EXISTS', rooms) > 0
local some, keys = redis.call('ZRANGE', prefix .. 'cbver', ARGV[2], ARGV[2] + ARGV[1] - 1), {}
for i, cb in ipairs(some) do keys[i] = prefix .. 'gate:' .. cb end
local closed = #keys > 0 and redis.call('MGET', unpack(keys)) or {}
local enabled, out = 0, {redis.call('HLEN', prefix .. 'cb'), redis.call('ZCARD', dead), first or '', redis.call('ZCARD', prefix .. 'cbver'), 0}

local function look(cb, closed)
  local health, of = prefix .. 'health:' .. cb, {prefix .. 'ready:' .. cb, prefix .. 'retry:' .. cb, prefix .. 'room:' .. cb, isSpecial() and prefix .. 'behind:' .. cb or nil}
  local h = redis.call('HMGET', health, 'dead', 'f', 'l')
  local ready, retry, room, oldest = 0, 0, 0, nil
  local function older(at)
    at = tonumber(at)
    if at and (not oldest or at < oldest) then oldest = at end
  end
  if busy and redis.call('EXISTS', unpack(of)) > 0 then
    ready, room = crowds(cb)
    retry = redis.call('ZCARD', of[2])
    if retry > 0 then older(redis.call('ZRANGE', of[2], 0, 0, 'WITHSCORES')[2]) end
    for i = 3, room > 0 and #of or 0 do
      local first = redis.call('ZRANGE', of[i], 0, 0, 'WITHSCORES')[2]
      if first then older(math.floor(first / ORDER_SCALE)) end
    end
    if ready > 0 then -- some tell enough: they come and go within seconds
      for _, member in ipairs(redis.call('SRANDMEMBER', of[1], 5)) do older(accepted((place(member)))) end
    end
  end
  if not closed then enabled = enabled + 1 end
  local letters, failures = tonumber(h[1] or 0), tonumber(h[2] or 0)
  if closed or ready + retry + room + letters + failures > 0 or h[3] then
    local last = redis.call('HMGET', health, 'bad', 'token', 'ok')
    out[#out + 1] = {
      cb, closed or '', ready, retry, room, oldest and int(oldest) or '', letters, failures, h[3] or '', last[1] or '', last[2] or '', last[3] or '',
    }
  end
end

for i, cb in ipairs(some) do
  if not deleted(closed[i]) then look(cb, closed[i]) end
end
out[5] = enabled
return out
