package registry

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/singleflight"

	"github.com/ringback/ringback/payloads"
)

var (
	// ErrUnauthorized says that a presented API key is not one of ours.
	ErrUnauthorized = errors.New("registry: the API key is not known")
	// ErrExpired is ErrUnauthorized for a key that was good until it expired.
	ErrExpired = fmt.Errorf("%w: it has expired", ErrUnauthorized)
)

// Role says what an API key may do.
type Role string

// The roles.
const (
	Operator Role = "operator" // everything
	Producer Role = "producer" // send events and read their fate
	Partner  Role = "partner"  // manage the callbacks and read the deliveries of one company
	Viewer   Role = "viewer"   // read lists, metrics and the monitoring UI
)

// Valid reports whether r is one of the roles.
func (r Role) Valid() bool {
	return r == Operator || r == Producer || r == Partner || r == Viewer
}

// AllCompanies is the Company of a key that covers every company.
const AllCompanies = "*"

// PartnerRateLimit is how many changes a second a partner's key may make, unless
// its own limit says otherwise: far more than looking after callbacks takes.
const PartnerRateLimit = 20

// Key is what is known of an API key: everything but the key.
type Key struct {
	// ID names the key in public: "rbk_" and the first eight characters that
	// follow in the key.
	ID        string    `json:"id"`
	Role      Role      `json:"role"`
	Company   string    `json:"company"` // or AllCompanies
	CreatedAt time.Time `json:"created_at"`

	// ExpiresAt is when the key becomes worthless, by Redis's clock. Zero: never.
	ExpiresAt time.Time `json:"expires_at,omitzero"`

	// Replaced says that Rotate has made another secret for the same ID, and that
	// ExpiresAt is where their overlap ends, or earlier.
	Replaced bool `json:"replaced,omitempty"`

	// RateLimit is how many changes a second the key may make; 0 is any number.
	// Nil: its role's, see Limit.
	RateLimit *float64 `json:"rate_limit,omitempty"`

	// LastUsed is when the key was last used, in Unix seconds, to a minute. 0:
	// not since processes note it.
	LastUsed int64 `json:"last_used,omitempty"`
}

// Covers reports whether the key is for company.
func (k Key) Covers(company string) bool {
	return k.Company == AllCompanies || k.Company == company && company != ""
}

// Limit is how many changes a second the key may make; 0 is any number.
func (k Key) Limit() float64 {
	switch {
	case k.RateLimit != nil:
		return *k.RateLimit
	case k.Role == Partner:
		return PartnerRateLimit
	default:
		return 0
	}
}

// bound reports whether processes of level 1 would ignore something of the key.
func (k Key) bound() bool { return !k.ExpiresAt.IsZero() || k.RateLimit != nil }

// expired reports whether the key is worthless at a time by Redis's clock.
func (k Key) expired(at time.Time) bool { return !k.ExpiresAt.IsZero() && !at.Before(k.ExpiresAt) }

const (
	keyPrefix    = "rbk_"
	keyIDLen     = len(keyPrefix) + 8
	maxSecretLen = 256 // longer ones are nobody's, and not worth hashing

	// keyCacheFor is how long a revoked key may still work. A process asks for each
	// key that is used at most once in that time.
	keyCacheFor = time.Second

	// noteUseEvery is how old LastUsed has to be before it is written again, in
	// seconds.
	noteUseEvery = 60

	// boundPrefix begins the field of a key that processes of level 1 must not
	// take: they look for the digest alone, and do not find it.
	boundPrefix = "2:"

	// keepExpired is how long a worthless key is listed.
	keepExpired = 7 * 24 * time.Hour

	maxCached = 4096 // keys in use at the same time; more are asked for more often
)

// Limits on what a key may be bound to.
const (
	minKeyLife = time.Minute
	maxKeyLife = 10 * 365 * 24 * time.Hour
)

// Keys are the API keys, stored in Redis as SHA-256 digests: with 26 random bytes
// or more in a key nothing slower is needed. Safe for concurrent use.
type Keys struct {
	redis redis.UniversalClient

	asking singleflight.Group // by digest, or for all digests

	mu      sync.Mutex
	known   map[digest]cachedKey // keys that exist, not those that were guessed
	stored  map[string]bool      // the fields in Redis, see Stored
	updated time.Time            // when stored was asked for
}

