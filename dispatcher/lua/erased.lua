-- What the calls that erase a company know of each other: which erasure it is, so that they leave one line, and what each of them erased.
-- ARGV: the call's name | the call's name, the erasure's id, what the call erased so far (JSON)
-- -> {id, began (ms), what a call erased, ...}, or nothing if that erasure is over
-- The first call begins the erasure, under its own name.
local erased = prefix .. 'erased'
local id = redis.call('HGET', erased, 'id')
if not ARGV[2] then
  if not id then redis.call('HSET', erased, 'id', ARGV[1], 'began', int(now)) end
elseif id ~= ARGV[2] then
  return {}
else
  redis.call('HSET', erased, 'call:' .. ARGV[1], ARGV[3])
end
redis.call('PERSIST', erased)
local answer = redis.call('HMGET', erased, 'id', 'began')
for _, name in ipairs(redis.call('HKEYS', erased)) do
  if string.find(name, '^call:') then answer[#answer + 1] = redis.call('HGET', erased, name) end
end
return answer
