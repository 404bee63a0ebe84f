package registry

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// MaxSessions is how many sessions an API key may have at a time. One more ends the oldest.
	MaxSessions = 100

	// sessionsKept is how long the sessions of a key are kept that nobody begins one with any more: so long that no step of Redis's clock ends one.
	sessionsKept = 30 * 24 * time.Hour
)

// Sessions are the visits of people who showed an API key, or opened a portal link. Redis holds the SHA-256 digests of their tokens. A session ends at
// its time, when its owner ends it, and as soon as its API key is revoked or has expired. Safe for concurrent use.
type Sessions struct {
	keys *Keys
}

// NewSessions returns the sessions of those who have these keys.
func NewSessions(keys *Keys) *Sessions { return &Sessions{keys: keys} }

// A storedSession is a session of an API key as it stands in Redis, under the digest of its token.
type storedSession struct {
	Key   string `json:"key"` // the digest of the API key's secret: a session does not outlive the secret that began it
	Place Place  `json:"place"`
	Began int64  `json:"began"` // ms, the installation's time, as the next
	Ends  int64  `json:"ends"`
}

// beginSession notes session ARGV[2] under the digest ARGV[1]. The sessions that have ended go, and if ARGV[3] are left, the oldest of them.
// ARGV[4] is now (ms). The hash goes after ARGV[5] ms if no other session is begun.
var beginSession = redis.NewScript(`
local now, left = tonumber(ARGV[4]), {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
	local readable, s = pcall(cjson.decode, all[i + 1])
	if all[i] == ARGV[1] then -- an earlier run's answer was lost
	elseif not readable or tonumber(s.ends) <= now then
		redis.call('HDEL', KEYS[1], all[i])
	else
		left[#left + 1] = {all[i], tonumber(s.began)}
	end
end
table.sort(left, function(a, b) return a[2] < b[2] end)
for i = 1, #left - tonumber(ARGV[3]) + 1 do redis.call('HDEL', KEYS[1], left[i][1]) end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1`)

// Begin begins a session at a place for whoever shows an API key. The token is for the person's cookie: it is not stored, and this is the only time it is
// seen. Whether such a key has any business at the place is the caller's to ask.
//
// Errors: those of [Keys.Authenticate], and those of Redis.
func (ss *Sessions) Begin(ctx context.Context, presented string, place Place) (token string, s Session, err error) {
	k, err := ss.keys.Authenticate(ctx, presented)
	if err != nil {
		return "", Session{}, err
	}
	now, err := timeBy(ctx, ss.keys.redis, ss.keys.clock)
	if err != nil {
		return "", Session{}, fmt.Errorf("registry: begin a session: %w", err)
	}
	token = newToken(keySessionPrefix, k.ID)
	owner := digestOf(presented)
	stored := storedSession{Key: hex.EncodeToString(owner[:]), Place: place, Began: now.UnixMilli(), Ends: now.Add(SessionLife).UnixMilli()}
	text, err := json.Marshal(stored)
	if err != nil {
		return "", Session{}, fmt.Errorf("registry: begin a session: %w", err)
	}
	if err := beginSession.Run(ctx, ss.keys.redis, []string{sessionsKey(k.ID)}, tokenField(token), text, MaxSessions, now.UnixMilli(),
		sessionsKept.Milliseconds()).Err(); err != nil {
		return "", Session{}, fmt.Errorf("registry: begin a session of API key %s: %w", k.ID, err)
	}
	return token, stored.session(k, token), nil
}

// ofKey returns the session of an API key with that token.
func (ss *Sessions) ofKey(ctx context.Context, token string) (Session, error) {
	id := nameInToken(keySessionPrefix, token)
	if id == "" {
		return Session{}, ErrUnauthorized
	}
	text, err := ss.keys.redis.HGet(ctx, sessionsKey(id), tokenField(token)).Result()
	if errors.Is(err, redis.Nil) {
		return Session{}, ErrUnauthorized
	}
	if err != nil {
		return Session{}, fmt.Errorf("registry: look up a session: %w", err)
	}
	var stored storedSession
	var owner digest
	if err := json.Unmarshal([]byte(text), &stored); err != nil {
		return Session{}, fmt.Errorf("registry: a session of API key %s is not readable: %w", id, err)
	}
	if n, err := hex.Decode(owner[:], []byte(stored.Key)); err != nil || n != len(owner) {
		return Session{}, ErrUnauthorized
	}
	now, err := timeBy(ctx, ss.keys.redis, ss.keys.clock)
	if err != nil {
		return Session{}, fmt.Errorf("registry: look up a session: %w", err)
	}
	if now.UnixMilli() >= stored.Ends {
		return Session{}, errSessionOver(time.UnixMilli(stored.Ends))
	}
	k, err := ss.keys.owner(ctx, owner)
	if err != nil {
		return Session{}, err
	}
	return stored.session(k, token), nil
}

// session is what is told of a session.
func (s storedSession) session(k Key, token string) Session {
	ends := time.UnixMilli(s.Ends).UTC()
	if !k.ExpiresAt.IsZero() && k.ExpiresAt.Before(ends) {
		ends = k.ExpiresAt.UTC()
	}
	return Session{Key: k, Place: s.Place, BeganAt: time.UnixMilli(s.Began).UTC(), ExpiresAt: ends, CSRF: csrfOf(token)}
}

// errSessionOver says when a session ended.
func errSessionOver(ended time.Time) error {
	return fmt.Errorf("%w: the session lasted until %s", ErrExpired, ended.UTC().Format(time.RFC3339))
}

// endOfKey ends the session of an API key with that token.
func (ss *Sessions) endOfKey(ctx context.Context, token string) error {
	id := nameInToken(keySessionPrefix, token)
	if id == "" {
		return nil
	}
	if err := ss.keys.redis.HDel(ctx, sessionsKey(id), tokenField(token)).Err(); err != nil {
		return fmt.Errorf("registry: end a session: %w", err)
	}
	return nil
}

// tokenField is where what a token stands for is found in a hash.
func tokenField(token string) string {
	d := digestOf(token)
	return hex.EncodeToString(d[:])
}
