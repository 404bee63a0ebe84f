-- Changes how many lanes there are, unless that has changed since it was read. KEYS: the hash of their number, and the audit trail if this step is to
-- write a line. ARGV: count, high, epoch as they were read, line of the audit trail -> 1 if it is changed
if tonumber(redis.call('HGET', KEYS[1], 'epoch') or 0) ~= tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[1], 'count', ARGV[1], 'high', ARGV[2], 'epoch', ARGV[3] + 1)
if KEYS[2] then audit(KEYS[2], ARGV[4]) end
return 1
