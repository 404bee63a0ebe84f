-- Searches the log, newest first, for deliveries in some states, to a callback, of events of a type; as far as the work of one run goes. Blocks whose
-- summary (block.lua) has no such callback or type are left out, and so are those that are known to have no such state (settle.lua). The deliveries of an
-- event with more than a run should read are to be read by themselves.
-- ARGV: from log id, to log id, deliveries at most, work, callback id ('0': all), states (letters; '': all), type ('': all)
-- -> {where to go on, or '' at the end; {log id, event id, meta, '1' if deliveries are left out, '1' if its body has left, field, value,
--     ...}, ...}
-- With 'events' behind those it finds events, also such as have no delivery, so many at most. ARGV then: types (,type,type, or '': all), what their ids begin
-- with, '1' if bodies are wanted
-- -> {where; {log id, event id, meta, '1' if deliveries are left out, '1' if its body has left, '1' if it expands, callback:state,callback:state, ...,
--     body, z}, ...}
local MANY = 500
local log, blocks = prefix .. 'log', prefix .. 'blocks'
local at, oldest, want, work = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local only, states, kind = ARGV[5] ~= '0' and ARGV[5], ARGV[6], ARGV[7]
local events, kinds, begins, bodied = ARGV[8] == 'events', ARGV[9], ARGV[10], ARGV[11] == '1'
local out = {''}

-- The letter of a delivery's state: one in a batch stands as the batch does.
local function letter(record, cb)
  local name = string.match(record, '^A %d+ %d+ %d+ %d+ ~(%S+)')
  return string.sub(name and redis.call('HGET', prefix .. 'batch:' .. name, 'd' .. cb) or record, 1, 1)
end

