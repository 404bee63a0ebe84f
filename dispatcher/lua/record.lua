-- Shared head of every script. KEYS[1] is '{company}:due'; all other keys share its hash tag, hence its slot.
-- On a Redis Cluster KEYS[2] is a key that there never is.
--
-- A record is one line of header and the attempts, one JSON line each:
--   STATE generation number spent at token \n attempts
-- STATE: P pending, A active, R retrying, H held, D delivered, X dead, C cancelled.
-- at (ms): P waiting since, A begun, R next attempt due, H held since, D X C finished.
--
-- The first part is every script's; of the others, which stand apart by an empty line, each script has those that it uses, directly or through
-- others. A part uses only what stands above it. What a run seldom calls is defined once it does: lua.go has a list of that.
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

-- A batch of deliveries that travel in one request is called ~<name> where a delivery has its event's id. It has a record of its own, and stands in the sets
-- for all its members.
local function isBatch(member) return string.byte(member) == 126 end

-- A delivery's place: its event's hash, its field in it, its callback. Of a batch, its own hash.
local function place(member)
  local event, cb = string.match(member, '^(.+)/(%d+)$')
  if isBatch(event) then return prefix .. 'batch:' .. string.sub(event, 2), 'd' .. cb, cb end
  return prefix .. 'ev:' .. event, 'd' .. cb, cb
end

local function load(member)
  local ev, field, cb = place(member)
  local text = redis.call('HGET', ev, field)
  if not text then return nil, ev, field, cb end
  return parse(text), ev, field, cb
end

-- What a run has read of its callbacks is remembered until it writes there: calls that travel together are mostly for the same ones.
local gates, paces, inside, outside, well, ways = {}, {}, {}, {}, {}, {}

-- Whether somebody watches the company is read with the first gate, and whether any of its callbacks takes its deliveries otherwise than one by one: where
-- nobody does, and none, no step has a command more.
local watch = nil -- {c}:watched, false: nobody does, nil: not known yet
local special = nil -- {c}:special, false: none does, nil: not known yet
local function gate(cb)
  if gates[cb] ~= nil then return gates[cb] end
  if watch == nil then
    local all = redis.call('MGET', prefix .. 'gate:' .. cb, prefix .. 'watched', prefix .. 'special')
    gates[cb], watch, special = all[1], all[2], all[3]
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

local function spread(member, s)
  local w = watching()
  if not w or w.hush > now and w.hush <= now + WATCH then return end
  local function add(name) redis.pcall('XADD', live, 'MAXLEN', '~', MOST_NEWS, '*', 'm', name, 's', s) end
  if not isBatch(member) then return add(member) end
  local batch, _, cb = place(member)
  for event in string.gmatch(redis.call('HGET', batch, 'e') or '', '%S+') do add(event .. '/' .. cb) end
end

-- Tells them of a delivery that came to a state, or stayed there with one attempt more: of a batch, of each of its members. The caller has written the
-- record. Nothing else depends on it.
local function tell(member, s)
  if watch ~= false then spread(member, s) end
end

-- Whether any callback of the company takes its deliveries otherwise than one by one, as they come; or did once.
local function isSpecial()
  if special == nil then special = redis.call('GET', prefix .. 'special') end
  return special
end

-- How a callback takes its deliveries. In batches: how many events and bytes of payload at most, for how long (ms) the first waits for the others, and how an
-- element is written. In order: how long (ms) the head of a line may keep those behind it waiting, 0: until it has ended. nil: one by one, as they come.
local function way(cb)
  if not isSpecial() then return nil end
  if ways[cb] == nil then
    local by = redis.call('HGET', prefix .. 'health:' .. cb, 'by') or ''
    local events, bytes, wait, element, rate = string.match(by, '^batch (%d+) (%d+) (%d+) (%l+) ?(%l*)$')
    local skip = string.match(by, '^order (%d+)$')
    ways[cb] = events and {events = tonumber(events), bytes = tonumber(bytes), wait = tonumber(wait), element = element, each = rate == 'events'}
      or skip and {skip = tonumber(skip)} or false
  end
  return ways[cb]
end

local function together(cb)
  local w = isSpecial() and way(cb)
  return w and w.events and w or nil
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