type digest [sha256.Size]byte

func digestOf(secret string) digest { return sha256.Sum256([]byte(secret)) }

// field is where a key stands in the hash.
func (d digest) field(bound bool) string {
	if bound {
		return boundPrefix + hex.EncodeToString(d[:])
	}
	return hex.EncodeToString(d[:])
}

type cachedKey struct {
	key   Key
	err   error // ErrExpired, or nil
	until time.Time
}

// NewKeys returns the API keys of the given Redis.
func NewKeys(rdb redis.UniversalClient) *Keys {
	return &Keys{redis: rdb, known: map[digest]cachedKey{}}
}

// Terms are what a key may be bound to beyond its role and company. The zero value
// binds it to nothing.
type Terms struct {
	ExpiresIn time.Duration // a minute to ten years from now; 0: it does not expire
	RateLimit *float64      // as in Key
}

// Create makes a new API key. secret is the key itself, 32 random bytes behind
// "rbk_", and is not stored: this is the only time it is seen. An empty company
// means AllCompanies for an operator or viewer; a partner is of one company. A
// role or company that will not do gives an *payloads.InvalidError.
func (ks *Keys) Create(ctx context.Context, role Role, company string) (secret string, k Key, err error) {
	return ks.CreateBound(ctx, role, company, Terms{})
}

// CreateBound is Create for a key with terms. Processes of level 1 would ignore
// those: while one is alive it returns an *OldProcessError.
func (ks *Keys) CreateBound(ctx context.Context, role Role, company string, terms Terms) (secret string, k Key, err error) {
	secret = keyPrefix + randomText()
	k = Key{ID: secret[:keyIDLen], Role: role, Company: company, RateLimit: terms.RateLimit}
	if err := terms.Check(); err != nil {
		return "", Key{}, err
	}
	if terms != (Terms{}) {
		at, err := ks.boundFrom(ctx, "a key that expires or has a rate limit")
		if err != nil {
			return "", Key{}, err
		}
		if terms.ExpiresIn > 0 {
			k.CreatedAt, k.ExpiresAt = at, at.Add(terms.ExpiresIn)
		}
	}
	if k, err = ks.put(ctx, secret, k); err != nil {
		return "", Key{}, err
	}
	return secret, k, nil
}

// boundFrom returns Redis's time, if all processes know what a key may be bound
// to, and forgets keys that have long expired.
func (ks *Keys) boundFrom(ctx context.Context, what string) (time.Time, error) {
	seen, err := Look(ctx, ks.redis)
	if err != nil {
		return time.Time{}, err
	}
	if err := seen.know(what, announcedLevel); err != nil {
		return time.Time{}, err
	}
	at, err := ks.redis.Time(ctx).Result()
	if err != nil {
		return time.Time{}, fmt.Errorf("registry: ask Redis for its time: %w", err)
	}
	at = at.UTC().Truncate(timeGrain)
	entries, err := ks.entries(ctx)
	if err != nil {
		return time.Time{}, err
	}
	var gone []string
	for field, k := range entries {
		if k.expired(at.Add(-keepExpired)) {
			gone = append(gone, field)
		}
	}
	if len(gone) > 0 {
		if err := ks.redis.HDel(ctx, keysKey, gone...).Err(); err != nil {
			return time.Time{}, fmt.Errorf("registry: forget expired API keys: %w", err)
		}
	}
	return at, nil
}

// randomText is 32 random bytes as 43 characters.
func randomText() string {
	var random [32]byte
	_, _ = rand.Read(random[:]) // documented never to fail
	return base64.RawURLEncoding.EncodeToString(random[:])
}

// Put stores a key of the caller's choice, such as the fixed one of a development
// server. An empty ID is derived from the key's digest, a zero CreatedAt is now.
func (ks *Keys) Put(ctx context.Context, secret string, k Key) error {
	if secret == "" || len(secret) > maxSecretLen {
		return invalid("key", fmt.Sprintf("must have 1 to %d bytes", maxSecretLen), nil)
	}
	_, err := ks.put(ctx, secret, k)
	return err
}

