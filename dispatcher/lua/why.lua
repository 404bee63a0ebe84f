-- Why entries of the dead-letter book are dead, the newest first.
-- ARGV: from which place on, up to which -> {callback, reason, with ! behind it if it hides that a name leads inside, how many, ...}
local counts, out = {}, {}
for _, member in ipairs(redis.call('ZREVRANGE', dead, ARGV[1], ARGV[2])) do
  local r, _, _, cb = load(member)
  if r and r.s == 'X' then
    local line = string.match(r.log, '\n([^\n]*)$') or ''
    local reason = string.match(r.tok, '^hold_%a+') or string.match(line, '"v":"%a*","r":"([^"\\]*)"') or ''
    if string.find(line, '"i":true', 1, true) then reason = reason .. '!' end
    local name = cb .. ' ' .. reason
    if not counts[name] then
      counts[name] = {cb, reason, 0}
      out[#out + 1] = name
    end
    counts[name][3] = counts[name][3] + 1
  end
end
local answer = {}
for _, name in ipairs(out) do
  for _, v in ipairs(counts[name]) do answer[#answer + 1] = v end
end
return answer
