-- Reads what there is to fetch of a callback whose partner fetches, oldest first. Nothing changes, but that it is noted how far any poll came.
-- ARGV: callback id, place behind which to begin ('': what was acknowledged), deliveries at most, bytes of payload at most, but for the first
-- -> {'closed', the callback's status}
--  | {'open', place up to which was acknowledged, last place that was given, place behind which to go on, '1' if there is more by then,
--     place, member, record, meta, log id, '1' after a replay or '', the payload's length if it is compressed, else '', payload ('' if it has left), ...}
local cb, limit, heavy = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local status = statusOf(gate(cb)) or 'enabled'
if status ~= 'pull' then return {'closed', status} end
local h = redis.call('HMGET', prefix .. 'pull:' .. cb, 'at', 'ack', 'got')
local ack, got = tonumber(h[2] or 0), tonumber(h[3] or 0)
local given = math.max(tonumber(h[1] or 0), ack)
-- Who stands beyond all that was given was there before Redis lost its last second. What comes will be beyond that place, too.
local at = ARGV[2] == '' and ack or math.min(tonumber(ARGV[2]), given)
local from = at
local out, n, bytes, full = {'open', int(ack), int(given), '', ''}, 0, 0, false
local looks = 1000 + limit -- at what has gone with its event, too

-- Goes on in a key by a page, and leaves out what is being erased. Returns whether there is nothing more to read there.
local function read(key)
  local most = math.min(limit - n + 1, looks)
  local page = redis.call('ZRANGEBYSCORE', key, '(' .. int(at), '+inf', 'WITHSCORES', 'LIMIT', 0, most)
  for i = 1, #page, 2 do
    local member = page[i]
    local r, ev, _, whose = load(member)
    local size = r and (tonumber(redis.call('HGET', ev, 'z') or '') or redis.call('HSTRLEN', ev, 'b')) or 0
    full = n == limit or n > 0 and bytes + size > heavy
    if full then return true end
    at, looks = tonumber(page[i + 1]), looks - 1
    if r then
      local e = redis.call('HMGET', ev, 'm', 'a', 'r' .. whose, 'z', 'b')
      for _, v in ipairs({int(at), member, format(r), e[1], e[2], e[3] and '1' or '', e[4] or '', e[5] or ''}) do out[#out + 1] = v end
      n, bytes = n + 1, bytes + size
    end
  end
  full = looks == 0
  return full or #page < 2 * most
end

-- Everything that was acknowledged has a place before all that waits.
for _, key in ipairs({fetched(cb), prefix .. 'room:' .. cb}) do
  while not full and not read(key) do end
end
out[4], out[5] = int(at), full and '1' or ''
-- A Redis that is full takes no note. What it gave is fetched again before it is acknowledged, then.
if at > from and at > got then redis.pcall('HSET', prefix .. 'pull:' .. cb, 'got', int(at)) end
return out
