-- Notes which step before the end of a client certificate was told of last. ARGV: callback id, or 0 for the company's, fingerprint, days of the step
-- What is gone gets no note. Steps only go down: a late note of an earlier one changes nothing.
local cb, print, days = ARGV[1], ARGV[2], tonumber(ARGV[3])
local key, there = prefix .. 'health:' .. cb, redis.call('HEXISTS', prefix .. 'cb', cb)
if cb == '0' then
  key = prefix .. 'tls'
  there = redis.call('EXISTS', key)
end
if there == 0 then return 0 end
local was, told = string.match(redis.call('HGET', key, 'xc') or '', '^(%x+) (%d+)$')
if was == print and tonumber(told) <= days then return 0 end
redis.call('HSET', key, 'xc', print .. ' ' .. int(days))
return 1
