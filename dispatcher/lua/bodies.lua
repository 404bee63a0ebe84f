-- Takes the bodies of events away whose deliveries have all ended for as long as bodies are kept. What has a delivery in the dead-letter book keeps its own.
-- A walk over the log looks at each event once, as soon as it was accepted for so long, and for a minute more: two processes may differ by so much about what time
-- it is. An event that has ended by then, and whose time has not come, is written down. One that has not ended is written down as it ends (settle). What is
-- written down is looked at again when its time has come, and forgotten if it was replayed since: then it is written down as it ends again.
-- {c}:bodies:at has the last entry that the walk looked at, and for how long bodies were kept (s): if they are kept for another time now, it begins anew.
-- ARGV: limit -> {'1' if there may be more at once, else '', how many bodies left}
local limit, keep, MARGIN = tonumber(ARGV[1]), BODY_RETENTION * 1000, 60000
local at, left = prefix .. 'bodies:at', 0

-- The bodies that were sent and are no payload go with it: k<callback>.
local function take(ev)
  if redis.call('HDEL', ev, 'b', 'z') == 0 then return end
  left = left + 1
  local cursor = '0'
  repeat
    local page = redis.call('HSCAN', ev, cursor, 'MATCH', 'k[1-9]*', 'COUNT', 200)
    cursor = page[1]
    for i = 1, #page[2], 2 do redis.call('HDEL', ev, page[2][i]) end
  until cursor == '0'
end

-- When the last of an event's deliveries ended (ms), or nil if it has so many that it was written down as they did.
local function ended(ev)
  if redis.call('HLEN', ev) > FEW_FIELDS then return nil end
  local last = tonumber(accepted(ev) or 0)
  for _, field in ipairs(redis.call('HKEYS', ev)) do
    if string.match(field, '^d%d+$') then last = math.max(last, parse(redis.call('HGET', ev, field)).at) end
  end
  return last
end

local page = redis.call('ZRANGEBYSCORE', bodies, '-inf', int(now - keep), 'WITHSCORES', 'LIMIT', 0, limit)
for i = 1, #page, 2 do
  local ev = prefix .. 'ev:' .. page[i]
  local since = ages(ev) and math.max(tonumber(page[i + 1]), ended(ev) or 0)
  if since and since > now - keep then
    redis.call('ZADD', bodies, int(since), page[i])
  else
    if since then take(ev) end
    redis.call('ZREM', bodies, page[i])
  end
end

local place, was = string.match(redis.call('GET', at) or '', '^(%S+) (%d+)$')
if tonumber(was) ~= BODY_RETENTION then place = nil end
local newest = int(math.max(0, now - keep - MARGIN))
local entries = redis.call('XRANGE', prefix .. 'log', place and '(' .. place or '-', newest, 'COUNT', limit)
for _, entry in ipairs(entries) do
  local ev = prefix .. 'ev:' .. entry[2][2]
  if ages(ev) and redis.call('HEXISTS', ev, 'b') == 1 then
    local since = ended(ev)
    if since and since <= now - keep then
      take(ev)
    else -- of one with many deliveries that ended unwatched, the time counts from now
      redis.call('ZADD', bodies, 'NX', int(since or now), entry[2][2])
    end
  end
end
if #entries > 0 then redis.call('SET', at, entries[#entries][1] .. ' ' .. int(BODY_RETENTION)) end
return {(#page == 2 * limit or #entries == limit) and '1' or '', left}
