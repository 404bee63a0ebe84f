-- Takes a place for a challenge to hosts. It counts as failed until it succeeds, when its hosts are forgotten: so those under way count, too.
-- {c}:challenges has them by the host's name: how many failed in a row, and when the last was sent (ms).
-- ARGV: name of a host, ...
-- -> 0: send it | how long to wait (ms)
local challenges, FREE, LONGEST = prefix .. 'challenges', 20, 60000
local MEMORY = 3600000 -- ms
local function failed(name)
  local n, at = string.match(redis.call('HGET', challenges, name) or '', '^(%d+) (%d+)$')
  if not n or now - tonumber(at) > MEMORY then return 0, 0 end
  return tonumber(n), math.min(tonumber(at), now)
end
for _, name in ipairs(ARGV) do
  local n, at = failed(name)
  if n >= FREE then
    local wait = at + math.min(LONGEST, 1000 * 2 ^ (math.min(n, FREE + 10) - FREE)) - now
    if wait > 0 then return wait end
  end
end
for _, name in ipairs(ARGV) do noteHost(challenges, name, int(failed(name) + 1) .. ' ' .. int(now), MEMORY) end
return 0
