-- Claims a request with an Idempotency-Key, or tells what there is of it. {c}:idem:<hash> is the claim: f its fingerprint (sealed), t the token of who may act,
-- u until when that is under way (ms), x when the claim ends (ms), r:<step> what a step that acted answered, n the notes of it (sealed), a the answer (sealed).
-- The book names the claims by their ends; of a company's claims among those of all companies it is a book of its own.
-- ARGV: hash, the book's name, token, fingerprint, how long it is under way (ms), how long it is kept (ms), how many may be kept
-- -> {'go'} | {'there', fingerprint, token, ms for which it is under way, answer or '', notes or ''} | {'full', ms until the next one ends}
local claim, book = prefix .. 'idem:' .. ARGV[1], prefix .. ARGV[2]
endClaims(book, 20)
local h = redis.call('HMGET', claim, 'f', 't', 'u', 'x', 'a', 'n')
if h[1] and tonumber(h[4]) > now then
  return {'there', h[1], h[2], int(math.max(0, tonumber(h[3]) - now)), h[5] or '', h[6] or ''}
end
if redis.call('ZCARD', book) >= tonumber(ARGV[7]) then
  return {'full', int(math.max(0, tonumber(redis.call('ZRANGE', book, 0, 0, 'WITHSCORES')[2]) - now))}
end
local ends = now + tonumber(ARGV[6])
redis.call('UNLINK', claim)
redis.call('HSET', claim, 't', ARGV[3], 'f', ARGV[4], 'u', int(now + tonumber(ARGV[5])), 'x', int(ends))
redis.call('ZADD', book, int(ends), ARGV[1])
redis.call('PEXPIRE', claim, CLAIM_EXPIRY)
redis.call('PEXPIRE', book, CLAIM_EXPIRY)
return {'go'}
