-- Looks what there is to do for a company.
-- -> {'1' if there is any work, '1' if it is awake, '1' if a room is due, '1' if notices wait, '1' if something is overdue, '1' if a replay runs,
--     '1' if there is anything else, version, log id of the last event}
local function yes(is) return is and '1' or '' end
local function ripe(key)
  return #redis.call('ZRANGEBYSCORE', key, '-inf', int(now), 'LIMIT', 0, 1) > 0
end
local awake = yes(tonumber(redis.call('GET', vigil) or '0') > 0)
local holds = yes(redis.call('EXISTS', prefix .. 'log', dead, prefix .. 'waiting', prefix .. 'audit', prefix .. 'cb', prefix .. 'buried', prefix .. 'asks',
  prefix .. 'replays', prefix .. 'live') > 0)
if not work() then
  local last = redis.call('XREVRANGE', prefix .. 'log', '+', '-', 'COUNT', 1)[1]
  return {'', awake, '', '', '', '', holds, redis.call('GET', prefix .. 'ver') or '0', last and last[1] or ''}
end
return {'1', awake, yes(ripe(rooms)), yes(redis.call('EXISTS', prefix .. 'notices') > 0), yes(ripe(due) or ripe(prefix .. 'paged')),
  yes(redis.call('EXISTS', prefix .. 'replaying') > 0), holds, '', ''}
