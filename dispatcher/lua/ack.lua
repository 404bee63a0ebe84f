-- Goes on in what waits for the partner to fetch it: a page of it is acknowledged, or jumped over. Or goes back, to where it is fetched again.
-- ARGV: callback id, 'ack' or 'seek', place, deliveries at most, line of an attempt with %n and %t for number and time (ack), line of the audit trail (seek)
-- -> {'closed', the callback's status} | {'ahead', last place that was given}: nobody was given that place
--  | {'ok', place up to which is acknowledged now, how many were delivered or cancelled, '1' if that is not all yet}
-- Jumping is told in the audit trail with its first page, by a line like no other. A command that is repeated finds nothing left to do, or does the next page.
local cb, acks, limit = ARGV[1], ARGV[2] == 'ack', tonumber(ARGV[4])
local closed = gate(cb)
if not pulled(closed) then return {'closed', statusOf(closed) or 'enabled'} end
local key, room = prefix .. 'pull:' .. cb, prefix .. 'room:' .. cb
local h = redis.call('HMGET', key, 'at', 'ack', 'got')
local was = tonumber(h[2] or 0)
local given = math.max(tonumber(h[1] or 0), was)
local to = tonumber(ARGV[3])
if acks and to > given and to >= (now + 60000) * ORDER_SCALE then return {'ahead', int(given)} end
-- What no poll gave has not been fetched, whatever cursor somebody took for one of this callback. Nor has what is written later.
to = math.min(to, acks and math.max(was, math.min(tonumber(h[3] or 0), given)) or given)
local page = to > was and redis.call('ZRANGEBYSCORE', room, '-inf', int(to), 'WITHSCORES', 'LIMIT', 0, limit) or {}
local more = #page == 2 * limit
if acks and to < was then to = was end
if more then to = tonumber(page[#page]) end

-- A place as the partner knows it.
local function cursor(place) return int(math.floor(place / ORDER_SCALE)) .. '-' .. int(place % ORDER_SCALE) end

local function done(member, place)
  local r, ev, field = load(member)
  if not r or r.s ~= 'H' then return unhold(cb, member) end
  if acks then
    local _, lines = string.gsub(r.log, '\n', '')
    r.s, r.num = 'D', r.num + 1
    if lines < 200 then r.log = r.log .. '\n' .. string.gsub(ARGV[5], '%%(%a)', {n = int(r.num), t = int(now)}) end
  else
    r.s = 'C'
  end
  r.at, r.tok = now, '-'
  redis.call('HSET', ev, field, format(r))
  close(ev, member, cb, r.s)
  if acks then redis.call('ZADD', fetched(cb), place, member) end
  tell(member, r.s)
end

for i = 1, #page, 2 do done(page[i], page[i + 1]) end
if to ~= was then
  redis.call('HSET', key, 'ack', int(to))
  if not acks and ARGV[6] ~= '' and not inTrail(ARGV[6]) then
    local goal = math.min(tonumber(ARGV[3]), given)
    local left = redis.call('ZCOUNT', room, '-inf', int(goal)) -- of later pages
    audit(trail, ARGV[6], {{field = 'acknowledged', old = cursor(was), new = cursor(goal)}, {field = 'cancelled', new = left + #page / 2}})
  end
end
if acks and #page > 0 then
  health(cb, 'ok', int(now))
  local KEPT = RETENTION * 1000 + HOLD_AGE * 1000 + 86400000
  redis.call('ZREMRANGEBYSCORE', fetched(cb), '-inf', int((now - KEPT) * ORDER_SCALE))
  redis.call('PEXPIRE', fetched(cb), int(KEPT + 2592000000)) -- a month beyond that, so that no step of Redis's clock takes what is kept
end
return {'ok', int(to), #page / 2, more and '1' or ''}
