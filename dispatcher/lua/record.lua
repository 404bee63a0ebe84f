-- Shared head of every script. KEYS[1] is '{company}:due'; all other keys share its hash tag, hence its slot.
-- On a Redis Cluster KEYS[2] is a key that there never is.
--
-- A record is one line of header and the attempts, one JSON line each:
--   STATE generation number spent at token \n attempts
-- STATE: P pending, A active, R retrying, H held, D delivered, X dead, C cancelled.
-- at (ms): P waiting since, A begun, R next attempt due, H held since, D X C finished.
--
-- The first part is every script's; of the others, which stand apart by an empty line, each script has those that it uses, directly or through
-- others. A part uses only what stands above it.
--
-- ARGV[1] of every script are the installation's settings, by position; the script's own arguments are counted from 1 after it.
local settings = table.remove(ARGV, 1)
local prefix = string.sub(KEYS[1], 1, -4)

local WINDOW, RETENTION, HOLD_MAX, HOLD_AGE, DISABLE_AFTER, PATIENCE, BODY_RETENTION = string.match(settings, '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)')
WINDOW, RETENTION, HOLD_MAX, HOLD_AGE = tonumber(WINDOW), tonumber(RETENTION), tonumber(HOLD_MAX), tonumber(HOLD_AGE) -- s but for the counts
DISABLE_AFTER = tonumber(DISABLE_AFTER) -- s, 0: never
PATIENCE = tonumber(PATIENCE) -- ms: a pending delivery that nobody began after this long is worth a look; so is a retry this long after its time
BODY_RETENTION = tonumber(BODY_RETENTION) -- s, 0: as long as the event

local due, rooms, dead = KEYS[1], prefix .. 'rooms', prefix .. 'dead'

-- The installation's time (ms): Redis's and an offset, which the process knows. It also knows about what time it is, and that counts where Redis's clock
-- has stepped since: then it is far before that, or farther after it than a call is on its way.
local clock = redis.call('TIME')
local wall = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local now = wall
local STEADY, OFFSET = string.match(settings, '@(%d+) (%-?%d+)$')
if STEADY then
  STEADY, now = tonumber(STEADY), wall + tonumber(OFFSET)
  if now < STEADY - 2000 or now > STEADY + 5000 then now = STEADY end
end

