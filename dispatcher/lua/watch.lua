-- Reads what changed in a company since an entry of its news, and sees to it that changes are told for a while from now on.
-- ARGV: epoch, entry id ('': from now on), entries at most, and to begin where nobody watches: the version that the company has, a new epoch ('': not to)
-- -> {'', ''}: nobody watches, and this did not begin | {epoch, the last entry's id}: what was told from there on is known, but not what was before
--  | {epoch, the entry's id, '1', id, member, state letter, ...}: what was told since
-- An id is given out only while its entry is there, and the oldest go first: so if it is still there, all that came after it is.
local most = tonumber(ARGV[3])
local epoch, till = watching()
local last = epoch and redis.call('XREVRANGE', live, '+', '-', 'COUNT', 1)[1]
local function go(until_)
  redis.call('SET', prefix .. 'watched', int(until_) .. ' ' .. epoch, 'PX', 60 * WATCH)
  redis.call('PEXPIRE', live, 60 * WATCH) -- should nobody come by here any more
end
if not last then
  if ARGV[4] == '' or (redis.call('GET', prefix .. 'ver') or '0') ~= ARGV[4] then return {'', ''} end
  epoch = ARGV[5]
  redis.call('UNLINK', live)
  local first = redis.call('XADD', live, '*', 'm', '', 's', '')
  go(now + WATCH)
  return {epoch, first}
end
if till < now + WATCH * 3 / 4 then go(now + WATCH) end
if ARGV[1] ~= epoch or ARGV[2] == '' then return {epoch, last[1]} end
local news = redis.call('XRANGE', live, ARGV[2], '+', 'COUNT', most + 1)
if not news[1] or news[1][1] ~= ARGV[2] then return {epoch, last[1]} end
local out = {epoch, ARGV[2], '1'}
for i = 2, #news do
  out[#out + 1] = news[i][1]
  out[#out + 1] = news[i][2][2]
  out[#out + 1] = news[i][2][4]
end
return out
