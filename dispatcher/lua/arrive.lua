-- Records which members of a batch an attempt delivered that is under way, where the answer speaks of each. The others stay in it: who owns the attempt finishes it
-- for them. ARGV: member, token, attempts whole, spent, event id, ... -> {'ok', how many are left} | {'lost'}
local member = ARGV[1]
local r, ev, _, cb = load(member)
if not r or r.s ~= 'A' or r.tok ~= ARGV[2] then return {'lost'} end
r.log, r.spent, r.tok = ARGV[3], tonumber(ARGV[4]), '-'
local events, delivered, left = {}, {}, 0
for i = 5, #ARGV do
  events[#events + 1] = ARGV[i]
  delivered[ARGV[i]] = true
end
ending().arrive(r, string.match(member, '^~(.*)/'), cb, events, 'D')
for _, event in ipairs(events) do tell(event .. '/' .. cb, 'D') end
for event in string.gmatch(redis.call('HGET', ev, 'e') or '', '%S+') do
  if not delivered[event] then left = left + 1 end
end
return {'ok', left}
