-- Records an attempt's outcome; only the attempt's owner may, except that 'delivered' always counts.
-- ARGV: member, token, outcome (D delivered, R retry, X dead, G gone, C cancelled), attempt line, attempts whole, spent,
--       delay ms (R), the time for a gate, least delay ms (R), which failure of the callback's health it is (bad, token, or none),
--       what it means to the breaker ('': nothing, 'bad': answered, not well, 'down': nobody answered), pause that was asked for (ms),
--       what it means to the run of failures ('': nothing, 'count': one more, 'skip': our own outage), what the callback is registered for,
--       log id of the event, name of the host it went to ('': none), what it means to the host ('up', 'down', '': nothing),
--       the callback's version that was called, how many attempts to the callback its process has turns for,
--       token and lease (ms) of an attempt that the owner makes next if something waits ('': it makes none; 0: none that has not begun),
--       field, value, ... that are written with the record: what is kept of the exchange beside the attempt's line
-- -> {'ok', state, ms until the next attempt, ms until time lets more out of the room, '1' if there is a notice to send,
--     how many strings follow of the next attempt (0: it has not begun), those (as begin's after 'go'), member, ticket, ...}
--  | {'late'} | sleeping's | {'lost', state, generation, ms until the next attempt}

local KEPT = 22 -- from there on what is kept of the exchange stands

-- The delivery that an earlier run of this step began under a token: its answer was lost.
local function begunBefore(cb, token)
  for _, member in ipairs(token ~= '' and redis.call('SMEMBERS', prefix .. 'ready:' .. cb) or {}) do
    local r, ev = load(member)
    if r and r.s == 'A' and r.tok == token then return r, ev, member end
  end
end

local function recorded(r, wait, noticed, next, out)
  local answer = {'ok', r.s, int(r.at - now), int(wait), noticed, next and #next or 0}
  for _, v in ipairs(next or {}) do answer[#answer + 1] = v end
  for _, v in ipairs(out) do answer[#answer + 1] = v end
  return answer
end

return each(function(ARGV)
  local member, outcome = ARGV[1], ARGV[3]
  local r, ev, field, cb = load(member)
  if not r then return {'lost', '', '0', '0'} end

  if r.tok ~= ARGV[2] then
    -- Another log id: the event was erased under way, and sent anew since.
    if outcome == 'D' and r.s == 'D' then
      local next, nev, name = begunBefore(cb, ARGV[20])
      local crew = next and isBatch(name) and forming().aboard(next, nev, name, cb)
      if next then return recorded(r, 0, '', granted(next, nev, cb, crew), {name, ticket(next)}) end
    end
    local over = r.s == 'D' or isBatch(member) and final(r.s) -- a batch's members ended with it
    if outcome ~= 'D' or over or redis.call('HGET', ev, 'a') ~= ARGV[15] then return {'lost', r.s, int(r.gen), int(r.at - now)} end
    local was = r.s
    retriesNoMore(r, member, cb)
    r.s, r.at, r.tok, r.log = 'D', now, '-', r.log .. '\n' .. ARGV[4]
    redis.call('HSET', ev, field, format(r), unpack(ARGV, KEPT))
    if final(was) then unsettle(ev) end
    recover(cb, ARGV[16])
    visit(cb, ARGV[16], ARGV[17], now, 0)
    if was == 'X' then
      unbook(ev, member, cb)
      settle(ev)
    elseif was ~= 'C' then
      close(ev, member, cb, 'D')
    end
    tell(member, 'D')
    return {'late'}
  end

  if r.s == 'C' then -- it is no work any more, and a notice of its callback would be
    local nap = sleeping()
    if nap then return nap end
  end
  r.log, r.spent = ARGV[5], tonumber(ARGV[6])
  local closed, noticed = gate(cb), ''

  if outcome == 'R' and deleted(closed) then outcome = 'C' end
  local since, failures, disable
  if outcome == 'D' then
    recover(cb, ARGV[16])
  elseif outcome ~= 'C' then
    -- Puts an event about the callback into the outbox, in the same step as what it tells of. Its id says what it is about, so that it is sent
    -- once, however often it is tried.
    local function notice(id, n)
      n.cb, n.ct, n.e = tonumber(cb), ARGV[14], ARGV[4]
      redis.call('HSET', prefix .. 'notices', id, cjson.encode(n))
      noticed = '1'
    end

    function disable(why, since, failures)
      local was = statusOf(closed) or 'enabled'
      closed = '{"status":"disabled","reason":"' .. why .. '","at":"' .. ARGV[8] .. '"}'
      redis.call('SET', prefix .. 'gate:' .. cb, closed)
      gates[cb] = closed
      audit(trail, cjson.encode({by = 'engine', ['do'] = 'callback.disable', of = 'callbacks/' .. cb}),
        {{field = 'status', old = was, new = 'disabled'}, {field = 'disabled_reason', new = why}})
      notice(TYPE_DISABLED .. ':' .. cb .. ':' .. int(now), {fs = since, fn = failures, g = closed})
    end

    -- How many failures a run has at least that disables, and how much of the time between two attempts counts at most (ms).
    local LEAST, SILENCE = 20, 86400000

    -- A run: failures with no success between them. Its callback's health has fs, when it began (ms), fl, its last failure (ms), fo, how much of
    -- the time since fs does not count (ms), fn, how many failures do, and w, the highest warning told. Returns since when and how many.
    local function failed(counts)
      local key = prefix .. 'health:' .. cb
      well[cb] = nil
      local h = redis.call('HMGET', key, 'fs', 'fl', 'fo', 'fn', 'w')
      local since, last, off, failures = tonumber(h[1]), tonumber(h[2] or now), tonumber(h[3] or 0), tonumber(h[4] or 0)
      if not counts then
        if since then redis.call('HSET', key, 'fl', int(now), 'fo', int(off + math.max(0, now - last))) end
        return
      end
      since, failures, off = since or now, failures + 1, off + math.max(0, now - last - SILENCE)
      redis.call('HSET', key, 'fs', int(since), 'fl', int(now), 'fo', int(off), 'fn', int(failures))
      if DISABLE_AFTER == 0 or closed or outcome == 'G' then return since, failures end
      local after = DISABLE_AFTER * 1000
      local percent = math.min((now - since - off) / after, failures / LEAST) * 100
      if percent >= 100 then
        disable('failing', since, failures)
        return since, failures
      end
      for _, level in ipairs(WARNINGS) do
        if percent >= level then
          if tonumber(h[5] or 0) < level then
            redis.call('HSET', key, 'w', level)
            notice(TYPE_FAILING .. ':' .. cb .. ':' .. int(since) .. ':' .. level, {fs = since, fn = failures, p = level, d = since + off + after, at = now})
          end
          break
        end
      end
      return since, failures
    end

    if ARGV[10] ~= '' then
      local first = isBatch(member) and string.match(redis.call('HGET', ev, 'e') or '', '^%S+') -- a delivery that can be looked up
      health(cb, ARGV[10], (first and first .. '/' .. cb or member) .. '\n' .. ARGV[4])
    end
    if ARGV[11] ~= '' and not deleted(closed) then stumble(cb, ARGV[16], ARGV[11] == 'down', tonumber(ARGV[12])) end
    if ARGV[13] ~= '' and not deleted(closed) then since, failures = failed(ARGV[13] == 'count') end
  end
  visit(cb, ARGV[16], ARGV[17], r.at, tonumber(ARGV[12]))
  local was = r.s
  if was == 'C' then -- cancelled while under way: the attempt is kept, and counts if it delivered
    r.tok = '-'
    if outcome == 'D' then
      r.s, r.at = 'D', now
      unsettle(ev)
    end
    redis.call('HSET', ev, field, format(r), unpack(ARGV, KEPT))
  elseif outcome == 'R' then
    -- asynq keeps whole seconds, and looks at them late: round down, but not below the least.
    r.tok = '-'
    r.s, r.at = 'R', math.floor((now + tonumber(ARGV[7])) / 1000) * 1000
    if r.at < now + tonumber(ARGV[9]) then r.at = r.at + 1000 end
    redis.call('HSET', ev, field, format(r), unpack(ARGV, KEPT))
    leave(cb, member)
    redis.call('ZADD', due, int(r.at + PATIENCE), member)
    retries(ev, member, cb)
  else
    r.s, r.at, r.tok = (outcome == 'G') and 'X' or outcome, now, '-'
    redis.call('HSET', ev, field, format(r), unpack(ARGV, KEPT))
    close(ev, member, cb, r.s)
    if outcome == 'G' then
      -- A callback that changed since may have another URL, whose answer this was not.
      local status = statusOf(closed)
      if status ~= 'deleted' and status ~= 'disabled' and tonumber(redis.call('ZSCORE', prefix .. 'cbver', cb)) == tonumber(ARGV[18]) then
        disable('gone', since or now, failures or 1)
      end
    end
  end
  tell(member, r.s)
  local out, wait, next = {}, 0, nil
  if not closed and held(cb) > 0 then
    -- One goes on in this one's place. One more goes to the lanes, as a breaker that closes widens; but no more than there are turns for, or
    -- it would stand there, be overtaken by all that are let out after it, and come back. Other processes' turns are the pump's to fill.
    local token = r.s == 'D' and ARGV[20] ~= '' and tonumber(ARGV[21]) > 0 and ARGV[20]
    out, wait, next = release(cb, lanes(cb) + 2 <= tonumber(ARGV[19]) and 2 or 1, token, ARGV[21], ARGV[2])
  end
  return recorded(r, wait, noticed, next, out)
end)
