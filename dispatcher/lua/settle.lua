-- Notes what states the deliveries of a block of the log are in, once all of them are final. Lists of other states leave out the block. What
-- changes such a state later takes the note back (unsettle). A block that is not yet final is looked at again, the later the older it is.
-- -> 1 if there may be more to do at once, or 0
local MANY, RECORDS, SOON, LATE = 500, 2000, 5000, 21600000
local log, blocks = prefix .. 'log', prefix .. 'blocks'

local last, more = redis.call('HGET', finals, '/'), 0
local new = redis.call('XRANGE', blocks, last and '(' .. last or '-', '+', 'COUNT', 10)
for _, block in ipairs(new) do redis.call('ZADD', unsettled, int(tonumber(string.match(block[1], '^%d+')) + SOON), block[1]) end
if #new > 0 then
  redis.call('HSET', finals, '/', new[#new][1])
  more = 1
end

-- The states of an event's deliveries, added to those that were found; false if it may get others. What has another place in the log counts there.
local records = 0
local function note(entry, found)
  local ev = prefix .. 'ev:' .. entry[2][2]
  local e = redis.call('HMGET', ev, 'a', 'e')
  if e[1] ~= entry[1] then return true end
  local fields = redis.call('HSCAN', ev, 0, 'MATCH', 'd[1-9]*', 'COUNT', MANY)
  records = records + #fields[2] / 2
  if e[2] or fields[1] ~= '0' or records > RECORDS then return false end
  for i = 2, #fields[2], 2 do
    local s = string.sub(fields[2][i], 1, 1)
    if not final(s) then return false end
    found[s] = true
  end
  return true
end

local id = redis.call('ZRANGEBYSCORE', unsettled, '-inf', int(now), 'LIMIT', 0, 1)[1]
if not id then return more end
local block, found = redis.call('XRANGE', blocks, id, id)[1], {}
if block then
  for _, entry in ipairs(redis.call('XRANGE', log, '(' .. block[2][2], id)) do
    if not note(entry, found) then
      local old = now - tonumber(string.match(id, '^%d+'))
      redis.call('ZADD', unsettled, int(now + math.max(SOON, math.min(LATE, old / 2))), id)
      return 1
    end
  end
  redis.call('HSET', finals, id, (found.D and 'D' or '') .. (found.X and 'X' or '') .. (found.C and 'C' or ''))
end
redis.call('ZREM', unsettled, id)
return 1