func (ks *Keys) put(ctx context.Context, secret string, k Key) (Key, error) {
	if k.Company == "" && (k.Role == Operator || k.Role == Viewer) {
		k.Company = AllCompanies
	}
	if err := checkKey(k); err != nil {
		return Key{}, err
	}
	d := digestOf(secret)
	if k.ID == "" {
		k.ID = keyPrefix + hex.EncodeToString(d[:4])
	}
	if k.CreatedAt.IsZero() {
		k.CreatedAt = now()
	}
	text, err := json.Marshal(k)
	if err != nil {
		return Key{}, fmt.Errorf("registry: store an API key: %w", err)
	}
	line := keyLine(ctx, "apikey.create", k, diff(nil, keyFields(k))...)
	if _, err := ks.change(ctx, line, d.field(k.bound()), string(text)); err != nil {
		return Key{}, fmt.Errorf("registry: store an API key: %w", err)
	}
	ks.forget()
	return k, nil
}

func checkKey(k Key) error {
	var fields []payloads.FieldError
	if !k.Role.Valid() {
		fields = append(fields, payloads.FieldError{Location: "role", Message: "must be operator, producer, partner or viewer", Value: short(string(k.Role))})
	}
	switch {
	case k.Role == Partner && !payloads.ValidCompany(k.Company):
		fields = append(fields, payloads.FieldError{Location: "company", Message: "must name the partner's one company: 1 to 64 of A-Z a-z 0-9 _ . -", Value: short(k.Company)})
	case k.Company != AllCompanies && !payloads.ValidCompany(k.Company):
		fields = append(fields, payloads.FieldError{Location: "company", Message: "must be 1 to 64 of A-Z a-z 0-9 _ . - or * for all companies", Value: short(k.Company)})
	}
	if len(fields) > 0 {
		return &payloads.InvalidError{Fields: fields}
	}
	return nil
}

// Check returns an *payloads.InvalidError if no key can be bound to the terms.
func (t Terms) Check() error {
	if t.ExpiresIn != 0 && (t.ExpiresIn < minKeyLife || t.ExpiresIn > maxKeyLife) {
		return invalid("expires_in", "must be a minute to ten years, such as 720h", nil)
	}
	if t.RateLimit != nil && *t.RateLimit != 0 && !(*t.RateLimit >= minPerSecond && *t.RateLimit <= maxPerSecond) {
		return invalid("rate_limit", fmt.Sprintf("must be %g to %d a second, or 0 for none", minPerSecond, maxPerSecond), nil)
	}
	return nil
}

// lookup returns the key with the digest ARGV[1] and Redis's time in ms. It notes
// that the key is used, once it was not noted for ARGV[2] seconds. A Redis that
// is full or read-only refuses that, and the key is as good as before.
var lookup = redis.NewScript(`
local field = ARGV[1]
local text = redis.call('HGET', KEYS[1], field)
if not text then
	field = '` + boundPrefix + `' .. field
	text = redis.call('HGET', KEYS[1], field)
end
if not text then return false end
local t = redis.call('TIME')
local readable, key = pcall(cjson.decode, text)
if readable and type(key) == 'table' and tonumber(t[1]) - (tonumber(key.last_used) or 0) >= tonumber(ARGV[2]) then
	key.last_used = tonumber(t[1])
	redis.pcall('HSET', KEYS[1], field, cjson.encode(key))
end
return {text, string.format('%.0f', tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000))}`)

// Authenticate returns what is known of the presented key, or an error that is
// ErrUnauthorized: ErrExpired where the key was good once. Other errors say that
// Redis could not be asked. Answers are remembered for a second.
func (ks *Keys) Authenticate(ctx context.Context, presented string) (Key, error) {
	if presented == "" || len(presented) > maxSecretLen {
		return Key{}, ErrUnauthorized
	}
	// Digests are compared, not keys: how long that takes tells nothing of a key.
	d := digestOf(presented)
	if c, ok := ks.cached(d); ok {
		return c.key, c.err
	}
	v, err, _ := ks.asking.Do(string(d[:]), func() (any, error) {
		if c, ok := ks.cached(d); ok { // another's answer came since
			return c, nil
		}
		// The answer is for all who ask meanwhile: one who hangs up does not end it.
		return ks.ask(context.WithoutCancel(ctx), d)
	})
	if err != nil {
		return Key{}, err
	}
	c := v.(cachedKey) //nolint:forcetypeassert // ask's
	return c.key, c.err
}