-- The events of a batch's members, as its list has them: who left it since it was last sent is still there.
local function aboardOf(batch)
  local events = {}
  for event in string.gmatch(redis.call('HGET', batch, 'e') or '', '%S+') do events[#events + 1] = event end
  return events
end

-- A batch waits in its callback's room as a whole, or stops to: {c}:health has as hb how many deliveries wait there beside those that the room has by name.
local function whole(member, cb, sign)
  if string.find(redis.call('GET', prefix .. 'gate:' .. cb) or '', '{"status":"deleted"', 1, true) == 1 then return end
  redis.call('HINCRBY', prefix .. 'health:' .. cb, 'hb', sign * (#aboardOf((place(member))) - 1))
end

-- How many wait in a callback's room, and how one stops to.
local function held(cb)
  if not outside[cb] then outside[cb] = redis.call('ZCARD', prefix .. 'room:' .. cb) end
  return outside[cb]
end

local function unhold(cb, member)
  if held(cb) == 0 then return end
  local gone = redis.call('ZREM', prefix .. 'room:' .. cb, member)
  outside[cb] = outside[cb] - gone
  if gone > 0 and isBatch(member) then whole(member, cb, -1) end
end

-- How many deliveries of a callback are in the lanes, and how many wait in its room, or in its lines: of a batch, all its members.
local function crowds(cb)
  local ready, room = lanes(cb), held(cb)
  if not isSpecial() then return ready, room end
  for _, member in ipairs(ready > 0 and redis.call('SMEMBERS', prefix .. 'ready:' .. cb) or {}) do
    if isBatch(member) then ready = ready - 1 + #aboardOf((place(member))) end
  end
  if room > 0 then room = math.max(1, room + tonumber(redis.call('HGET', prefix .. 'health:' .. cb, 'hb') or 0)) end
  return ready, room + redis.call('ZCARD', prefix .. 'behind:' .. cb)
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

-- A delivery waits for its next attempt, or stops to. The caller writes the record. Of a batch, all its
-- members do: so who counts and lists what waits need not know of it.
local function retries(ev, member, cb)
  local retry = prefix .. 'retry:' .. cb
  if not isBatch(member) then return redis.call('ZADD', retry, accepted(ev), member) end
  local mine, all = string.match(member, '^(~.*)/'), {}
  for _, event in ipairs(aboardOf(ev)) do
    local e = redis.call('HMGET', prefix .. 'ev:' .. event, 'd' .. cb, 'a')
    if string.match(e[1] or '', '^A %d+ %d+ %d+ %d+ (%S+)') == mine then
      all[#all + 1] = string.match(e[2], '^%d+')
      all[#all + 1] = event .. '/' .. cb
    end
  end
  if #all > 0 then redis.call('ZADD', retry, unpack(all)) end
end

local function unlist(member, cb)
  local all = {member}
  if isBatch(member) then
    for i, event in ipairs(aboardOf((place(member)))) do all[i] = event .. '/' .. cb end
  end
  redis.call('ZREM', prefix .. 'retry:' .. cb, unpack(all))
end

local function retriesNoMore(r, member, cb)
  if r.s == 'R' or r.s == 'A' and isBatch(r.tok) then unlist(member, cb) end
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

-- Whether a key ages, and whether it has had its time.
local function ages(key) return redis.call('PTTL', key) > FAR / 2 end
local function aged(key)
  local left = redis.call('PTTL', key)
  return left > FAR / 2 and wall + left - FAR <= now -- less was set by a program of before, and is Redis's
end

-- Ends claims of a book whose time is up (claim.lua), so many at most. Redis's own expiry, a month ahead, is for what nobody comes to any more.
local CLAIM_EXPIRY = 2592000000 -- ms
local function endClaims(book, most)
  for _, hash in ipairs(redis.call('ZRANGEBYSCORE', book, '-inf', int(now), 'LIMIT', 0, most)) do
    redis.call('UNLINK', prefix .. 'idem:' .. hash)
    redis.call('ZREM', book, hash)
  end
end

local function eventOf(ev) return string.sub(ev, #prefix + 4) end

-- The events whose body waits to leave; score: when they ended (ms). And how many fields an event has at most whose deliveries are looked at to know that.
local bodies, FEW_FIELDS = prefix .. 'bodies', 24

-- Once nothing of an event is unfinished or dead, it may age. Its body may leave before it. Most bodies are found by the walk over the log that bodies.lua
-- makes: only what ends behind that walk, or has so many deliveries that the walk would not know when it ended, is written down.
local retired = nil -- age's time of whatever settles in this run
local function settled(ev, n, x, a)
  if n and tonumber(n) > 0 or x and tonumber(x) > 0 then return end
  retired = retired or int(now + RETENTION * 1000 + FAR)
  redis.call('PEXPIREAT', ev, retired)
  if BODY_RETENTION == 0 then return end
  local came = tonumber(string.match(a or '', '^(%d+)') or 0)
  if came <= now - BODY_RETENTION * 1000 or n and redis.call('HLEN', ev) > FEW_FIELDS then
    redis.call('ZADD', bodies, int(now), eventOf(ev))
  end
end
local function settle(ev)
  local c = redis.call('HMGET', ev, 'n', 'x', 'a')
  settled(ev, c[1], c[2], c[3])
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

-- Deliveries in order. An event that has a value at a callback's ordering key has as o<cb> its number among those of the same key, and the key's name.
-- {c}:line:<cb>:<key> has who of the key has not ended; score: number. The first is its head, and only a head is in the lanes, in the room, or among those that
-- wait for their next attempt. {c}:behind:<cb> has the others; score: order of acceptance. Their records say H, with LINE as their token. {c}:heads:<cb> has each
-- key that has a line; score: since when its head is that (ms). {c}:seq:<cb> has by key the last number, and when that was given (ms).
--
-- A replay stands in no line. What lines do is defined only where there may be any.
local LINE, SEQ_LIFE, SEQ_MOST, DAY = 'line', 2592000000, 100000, 86400000 -- SEQ_LIFE, DAY: ms
local lined = nil
local function queue()
  if lined then return lined end
  local function names(cb, key) return prefix .. 'line:' .. cb .. ':' .. key, prefix .. 'heads:' .. cb, prefix .. 'behind:' .. cb end
  -- How many wait behind others, and who of them was accepted first.
  local function behind(cb) return redis.call('ZCARD', prefix .. 'behind:' .. cb) end
  local function eldest(cb) return redis.call('ZRANGE', prefix .. 'behind:' .. cb, 0, 0, 'WITHSCORES') end
  -- Whoever is a line's first by now is its head, and comes into the room if it waited behind another. Who has ended, or is gone, is nobody's head.
  local function promote(cb, key)
    local line, heads, others = names(cb, key)
    while true do
      local member = redis.call('ZRANGE', line, 0, 0)[1]
      if not member then
        redis.call('ZREM', heads, key)
        return
      end
      local r, ev, field = load(member)
      if r and not final(r.s) then
        redis.call('ZADD', heads, int(now), key)
        if r.s == 'H' and r.tok == LINE then
          r.tok = '-'
          if gate(cb) then redis.call('ZADD', rooms, 'NX', int(now + AIRING), cb) else redis.call('ZADD', rooms, int(now), cb) end
          outside[cb] = held(cb) + redis.call('ZADD', prefix .. 'room:' .. cb, order(ev), member)
          redis.call('HSET', ev, field, format(r))
          redis.call('ZREM', others, member)
        end
        return
      end
      redis.call('ZREM', line, member)
      redis.call('ZREM', others, member)
    end
  end
  -- A delivery leaves its line, which o, the event's o<cb>, names. If it was the head, the next one is.
  local function depart(o, member, cb)
    local key = string.match(o or '', '(%x+)$')
    if not key then return end
    local line, _, others = names(cb, key)
    local head = redis.call('ZRANGE', line, 0, 0)[1]
    if redis.call('ZREM', line, member) == 0 then return end
    redis.call('ZREM', others, member)
    if head == member then promote(cb, key) end
  end
  -- Some keys whose time is over give up their numbers. Where there are too many, the idlest of a few does, of those that have no line.
  local function tidy(seq, heads)
    local few, idlest, since = redis.call('HLEN', seq) < SEQ_MOST, nil, nil
    for _, key in ipairs(redis.call('HRANDFIELD', seq, few and 4 or 16)) do
      local at = tonumber(string.match(redis.call('HGET', seq, key), '(%d+)$'))
      if not redis.call('ZSCORE', heads, key) then
        if now - at > SEQ_LIFE then
          redis.call('HDEL', seq, key)
        elseif not few and (not since or at < since) then
          idlest, since = key, at
        end
      end
    end
    if idlest and redis.call('HLEN', seq) >= SEQ_MOST then redis.call('HDEL', seq, idlest) end
  end
  -- The next number of a key.
  local function number(cb, key)
    local seq, heads = prefix .. 'seq:' .. cb, prefix .. 'heads:' .. cb
    local n, at = string.match(redis.call('HGET', seq, key) or '', '^(%d+) (%d+)$')
    if not n then
      tidy(seq, heads)
      n, at = 0, 0
    elseif now - tonumber(at) > SEQ_LIFE and not redis.call('ZSCORE', heads, key) then
      n = 0
    end
    redis.call('HSET', seq, key, int(n + 1) .. ' ' .. int(now))
    if math.floor(now / DAY) ~= math.floor(tonumber(at) / DAY) then redis.call('PEXPIRE', seq, int(2 * SEQ_LIFE)) end -- for a callback that has no ordering any more
    return int(n + 1)
  end
  -- A delivery that is accepted gets its number, and comes into its line. If there is an event before, one of the same name was there: of a run that failed half-way,
  -- or of an event that is still being erased. That one leaves all places first: else it would be in two lines, or go out of the room while it stands behind others.
  -- -> the number, true if it is the head
  local function join(ev, member, cb, key, before)
    if redis.call('EXISTS', before) == 1 then
      depart(redis.call('HGET', before, 'o' .. cb), member, cb)
      redis.call('ZREM', due, member)
      leave(cb, member)
      unhold(cb, member)
    end
    local line, heads = names(cb, key)
    local n = number(cb, key)
    redis.call('HSET', ev, 'o' .. cb, n .. ' ' .. key)
    redis.call('ZADD', line, n, member)
    local first = redis.call('ZRANGE', line, 0, 0)[1] == member
    if first then redis.call('ZADD', heads, int(now), key) end
    return n, first
  end
  lined = {names = names, behind = behind, eldest = eldest, promote = promote, depart = depart, join = join}
  return lined
end

-- How many deliveries of a callback are held.
local function waiters(cb) return held(cb) + (isSpecial() and queue().behind(cb) or 0) end

-- A batch's hash, beside its record d<cb>: a its first member's log id, e its members' event ids in their order (absent: it is empty, and nothing of it was ever
-- sent), w its webhook-id, k how its elements are written. A member's record says A … ~<name> as long as it is in the batch, and stands in no set. Who
-- takes a member out of a batch only writes its record: at its next attempt the batch finds who is still in it.
--
-- {c}:batches has all of them, as sets name them; score: until when what is known of them is kept (ms), far ahead while they have not ended.
local batches = prefix .. 'batches'

-- What batches are ended by is defined only where there are any: to define it takes Redis as long as some commands.
local ended = nil
local function ending()
  if ended then return ended end
  -- Takes away some batches that have had their time: so many at most, or a few.
  local function sweep(most)
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', batches, '-inf', int(now), 'LIMIT', 0, most or 4)) do
      redis.call('UNLINK', (place(member)))
      redis.call('ZREM', batches, member)
    end
  end
  -- An empty batch is forgotten: what it was to take is in the room.
  local function forget(batch, member, cb)
    redis.call('ZREM', due, member)
    leave(cb, member)
    redis.call('DEL', batch)
    redis.call('ZREM', batches, member)
  end
  -- The attempts of a batch as a member has them that made so many before: without what was answered, which the batch has.
  local function short(log, before)
    local lines = {}
    for line in string.gmatch(log, '[^\n]+') do
      local cut = math.min(string.find(line, ',"h":{', 1, true) or #line, string.find(line, ',"b":"', 1, true) or #line)
      line = string.sub(line, 1, cut - 1) .. '}'
      if before > 0 then line = string.gsub(line, '^{"n":(%d+)', function(n) return '{"n":' .. int(n + before) end) end
      lines[#lines + 1] = '\n' .. line
    end
    return table.concat(lines)
  end
  -- The batch that a delivery is in, by its name, and its record; nil: it is in none.
  local function batchOf(r, cb)
    if r.s ~= 'A' or not isBatch(r.tok) then return nil end
    local member = r.tok .. '/' .. cb
    local of = load(member)
    return of and member, of
  end
  -- A delivery leaves the batch that it is in, unless an attempt of that is under way: it stands as the batch did, with the attempts that were made. The
  -- caller writes the record. The batch misses it at its next attempt.
  local function alight(r, cb)
    local _, of = batchOf(r, cb)
    if not of or of.s == 'A' then return end
    r.log = r.log .. short(of.log, r.num)
    r.s, r.at, r.tok, r.num, r.spent = of.s, of.at, '-', r.num + of.num, of.spent
  end
  -- Some of a batch's members come to a final state, with the attempts that the batch made. Who left it before stays as it is. Who was cancelled under way
  -- counts if it was delivered.
  local function arrive(r, name, cb, events, state)
    local field, died, came, mine = 'd' .. cb, 0, 0, '~' .. name
    -- A member's record as it is after that, and the state that it was in; nil: it is not in the batch.
    local function after(text)
      local was, gen, num, at, tok, log = string.match(text or '', '^([AC]) (%d+) (%d+) %d+ (%d+) (%S+)(.*)$')
      if tok ~= mine then return nil end
      local head, lines = ' ' .. gen .. ' ' .. int(num + r.num) .. ' ' .. int(r.spent) .. ' ', log .. short(r.log, tonumber(num))
      if was == 'C' and state ~= 'D' then return 'C' .. head .. at .. ' -' .. lines, was end
      return state .. head .. int(now) .. ' ' .. r.tok .. lines, was
    end
    local fields = {field, 'n', 'x'} -- and what is of use of the log id, and of a line
    if state == 'X' or BODY_RETENTION > 0 then fields[4] = 'a' end
    if redis.call('EXISTS', prefix .. 'heads:' .. cb, prefix .. 'behind:' .. cb) > 0 then fields[4], fields[5] = 'a', 'o' .. cb end
    local seen, text, was = nil, nil, nil -- most members have the same record
    for _, event in ipairs(events) do
      local ev = prefix .. 'ev:' .. event
      local e = redis.call('HMGET', ev, unpack(fields))
      if e[1] ~= seen then
        seen = e[1]
        text, was = after(seen)
      end
      if text then
        redis.call('HSET', ev, field, text)
        if was == 'C' then
          if state == 'D' then unsettle(ev) end
        else
          came = came + 1
          local unfinished = e[2] and redis.call('HINCRBY', ev, 'n', -1)
          if (unfinished or 0) <= 0 then waitsNoMore(ev) end
          if state == 'X' then
            redis.call('HINCRBY', ev, 'x', 1)
            redis.call('ZADD', dead, string.match(e[4], '^%d+'), event .. '/' .. cb)
            died = died + 1
          else
            settled(ev, unfinished, e[3], e[4])
          end
          if e[5] then queue().depart(e[5], event .. '/' .. cb, cb) end -- it came into a line before the callback had batches
        end
      end
    end
    if died > 0 then letters(cb, died) end
    return came
  end
  -- A batch comes to a final state, which its record says already. Its members go first: until all of them have, it is looked at again. How many those were.
  local function disband(batch, member, cb, state)
    local events = aboardOf(batch)
    local came = arrive(load(member), string.match(member, '^~(.*)/'), cb, events, state)
    redis.call('ZREM', due, member)
    leave(cb, member)
    unhold(cb, member)
    if #events == 0 then redis.call('DEL', batch) else age(batch, RETENTION * 1000) end
    redis.call('ZADD', batches, int(now + RETENTION * 1000), member)
    sweep()
    return came
  end
  ended = {forget = forget, batchOf = batchOf, alight = alight, arrive = arrive, disband = disband, sweep = sweep}
  return ended
end

-- An event has a dead delivery more.
local function perish(ev, member, cb)
  redis.call('HINCRBY', ev, 'x', 1)
  redis.call('ZADD', dead, accepted(ev), member)
  letters(cb, 1)
end

-- An unfinished delivery becomes final. The caller writes the record. An event counts in its field n how many are unfinished: but one with a single
-- delivery only once that was replayed, for a field costs a hundred bytes.
local function close(ev, member, cb, state)
  if isBatch(member) then return ending().disband(ev, member, cb, state) end
  redis.call('ZREM', due, member)
  leave(cb, member)
  unhold(cb, member)
  if isSpecial() then queue().depart(redis.call('HGET', ev, 'o' .. cb), member, cb) end
  local unfinished = redis.call('HEXISTS', ev, 'n') == 1 and redis.call('HINCRBY', ev, 'n', -1) or 0
  if unfinished <= 0 then waitsNoMore(ev) end
  if state == 'X' then
    perish(ev, member, cb)
  elseif unfinished <= 0 then
    settle(ev)
  end
end

-- A held delivery goes to the dead-letter book without another attempt; its record's token says why. -> how many those were: of a batch, its members
local function bury(r, ev, field, member, cb, why)
  r.s, r.at, r.tok = 'X', now, why
  redis.call('HSET', ev, field, format(r))
  local n = close(ev, member, cb, 'X') or 1
  redis.call('HINCRBY', prefix .. 'buried', why, n)
  tell(member, 'X')
  return n
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

-- Takes tokens of a rate limit. Who takes more than there are leaves a debt, and nothing goes out until that is made up for.
local function pay(cb, p, n)
  if n == 0 or not p.tokens then return end
  p.tokens = p.tokens - n
  paces[cb] = nil -- what is kept is rounded
  redis.call('HSET', prefix .. 'health:' .. cb, 'tk', string.format('%.4f', p.tokens), 'ta', int(now))
end

local function spend(cb, p, n)
  if n == 0 then return end
  if p.host then -- what goes out is the host's probe
    p.host.before = now + PROBE
    spare(p.host)
  end
  pay(cb, p, n)
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

-- A delivery to a callback with batches came into its room. told: in how many ms the room is to be pumped, for each callback where that is news. weight: bytes of
-- the payload, if the caller knows. {c}:health has as wb about how many bytes wait for a batch: if that is wrong, a batch goes early, or waits for its time.
local told, weight = {}, nil

local function gather(b, ev, cb, closed)
  local bytes = weight or tonumber(redis.call('HGET', ev, 'z') or redis.call('HSTRLEN', ev, 'b'))
  local sum, n = redis.call('HINCRBY', prefix .. 'health:' .. cb, 'wb', bytes), held(cb)
  if closed then
    redis.call('ZADD', rooms, 'NX', int(now + AIRING), cb)
  elseif n > 1 and (n % b.events == 0 or math.floor(sum / b.bytes) > math.floor((sum - bytes) / b.bytes)) or b.events == 1 then
    redis.call('ZADD', rooms, int(now), cb)
    told[cb] = 0
  elseif redis.call('ZADD', rooms, 'NX', int(now + b.wait), cb) == 1 or n == 1 then
    told[cb] = b.wait
  end
end

-- Where too many of a callback are held, the oldest of them goes to the dead-letter book. -> how many deliveries that was
local LINE_PART = 10 -- one line may have so small a part of what may be held
local function makeRoom(cb)
  if waiters(cb) <= HOLD_MAX then return 0 end
  local room, other = redis.call('ZRANGE', prefix .. 'room:' .. cb, 0, 0, 'WITHSCORES'), isSpecial() and queue().eldest(cb) or {}
  local oldest = room[1]
  if not oldest or other[1] and tonumber(other[2]) < tonumber(room[2]) then oldest = other[1] end
  local o, ev, field = load(oldest)
  if o and o.s == 'H' then return bury(o, ev, field, oldest, cb, 'hold_full') end
  unhold(cb, oldest)
  if isSpecial() then redis.call('ZREM', prefix .. 'behind:' .. cb, oldest) end
  return 0
end

-- A delivery waits in the room, in the order of acceptance. Is the room full, its oldest goes to the dead-letter book. Writes the record.
local function hold(r, ev, field, member, cb, closed)
  local room = prefix .. 'room:' .. cb
  r.s, r.at, r.tok = 'H', now, '-'
  redis.call('HSET', ev, field, format(r))
  redis.call('ZREM', due, member)
  leave(cb, member)
  local before, came = held(cb), redis.call('ZADD', room, pulled(gate(cb)) and nextPlace(cb, member) or order(ev), member)
  outside[cb] = before + came
  if came > 0 and isBatch(member) then whole(member, cb, 1) end
  local w = isSpecial() and way(cb)
  if w and w.events and not isBatch(member) then
    gather(w, ev, cb, closed)
  else
    redis.call('ZADD', rooms, w and w.skip and 'LT' or 'NX', int(closed and now + AIRING or now), cb)
  end
  tell(member, 'H')
  if waiters(cb) > HOLD_MAX then makeRoom(cb) end
end

-- A delivery with an order waits behind the head of its line. Writes the record. If its line is too long, the first of those that wait there goes to the dead-letter
-- book: so one key takes no more than a part of what may be held.
local function stand(r, ev, field, member, cb, key)
  local line, heads, behind = queue().names(cb, key)
  local w, since = way(cb), redis.call('ZSCORE', heads, key)
  local look = now + AIRING
  if w and w.skip and w.skip > 0 and since then look = math.max(now, math.min(look, tonumber(since) + w.skip)) end
  redis.call('ZADD', rooms, 'LT', int(look), cb)
  redis.call('ZADD', behind, order(ev), member)
  r.s, r.at, r.tok = 'H', now, LINE
  redis.call('HSET', ev, field, format(r))
  tell(member, 'H')
  if redis.call('ZCARD', line) > math.max(1, math.floor(HOLD_MAX / LINE_PART)) + 1 then
    local second = redis.call('ZRANGE', line, 1, 1)[1]
    local s, sev, sfield = load(second)
    if s and s.s == 'H' then bury(s, sev, sfield, second, cb, 'hold_full') end
  end
  makeRoom(cb)
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
  if not closed and held(cb) == 0 and (isBatch(member) or not together(cb)) then
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
-- or '', the payload's length if the body is compressed, else '', and its number if it has an order. One run answers so many bytes of bodies, but for the first; from some on they are counted
-- before they are read.
--
-- Of a batch: number, spent, attempts, webhook-id, how its elements are written, log id of its first member, registry version, now, ms until the rest of
-- the room is to be pumped (0: there is none, or that is not known), '', and its members (crew), as seat answers of each. Their bodies are all answered: a batch has a
-- run of its own.
local MOST_BYTES, MANY_BYTES, given, version = 1048576, 65536, 0, nil
local function granted(r, ev, cb, crew, wait)
  version = version or redis.call('GET', prefix .. 'ver') or '0'
  if crew then
    local h = redis.call('HMGET', ev, 'w', 'k', 'a')
    local out = {r.num, r.spent, r.log, h[1], h[2], h[3], version, int(now), int(wait or 0), ''}
    for _, v in ipairs(crew) do
      out[#out + 1] = v
      given = given + #v
    end
    return out
  end
  local fits = given < MANY_BYTES or given + redis.call('HSTRLEN', ev, 'b') <= MOST_BYTES
  local e
  if isSpecial() then
    e = redis.call('HMGET', ev, 'm', fits and 'b' or '', 'a', 'r' .. cb, 'z', 'o' .. cb)
  else
    e = redis.call('HMGET', ev, 'm', fits and 'b' or '', 'a', 'r' .. cb, 'z')
  end
  given = given + #(e[2] or '')
  return {r.num, r.spent, r.log, e[1], e[2] or '', e[3], version, int(now), e[4] or '', e[5] or '', e[6] and string.match(e[6], '^%d+') or nil}
end

-- Moves one out of the room into the window, or drops what has no business there. out, first: as release's.
local function step(cb, member, p, out, token, lease)
  unhold(cb, member)
  local r, ev, field = load(member)
  if not r or r.s ~= 'H' then return end
  local begins = #out == 0 and not isBatch(member) and token -- a batch has to look first who is still in it
  ready(r, ev, field, member, cb, p, begins, lease)
  out[#out + 1] = member
  out[#out + 1] = ticket(r)
  if r.s == 'A' then return granted(r, ev, cb) end
end

local CREW = 3 -- so many values are answered of each member of a batch that begins

-- What batches are formed by, in the same way.
local formed = nil
local function forming()
  if formed then return formed end
  -- What the receiver knows a batch's members together by, which go out under a token at first. It has the batch's name, by which what was sent is found.
  local function webhook(name, token) return 'bat_' .. name .. string.sub(redis.sha1hex(name .. token), 1, 8) end
  -- What is answered of a batch's member: event id, log id, and the payload's length if the body is compressed, in one text; meta; body.
  local function seat(out, event, log, length, meta, body)
    local n = #out
    out[n + 1], out[n + 2], out[n + 3] = event .. ' ' .. log .. ' ' .. (length or ''), meta, body or ''
  end
  -- Takes deliveries out of a callback's room for a batch that begins, in their order: as many as it may have. r is its record, which says A, and is written with
  -- them. -> what seat answers of each member; nil: there was nothing to take.
  -- The batch is written before its members, and those leave the room last: whatever fails on the way, the batch goes on with who says that it is in it.
  local function fill(r, batch, member, cb, b, lease)
    local room, name, field = prefix .. 'room:' .. cb, string.match(member, '^~(.*)/'), 'd' .. cb
    local out, events, texts, gone, bytes, first = {}, {}, {}, {}, 0, nil
    local since = ' ' .. int(now) .. ' ~' .. name
    local seen, head, text = nil, nil, nil -- many have the same record
    for _, waits in ipairs(redis.call('ZRANGE', room, 0, b.events - 1)) do
      if not isBatch(waits) then
        local event = string.sub(waits, 1, -2 - #cb)
        local e = redis.call('HMGET', prefix .. 'ev:' .. event, field, 'm', 'b', 'z', 'a')
        if e[1] ~= seen then
          local log
          seen = e[1]
          head, log = string.match(seen or '', '^H (%d+ %d+ %d+) %d+ %S+(.*)$')
          text = head and 'A ' .. head .. since .. log
        end
        if head then
          local size = e[4] and tonumber(e[4]) or #(e[3] or '')
          if first and bytes + size > b.bytes then break end
          first, bytes = first or e[5], bytes + size
          local n = #events + 1
          events[n], texts[n] = event, text
          seat(out, event, e[5], e[4], e[2], e[3])
        end
        gone[#gone + 1] = waits
      end
    end
    if first then
      redis.call('ZADD', due, int(now + tonumber(lease)), member)
      redis.call('ZADD', batches, int(now + FAR), member)
      redis.call('HSET', batch, 'a', first, 'e', table.concat(events, ' '), 'w', webhook(name, r.tok), 'k', b.element, 'd' .. cb, format(r))
      enter(cb, member)
      for i, event in ipairs(events) do redis.call('HSET', prefix .. 'ev:' .. event, field, texts[i]) end
      tell(member, 'A')
    end
    if #gone > 0 then outside[cb] = held(cb) - redis.call('ZREM', room, unpack(gone)) end
    redis.call('HSET', prefix .. 'health:' .. cb, 'wb', int(held(cb) > 0 and math.max(0, (tonumber(redis.call('HGET', prefix .. 'health:' .. cb, 'wb')) or 0) - bytes) or 0))
    return first and out
  end
  -- How long (ms) the delivery at a place in the room has yet to wait for others; -1: there is none.
  local function lateness(cb, b, at)
    local member = redis.call('ZRANGE', prefix .. 'room:' .. cb, at, at)[1]
    if not member then return -1 end
    local r = load(member)
    return (r and not isBatch(member)) and math.max(0, math.min(r.at, now) + b.wait - now) or 0
  end
  -- When the rest of a room is to be pumped that a batch was taken out of (ms from now; 0: there is none). Where lines wait, the room is looked at when it was.
  local function rest(cb, b)
    local late = lateness(cb, b, 0)
    if late >= 0 then
      redis.call('ZADD', rooms, int(now + late), cb)
    elseif waiters(cb) == 0 then
      redis.call('ZREM', rooms, cb)
    end
    return late < 0 and 0 or math.max(1, late)
  end
  -- Who is still in a batch: as seat answers of each. If somebody left it, or it was split, it goes on under another webhook-id. nil: nobody is.
  local function aboard(r, batch, member, cb)
    local field, mine, out, events, left = 'd' .. cb, '~' .. string.match(member, '^~(.*)/'), {}, {}, false
    local h = redis.call('HMGET', batch, 'e', 'w')
    for event in string.gmatch(h[1] or '', '%S+') do
      local e = redis.call('HMGET', prefix .. 'ev:' .. event, field, 'm', 'b', 'z', 'a')
      if string.match(e[1] or '', '^A %d+ %d+ %d+ %d+ (%S+)') == mine then
        events[#events + 1] = event
        seat(out, event, e[5], e[4], e[2], e[3])
      else
        left = true
      end
    end
    if #events == 0 then return nil end
    if left or not h[2] then
      redis.call('HSET', batch, 'e', table.concat(events, ' '), 'w', webhook(string.sub(mine, 2), r.tok))
    end
    return out
  end
  -- How many of a callback's batches may be in the lanes, and how many of them are empty yet.
  local BATCHES = 16
  local function empties(cb)
    local n = 0
    for _, member in ipairs(redis.call('SMEMBERS', prefix .. 'ready:' .. cb)) do
      if isBatch(member) and redis.call('HEXISTS', (place(member)), 'e') == 0 then n = n + 1 end
    end
    return n
  end
  -- Lets batches out of a callback's room, up to max: those that wait there as a whole, and new ones of what waits, if that is enough or has waited for long
  -- enough. A new one is empty, and takes its members as it begins; the first begins here where there is a token. seed: a text that never was and will be.
  -- Returns what release does.
  local function muster(cb, b, max, token, lease, seed)
    local p, out, first, empty = pace(cb), {}, nil, nil
    local places, wait = allowance(cb, p, BATCHES)
    places = math.min(max, b.each and p.tokens and math.ceil(p.tokens / b.events) or places, places)
    while #out / 2 < places and held(cb) > 0 do
      local head = redis.call('ZRANGE', prefix .. 'room:' .. cb, 0, 0)[1]
      if isBatch(head) then
        first = step(cb, head, p, out, token, lease) or first
      else
        empty = empty or empties(cb)
        if held(cb) < (empty + 1) * b.events and (tonumber(redis.call('HGET', prefix .. 'health:' .. cb, 'wb')) or 0) < (empty + 1) * b.bytes then
          local late = lateness(cb, b, empty * b.events)
          if late > 0 then wait = late end
          if late ~= 0 then break end
        end
        local r = {s = 'A', gen = 1, num = 1, spent = 0, at = now, tok = token, log = '', slow = fails(p)}
        local name = string.sub(redis.sha1hex(seed .. #out), 1, 24)
        local batch, member = prefix .. 'batch:' .. name, '~' .. name .. '/' .. cb
        if token and #out == 0 and not r.slow then
          local crew = fill(r, batch, member, cb, b, lease)
          if crew then
            wait = rest(cb, b)
            if b.each then pay(cb, p, #crew / CREW - 1) end
            first = granted(r, batch, cb, crew, wait)
            out[1], out[2] = member, ticket(r)
          end
        else
          r.s, r.num, r.tok = 'P', 0, '-'
          redis.call('ZADD', due, int(now + PATIENCE), member)
          redis.call('ZADD', batches, int(now + FAR), member)
          redis.call('HSET', batch, 'a', redis.call('HGET', (place(head)), 'a') or '', 'd' .. cb, format(r))
          enter(cb, member)
          empty = empty + 1
          out[#out + 1] = member
          out[#out + 1] = ticket(r)
        end
      end
    end
    spend(cb, p, #out / 2)
    if held(cb) > 0 and #out > 0 then
      local _, late = allowance(cb, p, BATCHES)
      wait = math.max(wait, late)
    end
    return out, wait, first
  end
  formed = {fill = fill, rest = rest, aboard = aboard, muster = muster}
  return formed
end

-- Moves up to max deliveries, oldest first, from an open room into the window. Where there is a token, the first begins. seed is for batches.
-- Returns {member, ticket, ...}; if time stands in the way of more, how long that lasts (ms); and what the owner has to know of the one that began.
local function release(cb, max, token, lease, seed)
  local out, room = {}, prefix .. 'room:' .. cb
  if held(cb) == 0 then return out, 0 end
  local b = together(cb)
  if b then return forming().muster(cb, b, max, token, lease, seed) end
  local first
  local p = pace(cb)
  local places, wait = allowance(cb, p, FLOW)
  local n = math.min(max, places)
  for _, member in ipairs(n > 0 and redis.call('ZRANGE', room, 0, n - 1) or {}) do first = step(cb, member, p, out, token, lease) or first end
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

-- What an attempt that began then says of the host it went to, if it does not answer (visit).
local function trouble(cb, name, word, began, pause)
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

-- What an attempt that began then says of the host it went to: 'down', nobody is there, or nobody may come for a pause (ms); 'up', it
-- answers; '', nothing. One callback's failures in a row count once: its own breaker spares the host them.
local function visit(cb, name, word, began, pause)
  if word == 'up' and name ~= '' then
    if redis.call('HDEL', hosts, name) == 1 then paces = {} end
  elseif name ~= '' then
    trouble(cb, name, word, began, pause)
  end
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
local function underWay(r, cb)
  if r.s ~= 'C' or r.tok == '-' or now - r.at >= 120000 then return false end
  return not isBatch(r.tok) or string.find(redis.call('HGET', prefix .. 'batch:' .. string.sub(r.tok, 2), 'd' .. cb) or '', '^A') ~= nil
end
