-- Names a company of a bulk replay, before anything of it is written there, or notes how far it is.
-- ARGV: the bulk's id, 'name', the last company that was looked into before, the last one now, its part or '' if there is none
--     | the bulk's id, 'note', company, its part
-- -> 1, or 0 if nothing was written: the bulk was cancelled or is gone, somebody else looked into companies meanwhile, or the company was erased
local key, parts = prefix .. 'replay:' .. ARGV[1], prefix .. 'parts:' .. ARGV[1]
local h = redis.call('HMGET', key, 'state', 'after')
if ARGV[2] == 'note' then
  if not h[1] or redis.call('HEXISTS', parts, ARGV[3]) == 0 then return 0 end
  redis.call('HSET', parts, ARGV[3], ARGV[4])
  return 1
end
if h[1] ~= 'running' or ARGV[3] ~= (h[2] or '') then return 0 end
if ARGV[5] ~= '' then redis.call('HSET', parts, ARGV[4], ARGV[5]) end
redis.call('HSET', key, 'after', ARGV[4])
return 1
