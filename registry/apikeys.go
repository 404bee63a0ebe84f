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
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/payloads"
)

// ErrUnauthorized says that a presented API key is not one of ours.
var ErrUnauthorized = errors.New("registry: the API key is not known")

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

// Key is what is known of an API key: everything but the key.
type Key struct {
	// ID names the key in public: "rbk_" and the first eight characters that
	// follow in the key.
	ID        string    `json:"id"`
	Role      Role      `json:"role"`
	Company   string    `json:"company"` // or AllCompanies
	CreatedAt time.Time `json:"created_at"`
}

// Covers reports whether the key is for company.
func (k Key) Covers(company string) bool {
	return k.Company == AllCompanies || k.Company == company && company != ""
}

const (
	keysKey      = "ringback:keys"
	keyPrefix    = "rbk_"
	keyIDLen     = len(keyPrefix) + 8
	maxSecretLen = 256 // longer ones are nobody's, and not worth hashing

	// keyCacheFor is how long a revoked key may still work, and a new one may
	// still be refused where it was tried before it existed.
	keyCacheFor = 5 * time.Second

	// maxCached bounds each of the two caches: real keys are far fewer, and
	// guessed ones must not fill the memory.
	maxCached = 4096
)

// Keys are the API keys, stored in Redis as SHA-256 digests: with 32 random bytes
// in a key nothing slower is needed. Safe for concurrent use.
type Keys struct {
	redis redis.UniversalClient

	mu    sync.Mutex
	known map[digest]cachedKey
	// refused is apart from known, so that guesses cannot push out real keys.
	refused map[digest]time.Time // until when
}

type digest [sha256.Size]byte

type cachedKey struct {
	key   Key
	until time.Time
}

// NewKeys returns the API keys of the given Redis.
func NewKeys(rdb redis.UniversalClient) *Keys {
	return &Keys{redis: rdb, known: map[digest]cachedKey{}, refused: map[digest]time.Time{}}
}

// Create makes a new API key. secret is the key itself, 32 random bytes behind
// "rbk_", and is not stored: this is the only time it is seen. An empty company
// means AllCompanies for an operator or viewer; a partner is of one company. A
// role or company that will not do gives an *payloads.InvalidError.
func (ks *Keys) Create(ctx context.Context, role Role, company string) (secret string, k Key, err error) {
	var random [32]byte
	_, _ = rand.Read(random[:]) // documented never to fail
	secret = keyPrefix + base64.RawURLEncoding.EncodeToString(random[:])
	k, err = ks.put(ctx, secret, Key{ID: secret[:keyIDLen], Role: role, Company: company})
	if err != nil {
		return "", Key{}, err
	}
	return secret, k, nil
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
	d := digest(sha256.Sum256([]byte(secret)))
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
	if err := ks.redis.HSet(ctx, keysKey, hex.EncodeToString(d[:]), text).Err(); err != nil {
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

// Authenticate returns what is known of the presented key, or ErrUnauthorized.
// Other errors say that Redis could not be asked. Answers are remembered for five
// seconds, so a key revoked by another process works that much longer.
func (ks *Keys) Authenticate(ctx context.Context, presented string) (Key, error) {
	if presented == "" || len(presented) > maxSecretLen {
		return Key{}, ErrUnauthorized
	}
	// Digests are compared, not keys: how long that takes tells nothing of a key.
	d := digest(sha256.Sum256([]byte(presented)))
	if k, known, err := ks.cached(d); known {
		return k, err
	}
	text, err := ks.redis.HGet(ctx, keysKey, hex.EncodeToString(d[:])).Bytes()
	if errors.Is(err, redis.Nil) {
		ks.remember(d, nil)
		return Key{}, ErrUnauthorized
	}
	if err != nil {
		return Key{}, fmt.Errorf("registry: look up an API key: %w", err)
	}
	var k Key
	if err := json.Unmarshal(text, &k); err != nil {
		return Key{}, fmt.Errorf("registry: an API key's entry is not readable: %w", err)
	}
	ks.remember(d, &k)
	return k, nil
}

// cached returns the remembered answer; known says whether there is one.
func (ks *Keys) cached(d digest) (k Key, known bool, err error) {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	at := time.Now()
	if c, ok := ks.known[d]; ok && at.Before(c.until) {
		return c.key, true, nil
	}
	if until, ok := ks.refused[d]; ok && at.Before(until) {
		return Key{}, true, ErrUnauthorized
	}
	return Key{}, false, nil
}

// remember keeps an answer; a nil key is a refusal. A full cache starts anew.
func (ks *Keys) remember(d digest, k *Key) {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	until := time.Now().Add(keyCacheFor)
	if k == nil {
		if len(ks.refused) >= maxCached {
			clear(ks.refused)
		}
		ks.refused[d] = until
		return
	}
	if len(ks.known) >= maxCached {
		clear(ks.known)
	}
	ks.known[d] = cachedKey{*k, until}
}

func (ks *Keys) forget() {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	clear(ks.known)
	clear(ks.refused)
}

// List returns all keys, the oldest first.
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
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return keys, nil
}

// Revoke removes the key with the given ID, or returns ErrNotFound. Other
// processes may accept it for five more seconds.
func (ks *Keys) Revoke(ctx context.Context, id string) error {
	entries, err := ks.entries(ctx)
	if err != nil {
		return err
	}
	var fields []string
	for field, k := range entries {
		if k.ID == id {
			fields = append(fields, field)
		}
	}
	if len(fields) == 0 {
		return ErrNotFound
	}
	if err := ks.redis.HDel(ctx, keysKey, fields...).Err(); err != nil {
		return fmt.Errorf("registry: revoke an API key: %w", err)
	}
	ks.forget()
	return nil
}

// OfCompany counts the keys that are bound to a company.
func (ks *Keys) OfCompany(ctx context.Context, company string) (int64, error) {
	fields, err := ks.ofCompany(ctx, company, nil)
	return int64(len(fields)), err
}

// RevokeCompany removes the keys that are bound to a company and have one of the roles, and returns how many there were. Other processes may
// accept them for five more seconds.
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
	stored, err := ks.redis.HGetAll(ctx, keysKey).Result()
	if err != nil {
		return nil, fmt.Errorf("registry: list the API keys: %w", err)
	}
	entries := make(map[string]Key, len(stored))
	for field, text := range stored {
		var k Key
		if err := json.Unmarshal([]byte(text), &k); err != nil {
			return nil, fmt.Errorf("registry: an API key's entry is not readable: %w", err)
		}
		entries[field] = k
	}
	return entries, nil
}
