-- Takes back that an attempt has begun which may not be made any more: nothing of it went out. ARGV: member, token -> 1, or 0 if it is another's
local member = ARGV[1]
local r, ev, field = load(member)
if not r or r.s ~= 'A' or r.tok ~= ARGV[2] then return 0 end
r.s, r.num, r.at, r.tok = 'P', r.num - 1, now, '-'
redis.call('ZADD', due, int(now + PATIENCE), member)
redis.call('HSET', ev, field, format(r))
return 1