-- Looks at an event, of which only the states of its deliveries are wanted.
local function glimpse(entry)
  local id = entry[2][2]
  work = work - 0.2
  if begins ~= '' and string.sub(id, 1, #begins) ~= begins then return end
  local ev, large, of = prefix .. 'ev:' .. id, '', {}
  local e = redis.call('HMGET', ev, 'm', 'a', 'e', bodied and 'b' or '', 'z')
  work = work - 1
  if not e[1] or e[2] ~= entry[1] then return end
  local t = string.match(e[1], '^{"t":"([^"\\]*)"') or cjson.decode(e[1]).t
  if kind ~= '' and t ~= kind or kinds ~= '' and not string.find(kinds, ',' .. t .. ',', 1, true) then return end
  local fields = redis.call('HSCAN', ev, 0, 'MATCH', 'd[1-9]*', 'COUNT', MANY)
  if fields[1] ~= '0' then large = '1' end
  for i = 1, large == '' and #fields[2] or 0, 2 do
    local cb = string.sub(fields[2][i], 2)
    local s = letter(fields[2][i + 1], cb)
    if not final(s) and s ~= 'A' and deleted(gate(cb)) then s = 'C' end
    of[#of + 1] = cb .. ':' .. s
  end
  want, work = want - 1, work - 2 - #fields[2] / 2 - #(e[4] or '') / 4096
  out[#out + 1] = {
    entry[1], id, e[1], large, BODY_RETENTION > 0 and redis.call('HEXISTS', ev, 'b') == 0 and '1' or '', e[3] and '1' or '', table.concat(of, ','), e[4] or '', e[5] or '',
  }
end

-- The states as lists show them: what waits for a callback that was deleted is as good as cancelled.
local function admits(record, cb)
  if states == '' then return true end
  local s = letter(record, cb)
  if (s == 'P' or s == 'R' or s == 'H') and deleted(gate(cb)) then s = 'C' end
  return string.find(states, s, 1, true) ~= nil
end

-- Looks at an event. What was sent anew while it was erased has another entry, further up.
local function look(entry)
  if events then return glimpse(entry) end
  local id = entry[2][2]
  local ev, found, large, meta = prefix .. 'ev:' .. id, {}, '', nil
  work = work - 2
  if only then
    local record = redis.call('HGET', ev, 'd' .. only)
    if not record or not admits(record, only) then return end
    found = {'d' .. only, record}
  elseif kind == '' or string.find(redis.call('HGET', ev, 'm') or '', '"t":"' .. kind .. '"', 1, true) then
    local fields = redis.call('HSCAN', ev, 0, 'MATCH', 'd[1-9]*', 'COUNT', MANY)
    if fields[1] ~= '0' or #fields[2] > 2 * MANY then
      large, work = '1', 0
    else
      work = work - #fields[2] / 2
      for i = 1, #fields[2], 2 do
        if admits(fields[2][i + 1], string.sub(fields[2][i], 2)) then
          found[#found + 1] = fields[2][i]
          found[#found + 1] = fields[2][i + 1]
        end
      end
    end
  end
  if #found == 0 and large == '' then return end
  local e = redis.call('HMGET', ev, 'm', 'a')
  if not e[1] or e[2] ~= entry[1] or (kind ~= '' and cjson.decode(e[1]).t ~= kind) then return end
  want = want - #found / 2
  work = work - 2
  local row = {entry[1], id, e[1], large, BODY_RETENTION > 0 and redis.call('HEXISTS', ev, 'b') == 0 and '1' or ''}
  for _, text in ipairs(found) do row[#row + 1] = text end
  out[#out + 1] = row
end

-- Whether a stream has nothing at a place or below it. To go down from there Redis would look at all that is above.
local firsts = {}
local function below(stream)
  firsts[stream] = firsts[stream] or redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1] or {'0-0'}
  local ms, seq = string.match(at, '^%(?(%d+)%-?(%d*)$')
  if not ms then return false end
  local first, nth = string.match(firsts[stream][1], '^(%d+)-(%d+)$')
  ms, first = tonumber(ms), tonumber(first)
  return ms < first or (ms == first and seq ~= '' and (tonumber(seq) < tonumber(nth) or (seq == nth and string.sub(at, 1, 1) == '(')))
end

-- Looks at entries down to one. Returns true if all of them were seen.
local function walk(to)
  while not below(log) do
    local most = math.max(1, math.min(100, math.ceil(work / 2)))
    local entries = redis.call('XREVRANGE', log, at, to, 'COUNT', most)
    for _, entry in ipairs(entries) do
      look(entry)
      at = '(' .. entry[1]
      if work <= 0 or want <= 0 then return false end
    end
    if #entries < most then return true end
  end
  return true
end

-- The places of those events in a block that may be wanted, as its summary has them; nil if it does not say which they are. known: the states of its
-- deliveries, if all of them are final.
local function candidates(block, known)
  if known and states ~= '' and not string.find(known, '[' .. states .. ']') then return {} end
  if not only and kind == '' then return nil end
  local types, callbacks, found = block[2][4], block[2][6], {}
  if kind ~= '' then
    local _, to = string.find(types, ',' .. kind .. ':', 1, true)
    if not to then return found end
    local places = string.match(types, '^[^,]*', to + 1)
    if not only then
      if places == '*' then return nil end
      for place in string.gmatch(places, '[^;]+') do found[#found + 1] = place end
      return found
    end
  end
  if callbacks == '*' or string.find(callbacks, ',' .. only .. ',', 1, true) then return nil end
  local _, to = string.find(callbacks, ',' .. only .. ':', 1, true)
  while to do
    found[#found + 1] = string.match(callbacks, '^[^,]*', to + 1)
    _, to = string.find(callbacks, ',' .. only .. ':', to, true)
  end
  return found
end

-- Looks at places in a block, from the newest down. Returns true if all of them were seen.
local function visit(places, before)
  local began = tonumber(string.match(before, '^%d+'))
  for i = #places, 1, -1 do
    local ms, seq = string.match(places[i], '^(%d+)-(%d+)$')
    if oldest ~= '-' and began + tonumber(ms) < tonumber(oldest) then return true end
    local id = int(began + tonumber(ms)) .. '-' .. seq
    local entry = redis.call('XRANGE', log, id, id, 'COUNT', 1)[1]
    work = work - 2
    if entry then look(entry) end
    at = '(' .. id
    if work <= 0 or want <= 0 then return false end
  end
  return true
end

-- Where to stop within a block that begins behind another one's end.
local function bound(before)
  local ms = tonumber(string.match(before, '^%d+'))
  if oldest ~= '-' and ms < tonumber(oldest) then return oldest end
  return '(' .. before
end

-- The log by blocks; what is above the newest of them, or between two, is walked.
local function search()
  if not only and kind == '' and states == '' then return walk(oldest) end
  while true do
    local page = below(blocks) and {} or redis.call('XREVRANGE', blocks, at, oldest, 'COUNT', 10)
    local ids = {}
    for i, block in ipairs(page) do ids[i] = block[1] end
    local known = #ids > 0 and states ~= '' and redis.call('HMGET', finals, unpack(ids)) or {}
    for i, block in ipairs(page) do
      work = work - 3
      if at ~= block[1] and not walk('(' .. block[1]) then return false end
      at = block[1]
      local to = bound(block[2][2])
      local places = candidates(block, known[i])
      if places and not visit(places, block[2][2]) or not places and not walk(to) then return false end
      if to == oldest then return true end
      at = block[2][2]
      if work <= 0 then return false end
    end
    if #page < 10 then return walk(oldest) end
  end
end

if not search() then out[1] = at end
return out
