-- Begins an attempt, if it is still due and still this task's.
-- ARGV: member, generation, token, lease ms, busy ('1': the worker has no turn left for the callback),
--       barred ('1': the worker may not call the callback's host name), how long before its time a retry may begin (ms)
-- -> {'go', number, spent, attempts, meta, body, log id, registry version, now, '1' after a replay or '', the payload's length if the body is compressed,
--    else ''}, of a batch as granted has it; the body is '' where others' bodies are so long that one answer should not have them all: then it is to be read by itself
--  | {'early', ms to wait, attempts} | {'gone'|'stale'|'busy'|'done'|'cancelled'} | {'held', ms until time lets something out of its room, 0 if only room can}
return each(function(ARGV)
  local member = ARGV[1]
  local r, ev, field, cb = load(member)
  if not r then return {'gone'} end
  if r.gen ~= tonumber(ARGV[2]) then return {'stale'} end
  local closed = gate(cb)
  if r.s == 'A' and r.tok == ARGV[3] then -- the step is repeated, since its answer was lost: nothing went out
    if not closed then
      redis.call('ZADD', due, int(now + tonumber(ARGV[4])), member)
      local crew = isBatch(member) and forming().aboard(r, ev, member, cb)
      if crew or not isBatch(member) then return {'go', unpack(granted(r, ev, cb, crew))} end
    end
    r.s, r.num = 'P', r.num - 1
  end
  if r.s == 'A' then return {'busy'} end
  if r.s ~= 'P' and r.s ~= 'R' then return {'done'} end

  if deleted(closed) then
    retriesNoMore(r, member, cb)
    r.s, r.at, r.tok = 'C', now, '-'
    redis.call('HSET', ev, field, format(r))
    close(ev, member, cb, 'C')
    tell(member, 'C')
    return {'cancelled'}
  end
  if r.s == 'R' and r.at > now + tonumber(ARGV[7]) then return {'early', r.at - now, r.log} end
  local batch, b = isBatch(member), together(cb)
  local empty = batch and redis.call('HEXISTS', ev, 'e') == 0
  if empty and not b then -- they are taken one by one by now
    ending().forget(ev, member, cb)
    return {'held', 1}
  end
  local ENTITLED = 2000 -- how long (ms) a token is good for that was taken on the way to the lane
  local busy, barred = ARGV[5] == '1', ARGV[6] == '1'
  local p, wait, late = pace(cb), 0, false
  if not closed and not busy and not barred then
    if b and not batch then -- it was let out one by one before
      late, wait = true, b.wait
    elseif r.s == 'R' then -- it stands outside the window, and has no token yet
      local places
      places, wait = allowance(cb, p, WINDOW)
      late = places == 0
    elseif p.limit and r.at < p.since then -- let out before the breaker narrowed
      late, wait = true, math.max(1, p.before - now) -- the pump lets it out again, if nothing else does
    elseif p.tokens and r.at < now - ENTITLED then -- its token was for then: it may have stood in a lane that nobody took from
      late, wait = p.tokens < 1, p.tokens < 1 and tokenIn(p) or 0
    end
  end
  retriesNoMore(r, member, cb)
  if closed or busy or barred or late then
    local function crowd()
      if busy and not barred then redis.call('SET', prefix .. 'busy:' .. cb, lanes(cb) .. ' ' .. int(now), 'PX', BUSY) end
    end
    if empty then -- what it was to take waits in the room already
      ending().forget(ev, member, cb)
      crowd()
      return {'held', wait}
    end
    -- A new generation: the task that will bring it back must not be mistaken for this one, which asynq still holds.
    r.gen = r.gen + 1
    if p.host and r.s == 'P' and p.host.before == r.at + PROBE then -- it was let out as the host's probe, and nobody after it
      p.host.before = now
      spare(p.host)
    end
    hold(r, ev, field, member, cb, closed or barred)
    crowd()
    return {'held', wait}
  end
  local was = r.s
  local again = was == 'R' or r.at < now - ENTITLED
  r.s, r.num, r.at, r.tok = 'A', r.num + 1, now, ARGV[3]
  local crew = nil
  if batch then
    crew = empty and forming().fill(r, ev, member, cb, b, ARGV[4]) or not empty and forming().aboard(r, ev, member, cb)
    if not crew then -- somebody else took them, or all have left it
      ending().forget(ev, member, cb)
      return {'gone'}
    end
  end
  if again then spend(cb, p, 1) end
  if crew and b and b.each then pay(cb, p, #crew / CREW - 1) end
  local rest = empty and forming().rest(cb, b)
  if not empty then
    redis.call('HSET', ev, field, format(r))
    if was == 'R' then enter(cb, member) end
    redis.call('ZADD', due, int(now + tonumber(ARGV[4])), member)
  end
  return {'go', unpack(granted(r, ev, cb, crew, rest))}
end)
