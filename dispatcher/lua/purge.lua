-- Cancels what waits for a callback: everything that is not under way if it was deleted, else what is in its room.
-- ARGV: callback id, cursor into due ('0' to begin), limit, line of the audit trail if somebody asked for it, else '' -> {next cursor, cancelled};
-- done at cursor '0'. The line is written with the first page, and no other line is like it: so a command that is repeated is recognised.
local cb, cursor, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
if ARGV[4] ~= '' and cursor == '0' then
  local before = waiters(cb)
  if before > 0 and not inTrail(ARGV[4]) then audit(trail, ARGV[4], {{field = 'held', old = before, new = 0}}) end
end
local cancelled = 0
local function cancel(member)
  local r, ev, field = load(member)
  if r and (r.s == 'H' or r.s == 'P' or r.s == 'R') then
    retriesNoMore(r, member, cb)
    r.s, r.at, r.tok = 'C', now, '-'
    redis.call('HSET', ev, field, format(r))
    cancelled = cancelled + (close(ev, member, cb, 'C') or 1)
    tell(member, 'C')
  end
end

-- Who waits in a line goes first: else each head that is cancelled would let one of them into the room. A run stops once it has cancelled so many, since a batch
-- is many: those that it has not come to stay where they are.
local behind = isSpecial() and redis.call('ZRANGE', prefix .. 'behind:' .. cb, 0, limit - 1) or {}
for _, member in ipairs(behind) do
  redis.call('ZREM', prefix .. 'behind:' .. cb, member)
  cancel(member)
end
for _, member in ipairs(#behind < limit and redis.call('ZRANGE', prefix .. 'room:' .. cb, 0, limit - 1) or {}) do
  if cancelled >= limit then break end
  unhold(cb, member)
  cancel(member)
end
if waiters(cb) > 0 then return {'room', cancelled} end
if not deleted(gate(cb)) then return {'0', cancelled} end

if cursor == 'room' then cursor = '0' end
local page = redis.call('ZSCAN', due, cursor, 'COUNT', ARGV[3])
for i = 1, #page[2], 2 do
  if cancelled >= limit then return {cursor == '0' and 'room' or cursor, cancelled} end -- to begin with this page again
  local _, _, whose = place(page[2][i])
  if whose == cb then cancel(page[2][i]) end
end
if page[1] == '0' then
  redis.call('ZREM', rooms, cb)
  redis.call('DEL', prefix .. 'health:' .. cb, prefix .. 'pull:' .. cb, prefix .. 'fetched:' .. cb)
  if isSpecial() then
    local heads = prefix .. 'heads:' .. cb
    local before = redis.call('ZCARD', heads)
    for _, key in ipairs(redis.call('ZRANGE', heads, 0, limit - 1)) do queue().promote(cb, key) end
    local left = redis.call('ZCARD', heads) -- of lines whose first is under way: that end takes each away
    if left > 0 and left < before then return {'room', cancelled} end
    redis.call('UNLINK', prefix .. 'seq:' .. cb)
  end
end
return {page[1], cancelled}
