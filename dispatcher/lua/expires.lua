-- Notes which step before the end of a callback's client certificate was told of last. ARGV: callback id, fingerprint, days of the step
-- A callback that is gone gets no note. Steps only go down: a late note of an earlier one changes nothing.
local cb, print, days = ARGV[1], ARGV[2], tonumber(ARGV[3])
if redis.call('HEXISTS', prefix .. 'cb', cb) == 0 then return 0 end
local was, told = string.match(redis.call('HGET', prefix .. 'health:' .. cb, 'xc') or '', '^(%x+) (%d+)$')
if was == print and tonumber(told) <= days then return 0 end
health(cb, 'xc', print .. ' ' .. int(days))
return 1