// ask looks a key up and remembers it.
func (ks *Keys) ask(ctx context.Context, d digest) (cachedKey, error) {
	asked := time.Now()
	answer, err := lookup.Run(ctx, ks.redis, []string{keysKey}, d.field(false), noteUseEvery).StringSlice()
	if errors.Is(err, redis.Nil) {
		ks.mu.Lock()
		delete(ks.known, d)
		ks.mu.Unlock()
		return cachedKey{}, ErrUnauthorized
	}
	if err != nil {
		return cachedKey{}, fmt.Errorf("registry: look up an API key: %w", err)
	}
	c := cachedKey{until: asked.Add(keyCacheFor)}
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
		c.until = asked.Add(min(keyCacheFor, c.key.ExpiresAt.Sub(at)))
	}
	ks.remember(d, c)
	return c, nil
}

// cached returns the remembered answer, if there is one.
func (ks *Keys) cached(d digest) (cachedKey, bool) {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	c, ok := ks.known[d]
	return c, ok && time.Now().Before(c.until)
}

// remember keeps an answer. Of a full memory those that are worth least go.
func (ks *Keys) remember(d digest, c cachedKey) {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if len(ks.known) >= maxCached {
		maps.DeleteFunc(ks.known, func(_ digest, c cachedKey) bool { return !time.Now().Before(c.until) })
	}
	if len(ks.known) >= maxCached {
		clear(ks.known)
	}
	ks.known[d] = c
}

func (ks *Keys) forget() {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	clear(ks.known)
	ks.stored = nil
}

// Stored reports whether there is such a key, by a list of digests that is a second
// old at most: however many keys are presented, Redis is asked once a second. It
// is for callers who present many wrong ones, among whom there may be others.
func (ks *Keys) Stored(ctx context.Context, presented string) (bool, error) {
	d := digestOf(presented)
	if ks.isKnown(d) {
		return true, nil
	}
	v, err, _ := ks.asking.Do("", func() (any, error) { return ks.digests(context.WithoutCancel(ctx)) })
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

// digests returns the fields of all keys. They are not changed any more.
func (ks *Keys) digests(ctx context.Context) (map[string]bool, error) {
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
	ks.stored, ks.updated = stored, updated
	return stored, nil
}

// List returns all keys, the oldest first. A key that was rotated is there once
// for each of its secrets, and one that has expired for another week.
func (ks *Keys) List(ctx context.Context) ([]Key, error) {
	entries, err := ks.entries(ctx)
	if err != nil {
		return nil, err
	}
	keys := make([]Key, 0, len(entries))
	for _, k := range entries {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b Key) int {
		if c := cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID)); c != 0 || a.Replaced == b.Replaced {
			return c
		}
		if a.Replaced { // of one key, the secret that was there before
			return -1
		}
		return 1
	})
	return keys, nil
}

// changeKeys sets fields to values, or removes those whose value is empty, and writes
// line ARGV[1] of the audit trail if that changed any. It returns how many.
var changeKeys = redis.NewScript(AuditLua + `
local changed = 0
for i = 2, #ARGV, 2 do
	if ARGV[i + 1] == '' then
		changed = changed + redis.call('HDEL', KEYS[1], ARGV[i])
	elseif redis.call('HGET', KEYS[1], ARGV[i]) ~= ARGV[i + 1] then
		redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
		changed = changed + 1
	end
end
if changed > 0 then audit(KEYS[2], ARGV[1]) end
return changed`)

// change runs the script of that name.
func (ks *Keys) change(ctx context.Context, line string, fieldsAndValues ...any) (changed int64, err error) {
	return changeKeys.Run(ctx, ks.redis, []string{keysKey, auditKeysKey}, append([]any{line}, fieldsAndValues...)...).Int64()
}

// keyLine is a line of the audit trail about a key. Those of all companies are
// the installation's.
func keyLine(ctx context.Context, action string, k Key, changes ...AuditChange) string {
	company := k.Company
	if company == AllCompanies {
		company = ""
	}
	return AuditLine(ctx, company, action, "keys/"+k.ID, changes...)
}

