-- A callback is about to be opened by hand: what failed before is forgiven, and what waits goes out a few at first. ARGV: callback id
local cb = ARGV[1]
local key = prefix .. 'health:' .. cb
if deleted(gate(cb)) then return 0 end
redis.call('HDEL', key, 'f', 'l', 'k', 'o', 'b')
forgive(cb)
if held(cb) > FEW then redis.call('HSET', key, 'l', math.min(FEW, WINDOW)) end
return 1
