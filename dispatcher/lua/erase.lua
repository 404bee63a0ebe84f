-- Erases an event, or a page of the log's: their deliveries wherever they stand, their content, their entries in the log.
-- ARGV: 'event', its id, deliveries after which a run ends, line of the audit trail ('': only to go on with what is begun)
--  | 'page' or 'rest', events at most, deliveries after which the page ends
--  | 'batches', batches at most
-- -> {events, deliveries, unfinished, dead, in flight, 1 if that was all of the event, of the rest or of the batches, member, generation, ...} | sleeping's
-- An event with many deliveries takes several runs. The first gives it another name, {c}:gone:<event>, so that from then on nothing of it is seen or
-- sent; the next go on there. The last writes the line, with what all of them erased.
-- What there is of batches goes before the traces of their callbacks: an attempt of one that ended later would find no gate, and leave traces anew.
-- The rest is a company's last page and, if that was all, what its keys share. What stays are the counts that keep numbers from coming twice.
-- The version moves on: so each process reads the company anew, and names it anew, before it accepts another event of it.
local there
if ARGV[1] == 'event' then
  there = redis.call('EXISTS', prefix .. 'ev:' .. ARGV[2], prefix .. 'gone:' .. ARGV[2]) > 0
else
  there = redis.call('EXISTS', prefix .. 'log') > 0
end
local nap = there and sleeping()
if nap then return nap end
local mode, most, n = ARGV[1], tonumber(ARGV[3]), {0, 0, 0, 0, 0, 0}
local log = prefix .. 'log'

