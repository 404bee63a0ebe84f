-- Sweeps a page of the log: events that have had their time go, and so do entries whose events are gone, and summaries of blocks of which nothing is left.
-- Where it begins, it sweeps the books of decisions, replays, claims and batches, too, what is known of bodies if they stay as long as their events, and what
-- watchers left.
-- ARGV: from log id ('-' to begin), limit -> where to go on, '-' when all was seen
local log = prefix .. 'log'
if ARGV[1] == '-' then
  watching()
  endClaims(prefix .. 'idems', ARGV[2])
  if isSpecial() then ending().sweep(ARGV[2]) end
  if BODY_RETENTION == 0 then redis.call('UNLINK', bodies, bodies .. ':at') end
  for _, names in ipairs({{'asks', 'ask:'}, {'replays', 'replay:'}}) do
    local book, kind = names[1], names[2]
    for _, id in ipairs(redis.call('ZRANGE', prefix .. book, 0, ARGV[2] - 1)) do
      local key = prefix .. kind .. id
      if aged(key) then redis.call('UNLINK', key) end
      if redis.call('EXISTS', key) == 0 then redis.call('ZREM', prefix .. book, id) end
    end
  end
end
local newest = int(math.max(0, now - RETENTION * 1000))
local entries = redis.call('XRANGE', log, ARGV[1], newest, 'COUNT', ARGV[2])
for _, entry in ipairs(entries) do
  local ev = prefix .. 'ev:' .. entry[2][2]
  if aged(ev) then redis.call('UNLINK', ev) end
  if redis.call('EXISTS', ev, prefix .. 'gone:' .. entry[2][2]) == 0 then redis.call('XDEL', log, entry[1]) end
end
local blocks, last = prefix .. 'blocks', entries[#entries]
for _, block in ipairs(last and redis.call('XRANGE', blocks, ARGV[1], last[1], 'COUNT', 20) or {}) do
  if #redis.call('XRANGE', log, '(' .. block[2][2], block[1], 'COUNT', 1) == 0 then
    redis.call('XDEL', blocks, block[1])
    redis.call('HDEL', finals, block[1], '~' .. block[1])
    redis.call('ZREM', unsettled, block[1])
  end
end
if #entries < tonumber(ARGV[2]) then return '-' end
return '(' .. entries[#entries][1]
