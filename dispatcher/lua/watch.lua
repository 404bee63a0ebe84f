-- Reads what changed in a company since an entry of its news, and sees to it that changes are told for a while from now on.
-- ARGV: epoch, entry id ('': from now on), entries at most, and to begin where nobody watches: the version that the company has, a new epoch ('': not to),
--       'all': somebody wants to hear of some changes only, so all are told; 'flood': the last look found more than anybody reads; else ''
-- -> {'', ''}: nobody watches, and this did not begin | {epoch, the last entry's id}: what was told from there on is known, but not what was before
--  | {epoch, the entry's id, '1', id, member ('': what came next was not told), state letter, ...}: what was told since
--  | {epoch, the last entry's id, '2', ...}: the same, but there is far more, and nothing is told for a while
-- An id is given out only while its entry is there, and the oldest go first: so if it is still there, all that came after it is.
local most = tonumber(ARGV[3])
local HUSH = 900 -- ms in which nothing is told: a second's first tenth is more than anybody reads
local FAST = 10000 -- ms in which as many changes as are kept are a flood
local ALL = 10000 -- ms for which all are told from a look on
local w = watching()
local last = w and redis.call('XREVRANGE', live, '+', '-', 'COUNT', 1)[1]
local function write()
  redis.call('SET', prefix .. 'watched', int(w.till) .. ' ' .. w.epoch .. ' ' .. int(w.hush) .. ' ' .. int(w.all), 'PX', 60 * WATCH)
  redis.call('PEXPIRE', live, 60 * WATCH) -- should nobody come by here any more
end
local function add() return redis.call('XADD', live, 'MAXLEN', '~', MOST_NEWS, '*', 'm', '', 's', '') end
if not last then
  if ARGV[4] == '' or (redis.call('GET', prefix .. 'ver') or '0') ~= ARGV[4] then return {'', ''} end
  redis.call('UNLINK', live)
  w = {till = now + WATCH, epoch = ARGV[5], hush = 0, all = 0}
  local first = add()
  write()
  return {w.epoch, first}
end
if w.till < now + WATCH * 3 / 4 then
  w.till = now + WATCH
  write()
end
if ARGV[6] == 'all' and (w.all < now + ALL / 2 or w.all > now + 2 * ALL) then
  w.all, w.hush = now + ALL, 0
  write()
end
if ARGV[1] ~= w.epoch or ARGV[2] == '' then return {w.epoch, last[1]} end

local function ms(id) return tonumber(string.match(id, '^%d+')) end
local news = redis.call('XRANGE', live, ARGV[2], '+', 'COUNT', most + 1)
local whole = news[1] and news[1][1] == ARGV[2]
local function flooded()
  if w.all >= now and w.all <= now + 2 * ALL then return false end
  if whole then return #news > most and ARGV[6] == 'flood' end
  return ms(last[1]) - ms(redis.call('XRANGE', live, '-', '+', 'COUNT', 1)[1][1]) < FAST and redis.call('XLEN', live) >= MOST_NEWS
end
local flood = flooded()
if not flood and not whole then return {w.epoch, last[1]} end
local at = ARGV[2]
if flood then
  at = last[1]
  if w.hush <= now or w.hush > now + HUSH then
    w.hush, at = now + HUSH, add()
    write()
  end
end
local out = {w.epoch, at, flood and '2' or '1'}
for i = whole and 2 or #news + 1, #news do
  out[#out + 1] = news[i][1]
  out[#out + 1] = news[i][2][2]
  out[#out + 1] = news[i][2][4]
end
return out
