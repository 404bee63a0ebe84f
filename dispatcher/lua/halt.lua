-- Stops everything that goes out, or lets it go on: the halt's key first, and the key of each lane, by which asynq pauses it. KEYS: those, the audit
-- trail. ARGV: 'pause' or 'resume', now (s), line of the audit trail -> how many keys that changed
local changed = 0
for i = 1, #KEYS - 1 do
  if ARGV[1] == 'resume' then
    changed = changed + redis.call('DEL', KEYS[i])
  elseif redis.call('SET', KEYS[i], ARGV[2], 'NX') then
    changed = changed + 1
  end
end
if changed > 0 then audit(KEYS[#KEYS], ARGV[3]) end
return changed
