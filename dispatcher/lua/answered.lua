-- Ends what is under way of a claim: with its answer, or without one.
-- ARGV: hash, the book's name, token, answer (sealed) or '', 'always' to keep the answer, or 'acted' to keep it if a step acted
-- -> 'kept' | 'open': a step acted, and a repeat finds its answer anew | 'freed': nothing acted, and the claim is gone | 'taken': it is another's, or gone
local claim, book = prefix .. 'idem:' .. ARGV[1], prefix .. ARGV[2]
if redis.call('HGET', claim, 't') ~= ARGV[3] then return 'taken' end
local steps = {}
for _, field in ipairs(redis.call('HKEYS', claim)) do
  if string.sub(field, 1, 2) == 'r:' then steps[#steps + 1] = field end
end
if ARGV[4] ~= '' and (ARGV[5] == 'always' or #steps > 0) then
  redis.call('HSET', claim, 'a', ARGV[4], 'u', '0')
  redis.call('HDEL', claim, 'n', unpack(steps))
  return 'kept'
end
if #steps > 0 then
  redis.call('HSET', claim, 'u', '0')
  return 'open'
end
redis.call('UNLINK', claim)
redis.call('ZREM', book, ARGV[1])
return 'freed'
