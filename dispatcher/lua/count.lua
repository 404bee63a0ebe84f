-- Compares a page of what is counted as waiting with what does wait, for a company with a quota on it. ARGV: what to walk ('counted': what is
-- counted; 'due', a room's callback id, or that with < before it, for who waits behind others: what waits), cursor ('0' to begin), limit -> next cursor, '0' at the end, '' where nothing is counted
local what, cursor = ARGV[1], ARGV[2]
if redis.call('HEXISTS', prefix .. 'quota', 'waiting_bytes') == 0 then
  redis.call('DEL', waiting)
  return ''
end
local SMALL = 10 -- fields that an event with a single delivery has at most
local function unfinished(ev)
  if tonumber(redis.call('HGET', ev, 'n') or 0) > 0 then return true end
  if redis.call('HLEN', ev) > SMALL then return false end
  for _, field in ipairs(redis.call('HKEYS', ev)) do
    if string.match(field, '^d%d+$') and not final(parse(redis.call('HGET', ev, field)).s) then return true end
  end
  return false
end
if what == 'counted' then
  local page = redis.call('HSCAN', waiting, cursor, 'COUNT', ARGV[3])
  for i = 1, #page[2], 2 do
    local ev = prefix .. 'ev:' .. page[2][i]
    if page[2][i] ~= '/' and not unfinished(ev) then waitsNoMore(ev) end
  end
  return page[1]
end
local behind = string.match(what, '^<(%d+)$')
local page = redis.call('ZSCAN', what == 'due' and due or behind and prefix .. 'behind:' .. behind or prefix .. 'room:' .. what, cursor, 'COUNT', ARGV[3])
for i = 1, #page[2], 2 do
  local ev = place(page[2][i])
  if unfinished(ev) then waits(ev) end
end
return page[1]