// keyFields are what is to be told of a key.
func keyFields(k Key) map[string]auditField {
	fields := map[string]auditField{}
	flatten(fields, "role", string(k.Role))
	flatten(fields, "company", k.Company)
	if !k.ExpiresAt.IsZero() {
		flatten(fields, "expires_at", k.ExpiresAt.UTC().Format(time.RFC3339))
	}
	if k.RateLimit != nil {
		flatten(fields, "rate_limit", *k.RateLimit)
	}
	return fields
}

// swap replaces the field ARGV[1], if it still is ARGV[2], by the fields and values
// that follow line ARGV[3] of the audit trail; those without a value it removes.
// No two secrets are the same, so finding the new one there means that an earlier
// run's answer was lost.
var swap = redis.NewScript(AuditLua + `
if redis.call('HGET', KEYS[1], ARGV[4]) == ARGV[5] then return 1 end
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
for i = 4, #ARGV, 2 do
	if ARGV[i + 1] == '' then
		redis.call('HDEL', KEYS[1], ARGV[i])
	else
		redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
	end
end
audit(KEYS[2], ARGV[3])
return 1`)

// Rotate makes a new secret for the key with the given ID, which begins as the one
// before. That one works until overlap has passed, from 0 to MaxOverlap. A new
// secret of a key that expires lives as long as the last one did from the start.
//
// Errors: ErrNotFound; an *OldProcessError, for processes of level 1 would let the
// old secret live; a *TwoSecretsError, unless overlap is 0, which ends all others.
func (ks *Keys) Rotate(ctx context.Context, id string, overlap time.Duration) (secret string, k Key, err error) {
	if overlap < 0 || overlap > MaxOverlap {
		return "", Key{}, invalid("overlap", fmt.Sprintf("must be from 0 to %s", MaxOverlap), nil)
	}
	at, err := ks.boundFrom(ctx, "rotating a key")
	if err != nil {
		return "", Key{}, err
	}
	secret = id + randomText()[8:] // 26 random bytes
	for range tries {
		k, done, err := ks.rotate(ctx, id, secret, at, overlap)
		if err != nil {
			return "", Key{}, err
		}
		if done {
			ks.forget()
			return secret, k, nil
		}
	}
	return "", Key{}, fmt.Errorf("registry: the API key %s keeps changing: try again", id)
}

// rotate is one try, which is not done if the key was changed meanwhile.
func (ks *Keys) rotate(ctx context.Context, id, secret string, at time.Time, overlap time.Duration) (next Key, done bool, err error) {
	stored, err := ks.texts(ctx)
	if err != nil {
		return Key{}, false, err
	}
	var field string // of the secret to replace
	var last Key
	var replaced []string
	for f, text := range stored {
		var k Key
		if err := json.Unmarshal([]byte(text), &k); err != nil {
			return Key{}, false, errUnreadableKey(err)
		}
		switch {
		case k.ID != id:
		case !k.Replaced:
			field, last = f, k
		case overlap > 0 && !k.expired(at):
			return Key{}, false, &TwoSecretsError{ID: id, Until: k.ExpiresAt}
		default:
			replaced = append(replaced, f)
		}
	}
	if field == "" {
		return Key{}, false, ErrNotFound
	}
	next = Key{ID: id, Role: last.Role, Company: last.Company, RateLimit: last.RateLimit, CreatedAt: at}
	if !last.ExpiresAt.IsZero() {
		next.ExpiresAt = at.Add(last.ExpiresAt.Sub(last.CreatedAt))
	}
	line := keyLine(ctx, "apikey.rotate", last, AuditChange{"secret", Masked, Masked}, AuditChange{Field: "overlap", New: formatDuration(overlap)})
	args := []any{field, stored[field], line}
	add := func(field string, k Key) error {
		text, err := json.Marshal(k)
		args = append(args, field, text)
		return err
	}
	if err := add(digestOf(secret).field(next.bound()), next); err != nil {
		return Key{}, false, fmt.Errorf("registry: rotate an API key: %w", err)
	}
	if overlap > 0 {
		last.Replaced = true
		if end := at.Add(overlap); last.ExpiresAt.IsZero() || end.Before(last.ExpiresAt) {
			last.ExpiresAt = end
		}
		if err := add(boundPrefix+strings.TrimPrefix(field, boundPrefix), last); err != nil {
			return Key{}, false, fmt.Errorf("registry: rotate an API key: %w", err)
		}
	}
	for _, field := range replaced {
		args = append(args, field, "")
	}
	swapped, err := swap.Run(ctx, ks.redis, []string{keysKey, auditKeysKey}, args...).Int()
	if err != nil {
		return Key{}, false, fmt.Errorf("registry: rotate an API key: %w", err)
	}
	return next, swapped == 1, nil
}

