-- Gives a delivery whose task will not run a new generation. ARGV: member, generation -> {ticket} | {}
local member = ARGV[1]
local r, ev, field, cb = load(member)
if not r or r.gen ~= tonumber(ARGV[2]) or (r.s ~= 'P' and r.s ~= 'R') then return {} end
r.gen = r.gen + 1
redis.call('HSET', ev, field, format(r))
redis.call('ZADD', due, int(now + PATIENCE), member)
r.slow = fails(pace(cb))
return {ticket(r)}
