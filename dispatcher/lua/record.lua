-- Shared head of every script. KEYS[1] is '{company}:due'; all other keys share its hash tag, hence its slot.
--
-- A record is one line of header and the attempts, one JSON line each:
--   STATE generation number spent at token \n attempts
-- STATE: P pending, A active, R retrying, H held, D delivered, X dead, C cancelled.
-- at (ms): P waiting since, A begun, R next attempt due, H held since, D X C finished.
local prefix = string.sub(KEYS[1], 1, -4)
local due, rooms, dead = KEYS[1], prefix .. 'rooms', prefix .. 'dead'

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

-- A pending delivery that nobody began after this long is worth a look; so is a retry this long after its time.
local PATIENCE = 25000
-- How long after a worker had no turn for a callback the pump leaves its room alone: each attempt that ends lets one out meanwhile.
local BUSY = 5000
-- Where a closed room stands in rooms: resuming moves it to the front.
local NEVER = 9999999999999

local function int(n) return string.format('%.0f', n) end

local function parse(text)
  local s, g, n, sp, at, tok, log = string.match(text, '^(%u) (%d+) (%d+) (%d+) (%d+) (%S+)(.*)$')
  return {s = s, gen = tonumber(g), num = tonumber(n), spent = tonumber(sp), at = tonumber(at), tok = tok, log = log}
end

local function format(r)
  return r.s .. ' ' .. int(r.gen) .. ' ' .. int(r.num) .. ' ' .. int(r.spent) .. ' ' .. int(r.at) .. ' ' .. r.tok .. r.log
end

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

local function gate(cb) return redis.call('GET', prefix .. 'gate:' .. cb) end
local function deleted(g) return g and string.find(g, '"status":"deleted"', 1, true) ~= nil end

-- When its event was accepted (ms): the time in its log id.
local function accepted(ev) return string.match(redis.call('HGET', ev, 'a') or '', '^(%d+)') end

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

-- Once nothing of an event is unfinished or dead, it may age.
local function settle(ev, retention)
  local c = redis.call('HMGET', ev, 'n', 'x')
  if tonumber(c[1] or 0) <= 0 and tonumber(c[2] or 0) <= 0 then redis.call('EXPIRE', ev, retention) end
end

-- An unfinished delivery becomes final. The caller writes the record.
local function close(ev, member, cb, state, retention)
  redis.call('ZREM', due, member)
  redis.call('SREM', prefix .. 'ready:' .. cb, member)
  redis.call('HINCRBY', ev, 'n', -1)
  if state == 'X' then
    redis.call('HINCRBY', ev, 'x', 1)
    redis.call('ZADD', dead, accepted(ev), member)
    letters(cb, 1)
  else
    settle(ev, retention)
  end
end

-- A delivery that may go now takes a place in the window, if the window and the room say so; else it waits in the room.
-- Sets state and time; returns true if it may be enqueued.
local function admit(r, member, cb, window)
  r.at, r.tok = now, '-'
  local ready, room = prefix .. 'ready:' .. cb, prefix .. 'room:' .. cb
  local closed = gate(cb)
  if not closed and redis.call('LLEN', room) == 0 and redis.call('SCARD', ready) < window then
    r.s = 'P'
    redis.call('SADD', ready, member)
    redis.call('ZADD', due, int(now + PATIENCE), member)
    return true
  end
  r.s = 'H'
  redis.call('ZREM', due, member)
  redis.call('SREM', ready, member)
  redis.call('RPUSH', room, member)
  redis.call('ZADD', rooms, 'NX', int(closed and NEVER or now), cb)
  return false
end

-- Moves up to max deliveries, oldest first, from an open room into the window. Returns member, generation, ...
local function release(cb, max, window)
  local out, ready, room = {}, prefix .. 'ready:' .. cb, prefix .. 'room:' .. cb
  max = math.min(max, window - redis.call('SCARD', ready))
  for _ = 1, max + 100 do -- beyond max: entries may be stale, and a script must end
    local member = #out < 2 * max and redis.call('LPOP', room)
    if not member then break end
    local r, ev, field = load(member)
    if r and r.s == 'H' then -- else cancelled or replayed meanwhile: its place in the room is stale
      r.s, r.at = 'P', now
      redis.call('HSET', ev, field, format(r))
      redis.call('SADD', ready, member)
      redis.call('ZADD', due, int(now + PATIENCE), member)
      out[#out + 1] = member
      out[#out + 1] = int(r.gen)
    end
  end
  return out
end

-- Sends a final delivery again, or a retrying one now: a new generation with a fresh budget. True if it may be enqueued.
local function again(r, ev, field, member, cb, window)
  if final(r.s) then
    redis.call('HINCRBY', ev, 'n', 1)
    redis.call('PERSIST', ev)
    if r.s == 'X' then
      redis.call('HINCRBY', ev, 'x', -1)
      redis.call('ZREM', dead, member)
      letters(cb, -1)
    end
  end
  retriesNoMore(r, member, cb)
  r.gen, r.spent = r.gen + 1, 0
  local ready = admit(r, member, cb, window)
  redis.call('HSET', ev, field, format(r))
  return ready
end

-- A cancelled attempt that is still under way would race with a replay.
local function underWay(r) return r.s == 'C' and r.tok ~= '-' and now - r.at < 120000 end
