-- Walks a page of the log for a replay of one callback's deliveries, oldest first.
-- ARGV: mode ('count' | 'replay'), callback id, states (letters), event type or '', reason or '', to (ms), entries, then
--       for count: log id to begin at ('-', or '(' and the last one)
--       for replay: replay id, ms to keep it once it is done; it goes on from where its own hash says
-- -> {next log id, or '' at the end; how many matched; how many more would, if their events still had bodies; member, ticket, ...}
--  | {'wait'}: the room is full enough, or its pace allows no more for the moment
-- A replay's pace is how many go a second, and paid until when (ms) what went is paid for. What is not used is kept for two rounds of the reconciler.
-- Retrying ones go now, as hasten.lua lets one go.
local mode, cb, states, kind, reason = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local from, job, limit = ARGV[8], nil, tonumber(ARGV[7])
local UNUSED = 4000 -- ms
local pace, paid, credit
if mode == 'replay' then
  job = prefix .. 'replay:' .. ARGV[8]
  local h = redis.call('HMGET', job, 'state', 'from', 'pace', 'paid')
  if h[1] ~= 'running' then
    redis.call('SREM', prefix .. 'replaying', ARGV[8])
    return {'', 0, 0}
  end
  from = h[2]
  if deleted(gate(cb)) then
    redis.call('HSET', job, 'state', 'cancelled', 'finished', int(now))
    redis.call('SREM', prefix .. 'replaying', ARGV[8])
    age(job, tonumber(ARGV[9]))
    return {'', 0, 0}
  end
  -- Paced: what is accepted meanwhile must not wait behind all of it.
  local waiting = held(cb)
  -- What is in the lanes may come back to the room, and a room that is too full would bury what was just replayed.
  local free = HOLD_MAX - waiters(cb) - lanes(cb)
  if waiting >= WINDOW and not pulled(gate(cb)) or free <= 0 then return {'wait'} end
  limit = math.min(limit, free)
  pace = tonumber(h[3])
  if pace then
    paid = math.max(tonumber(h[4] or now - 1000), now - UNUSED)
    credit = math.floor((now - paid) * pace / 1000)
    if credit < 1 then return {'wait'} end
  end
end

-- What buried a delivery is in its token's place; the reason of the last attempt is in the record's last line.
local function because(r)
  if r.s == 'X' and r.tok ~= '-' then return r.tok end
  local line = string.match(r.log, '([^\n]+)$')
  local ok, e = pcall(cjson.decode, line or '')
  return ok and e.r
end
local function wanted(r, ev, of) -- of: the record of the batch that it is in
  if of and of.s == 'R' then r = {s = 'R', tok = '-', log = of.log} end
  if not string.find(states, r.s, 1, true) or underWay(r, cb) or pruned(r) then return false end
  if kind ~= '' and cjson.decode(redis.call('HGET', ev, 'm')).t ~= kind then return false end
  return reason == '' or because(r) == reason
end

local entries = redis.call('XRANGE', prefix .. 'log', from, ARGV[6], 'COUNT', limit)
local out, matched, bodiless, last = {}, 0, 0, nil
for _, entry in ipairs(entries) do
  local member = entry[2][2] .. '/' .. cb
  local r, ev, field = load(member)
  local batch, of
  if r then batch, of = ending().batchOf(r, cb) end
  local fits = r and wanted(r, ev, of)
  if fits and redis.call('HEXISTS', ev, 'b') == 0 then
    bodiless = bodiless + 1
  elseif fits then
    matched = matched + 1
    local send = r.s == 'R' and early or again
    if batch and job then -- all that travel in it go
      member, send = batch, early
      r, ev, field = load(batch)
      matched = matched - 1 + #aboardOf(ev)
    end
    if job and send(r, ev, field, member, cb) then
      out[#out + 1] = member
      out[#out + 1] = ticket(r)
    end
  end
  last = entry[1]
  if credit and matched >= credit then break end
end
local next = ''
if #entries == limit or last and last ~= entries[#entries][1] then next = '(' .. last end
if job then
  if pace then redis.call('HSET', job, 'paid', int(paid + matched * 1000 / pace)) end
  redis.call('HINCRBY', job, 'replayed', matched)
  if next == '' then
    redis.call('HSET', job, 'state', 'done', 'finished', int(now))
    redis.call('SREM', prefix .. 'replaying', ARGV[8])
    age(job, tonumber(ARGV[9]))
  else
    redis.call('HSET', job, 'from', next)
  end
end
table.insert(out, 1, bodiless)
table.insert(out, 1, matched)
table.insert(out, 1, next)
return out
