-- Takes a company that is erased out of all bulk replays: those that were its own go, with the claims of requests for them, and the others do not name it any
-- more. ARGV: company
-- -> how many went
local gone = 0
for _, id in ipairs(redis.call('ZRANGE', prefix .. 'replays', 0, -1)) do
  local key, parts = prefix .. 'replay:' .. id, prefix .. 'parts:' .. id
  local h = redis.call('HMGET', key, 'company', 'companies')
  if h[1] == ARGV[1] then
    redis.call('SREM', prefix .. 'replaying', id)
    redis.call('UNLINK', key, parts)
    redis.call('ZREM', prefix .. 'replays', id)
    gone = gone + 1
  else
    redis.call('HDEL', parts, ARGV[1])
    local from, to = string.find(h[2] or '', ',' .. ARGV[1] .. ',', 1, true)
    if from then redis.call('HSET', key, 'companies', string.sub(h[2], 1, from) .. string.sub(h[2], to + 1)) end
  end
end
local claims = prefix .. 'idems:' .. ARGV[1]
for _, hash in ipairs(redis.call('ZRANGE', claims, 0, -1)) do redis.call('UNLINK', prefix .. 'idem:' .. hash) end
redis.call('UNLINK', claims)
return gone
