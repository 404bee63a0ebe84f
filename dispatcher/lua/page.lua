-- A page of the log, newest first. ARGV: from log id, to log id, limit -> { {log id, event id, meta, field, value, ...}, ... }
local out = {}
for _, entry in ipairs(redis.call('XREVRANGE', prefix .. 'log', ARGV[1], ARGV[2], 'COUNT', ARGV[3])) do
  local ev = prefix .. 'ev:' .. entry[2][2]
  local row = {entry[1], entry[2][2], false}
  for _, field in ipairs(redis.call('HKEYS', ev)) do
    if field == 'm' then
      row[3] = redis.call('HGET', ev, field)
    elseif string.find(field, '^d%d') then
      row[#row + 1] = field
      row[#row + 1] = redis.call('HGET', ev, field)
    end
  end
  if row[3] then out[#out + 1] = row else out[#out + 1] = {entry[1], entry[2][2], ''} end
end
return out
