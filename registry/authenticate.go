package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// keyCacheFor is how long a revoked key may still work, beside the time that Redis
	// takes to say so. A process asks for each key that is used at most once in that
	// time. While it gets no answer, it goes on with what it knows, for goodFor.
	keyCacheFor = time.Second

	// noteUseEvery is how old LastUsed has to be before it is written again, in
	// seconds.
	noteUseEvery = 60

	maxCached = 4096 // keys in use at the same time; more are asked for more often
)

// lookup returns the key with the digest ARGV[1] and the time in ms: ARGV[3], or that of
// Redis's clock if it is empty. If the last note of a use is ARGV[2] seconds old, or as
// far ahead, it notes that the key is used. A Redis that is full or read-only refuses
// that, and the key is as good as before.
var lookup = redis.NewScript(`
local field = ARGV[1]
local text = redis.call('HGET', KEYS[1], field)
if not text then
	field = '` + boundPrefix + `' .. field
	text = redis.call('HGET', KEYS[1], field)
end
if not text then return false end
local t = redis.call('TIME')
local ms = tonumber(ARGV[3]) or tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local now = math.floor(ms / 1000)
local readable, key = pcall(cjson.decode, text)
if readable and type(key) == 'table' and math.abs(now - (tonumber(key.last_used) or 0)) >= tonumber(ARGV[2]) then
	key.last_used = now
	redis.pcall('HSET', KEYS[1], field, cjson.encode(key))
end
return {text, string.format('%.0f', ms)}`)

// Authenticate returns the [Key] of the presented one. If there is none, the error is
// ErrUnauthorized; if it was good once, ErrExpired. Other errors say that Redis could
// not be asked. Answers are remembered for a second, or until this process changes a
// key. While Redis does not answer, they are good for a minute, and no longer than the
// key itself.
func (ks *Keys) Authenticate(ctx context.Context, presented string) (Key, error) {
	if presented == "" || len(presented) > maxSecretLen {
		return Key{}, ErrUnauthorized
	}
	// Digests are compared, not keys: how long that takes tells nothing of a key.
	return ks.owner(ctx, digestOf(presented))
}

// owner is Authenticate for a key whose digest is at hand.
func (ks *Keys) owner(ctx context.Context, d digest) (Key, error) {
	ks.outdate(ctx, d)
	c, ok := ks.cached(d)
	if ok {
		return c.key, c.err
	}
	if time.Now().Before(c.last) {
		var renewed cachedKey
		if ks.again.do(ctx, func(ctx context.Context) (err error) {
			renewed, err = ks.askTogether(ctx, d)
			return err
		}) {
			c = renewed
		}
		return c.key, c.err
	}
	c, err := ks.askTogether(context.WithoutCancel(ctx), d)
	if err != nil {
		return Key{}, err
	}
	return c.key, c.err
}

// outdate has a key asked for anew if what is known of it is too old for the question. While Redis does not answer, it stays as good as it was.
func (ks *Keys) outdate(ctx context.Context, d digest) {
	if ctx.Value(recentKey{}) == nil {
		return
	}
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if c, ok := ks.known[d]; ok && time.Until(c.until) < keyCacheFor-recentFor {
		c.until = time.Time{}
		ks.known[d] = c
	}
}

// Holds is what a [Caller] with that key asks, as long as it is there.
func (ks *Keys) Holds(presented string) func(context.Context) error {
	return func(ctx context.Context) error {
		if _, err := ks.Authenticate(recently(ctx), presented); errors.Is(err, ErrUnauthorized) {
			return err
		}
		return nil
	}
}

// askTogether looks a key up once for all who want it. ctx is that of one of them: who
// hangs up must not end it.
func (ks *Keys) askTogether(ctx context.Context, d digest) (cachedKey, error) {
	v, err := ks.together(string(d[:]), func(changes int) (any, error) {
		if c, ok := ks.cached(d); ok { // another's answer came since
			return c, nil
		}
		return ks.ask(ctx, d, changes)
	})
	if err != nil {
		return cachedKey{}, err
	}
	return v.(cachedKey), nil //nolint:forcetypeassert // ask's
}

// together asks Redis once for all who want the same at the same time. If this process
// changes a key meanwhile, the answer may be of before the change, and together asks
// again. It gives ask the number of the changes before it.
func (ks *Keys) together(what string, ask func(changes int) (any, error)) (any, error) {
	for {
		changes := ks.changed()
		answer, err, _ := ks.asking.Do(strconv.Itoa(changes)+" "+what, func() (any, error) { return ask(changes) })
		if ks.changed() == changes {
			return answer, err
		}
	}
}