-- Runs a step for each of the calls that came together, in their order: ARGV are those calls' arguments, each after their number. One that
-- fails keeps no other from its turn. -> an answer for each: the step's, or {'error', what Redis said}
local function each(step)
  local out, at = {}, 1
  while at <= #ARGV do
    local n, args = tonumber(ARGV[at]), {}
    for i = 1, n do args[i] = ARGV[at + i] end
    local done, answer = pcall(step, args)
    out[#out + 1] = done and answer or {'error', type(answer) == 'table' and answer.err or tostring(answer)}
    at = at + 1 + n
  end
  return out
end

-- How long after a worker had no turn for a callback the pump leaves its room alone: each attempt that ends lets one out meanwhile.
local BUSY = 5000

-- How often (ms) a closed room is looked at for what has waited too long. Resuming moves it to the front.
local AIRING = 60000

local function int(n) return string.format('%.0f', n) end

local function parse(text)
  local s, g, n, sp, at, tok, log = string.match(text, '^(%u) (%d+) (%d+) (%d+) (%d+) (%S+)(.*)$')
  return {s = s, gen = tonumber(g), num = tonumber(n), spent = tonumber(sp), at = tonumber(at), tok = tok, log = log}
end

local function format(r) return string.format('%s %.0f %.0f %.0f %.0f ', r.s, r.gen, r.num, r.spent, r.at) .. r.tok .. r.log end

local function final(s) return s == 'D' or s == 'X' or s == 'C' end

-- A delivery's place: its event's hash, its field in it, its callback.
local function place(member)
  local event, cb = string.match(member, '^(.+)/(%d+)$')
  return prefix .. 'ev:' .. event, 'd' .. cb, cb
end

local function load(member)
  local ev, field, cb = place(member)
  local text = redis.call('HGET', ev, field)
  if not text then return nil, ev, field, cb end
  return parse(text), ev, field, cb
end

-- What a run has read of its callbacks is remembered until it writes there: calls that travel together are mostly for the same ones.
local gates, paces, inside, outside, well = {}, {}, {}, {}, {}

-- Whether somebody watches the company is read with the first gate: where nobody does, no step has a command more.
local watch = nil -- {c}:watched, false: nobody does, nil: not known yet
local function gate(cb)
  if gates[cb] ~= nil then return gates[cb] end
  if watch == nil then
    local both = redis.call('MGET', prefix .. 'gate:' .. cb, prefix .. 'watched')
    gates[cb], watch = both[1], both[2]
  else
    gates[cb] = redis.call('GET', prefix .. 'gate:' .. cb)
  end
  return gates[cb]
end

-- Those who watch a company's deliveries (watch.lua) have {c}:watched: until when they do (ms), an epoch, until when nothing is told (ms), and until when all
-- is (ms). And {c}:live, a stream of what changed: m whose state, s to which letter; without m, that what came next was not told. Returns what {c}:watched
-- says, or nil if nobody watches: what watchers left behind goes.
local live, MOST_NEWS, WATCH = prefix .. 'live', 4096, 60000
local function watching()
  if watch == nil then watch = redis.call('GET', prefix .. 'watched') end
  if not watch then return nil end
  if type(watch) == 'string' then
    local till, epoch, hush, all = string.match(watch, '^(%d+) (%w+) (%d+) (%d+)$')
    watch = {till = tonumber(till or 0), epoch = epoch, hush = tonumber(hush or 0), all = tonumber(all or 0)}
  end
  if watch.till >= now and watch.till <= now + 2 * WATCH then return watch end
  watch = false
  redis.call('UNLINK', prefix .. 'watched', live)
end

-- Tells them of a delivery that came to a state, or stayed there with one attempt more. The caller has written the record. Nothing else depends on it.
local function tell(member, s)
  local w = watching()
  if w and (w.hush <= now or w.hush > now + WATCH) then redis.pcall('XADD', live, 'MAXLEN', '~', MOST_NEWS, '*', 'm', member, 's', s) end
end

-- How many of a callback's deliveries are in the lanes, and how one comes there and goes.
local function lanes(cb)
  if not inside[cb] then inside[cb] = redis.call('SCARD', prefix .. 'ready:' .. cb) end
  return inside[cb]
end

local function enter(cb, member)
  local new = redis.call('SADD', prefix .. 'ready:' .. cb, member)
  if inside[cb] then inside[cb] = inside[cb] + new end
end

local function leave(cb, member)
  local gone = redis.call('SREM', prefix .. 'ready:' .. cb, member)
  if inside[cb] then inside[cb] = inside[cb] - gone end
end

-- How many wait in a callback's room, and how one stops to.
local function held(cb)
  if not outside[cb] then outside[cb] = redis.call('ZCARD', prefix .. 'room:' .. cb) end
  return outside[cb]
end

local function unhold(cb, member)
  if held(cb) > 0 then outside[cb] = outside[cb] - redis.call('ZREM', prefix .. 'room:' .. cb, member) end
end

-- A closed gate's status; nil of an open one.
local function statusOf(g) return g and cjson.decode(g).status end

-- The registry writes a deleted callback's gate with its status first.
local function deleted(g) return g and string.find(g, '{"status":"deleted"', 1, true) == 1 end

-- When its event was accepted (ms): the time in its log id.
local function accepted(ev) return string.match(redis.call('HGET', ev, 'a') or '', '^(%d+)') end

-- The order of acceptance as a score: time and sequence of its log id. 2^53 leaves 4,096 to a millisecond.
local function order(ev)
  local ms, seq = string.match(redis.call('HGET', ev, 'a') or '', '^(%d+)-(%d+)$')
  return int(tonumber(ms or 0) * ORDER_SCALE + math.min(tonumber(seq or 0), ORDER_SCALE - 1))
end

-- A delivery waits for its next attempt, or stops to. The caller writes the record.
local function retries(ev, member, cb) redis.call('ZADD', prefix .. 'retry:' .. cb, accepted(ev), member) end

local function retriesNoMore(r, member, cb)
  if r.s == 'R' then redis.call('ZREM', prefix .. 'retry:' .. cb, member) end
end

-- A callback's health: what does not follow from the records at a glance. A deleted one has none any more.
local function health(cb, ...)
  if not deleted(gate(cb)) then redis.call('HSET', prefix .. 'health:' .. cb, ...) end
end

local function letters(cb, n)
  if not deleted(gate(cb)) then redis.call('HINCRBY', prefix .. 'health:' .. cb, 'dead', n) end
end

-- A dead delivery leaves the book. One that was pruned left it before. The caller writes the record.
local function unbook(ev, member, cb)
  if redis.call('ZREM', dead, member) == 0 then return end
  redis.call('HINCRBY', ev, 'x', -1)
  letters(cb, -1)
end

-- What was pruned is dead and in no book: its record's token ends so, after what buried it, if anything did.
local PRUNED = 'pruned'
local function pruned(r) return r.s == 'X' and string.sub(r.tok, -#PRUNED) == PRUNED end

-- What has had its time goes with the sweep of its company (trim.lua), not by Redis's own expiry: a step of Redis's clock would take all of it at once. The
-- time stands in the key's expiry all the same, which costs nothing, and so far ahead that Redis lets the key alone.
local FAR = 315360000000 -- ms: ten years
local function age(key, ms) redis.call('PEXPIREAT', key, int(now + ms + FAR)) end
local function ages(key) return redis.call('PTTL', key) > FAR / 2 end
local function aged(key)
  local left = redis.call('PTTL', key)
  return left > FAR / 2 and wall + left - FAR <= now -- less was set by a program of before, and is Redis's
end

local function eventOf(ev) return string.sub(ev, #prefix + 4) end

-- The events whose body waits to leave; score: when they ended (ms). And how many fields an event has at most whose deliveries are looked at to know that.
local bodies, FEW_FIELDS = prefix .. 'bodies', 24

-- Once nothing of an event is unfinished or dead, it may age. Its body may leave before it. Most bodies are found by the walk over the log that bodies.lua
-- makes: only what ends behind that walk, or has so many deliveries that the walk would not know when it ended, is written down.
local function settle(ev)
  local c = redis.call('HMGET', ev, 'n', 'x', 'a')
  if tonumber(c[1] or 0) > 0 or tonumber(c[2] or 0) > 0 then return end
  age(ev, RETENTION * 1000)
  if BODY_RETENTION == 0 then return end
  local came = tonumber(string.match(c[3] or '', '^(%d+)') or 0)
  if came <= now - BODY_RETENTION * 1000 or c[1] and redis.call('HLEN', ev) > FEW_FIELDS then
    redis.call('ZADD', bodies, int(now), eventOf(ev))
  end
end

-- {c}:finals has of blocks of the log whose deliveries are all final which states those are in, under '/' the last block that was looked at, and
-- {c}:unsettled the other blocks (settle.lua). A delivery that gets another state after it was final takes its block from the one to the other.
local finals, unsettled, changed = prefix .. 'finals', prefix .. 'unsettled', nil -- changed: the block that this run took last
local function unsettle(ev)
  if redis.call('EXISTS', finals) == 0 then return end
  local at = redis.call('HGET', ev, 'a') or '+'
  local ms, seq = string.match(at, '^(%d+)-(%d+)$')
  local function above(id)
    local other, nth = string.match(id, '^(%d+)-(%d+)$')
    return tonumber(ms) > tonumber(other) or ms == other and tonumber(seq) > tonumber(nth)
  end
  if changed and ms and above(changed[2][2]) and not above(changed[1]) then return end
  local block = redis.call('XRANGE', prefix .. 'blocks', at, '+', 'COUNT', 1)[1]
  if block and redis.call('HDEL', finals, block[1], '~' .. block[1]) > 0 then redis.call('ZADD', unsettled, int(now), block[1]) end
  changed = block
end

-- Bytes of payload that wait, for a company with a quota on them and for no other: a hash of event -> bytes, and their sum under '/', which is
-- in no event's id. An event stands in it at most once, and the sum changes with it in one step: so it is the sum of what stands there,
-- whatever is repeated or lost. What stands there and what should are compared by the reconciler (count.lua).
local waiting, counted = prefix .. 'waiting', nil -- counted: whether anything stands in it, once that is known
local function waits(ev)
  if redis.call('HEXISTS', prefix .. 'quota', 'waiting_bytes') == 0 then return end
  local bytes = redis.call('HGET', ev, 'z') or redis.call('HSTRLEN', ev, 'b') -- z: the length of a payload that is compressed
  counted = true
  if redis.call('HSETNX', waiting, eventOf(ev), bytes) == 1 then redis.call('HINCRBY', waiting, '/', bytes) end
end
local function waitsNoMore(ev)
  if counted == nil then counted = redis.call('EXISTS', waiting) == 1 end
  if not counted then return end
  local bytes = redis.call('HGET', waiting, eventOf(ev))
  if not bytes then return end
  redis.call('HDEL', waiting, eventOf(ev))
  redis.call('HINCRBY', waiting, '/', -bytes)
end

-- An unfinished delivery becomes final. The caller writes the record. An event counts in its field n how many are unfinished: but one with a single
-- delivery only once that was replayed, for a field costs a hundred bytes.
local function close(ev, member, cb, state)
  redis.call('ZREM', due, member)
  leave(cb, member)
  unhold(cb, member)
  local unfinished = redis.call('HEXISTS', ev, 'n') == 1 and redis.call('HINCRBY', ev, 'n', -1) or 0
  if unfinished <= 0 then waitsNoMore(ev) end
  if state == 'X' then
    redis.call('HINCRBY', ev, 'x', 1)
    redis.call('ZADD', dead, accepted(ev), member)
    letters(cb, 1)
  elseif unfinished <= 0 then
    settle(ev)
  end
end

-- A held delivery goes to the dead-letter book without another attempt; its record's token says why.
local function bury(r, ev, field, member, cb, why)
  r.s, r.at, r.tok = 'X', now, why
  redis.call('HSET', ev, field, format(r))
  close(ev, member, cb, 'X')
  redis.call('HINCRBY', prefix .. 'buried', why, 1)
  tell(member, 'X')
end

-- Notes what is known of a host in a hash of many, which goes once nothing was noted in it for so long (ms). Each text ends with a time (ms). For
-- a name that is new, a few names are looked at, and what is as old goes: so they do not pile up in a hash that never rests.
local function noteHost(key, name, text, memory)
  if redis.call('HSET', key, name, text) == 1 then
    for _, other in ipairs(redis.call('HRANDFIELD', key, 4)) do
      local at = string.match(redis.call('HGET', key, other), '(%d+)$')
      if not at or now - tonumber(at) > memory then redis.call('HDEL', key, other) end
    end
  end
  redis.call('PEXPIRE', key, memory + 86400000) -- it is only tidied up: what is too old does not count
end

-- The breaker of a destination's host, over all callbacks of the company that go there. {c}:hosts has it by the host's name, which stands in
-- each callback's health as hn: failures in a row, probes that failed, nothing goes before (ms), narrow since (ms, 0: it is not), the callback
-- that failed last, when that was (ms).
local hosts = prefix .. 'hosts'
-- While a host is narrow, one delivery goes out to it at a time. If nobody says how that ended, the next one goes after this long (ms): the
-- longest attempt, and some time in a lane.
local PROBE = 75000

local function host(name)
  local f, k, o, b, cb, at = string.match(name and redis.call('HGET', hosts, name) or '', '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$')
  if not f or now - tonumber(at) > HOST_MEMORY then return {name = name, failures = 0, probes = 0, before = 0, since = 0} end
  return {
    name = name, failures = tonumber(f), probes = tonumber(k), before = math.min(tonumber(o), now + PROBE), since = math.min(tonumber(b), now),
    cb = cb, at = tonumber(at),
  }
end

local function spare(h)
  paces, well = {}, {}
  noteHost(hosts, h.name, table.concat({h.failures, h.probes, int(h.before), int(h.since), h.cb, int(h.at)}, ' '), HOST_MEMORY)
end

-- What stops a callback's deliveries for a while, from its health: the breaker (l: how many may be out at once, absent while it is closed;
-- o: nothing goes out before (ms); b: since when (ms) what is in the lanes was let out under it), and the rate limit's bucket.
local function pace(cb)
  if paces[cb] then return paces[cb] end
  local h = redis.call('HMGET', prefix .. 'health:' .. cb, 'l', 'o', 'b', 'tk', 'ta', 'f', 'hn')
  local p = {limit = tonumber(h[1]), failures = tonumber(h[6] or 0), before = tonumber(h[2] or 0), since = tonumber(h[3] or 0)}
  -- Redis's clock may step back, when another takes its place: no pause is longer than half a minute, and no bucket waits for its old time.
  if p.before > now + 30000 then
    redis.call('HSET', prefix .. 'health:' .. cb, 'o', int(now))
    p.before = now
  end
  local there = host(h[7])
  if there.since > 0 then
    p.host, p.limit, p.failures = there, 1, math.max(p.failures, there.failures)
    p.before, p.since = math.max(p.before, there.before), math.max(p.since, there.since)
  end
  local per_second, burst = string.match(redis.call('GET', prefix .. 'rate:' .. cb) or '', '^(%S+) (%S+)$')
  if per_second then
    p.per_second, p.burst = tonumber(per_second), tonumber(burst)
    local at = tonumber(h[5] or now)
    if at > now then redis.call('HSET', prefix .. 'health:' .. cb, 'ta', int(now)) end
    p.tokens = math.min(p.burst, tonumber(h[4] or burst) + math.max(0, now - at) * p.per_second / 1000)
  end
  paces[cb] = p
  return p
end

-- How long (ms) a rate limit keeps a delivery waiting that finds no token. It is let wait for several tokens, if there is room for them in the
-- bucket: looking for each would cost more than sending it.
local function tokenIn(p)
  local enough = math.min(p.burst, math.max(1, p.per_second / 20))
  return math.max(1, math.ceil((enough - p.tokens) * 1000 / p.per_second))
end

-- What comes out of a room tops the lanes up to so many, no more than five processes attempt at a time: the rest would only wait there, and
-- be overtaken by what attempts that end let out.
local FLOW = math.min(WINDOW, 256)

-- How many deliveries may go out now, of most in the lanes; if time stands in the way, how long that lasts (ms).
local function allowance(cb, p, most)
  local out = lanes(cb)
  local places = most - out
  if p.limit then
    if p.before > now then return 0, p.before - now end
    places = math.min(places, p.limit - out)
  end
  if places > 0 and p.tokens then
    if p.tokens < 1 then return 0, tokenIn(p) end
    places = math.min(places, math.floor(p.tokens))
  end
  return math.max(0, places), 0
end

local function spend(cb, p, n)
  if n == 0 then return end
  if p.host then -- what goes out is the host's probe
    p.host.before = now + PROBE
    spare(p.host)
  end
  if not p.tokens then return end
  p.tokens = p.tokens - n
  paces[cb] = nil -- what is kept is rounded
  redis.call('HSET', prefix .. 'health:' .. cb, 'tk', string.format('%.4f', p.tokens), 'ta', int(now))
end

-- A callback whose partner fetches has a gate that never opens, under whatever else closes it. What waits behind it is in the order in which it was written: a
-- cursor must never pass what is written later, such as a page of a large fan-out, or a replay. {c}:pull:<cb> has at, the last place that was given, and ack,
-- up to which deliveries were acknowledged. A place is made of the time, so that after Redis lost its last second none is given that was given before.
local function pulled(g) return g and string.find(g, '"status":"pull"', 1, true) end

-- What of a callback was acknowledged, and is still there to be fetched again, by its place.
local function fetched(cb) return prefix .. 'fetched:' .. cb end

local function nextPlace(cb, member)
  local key = prefix .. 'pull:' .. cb
  local h = redis.call('HMGET', key, 'at', 'ack')
  local at = int(math.max(now * ORDER_SCALE, tonumber(h[1] or 0) + 1, tonumber(h[2] or 0) + 1))
  redis.call('HSET', key, 'at', at)
  redis.call('ZREM', fetched(cb), member) -- it has one place
  return at
end

-- A delivery waits in the room, in the order of acceptance. Is the room full, its oldest goes to the dead-letter book. Writes the record.
local function hold(r, ev, field, member, cb, closed)
  local room = prefix .. 'room:' .. cb
  r.s, r.at, r.tok = 'H', now, '-'
  redis.call('HSET', ev, field, format(r))
  redis.call('ZREM', due, member)
  leave(cb, member)
  outside[cb] = held(cb) + redis.call('ZADD', room, pulled(gate(cb)) and nextPlace(cb, member) or order(ev), member)
  redis.call('ZADD', rooms, 'NX', int(closed and now + AIRING or now), cb)
  tell(member, 'H')
  if held(cb) > HOLD_MAX then
    local oldest = redis.call('ZRANGE', room, 0, 0)[1]
    local o, oev, ofield = load(oldest)
    if o and o.s == 'H' then bury(o, oev, ofield, oldest, cb, 'hold_full') else unhold(cb, oldest) end
  end
end

-- A partner who does not answer at all is tried one at a time, one who answers, only not as the contract wants, a few at a time.
local FEW = 8

-- Whether what goes out now most likely fails: the breaker is open, and not just widening again.
local function fails(p) return p.limit and p.limit <= FEW and p.failures > 0 end

-- What is enqueued: the generation, and s if it goes to the slow lane, where nobody waits behind it who does well.
local function ticket(r) return int(r.gen) .. (r.slow and 's' or '') end

-- Out of the room, or past it: into the window. Where there is a token, whose owner has so long (ms), it begins, unless it goes to the slow lane.
-- Writes the record.
local function ready(r, ev, field, member, cb, p, token, lease)
  r.slow = fails(p)
  r.s, r.at, r.tok = 'P', now, '-'
  local worry = now + PATIENCE
  if token and not r.slow then
    r.s, r.num, r.tok, worry = 'A', r.num + 1, token, now + tonumber(lease)
  end
  redis.call('ZADD', due, int(worry), member) -- first: what is written of a delivery and stands nowhere is looked at by nobody
  enter(cb, member)
  redis.call('HSET', ev, field, format(r))
end

-- A delivery that may go now takes a place in the window, if gate, room and pace say so; else it waits in the room. Writes the record;
-- returns true if it may be enqueued, or has begun under the token. most: how many of the callback may be in the lanes.
local function admit(r, ev, field, member, cb, most, token, lease)
  local closed = gate(cb)
  if not closed and held(cb) == 0 then
    local p = pace(cb)
    if allowance(cb, p, most) > 0 then
      spend(cb, p, 1)
      ready(r, ev, field, member, cb, p, token, lease)
      return true
    end
  end
  hold(r, ev, field, member, cb, closed)
  return false
end

-- An event fills a window, however many callbacks it has: what comes out of the rooms in chains costs less than what goes by the lanes. So many of
-- each callback's may be in the lanes for it to go there.
local function shareOf(callbacks) return math.max(1, math.floor(WINDOW / callbacks)) end

-- A large fan-out is written in pages. Its event has e, how many pages are left and how many callbacks it matched, e<n>, the n-th page's callbacks
-- (csv), and c, those whose deliveries were written first. {c}:paged has each event that is
-- written, or erased, in pages; score: when somebody has to look whether that goes on (ms).
local paged = prefix .. 'paged'
local function later(ev, id, callbacks, rest, page)
  redis.call('ZADD', paged, int(now + PATIENCE), id)
  local pages = 0
  for csv in string.gmatch(rest, '[^;]+') do
    pages = pages + 1
    redis.call('HSET', ev, 'e' .. pages, csv)
  end
  redis.call('HSET', ev, 'e', pages .. ' ' .. callbacks, 'c', table.concat(page, ','))
end

-- What the owner of an attempt that has begun has to know: number, spent, attempts, meta, body, log id, registry version, now, '1' after a replay
-- or '', the payload's length if the body is compressed, else ''. One run answers so many bytes of bodies, but for the first; from some on they are counted
-- before they are read.
local MOST_BYTES, MANY_BYTES, given, version = 1048576, 65536, 0, nil
local function granted(r, ev, cb)
  local fits = given < MANY_BYTES or given + redis.call('HSTRLEN', ev, 'b') <= MOST_BYTES
  local e = redis.call('HMGET', ev, 'm', fits and 'b' or '', 'a', 'r' .. cb, 'z')
  given = given + #(e[2] or '')
  version = version or redis.call('GET', prefix .. 'ver') or '0'
  return {r.num, r.spent, r.log, e[1], e[2] or '', e[3], version, int(now), e[4] or '', e[5] or ''}
end

-- Moves up to max deliveries, oldest first, from an open room into the window. Where there is a token, the first begins.
-- Returns {member, ticket, ...}; if time stands in the way of more, how long that lasts (ms); and what the owner has to know of the one that began.
local function release(cb, max, token, lease)
  local out, room = {}, prefix .. 'room:' .. cb
  if held(cb) == 0 then return out, 0 end
  local first
  local p = pace(cb)
  local places, wait = allowance(cb, p, FLOW)
  local n = math.min(max, places)
  for _, member in ipairs(n > 0 and redis.call('ZRANGE', room, 0, n - 1) or {}) do
    unhold(cb, member)
    local r, ev, field = load(member)
    if r and r.s == 'H' then
      ready(r, ev, field, member, cb, p, #out == 0 and token, lease)
      if r.s == 'A' then first = granted(r, ev, cb) end
      out[#out + 1] = member
      out[#out + 1] = ticket(r)
    end
  end
  spend(cb, p, #out / 2)
  if held(cb) == 0 then return out, 0, first end
  if n > 0 then
    places, wait = allowance(cb, p, FLOW)
  end
  return out, wait, first
end

-- The breaker. So many failures in a row open it; while it is not closed, so many are enough to narrow it again.
local STUMBLES, RELAPSES = 10, 3
-- A partner who does not answer at all is spared for a pause (ms) that doubles up to the longest.
local PAUSE, LONGEST = 1000, 10000

-- Notes which host a callback goes to, unless that is noted. known is what is.
local function goes(cb, name, known)
  if name ~= '' and name ~= known then
    paces[cb] = nil
    redis.call('HSET', prefix .. 'health:' .. cb, 'hn', name)
  end
end

-- An attempt failed. down: nobody answered. pause: what the partner asked for (ms).
local function stumble(cb, name, down, pause)
  local key = prefix .. 'health:' .. cb
  paces[cb], well[cb] = nil, nil
  local h = redis.call('HMGET', key, 'f', 'l', 'k', 'o', 'hn')
  goes(cb, name, h[5])
  local failures, limit, probes = tonumber(h[1] or 0) + 1, tonumber(h[2]), tonumber(h[3] or 0)
  redis.call('HSET', key, 'f', int(failures))
  local few = down and 1 or FEW
  if failures < (limit and RELAPSES or STUMBLES) then return end
  if limit and limit <= few and now < tonumber(h[4] or 0) then return end -- begun before the pause
  probes = (down and limit) and probes + 1 or 0
  if down then pause = math.max(pause, math.min(LONGEST, PAUSE * 2 ^ math.min(probes, 10))) end
  redis.call('HSET', key, 'l', few, 'k', probes, 'o', int(now + pause))
  if not limit or limit > few then redis.call('HSET', key, 'b', int(now)) end
end

-- What an attempt that began then says of the host it went to: 'down', nobody is there, or nobody may come for a pause (ms); 'up', it
-- answers; '', nothing. One callback's failures in a row count once: its own breaker spares the host them.
local function visit(cb, name, word, began, pause)
  if name == '' then return end
  if word == 'up' then
    if redis.call('HDEL', hosts, name) == 1 then paces = {} end
    return
  end
  local h = host(name)
  local narrow = h.since > 0
  if narrow and began < h.since then return end -- it was under way when the host became narrow
  if word == '' then
    if narrow then
      h.before = now
      spare(h)
    end
    return
  end
  if narrow then
    h.probes = h.probes + 1
  elseif h.cb == cb then
    return
  end
  h.failures, h.cb, h.at = h.failures + 1, cb, now
  if h.failures >= STUMBLES then
    if not narrow then h.since = now end
    h.before = now + math.max(pause, math.min(LONGEST, PAUSE * 2 ^ math.min(h.probes, 10)))
  end
  spare(h)
end

-- Forgets the run of failures that would end with the callback disabled (see finish.lua).
local function forgive(cb) redis.call('HDEL', prefix .. 'health:' .. cb, 'fs', 'fl', 'fo', 'fn', 'w') end

-- An attempt delivered: the breaker widens by one each time, until it is closed. well: of a callback that does, to a host, there is nothing new to say
-- in the same moment.
local function recover(cb, name)
  if well[cb] == name or deleted(gate(cb)) then return end
  paces[cb] = nil
  local key = prefix .. 'health:' .. cb
  local h = redis.call('HMGET', key, 'l', 'fs', 'hn')
  goes(cb, name, h[3])
  local limit = tonumber(h[1])
  redis.call('HSET', key, 'ok', int(now), 'f', 0)
  if h[2] then forgive(cb) end
  if not limit then
    well[cb] = name
    return
  end
  if limit + 1 >= FLOW then
    redis.call('HDEL', key, 'l', 'k', 'o', 'b')
  else
    redis.call('HSET', key, 'l', limit + 1, 'k', 0, 'o', 0)
  end
end

-- Sends a final delivery again, or a retrying one now: a new generation with a fresh budget, whose attempts say that they are a replay's.
-- True if it may be enqueued.
local function again(r, ev, field, member, cb)
  if final(r.s) then
    redis.call('HINCRBY', ev, 'n', 1)
    waits(ev)
    redis.call('PERSIST', ev)
    unsettle(ev)
    if r.s == 'X' then unbook(ev, member, cb) end
  end
  redis.call('HSET', ev, 'r' .. cb, 1)
  retriesNoMore(r, member, cb)
  r.gen, r.spent = r.gen + 1, 0
  if not admit(r, ev, field, member, cb, WINDOW) then return false end
  tell(member, r.s)
  return true
end

-- Has a retrying delivery make its next attempt now: a new generation, with the attempts and the spent budget that it has. True if it may be enqueued.
local function early(r, ev, field, member, cb)
  retriesNoMore(r, member, cb)
  r.gen = r.gen + 1
  if not admit(r, ev, field, member, cb, WINDOW) then return false end
  tell(member, r.s)
  return true
end

-- A cancelled attempt that is still under way would race with a replay.
local function underWay(r) return r.s == 'C' and r.tok ~= '-' and now - r.at < 120000 end
