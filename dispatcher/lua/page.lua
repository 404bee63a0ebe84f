-- A page of the log, newest first: up to so many events, and fewer if they have many deliveries. Of an event with more than a run should read the
-- deliveries are left out: they are to be read by themselves.
-- ARGV: from log id, to log id, limit, callback id (0: all)
-- -> {'more'|'end', {log id, event id, meta, '1' if deliveries are left out, field, value, ...}, ...}
local MANY = 500
local limit, only, records = tonumber(ARGV[3]), 'd' .. ARGV[4], 0
local entries = redis.call('XREVRANGE', prefix .. 'log', ARGV[1], ARGV[2], 'COUNT', limit)
local out = {#entries == limit and 'more' or 'end'}
for _, entry in ipairs(entries) do
  local ev = prefix .. 'ev:' .. entry[2][2]
  local fields, large = {only}, false
  if only == 'd0' then
    large = redis.call('HLEN', ev) > MANY
    fields = large and {} or redis.call('HKEYS', ev)
  end
  local row = {entry[1], entry[2][2], redis.call('HGET', ev, 'm') or '', large and '1' or ''}
  for _, field in ipairs(fields) do
    local record = string.find(field, '^d%d') and redis.call('HGET', ev, field)
    if record then
      row[#row + 1] = field
      row[#row + 1] = record
      records = records + 1
    end
  end
  out[#out + 1] = row
  if large or records > MANY then
    out[1] = 'more'
    break
  end
end
return out
