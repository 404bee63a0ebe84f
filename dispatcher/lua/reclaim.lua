-- Takes a claim over whose request is no longer under way and left no answer. Who had it may not act any more.
-- ARGV: hash, the token that stands in it, the one that is to, how long it is under way (ms) -> 1, or 0 if somebody else was faster
local claim = prefix .. 'idem:' .. ARGV[1]
local h = redis.call('HMGET', claim, 't', 'u', 'a')
if h[1] ~= ARGV[2] or h[3] or tonumber(h[2]) > now then return 0 end
redis.call('HSET', claim, 't', ARGV[3], 'u', int(now + tonumber(ARGV[4])))
return 1