// A TwoSecretsError says that a key has two live secrets already.
type TwoSecretsError struct {
	ID    string
	Until time.Time // when the older one ends
}

func (e *TwoSecretsError) Error() string {
	return fmt.Sprintf("the key %s has two live secrets: the older one ends at %s, and an overlap of 0 ends it, and the other, at once", e.ID, e.Until.UTC().Format(time.RFC3339))
}

// Revoke removes the key with the given ID, with all its secrets, or returns
// ErrNotFound. Other processes may accept it for a second.
func (ks *Keys) Revoke(ctx context.Context, id string) error {
	for try := range tries {
		left, err := ks.revoke(ctx, id)
		if err != nil {
			return err
		}
		if left == 0 && try == 0 {
			return ErrNotFound
		}
		ks.forget()
		if left == 0 {
			return nil
		}
	}
	return fmt.Errorf("registry: the API key %s keeps changing: try again", id)
}

// revoke removes the secrets that the key has now, and returns how many there were.
// A rotation may move them meanwhile: so whoever calls it looks again.
func (ks *Keys) revoke(ctx context.Context, id string) (secrets int, err error) {
	entries, err := ks.entries(ctx)
	if err != nil {
		return 0, err
	}
	var gone []any
	var last Key
	for field, k := range entries {
		if k.ID == id {
			gone, last = append(gone, field, ""), k
		}
	}
	if len(gone) == 0 {
		return 0, nil
	}
	if _, err := ks.change(ctx, keyLine(ctx, "apikey.revoke", last), gone...); err != nil {
		return 0, fmt.Errorf("registry: revoke an API key: %w", err)
	}
	return len(gone) / 2, nil
}

// OfCompany counts the keys that are bound to a company.
func (ks *Keys) OfCompany(ctx context.Context, company string) (int64, error) {
	fields, err := ks.ofCompany(ctx, company, nil)
	return int64(len(fields)), err
}

// RevokeCompany removes the keys that are bound to a company and have one of the roles, and returns how many there were. Other processes may
// accept them for a second. The line of the audit trail is that of the company's erasure.
func (ks *Keys) RevokeCompany(ctx context.Context, company string, roles ...Role) (int64, error) {
	fields, err := ks.ofCompany(ctx, company, roles)
	if err != nil || len(fields) == 0 {
		return 0, err
	}
	removed, err := ks.redis.HDel(ctx, keysKey, fields...).Result()
	if err != nil {
		return 0, fmt.Errorf("registry: revoke the API keys of company %s: %w", company, err)
	}
	ks.forget()
	return removed, nil
}

// ofCompany are the fields of a company's keys, with one of the roles if any are named.
func (ks *Keys) ofCompany(ctx context.Context, company string, roles []Role) (fields []string, err error) {
	entries, err := ks.entries(ctx)
	if err != nil {
		return nil, err
	}
	for field, k := range entries {
		if k.Company == company && (len(roles) == 0 || slices.Contains(roles, k.Role)) {
			fields = append(fields, field)
		}
	}
	return fields, nil
}

// entries are the stored keys by the field they are stored under.
func (ks *Keys) entries(ctx context.Context) (map[string]Key, error) {
	stored, err := ks.texts(ctx)
	if err != nil {
		return nil, err
	}
	entries := make(map[string]Key, len(stored))
	for field, text := range stored {
		var k Key
		if err := json.Unmarshal([]byte(text), &k); err != nil {
			return nil, errUnreadableKey(err)
		}
		entries[field] = k
	}
	return entries, nil
}

// texts are the stored keys as they are stored.
func (ks *Keys) texts(ctx context.Context) (map[string]string, error) {
	stored, err := ks.redis.HGetAll(ctx, keysKey).Result()
	if err != nil {
		return nil, fmt.Errorf("registry: list the API keys: %w", err)
	}
	return stored, nil
}

func errUnreadableKey(err error) error {
	return fmt.Errorf("registry: an API key's entry is not readable: %w", err)
}