// changed is how often this process changed keys.
func (ks *Keys) changed() int {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	return ks.changes
}

// ask looks a key up and remembers it, unless there was another change since so many.
func (ks *Keys) ask(ctx context.Context, d digest, changes int) (cachedKey, error) {
	now := ks.time(ctx)
	asked := time.Now()
	answer, err := lookup.Run(ctx, ks.redis, []string{keysKey}, d.field(false), noteUseEvery, now).StringSlice()
	if errors.Is(err, redis.Nil) {
		ks.mu.Lock()
		delete(ks.known, d)
		ks.mu.Unlock()
		return cachedKey{err: ErrUnauthorized}, nil
	}
	if err != nil {
		return cachedKey{}, fmt.Errorf("registry: look up an API key: %w", err)
	}
	c := cachedKey{until: asked.Add(keyCacheFor), last: asked.Add(goodFor)}
	if err := json.Unmarshal([]byte(answer[0]), &c.key); err != nil {
		return cachedKey{}, errUnreadableKey(err)
	}
	ms, err := parseVersion(answer[1])
	if err != nil {
		return cachedKey{}, err
	}
	if at := time.UnixMilli(ms); c.key.expired(at) {
		c.key, c.err = Key{}, fmt.Errorf("%w on %s", ErrExpired, c.key.ExpiresAt.UTC().Format(time.RFC3339))
	} else if !c.key.ExpiresAt.IsZero() {
		left := c.key.ExpiresAt.Sub(at)
		c.until, c.last = asked.Add(min(keyCacheFor, left)), asked.Add(min(goodFor, left))
	}
	ks.remember(d, c, changes)
	return c, nil
}

// cached returns the remembered answer, and whether it is good as it is.
func (ks *Keys) cached(d digest) (cachedKey, bool) {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	c, ok := ks.known[d]
	return c, ok && time.Now().Before(c.until)
}

// remember keeps an answer that was asked for after so many changes, if there was no
// other since. If the memory is full, answers go that are too old to count, then those
// that Redis would be asked for again. If that makes no room, all go.
func (ks *Keys) remember(d digest, c cachedKey, changes int) {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if ks.changes != changes {
		return
	}
	if len(ks.known) >= maxCached {
		maps.DeleteFunc(ks.known, func(_ digest, c cachedKey) bool { return !time.Now().Before(c.last) })
	}
	if len(ks.known) >= maxCached {
		maps.DeleteFunc(ks.known, func(_ digest, c cachedKey) bool { return !time.Now().Before(c.until) })
	}
	if len(ks.known) >= maxCached {
		clear(ks.known)
	}
	ks.known[d] = c
}

// Stored reports whether there is such a key, by a list of digests that is a second
// old at most. However many keys are presented, Redis is asked once a second. It is
// for an address that presents many wrong keys, behind which others may have right ones.
func (ks *Keys) Stored(ctx context.Context, presented string) (bool, error) {
	d := digestOf(presented)
	if ks.isKnown(d) {
		return true, nil
	}
	v, err := ks.together("", func(changes int) (any, error) { return ks.digests(context.WithoutCancel(ctx), changes) })
	if err != nil {
		return false, err
	}
	stored := v.(map[string]bool) //nolint:forcetypeassert // digests'
	return stored[d.field(false)] || stored[d.field(true)], nil
}

func (ks *Keys) isKnown(d digest) bool {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	_, ok := ks.known[d]
	return ok
}

// digests returns the fields of all keys. They are not changed any more. It remembers
// them, unless there was another change since so many.
func (ks *Keys) digests(ctx context.Context, changes int) (map[string]bool, error) {
	ks.mu.Lock()
	stored, updated := ks.stored, ks.updated
	ks.mu.Unlock()
	if stored != nil && time.Since(updated) < keyCacheFor {
		return stored, nil
	}
	updated = time.Now()
	fields, err := ks.redis.HKeys(ctx, keysKey).Result()
	if err != nil {
		return nil, fmt.Errorf("registry: list the API keys: %w", err)
	}
	stored = make(map[string]bool, len(fields))
	for _, field := range fields {
		stored[field] = true
	}
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if ks.changes == changes {
		ks.stored, ks.updated = stored, updated
	}
	return stored, nil
}