-- What stands about a delivery beside its record. Where the event was sent anew since, the new one's stays.
local function erase(gone, id, cb, r, new)
  local member = id .. '/' .. cb
  n[2] = n[2] + 1
  if not final(r.s) then n[3] = n[3] + 1 end
  if r.s == 'X' then n[4] = n[4] + 1 end
  local _, of = ending().batchOf(r, cb)
  if (of or r).s == 'A' or underWay(r, cb) then n[5] = n[5] + 1 end
  local anew = new and redis.call('HGET', prefix .. 'ev:' .. id, 'd' .. cb)
  local s = anew and parse(anew).s
  if s ~= 'R' then retriesNoMore(r, member, cb) end
  if s ~= 'X' then unbook(gone, member, cb) end
  if not anew then
    redis.call('ZREM', due, member)
    leave(cb, member)
    unhold(cb, member)
    redis.call('ZREM', fetched(cb), member)
    if isSpecial() then
      redis.call('ZREM', prefix .. 'behind:' .. cb, member)
      queue().depart(redis.call('HGET', gone, 'o' .. cb), member, cb)
    end
  elseif isSpecial() and redis.call('HEXISTS', prefix .. 'ev:' .. id, 'o' .. cb) == 0 then -- else it left its old line as it came into the new one
    queue().depart(redis.call('HGET', gone, 'o' .. cb), member, cb)
  end
  for _, field in ipairs({'bad', 'token'}) do -- the callback's last failure, with what was answered
    local noted = redis.call('HGET', prefix .. 'health:' .. cb, field)
    if noted and string.sub(noted, 1, #member + 1) == member .. '\n' then redis.call('HDEL', prefix .. 'health:' .. cb, field) end
  end
  if anew then return end -- its tasks have the same names
  n[#n + 1] = member
  n[#n + 1] = int(r.gen)
end

-- Takes an event out of all sight. Deliveries that were not written yet are counted: they will not be.
local function vanish(id, ev, gone)
  waitsNoMore(ev)
  redis.call('ZREM', bodies, id)
  redis.call('ZADD', paged, int(now + PATIENCE), id) -- first: whatever fails from here on is gone on with
  redis.call('RENAME', ev, gone)
  redis.call('PERSIST', gone)
  if mode == 'event' then redis.call('HSET', gone, 'l', ARGV[4]) end
  n[1] = n[1] + 1
  local pages = string.match(redis.call('HGET', gone, 'e') or '', '^(%d+)')
  for page = 1, tonumber(pages or 0) do
    local _, callbacks = string.gsub(redis.call('HGET', gone, 'e' .. page) or '', '%d+', '')
    n[2], n[3] = n[2] + callbacks, n[3] + callbacks
    redis.call('HDEL', gone, 'e' .. page)
  end
  redis.call('HDEL', gone, 'm', 'b', 'z', 'e')
end

-- Returns true once nothing of the event is left, but for its other name.
local function goOn(id, begin)
  local ev, gone = prefix .. 'ev:' .. id, prefix .. 'gone:' .. id
  if redis.call('EXISTS', gone) == 0 then
    if not begin or redis.call('EXISTS', ev) == 0 then return true end
    vanish(id, ev, gone)
  end
  local new, cursor = redis.call('EXISTS', ev) == 1, '0'
  repeat
    local page = redis.call('HSCAN', gone, cursor, 'COUNT', 50)
    cursor = page[1]
    for i = 1, #page[2], 2 do
      local cb = string.match(page[2][i], '^d(%d+)$')
      if cb then
        erase(gone, id, cb, parse(page[2][i + 1]), new)
        redis.call('HDEL', gone, page[2][i])
      elseif string.match(page[2][i], '^[qk]%d') then -- what was sent
        redis.call('HDEL', gone, page[2][i])
      end
    end
    if n[2] >= most and cursor ~= '0' then return false end
  until cursor == '0'
  local at = redis.call('HGET', gone, 'a')
  if at then redis.call('XDEL', log, at) end
  if not new then redis.call('ZREM', paged, id) end
  return true
end

if mode == 'event' then
  local id = ARGV[2]
  local gone = prefix .. 'gone:' .. id
  local before = redis.call('EXISTS', gone) == 1
  local whole = goOn(id, ARGV[4] ~= '')
  if before or not whole then
    for i = 1, 5 do n[i] = redis.call('HINCRBY', gone, 'g' .. i, n[i]) end
  end
  if not whole then
    redis.call('ZADD', paged, int(now + PATIENCE), id)
    return n
  end
  n[1], n[6] = before and 1 or n[1], 1
  local line = ARGV[4]
  if before then line = redis.call('HGET', gone, 'l') or '' end
  if n[1] > 0 and line ~= '' then audit(trail, line, {{field = 'deliveries', old = n[2]}, {field = 'unfinished', old = n[3]}}) end
  redis.call('UNLINK', gone)
  return n
end
if mode == 'batches' then
  for _, member in ipairs(redis.call('ZRANGE', batches, 0, ARGV[2] - 1)) do
    local r, batch, _, cb = load(member)
    leave(cb, member)
    unhold(cb, member)
    redis.call('UNLINK', batch)
    redis.call('ZREM', batches, member)
    if r then
      n[#n + 1] = member
      n[#n + 1] = int(r.gen)
    end
  end
  n[6] = 1 - redis.call('EXISTS', batches)
  return n
end
for _, entry in ipairs(redis.call('XRANGE', log, '-', '+', 'COUNT', ARGV[2])) do
  if not goOn(entry[2][2], true) then break end
  redis.call('UNLINK', prefix .. 'gone:' .. entry[2][2])
  redis.call('XDEL', log, entry[1]) -- its event may have aged away before it
  if n[2] >= most then break end
end
if mode == 'rest' then
  n[6] = (redis.call('XLEN', log) == 0 and redis.call('EXISTS', prefix .. 'cb', prefix .. 'asks', prefix .. 'replays', batches) == 0) and 1 or 0
  if n[6] == 1 then
    redis.call('DEL', log, prefix .. 'blocks', finals, unsettled, due, dead, rooms, prefix .. 'replaying', prefix .. 'buried', prefix .. 'prune', prefix .. 'cbseal', prefix .. 'notices', prefix .. 'quota', waiting,
      trail, prefix .. 'hosts', prefix .. 'challenges', paged, vigil, bodies, bodies .. ':at', live, prefix .. 'watched', prefix .. 'links', prefix .. 'special', prefix .. 'tls', prefix .. 'ordered')
    redis.call('EXPIRE', prefix .. 'erased', 3600) -- the call that erases deletes it after the last keys. If that is killed and nobody calls again, it expires
    redis.call('SET', prefix .. 'ver', int(math.max(tonumber(redis.call('GET', prefix .. 'ver') or '0') + 1, now)))
  end
end
return n
