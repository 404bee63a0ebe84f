-- Removes a page of the log's entries that are older than retention and whose events are gone.
-- ARGV: from log id ('-' to begin), limit -> where to go on, '-' when all was seen
local newest = int(math.max(0, now - RETENTION * 1000))
local entries = redis.call('XRANGE', prefix .. 'log', ARGV[1], newest, 'COUNT', ARGV[2])
for _, entry in ipairs(entries) do
  if redis.call('EXISTS', prefix .. 'ev:' .. entry[2][2], prefix .. 'gone:' .. entry[2][2]) == 0 then redis.call('XDEL', prefix .. 'log', entry[1]) end
end
if #entries < tonumber(ARGV[2]) then return '-' end
return '(' .. entries[#entries][1]
