-- Accepts an event and a delivery for each matched callback, or nothing. A delivery whose caller has a place for its first attempt begins it, if
-- it may go at once.
-- ARGV: event id, registry version matched at, meta, body, callback id, token and lease (ms) of its first attempt or '', ...
-- -> {'exists', meta, log id, held csv, callback id, record, ...} | {'version', current} | {'quota', limit, bytes that wait} | {'accepted', log id, held csv, csv of what goes to the slow lane, csv of what has begun}
local version, most
return each(function(ARGV)
  local id = ARGV[1]
  local ev = prefix .. 'ev:' .. id
  local first = redis.call('HMGET', ev, 'm', 'a', 'h')
  if first[1] then
    local out = {'exists', first[1], first[2], first[3] or ''}
    for _, field in ipairs(redis.call('HKEYS', ev)) do
      local cb = string.match(field, '^d(%d+)$')
      if cb then
        out[#out + 1] = cb
        out[#out + 1] = redis.call('HGET', ev, field)
      end
    end
    return out
  end
  version = version or redis.call('GET', prefix .. 'ver') or '0'
  if version ~= ARGV[2] then return {'version', version} end

  -- A quota on the bytes that wait. If none wait, one that is larger than the quota gets in: else it never could. So does what tells the company
  -- how its callbacks do.
  if most == nil then most = redis.call('HGET', prefix .. 'quota', 'waiting_bytes') end
  if most and #ARGV > 4 then
    local there = tonumber(redis.call('HGET', waiting, '/') or 0)
    if there > 0 and there + #ARGV[4] > tonumber(most) then
      local kind = cjson.decode(ARGV[3]).t
      if kind ~= 'callback.failing' and kind ~= 'callback.disabled' then return {'quota', most, int(there)} end
    end
  end

  local log = redis.call('XADD', prefix .. 'log', '*', 'e', id)
  redis.call('HSET', ev, 'b', ARGV[4], 'a', log, 'n', (#ARGV - 4) / 2)
  if most and #ARGV > 4 then waits(ev) end
  -- An event fills a window, however many callbacks it has: what comes out of the rooms in chains costs less than what goes by the lanes.
  local share = math.max(1, math.floor(WINDOW / ((#ARGV - 4) / 2)))
  local late, slow, begun = {}, {}, {}
  for i = 5, #ARGV, 2 do
    local cb, r = ARGV[i], {gen = 1, num = 0, spent = 0, log = ''}
    local token, lease = string.match(ARGV[i + 1], '^(%S+) (%d+)$')
    if not admit(r, ev, 'd' .. cb, id .. '/' .. cb, cb, share, token, lease) then
      late[#late + 1] = cb
    elseif r.slow then
      slow[#slow + 1] = cb
    elseif token then
      begun[#begun + 1] = cb
    end
  end
  local held = table.concat(late, ',')
  if held ~= '' then redis.call('HSET', ev, 'h', held) end
  redis.call('HSET', ev, 'm', ARGV[3]) -- last: an event that has it is whole, and a repeat is a duplicate
  if #ARGV == 4 then redis.call('EXPIRE', ev, RETENTION) end
  return {'accepted', log, held, table.concat(slow, ','), table.concat(begun, ',')}
end)
