-- Sums up the next block of the log: so many entries behind the last block, once there are as many. {c}:blocks has an entry for each block, under the
-- id of its last event:
--   f  the block before it ends there ('0-0': none), and times are counted from there
--   t  its events' types: ,type:place;place,type:*, with the places of those of a type, or * if there are many
--   c  the callbacks that they have deliveries for: ,callback:place,callback:place, or ,callback,callback, if there are many, or * if there are very many
-- A place is an event's id in the log, its time less that of f. Nothing ever comes to an event in a block that is not in its summary: what is still
-- being written counts as very many.
-- ARGV: entries of a block -> 1, or 0 if there are not as many
local MANY, PLACES, NAMED = 500, 20, 2000
local log, blocks = prefix .. 'log', prefix .. 'blocks'
local last = redis.call('XREVRANGE', blocks, '+', '-', 'COUNT', 1)[1]
local from = last and last[1] or '0-0'
local began = tonumber(string.match(from, '^%d+'))
local entries = redis.call('XRANGE', log, '(' .. from, '+', 'COUNT', ARGV[1])
if #entries < tonumber(ARGV[1]) then return 0 end
local types, places, kinds, pairings, callbacks, ids, all = {}, {}, {}, {}, {}, {}, false
for _, entry in ipairs(entries) do
  local ev = prefix .. 'ev:' .. entry[2][2]
  local meta = redis.call('HGET', ev, 'm') -- else its event is gone
  if meta then
    local ms, seq = string.match(entry[1], '^(%d+)-(%d+)$')
    local at = int(tonumber(ms) - began) .. '-' .. seq
    local kind = string.match(meta, '^{"t":"([^"\\]*)"') or cjson.decode(meta).t
    if not kinds[kind] then
      kinds[kind] = {}
      types[#types + 1] = kind
    end
    kinds[kind][#kinds[kind] + 1] = at
    all = all or redis.call('HLEN', ev) > MANY
    for _, field in ipairs(all and {} or redis.call('HKEYS', ev)) do
      local cb = string.byte(field) == 100 and string.sub(field, 2) -- d<callback>
      if cb and #pairings <= NAMED then pairings[#pairings + 1] = cb .. ':' .. at end
      if cb and not ids[cb] then
        ids[cb] = true
        callbacks[#callbacks + 1] = cb
      end
      all = all or field == 'e' or #callbacks > NAMED
    end
  end
end
for i, kind in ipairs(types) do places[i] = kind .. ':' .. (#kinds[kind] > PLACES and '*' or table.concat(kinds[kind], ';')) end
local named = all and '*' or ',' .. table.concat(#pairings > NAMED and callbacks or pairings, ',') .. ','
redis.call('XADD', blocks, entries[#entries][1], 'f', from, 't', ',' .. table.concat(places, ',') .. ',', 'c', named)
return 1
