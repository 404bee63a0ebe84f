-- Notes what states the deliveries of a block of the log are in, once all of them are final. Lists of other states leave out the block. What
-- changes such a state later takes the note back (unsettle). A block that is not yet final is looked at again, the later the older it is.
-- A block with very many deliveries is looked at in several runs: '~' and its id have the last entry that was looked at, and the states so far.
-- -> 1 if there may be more to do at once, or 0
local LARGE, RECORDS, SOON, LATE = 250, 2000, 5000, 21600000
local log, blocks = prefix .. 'log', prefix .. 'blocks'

local last, more = redis.call('HGET', finals, '/'), 0
local new = redis.call('XRANGE', blocks, last and '(' .. last or '-', '+', 'COUNT', 10)
for _, block in ipairs(new) do redis.call('ZADD', unsettled, int(tonumber(string.match(block[1], '^%d+')) + SOON), block[1]) end
if #new > 0 then
  redis.call('HSET', finals, '/', new[#new][1])
  more = 1
end

-- The states of an event's deliveries, added to those that were found; false if it may get others. What has another place in the log counts there. Of
-- one with very many deliveries it is known only that all have ended.
local records = 0
local function note(entry, found)
  local ev = prefix .. 'ev:' .. entry[2][2]
  local e = redis.call('HMGET', ev, 'a', 'e', 'n')
  if e[1] ~= entry[1] then return true end
  if e[2] then return false end
  if redis.call('HLEN', ev) > LARGE then
    found.D, found.X, found.C = true, true, true
    return tonumber(e[3] or 1) <= 0
  end
  local fields = redis.call('HSCAN', ev, 0, 'MATCH', 'd[1-9]*', 'COUNT', 2 * LARGE)
  if fields[1] ~= '0' then return false end
  records = records + #fields[2] / 2
  for i = 2, #fields[2], 2 do
    local s = string.sub(fields[2][i], 1, 1)
    if not final(s) then return false end
    found[s] = true
  end
  return true
end

local function marks(found) return (found.D and 'D' or '') .. (found.X and 'X' or '') .. (found.C and 'C' or '') end

local id = redis.call('ZRANGEBYSCORE', unsettled, '-inf', int(now), 'LIMIT', 0, 1)[1]
if not id then return more end
local block, found = redis.call('XRANGE', blocks, id, id)[1], {}
if block then
  local from, sofar = string.match(redis.call('HGET', finals, '~' .. id) or '', '^(%S+) (%u*)$')
  for s in string.gmatch(sofar or '', '%u') do found[s] = true end
  for _, entry in ipairs(redis.call('XRANGE', log, '(' .. (from or block[2][2]), id)) do
    if not note(entry, found) then
      local old = now - tonumber(string.match(id, '^%d+'))
      redis.call('HDEL', finals, '~' .. id)
      redis.call('ZADD', unsettled, int(now + math.max(SOON, math.min(LATE, old / 2))), id)
      return 1
    end
    if records > RECORDS then
      redis.call('HSET', finals, '~' .. id, entry[1] .. ' ' .. marks(found))
      return 1
    end
  end
  redis.call('HSET', finals, id, marks(found))
  redis.call('HDEL', finals, '~' .. id)
end
redis.call('ZREM', unsettled, id)
return 1
