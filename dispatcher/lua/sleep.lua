-- Puts a company without work to sleep, unless it has changed. ARGV: epoch, version -> 1, or 0 if it stays as it is
if work() or (redis.call('GET', prefix .. 'ver') or '0') ~= ARGV[2] then return 0 end
local epoch = math.max(tonumber(ARGV[1]), math.abs(tonumber(redis.call('GET', vigil) or '0')))
redis.call('SET', vigil, int(-epoch))
return 1
