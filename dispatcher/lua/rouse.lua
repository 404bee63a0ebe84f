-- Wakes a company that has work and is asleep: a process of an older level does not know that it wakes it.
-- -> {'awake'} | {'none'}: it has none | sleeping's
if not work() then return {'none'} end
return sleeping() or {'awake'}
