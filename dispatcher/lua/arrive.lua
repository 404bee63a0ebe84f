-- Records which members of a batch an attempt delivered that is under way, where the answer speaks of each. The others stay in it: who owns the attempt finishes it
-- for them. ARGV: member, token, attempts whole, spent, name of the host it went to ('': none), event id, ... -> {'ok'} | {'lost'}
local member = ARGV[1]
local r, ev, _, cb = load(member)
if not r or r.s ~= 'A' or r.tok ~= ARGV[2] then return {'lost'} end
r.log, r.spent, r.tok = ARGV[3], tonumber(ARGV[4]), '-'
local events, delivered, others = {}, {}, {}
for i = 6, #ARGV do
  events[#events + 1] = ARGV[i]
  delivered[ARGV[i]] = true
end
ending().arrive(r, string.match(member, '^~(.*)/'), cb, events, 'D')
for _, event in ipairs(events) do tell(event .. '/' .. cb, 'D') end
for _, event in ipairs(aboardOf(ev)) do
  if not delivered[event] then others[#others + 1] = event end
end
-- What goes on are the others, whom the receiver has not seen together.
redis.call('HSET', ev, 'e', table.concat(others, ' '))
redis.call('HDEL', ev, 'w')
recover(cb, ARGV[5])
return {'ok'}
