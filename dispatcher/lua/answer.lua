-- Records what came of a decision. ARGV: decision id, its attempt's line, field of the callback's health ('ok', 'bad', 'token' or '': none),
--       what is kept of the exchange beside that line, or ''
local key = prefix .. 'ask:' .. ARGV[1]
local cb = redis.call('HGET', key, 'c')
if not cb then return 0 end -- kept for less than it took
redis.call('HSET', key, 'e', ARGV[2])
if ARGV[4] ~= '' then redis.call('HSET', key, 'q', ARGV[4]) end
if ARGV[3] == 'ok' then
  health(cb, 'ok', int(now))
  forgive(cb)
elseif ARGV[3] ~= '' then
  health(cb, ARGV[3], ARGV[1] .. '\n' .. ARGV[2])
end
return 1
