-- How callbacks do. ARGV: callback id, ...
-- -> {pending, active or retrying, held, accepted (ms) of the longest waiting or '', dead, last delivered (ms) or '', last failure or '',
--     last token failure or '', failures in a row, what the breaker bounds or '', nothing before (ms) or ''}, ...
local out = {}
for _, cb in ipairs(ARGV) do
  local ready, retry, room = prefix .. 'ready:' .. cb, prefix .. 'retry:' .. cb, prefix .. 'room:' .. cb
  local oldest
  local function older(at)
    at = tonumber(at)
    if at and (not oldest or at < oldest) then oldest = at end
  end
  older(redis.call('ZRANGE', retry, 0, 0, 'WITHSCORES')[2])
  local first = redis.call('ZRANGE', room, 0, 0)[1]
  if first then older(accepted((place(first)))) end
  local eldest = isSpecial() and queue().eldest(cb)[1]
  if eldest then older(accepted((place(eldest)))) end
  for _, member in ipairs(redis.call('SRANDMEMBER', ready, 20)) do -- all of them, or enough to tell: they come and go within seconds
    older(accepted((place(member))))
  end
  local inLanes, inRoom = crowds(cb)
  local h = redis.call('HMGET', prefix .. 'health:' .. cb, 'dead', 'ok', 'bad', 'token', 'f', 'l', 'o')
  out[#out + 1] = {
    inLanes + redis.call('ZCARD', retry), inRoom, oldest and int(oldest) or '',
    tonumber(h[1] or 0), h[2] or '', h[3] or '', h[4] or '', tonumber(h[5] or 0), h[6] or '', h[6] and h[7] or '',
  }
end
return out
