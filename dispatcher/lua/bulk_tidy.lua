-- Removes bulk replays that have had their time, and the oldest that ended while there are too many; a thousand in a run. ARGV: how many are kept -> how many went
local book, gone = prefix .. 'replays', 0
local extra = redis.call('ZCARD', book) - tonumber(ARGV[1])
for i, id in ipairs(redis.call('ZRANGE', book, 0, math.min(math.max(100, extra), 1000) - 1)) do
  local key, parts = prefix .. 'replay:' .. id, prefix .. 'parts:' .. id
  if redis.call('EXISTS', key) == 0 or aged(key) or i <= extra and ages(key) then
    redis.call('UNLINK', key, parts)
    redis.call('ZREM', book, id)
    gone = gone + 1
  end
end
return gone
