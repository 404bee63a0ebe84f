-- Erases an event, or a page of the log's: their deliveries wherever they stand, their content, their entries in the log.
-- ARGV: 'event', its id, line of the audit trail | 'page' or 'rest', events at most, deliveries after which the page ends
-- -> {events, deliveries, unfinished, dead, in flight, 1 if that was all of the rest, member, generation, ...}
-- The rest is a company's last page and, if that was all, what its keys share. What stays are the counts that keep numbers from coming twice.
-- The version moves on: so each process reads the company anew, and names it anew, before it accepts another event of it.
local mode, n = ARGV[1], {0, 0, 0, 0, 0, 0}
local function erase(id)
  local ev = prefix .. 'ev:' .. id
  for _, name in ipairs(redis.call('HKEYS', ev)) do
    if string.find(name, '^d%d') then
      local cb = string.sub(name, 2)
      local member = id .. '/' .. cb
      local r = load(member)
      n[2] = n[2] + 1
      if not final(r.s) then n[3] = n[3] + 1 end
      if r.s == 'X' then n[4] = n[4] + 1 end
      if r.s == 'A' or underWay(r) then n[5] = n[5] + 1 end
      retriesNoMore(r, member, cb)
      redis.call('ZREM', due, member)
      leave(cb, member)
      unhold(cb, member)
      unbook(ev, member, cb)
      for _, field in ipairs({'bad', 'token'}) do -- the callback's last failure, with what was answered
        local noted = redis.call('HGET', prefix .. 'health:' .. cb, field)
        if noted and string.sub(noted, 1, #member + 1) == member .. '\n' then redis.call('HDEL', prefix .. 'health:' .. cb, field) end
      end
      n[#n + 1] = member
      n[#n + 1] = int(r.gen)
    end
  end
  local log = redis.call('HGET', ev, 'a')
  if log then
    n[1] = n[1] + 1
    redis.call('XDEL', prefix .. 'log', log)
  end
  waitsNoMore(ev)
  redis.call('DEL', ev)
end

if mode == 'event' then
  erase(ARGV[2])
  if n[1] > 0 then audit(trail, ARGV[3], {{field = 'deliveries', old = n[2]}, {field = 'unfinished', old = n[3]}}) end
  return n
end
local log = prefix .. 'log'
for _, entry in ipairs(redis.call('XRANGE', log, '-', '+', 'COUNT', ARGV[2])) do
  erase(entry[2][2])
  redis.call('XDEL', log, entry[1]) -- its event may have aged away before it
  if n[2] >= tonumber(ARGV[3]) then break end
end
if mode == 'rest' then
  n[6] = (redis.call('XLEN', log) == 0 and redis.call('EXISTS', prefix .. 'cb', prefix .. 'asks', prefix .. 'replays') == 0) and 1 or 0
  if n[6] == 1 then
    redis.call('DEL', log, due, dead, rooms, prefix .. 'replaying', prefix .. 'buried', prefix .. 'prune', prefix .. 'cbseal', prefix .. 'notices', prefix .. 'quota', waiting,
      trail, prefix .. 'hosts', prefix .. 'challenges')
    redis.call('EXPIRE', prefix .. 'erased', 3600) -- the call that erases deletes it after the last keys. If that is killed and nobody calls again, it expires
    redis.call('SET', prefix .. 'ver', int(math.max(tonumber(redis.call('GET', prefix .. 'ver') or '0') + 1, now)))
  end
end
return n
