-- Cancels what waits for a callback: everything that is not under way if it was deleted, else what is in its room.
-- ARGV: callback id, cursor into due ('0' to begin), limit, line of the audit trail if somebody asked for it, else '' -> {next cursor, cancelled};
-- done at cursor '0'. The line is written with the first page, and no other line is like it: so a command that is repeated is recognised.
local cb, cursor, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
local function told()
  for _, entry in ipairs(redis.call('XREVRANGE', trail, '+', '-', 'COUNT', 16)) do
    if entry[2][2] == ARGV[4] then return true end
  end
end
if ARGV[4] ~= '' and cursor == '0' then
  local before = waiters(cb)
  if before > 0 and not told() then audit(trail, ARGV[4], {{field = 'held', old = before, new = 0}}) end
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

-- Who waits in a line goes first: else each head that is cancelled would let one of them into the room.
local behind = isSpecial() and redis.call('ZRANGE', prefix .. 'behind:' .. cb, 0, limit - 1) or {}
for _, member in ipairs(behind) do
  redis.call('ZREM', prefix .. 'behind:' .. cb, member)
  cancel(member)
end
limit = limit - #behind
local room = prefix .. 'room:' .. cb
for _, member in ipairs(limit > 0 and redis.call('ZRANGE', room, 0, limit - 1) or {}) do
  unhold(cb, member)
  cancel(member)
end
if waiters(cb) > 0 then return {'room', cancelled} end
if not deleted(gate(cb)) then return {'0', cancelled} end

if cursor == 'room' then cursor = '0' end
local page = redis.call('ZSCAN', due, cursor, 'COUNT', ARGV[3])
for i = 1, #page[2], 2 do
  local _, _, whose = place(page[2][i])
  if whose == cb then cancel(page[2][i]) end
end
if page[1] == '0' then
  redis.call('ZREM', rooms, cb)
  redis.call('DEL', prefix .. 'health:' .. cb, prefix .. 'pull:' .. cb, prefix .. 'fetched:' .. cb)
  if isSpecial() then
    for _, key in ipairs(redis.call('ZRANGE', prefix .. 'heads:' .. cb, 0, ARGV[3])) do queue().promote(cb, key) end -- what is left of lines is under way
    redis.call('UNLINK', prefix .. 'seq:' .. cb)
  end
end
return {page[1], cancelled}
