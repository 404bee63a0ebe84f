-- Takes back that an attempt has begun which is not made: nothing of it went out. ARGV: member, token -> 1, or 0 if it is another's
local member = ARGV[1]
local r, ev, field = load(member)
if not r or r.tok ~= ARGV[2] then return 0 end
r.tok = '-'
if r.s == 'A' then
  r.s, r.num = 'P', r.num - 1
  redis.call('ZADD', due, int(now + PATIENCE), member)
end -- else it was cancelled, and nobody will report
redis.call('HSET', ev, field, format(r))
return 1
