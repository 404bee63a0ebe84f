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
-- Of a batch, its members wait. A page may end before some of a scan's that it has not come to: the cursor says then how many were before those.
local behind = string.match(what, '^<(%d+)$')
local from, skip = string.match(cursor, '^(%d+)%+?(%d*)$')
local page = redis.call('ZSCAN', what == 'due' and due or behind and prefix .. 'behind:' .. behind or prefix .. 'room:' .. what, from, 'COUNT', ARGV[3])
local looked = 0
for i = 1 + 2 * (tonumber(skip) or 0), #page[2], 2 do
  if looked >= tonumber(ARGV[3]) then return from .. '+' .. (i - 1) / 2 end
  local ev = place(page[2][i])
  local waiters = {ev}
  if isBatch(page[2][i]) then
    waiters = aboardOf(ev)
    for k, event in ipairs(waiters) do waiters[k] = prefix .. 'ev:' .. event end
  end
  for _, ev in ipairs(waiters) do
    if unfinished(ev) then waits(ev) end
  end
  looked = looked + math.max(1, #waiters)
end
return page[1]
