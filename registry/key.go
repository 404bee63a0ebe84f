package registry

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

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
// its own limit says otherwise. It is far more than looking after callbacks takes.
const PartnerRateLimit = 20

// Key is everything that is known of an API key, but for the key itself.
type Key struct {
	// ID names the key in public: "rbk_" and the first eight characters that
	// follow in the key.
	ID        string    `json:"id"`
	Role      Role      `json:"role"`
	Company   string    `json:"company"` // or AllCompanies
	CreatedAt time.Time `json:"created_at"`

	// ExpiresAt is when the key becomes worthless, by the installation's time.
	// Zero: never.
	ExpiresAt time.Time `json:"expires_at,omitzero"`

	// Replaced says that Rotate has made another secret for the same ID, and that
	// ExpiresAt is where their overlap ends, or earlier.
	Replaced bool `json:"replaced,omitempty"`

	// RateLimit is how many changes a second the key may make; 0 is any number.
	// Nil: its role's, see Limit.
	RateLimit *float64 `json:"rate_limit,omitempty"`

	// LastUsed is when the key was last used, in Unix seconds, to a minute. 0: it was
	// not used since processes note it.
	LastUsed int64 `json:"last_used,omitempty"`

	// Callbacks are those of its company's callbacks that the caller may see. Nil: all. No API key has it, so it is not stored with one: it is of a
	// portal link's session.
	Callbacks []int64 `json:"-"`

	// ReadOnly says that the caller may look and do no more. Like Callbacks, it is of a portal link's session.
	ReadOnly bool `json:"-"`
}

// Covers reports whether the key is for company.
func (k Key) Covers(company string) bool {
	return k.Company == AllCompanies || k.Company == company && company != ""
}

// Bounded reports whether the caller may do or see less than others of its role.
func (k Key) Bounded() bool { return k.ReadOnly || k.Callbacks != nil }

// Sees reports whether a callback of its company is one that the caller may see.
func (k Key) Sees(callback int64) bool {
	return k.Callbacks == nil || slices.Contains(k.Callbacks, callback)
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

// expired reports whether the key is worthless at a time of the installation.
func (k Key) expired(at time.Time) bool { return !k.ExpiresAt.IsZero() && !at.Before(k.ExpiresAt) }

const (
	keyPrefix    = "rbk_"
	keyIDLen     = len(keyPrefix) + 8
	maxSecretLen = 256 // longer ones are nobody's, and not worth hashing

	// boundPrefix begins the field of a key that processes of level 1 must not
	// take: they look for the digest alone, and do not find it.
	boundPrefix = "2:"
)

// A digest stands for a key in Redis and in memory.
type digest [sha256.Size]byte

func digestOf(secret string) digest { return sha256.Sum256([]byte(secret)) }

// field is where a key stands in the hash.
func (d digest) field(bound bool) string {
	if bound {
		return boundPrefix + hex.EncodeToString(d[:])
	}
	return hex.EncodeToString(d[:])
}

// Limits on what a key may be bound to.
const (
	minKeyLife = time.Minute
	maxKeyLife = 10 * 365 * 24 * time.Hour
)

// Terms are what a key may be bound to beyond its role and company. The zero value
// binds it to nothing.
type Terms struct {
	ExpiresIn time.Duration // a minute to ten years from now; 0: it does not expire
	RateLimit *float64      // as in Key
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

// randomText is 32 random bytes as 43 characters.
func randomText() string {
	var random [32]byte
	_, _ = rand.Read(random[:]) // documented never to fail
	return base64.RawURLEncoding.EncodeToString(random[:])
}

// checkKey returns an *payloads.InvalidError if the role or the company will not do.
func checkKey(k Key) error {
	var fields []payloads.FieldError
	if !k.Role.Valid() {
		fields = append(fields, payloads.FieldError{Location: "role", Message: "must be operator, producer, partner or viewer", Value: short(string(k.Role))})
	}
	switch {
	case k.Role == Partner && !payloads.ValidCompany(k.Company):
		fields = append(fields, payloads.FieldError{Location: "company", Message: "must name the partner's one company: 1 to 64 of A-Z a-z 0-9 _ . - and not . or ..", Value: short(k.Company)})
	case k.Company != AllCompanies && !payloads.ValidCompany(k.Company):
		fields = append(fields, payloads.FieldError{Location: "company", Message: "must be 1 to 64 of A-Z a-z 0-9 _ . - and not . or .., or * for all companies", Value: short(k.Company)})
	}
	if len(fields) > 0 {
		return &payloads.InvalidError{Fields: fields}
	}
	return nil
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

// keyFields are the fields of a key that the audit trail tells.
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

func errUnreadableKey(err error) error {
	return fmt.Errorf("registry: an API key's entry is not readable: %w", err)
}
