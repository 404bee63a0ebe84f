-- Accepts an event and a delivery for each matched callback, or nothing. A delivery whose caller has a place for its first attempt begins it, if
-- it may go at once. Where it matched more callbacks than one run should write deliveries for, the rest of them stand in the event, in pages, for
-- expand.lua. A delivery with an order comes into its line, and waits there unless it is the first.
-- ARGV: event id, registry version matched at, meta, body, the payload's length if the body is compressed, else '', how many callbacks it matched, the
--       pages of those that come later (csv;csv;…), callback id, token and lease (ms) of its first attempt or '', its key's name or '', ...
-- -> {'exists', meta, log id, held csv, '1' if there was more than a page, callback id, record, ...} | {'version', current}
--  | {'quota', limit, bytes that wait} | sleeping's | {'accepted', log id, held csv, csv of what goes to the slow lane, csv of what has begun}, and
--  if there is any, csv of callback:ms for each whose room is to be pumped then: they are let out in batches, csv of callback:number
--  for each that has an order
local version, most, nap

-- Writes an event into the log, at the installation's time, or right after the last one if that is later. -> its log id
local function enlist(id)
  local log = prefix .. 'log'
  local entry = redis.pcall('XADD', log, int(now) .. '-*', 'e', id)
  if type(entry) == 'string' then return entry end
  local about, ms, seq = redis.pcall('XINFO', 'STREAM', log), now, 0 -- Redis 6.2 numbers no entries of a given time
  for i = 1, #about, 2 do
    if about[i] == 'last-generated-id' then
      local last, n = string.match(about[i + 1], '^(%d+)-(%d+)$')
      if tonumber(last) >= now then ms, seq = tonumber(last), tonumber(n) + 1 end
    end
  end
  return redis.call('XADD', log, int(ms) .. '-' .. int(seq), 'e', id)
end

return each(function(ARGV)
  local id = ARGV[1]
  local ev = prefix .. 'ev:' .. id
  local first = redis.call('HMGET', ev, 'm', 'a', 'h', 'c')
  if first[1] then
    local out = {'exists', first[1], first[2], first[3] or '', first[4] and '1' or ''}
    local function tell(cb)
      local text = cb and redis.call('HGET', ev, 'd' .. cb)
      if text then
        out[#out + 1] = cb
        out[#out + 1] = text
      end
    end
    if first[4] then
      for cb in string.gmatch(first[4], '%d+') do tell(cb) end
    else
      for _, field in ipairs(redis.call('HKEYS', ev)) do tell(string.match(field, '^d(%d+)$')) end
    end
    return out
  end
  version = version or redis.call('GET', prefix .. 'ver') or '0'
  if version ~= ARGV[2] then return {'version', version} end

  -- A quota on the bytes that wait. If none wait, one that is larger than the quota gets in: else it never could. So does what tells the company
  -- how its callbacks do.
  if most == nil then most = redis.call('HGET', prefix .. 'quota', 'waiting_bytes') end
  local callbacks = tonumber(ARGV[6])
  if most and callbacks > 0 then
    local there = tonumber(redis.call('HGET', waiting, '/') or 0)
    if there > 0 and there + (tonumber(ARGV[5]) or #ARGV[4]) > tonumber(most) then
      local kind = cjson.decode(ARGV[3]).t
      if kind ~= TYPE_FAILING and kind ~= TYPE_DISABLED then return {'quota', most, int(there)} end
    end
  end

  -- Once one has found the company asleep, those behind it wait for it: their order is that of the log.
  if callbacks > 0 or nap then nap = sleeping() end
  if nap then return nap end

  local log = enlist(id)
  local again = redis.call('HSET', ev, 'b', ARGV[4], 'a', log) < 2 -- an earlier run failed half-way
  if again then redis.call('HDEL', ev, 'n', 'z') end
  if ARGV[5] ~= '' then redis.call('HSET', ev, 'z', ARGV[5]) end
  if callbacks > 1 then redis.call('HSET', ev, 'n', callbacks) end
  if most and callbacks > 0 then waits(ev) end
  local share, late, slow, begun, page, numbers = shareOf(callbacks), {}, {}, {}, {}, ''
  weight = tonumber(ARGV[5]) or #ARGV[4]
  for i = 8, #ARGV, 3 do
    page[#page + 1] = ARGV[i]
    local cb, r = ARGV[i], {gen = 1, num = 0, spent = 0, log = ''}
    local token, lease = string.match(ARGV[i + 1], '^(%S+) (%d+)$')
    local key, member, first = ARGV[i + 2], id .. '/' .. cb, true
    if key ~= '' then
      local n
      n, first = queue().join(ev, member, cb, key, again and ev or prefix .. 'gone:' .. id)
      numbers = numbers .. ',' .. cb .. ':' .. n
    end
    if not first then
      stand(r, ev, 'd' .. cb, member, cb, key)
      late[#late + 1] = cb
    elseif not admit(r, ev, 'd' .. cb, member, cb, share, token, lease) then
      late[#late + 1] = cb
    elseif r.slow then
      slow[#slow + 1] = cb
    elseif token then
      begun[#begun + 1] = cb
    end
  end
  local held = table.concat(late, ',')
  if held ~= '' then redis.call('HSET', ev, 'h', held) end
  if ARGV[7] ~= '' then later(ev, id, callbacks, ARGV[7], page) end
  redis.call('HSET', ev, 'm', ARGV[3]) -- last: an event that has it is whole, and a repeat is a duplicate
  if callbacks == 0 then age(ev, RETENTION * 1000) end
  local out = {'accepted', log, held, table.concat(slow, ','), table.concat(begun, ',')}
  if numbers ~= '' or next(told) then
    local pumps = {}
    for cb, ms in pairs(told) do pumps[#pumps + 1] = cb .. ':' .. int(ms) end
    told = {}
    out[6], out[7] = table.concat(pumps, ','), string.sub(numbers, 2)
  end
  return out
end)
