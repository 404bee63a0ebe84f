-- Records an attempt's outcome; only the attempt's owner may, except that 'delivered' always counts.
-- ARGV: member, token, outcome (D delivered, R retry, X dead, G gone, C cancelled), attempt line, attempts whole, spent,
--       delay ms (R), gate JSON (G), least delay ms (R), which failure of the callback's health it is (bad, token),
--       what it means to the breaker ('': nothing, 'bad': answered, not well, 'down': nobody answered), pause that was asked for (ms),
--       log id of the event
-- -> {'ok', state, ms until the next attempt, ms until time lets more out of the room, member, generation, ...}
--  | {'late'} | {'lost', state, generation, ms until the next attempt}
local member, outcome = ARGV[1], ARGV[3]
local r, ev, field, cb = load(member)
if not r then return {'lost', '', '0', '0'} end

if r.tok ~= ARGV[2] then
  -- Another log id: the event was erased under way, and sent anew since.
  if outcome ~= 'D' or r.s == 'D' or redis.call('HGET', ev, 'a') ~= ARGV[13] then return {'lost', r.s, int(r.gen), int(r.at - now)} end
  local was = r.s
  retriesNoMore(r, member, cb)
  r.s, r.at, r.tok, r.log = 'D', now, '-', r.log .. '\n' .. ARGV[4]
  redis.call('HSET', ev, field, format(r))
  recover(cb)
  if was == 'X' then
    unbook(ev, member, cb)
    settle(ev)
  elseif was ~= 'C' then
    close(ev, member, cb, 'D')
  end
  return {'late'}
end

r.log, r.spent = ARGV[5], tonumber(ARGV[6])
local closed = gate(cb)
if outcome == 'R' and deleted(closed) then outcome = 'C' end
if outcome == 'D' then
  recover(cb)
elseif outcome ~= 'C' then
  health(cb, ARGV[10], member .. '\n' .. ARGV[4])
  if ARGV[11] ~= '' and not deleted(closed) then stumble(cb, ARGV[11] == 'down', tonumber(ARGV[12])) end
end
local was = r.s
if was == 'C' then -- cancelled while under way: the attempt is kept, and counts if it delivered
  r.tok = '-'
  if outcome == 'D' then r.s, r.at = 'D', now end
  redis.call('HSET', ev, field, format(r))
  return {'ok', r.s, '0', '0'}
end

r.tok = '-'
if outcome == 'R' then
  -- asynq keeps whole seconds, and looks at them late: round down, but not below the least.
  r.s, r.at = 'R', math.floor((now + tonumber(ARGV[7])) / 1000) * 1000
  if r.at < now + tonumber(ARGV[9]) then r.at = r.at + 1000 end
  redis.call('HSET', ev, field, format(r))
  redis.call('SREM', prefix .. 'ready:' .. cb, member)
  redis.call('ZADD', due, int(r.at + PATIENCE), member)
  retries(ev, member, cb)
else
  r.s, r.at = (outcome == 'G') and 'X' or outcome, now
  redis.call('HSET', ev, field, format(r))
  close(ev, member, cb, r.s)
  if outcome == 'G' and not deleted(closed) then
    redis.call('SET', prefix .. 'gate:' .. cb, ARGV[8])
    closed = ARGV[8]
  end
end
local out, wait = {}, 0
if not closed then out, wait = release(cb, 2) end -- two: a breaker that is closing again has one place more with each that delivers
for i, v in ipairs({'ok', r.s, int(r.at - now), int(wait)}) do table.insert(out, i, v) end
return out
