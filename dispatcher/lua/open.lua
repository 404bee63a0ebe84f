-- What waits or is under way for callbacks, by when it was accepted. Each callback is seen at one moment: what goes from one of its sets to another is
-- in one of them.
-- ARGV: 'heads', sets (letters: R retrying, H held, P in the lanes), newest (ms, or '+inf'), callback id, ...
--       -> {callback id, when the newest of it was accepted (ms, 0: there is none but in the lanes), how many are in the lanes, ...}
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

-- The batches of a callback that have not ended.
local live = nil
local function travelling(cb)
  together(cb)
  if not special then return {} end
  if not live then
    live = {}
    for _, batch in ipairs(redis.call('ZRANGEBYSCORE', batches, int(now + FAR / 2), '+inf')) do
      local of = string.match(batch, '/(%d+)$')
      live[of] = live[of] or {}
      table.insert(live[of], batch)
    end
  end
  return live[cb] or {}
end

local out = {}
for i = heads and 4 or 5, #ARGV do
  local cb = ARGV[i]
  local retry, room, inLanes = prefix .. 'retry:' .. cb, prefix .. 'room:' .. cb, has('P') and redis.call('SCARD', prefix .. 'ready:' .. cb) or 0
  if heads then
    local r, h = has('R') and top(retry, newest, 1, 1)[2] or 0, has('H') and top(room, highest, ORDER_SCALE, 1)[2] or 0
    local newer = math.max(tonumber(r), tonumber(h))
    if has('H') and isSpecial() then newer = math.max(newer, tonumber(top(prefix .. 'behind:' .. cb, highest, ORDER_SCALE, 1)[2] or 0)) end
    if newer > 0 or inLanes > 0 then
      for _, value in ipairs({cb, int(newer), inLanes}) do out[#out + 1] = value end
    end
  else
    local found, back = {}, 0
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
      for k = 1, #part, 2 do
        if not isBatch(part[k]) then
          found[#found + 1] = part[k]
          found[#found + 1] = part[k + 1]
        end
      end
    end
    -- Of batches in the lanes, or in the room as a whole, their members. Those that are tried again stand among the retrying ones themselves.
    for _, batch in ipairs(travelling(cb)) do
      local r, hash = load(batch)
      if r and (has('H') and r.s == 'H' or has('P') and (r.s == 'P' or r.s == 'A')) then
        for _, event in ipairs(aboardOf(hash)) do
          local ms = accepted(prefix .. 'ev:' .. event)
          if ms and (newest == '+inf' or tonumber(ms) <= tonumber(newest)) then
            found[#found + 1] = event .. '/' .. cb
            found[#found + 1] = ms
          end
        end
      end
    end
    if has('R') then add(retry, newest, 1) end
    if has('H') then add(room, highest, ORDER_SCALE) end
    if has('H') and isSpecial() then add(prefix .. 'behind:' .. cb, highest, ORDER_SCALE) end
    for _, member in ipairs(inLanes > 0 and redis.call('SMEMBERS', prefix .. 'ready:' .. cb) or {}) do
      local ms = not isBatch(member) and accepted((place(member)))
      if ms and (newest == '+inf' or tonumber(ms) <= tonumber(newest)) then
        found[#found + 1] = member
        found[#found + 1] = ms
      end
    end
    for _, value in ipairs({cb, int(back), #found / 2}) do out[#out + 1] = value end
    for _, value in ipairs(found) do out[#out + 1] = value end
  end
end
return out
