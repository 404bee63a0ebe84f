-- What waits or is under way for callbacks, by when it was accepted. Each callback is seen at one moment: what goes from one of its sets to another is
-- in one of them.
-- ARGV: 'heads', sets (letters: R retrying, H held, P in the lanes), newest (ms, or '+inf'), callback id, ...
--       -> {callback id, when the newest of it was accepted (ms, 0: there is none but in the lanes), how many are to be read in no order, ...}
--  | 'all', sets, newest, at most so many of each set and those that were accepted with the last of them, callback id, ...
--       -> {callback id, how far back (ms) these are all; 0: they are, how many follow, {event/callback, accepted (ms)} by turns, ...}
local heads, sets, newest, most = ARGV[1] == 'heads', ARGV[2], ARGV[3], tonumber(ARGV[4])
local function has(set) return string.find(sets, set, 1, true) end
local highest = newest == '+inf' and newest or int(tonumber(newest) * ORDER_SCALE + ORDER_SCALE - 1)

-- The newest of a sorted set: members and times (ms) by turns, of which its scores are so many times, and whether there may be more.
local function top(key, from, scale, limit)
  local found, out = redis.call('ZREVRANGEBYSCORE', key, from, '-inf', 'WITHSCORES', 'LIMIT', 0, limit), {}
  for i = 1, #found, 2 do
    out[#out + 1] = found[i]
    out[#out + 1] = int(math.floor(tonumber(found[i + 1]) / scale))
  end
  return out, #found >= 2 * limit
end

-- How many deliveries wait in a callback's room in batches, as a whole, beyond one each. A batch stands there by its first member: where the newest are read,
-- its others would be missed. So all of such a room is read.
local function batched(cb) return has('H') and isSpecial() and tonumber(redis.call('HGET', prefix .. 'health:' .. cb, 'hb') or 0) or 0 end

-- How many are to be read in no order: those in the lanes, and all of such a room.
local function unordered(cb)
  local n = has('P') and redis.call('SCARD', prefix .. 'ready:' .. cb) or 0
  for _, member in ipairs(n > 0 and together(cb) and redis.call('SMEMBERS', prefix .. 'ready:' .. cb) or {}) do
    if isBatch(member) then n = n + #aboardOf((place(member))) end
  end
  local more = batched(cb)
  return more > 0 and n + more + held(cb) or n
end

local out = {}
for i = heads and 4 or 5, #ARGV do
  local cb = ARGV[i]
  local retry, room = prefix .. 'retry:' .. cb, prefix .. 'room:' .. cb
  if heads then
    local r, h = has('R') and top(retry, newest, 1, 1)[2] or 0, has('H') and top(room, highest, ORDER_SCALE, 1)[2] or 0
    local newer = math.max(tonumber(r), tonumber(h))
    if has('H') and isSpecial() then newer = math.max(newer, tonumber(top(prefix .. 'behind:' .. cb, highest, ORDER_SCALE, 1)[2] or 0)) end
    local many = unordered(cb)
    if newer > 0 or many > 0 then
      for _, value in ipairs({cb, int(newer), int(many)}) do out[#out + 1] = value end
    end
  else
    local found, back = {}, 0
    -- A delivery, or of a batch its members.
    local function list(member, ms)
      if not isBatch(member) then
        found[#found + 1] = member
        found[#found + 1] = ms
        return
      end
      for _, event in ipairs(aboardOf((place(member)))) do
        local at = accepted(prefix .. 'ev:' .. event)
        if at and (newest == '+inf' or tonumber(at) <= tonumber(newest)) then list(event .. '/' .. cb, at) end
      end
    end
    local function add(key, from, scale)
      local part, cut = top(key, from, scale, most)
      if cut then -- what was accepted with the last
        local ms = tonumber(part[#part])
        for k = #part - 1, 1, -2 do
          if tonumber(part[k + 1]) == ms then
            table.remove(part)
            table.remove(part)
          end
        end
        for _, member in ipairs(redis.call('ZRANGEBYSCORE', key, int(ms * scale), int(ms * scale + scale - 1))) do
          part[#part + 1] = member
          part[#part + 1] = int(ms)
        end
        back = math.max(back, ms)
      end
      for k = 1, #part, 2 do list(part[k], part[k + 1]) end
    end
    if has('R') then add(retry, newest, 1) end
    if batched(cb) > 0 then
      local all = redis.call('ZRANGEBYSCORE', room, '-inf', highest, 'WITHSCORES')
      for k = 1, #all, 2 do list(all[k], int(math.floor(tonumber(all[k + 1]) / ORDER_SCALE))) end
    elseif has('H') then
      add(room, highest, ORDER_SCALE)
    end
    if has('H') and isSpecial() then add(prefix .. 'behind:' .. cb, highest, ORDER_SCALE) end
    for _, member in ipairs(has('P') and redis.call('SMEMBERS', prefix .. 'ready:' .. cb) or {}) do
      local ms = accepted((place(member)))
      if ms and (isBatch(member) or newest == '+inf' or tonumber(ms) <= tonumber(newest)) then list(member, ms) end
    end
    for _, value in ipairs({cb, int(back), #found / 2}) do out[#out + 1] = value end
    for _, value in ipairs(found) do out[#out + 1] = value end
  end
end
return out
