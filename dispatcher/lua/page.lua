-- A page of the log, newest first: up to so many events, and fewer if they have many deliveries.
-- ARGV: from log id, to log id, limit, callback id (0: all) -> {'more'|'end', {log id, event id, meta, field, value, ...}, ...}
local limit, only, records = tonumber(ARGV[3]), 'd' .. ARGV[4], 0
local entries = redis.call('XREVRANGE', prefix .. 'log', ARGV[1], ARGV[2], 'COUNT', limit)
local out = {#entries == limit and 'more' or 'end'}
for _, entry in ipairs(entries) do
  local ev = prefix .. 'ev:' .. entry[2][2]
  local fields = {only}
  if only == 'd0' then fields = redis.call('HKEYS', ev) end
  local row = {entry[1], entry[2][2], redis.call('HGET', ev, 'm') or ''}
  for _, field in ipairs(fields) do
    local record = string.find(field, '^d%d') and redis.call('HGET', ev, field)
    if record then
      row[#row + 1] = field
      row[#row + 1] = record
      records = records + 1
    end
  end
  out[#out + 1] = row
  if records > 2000 then
    out[1] = 'more'
    break
  end
end
return out
