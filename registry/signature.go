package registry

import (
	"slices"
	"time"

	"github.com/ringback/ringback/payloads"
)

// Times of a callback's keys. Whoever verifies may remember a company's keys for
// KeysMaxAge.
const (
	KeysMaxAge = 5 * time.Minute

	// KeyLead is for how long a key is announced at least before it signs. It is a
	// minute more than KeysMaxAge, for what our processes remember and for clocks.
	KeyLead = KeysMaxAge + time.Minute

	// keysLeast is for how long a set may be remembered at least, however old it is. So a
	// receiver does not ask for each request that it verifies while Redis is away. KeyLead
	// has room for it.
	keysLeast = 10 * time.Second

	// MaxAnnounce is for how long a key may be announced.
	MaxAnnounce = 30 * 24 * time.Hour

	// keyRetires is for how long a key that no longer signs is published: requests
	// that it signed may be on their way, and are verified up to five minutes later.
	keyRetires = 10 * time.Minute

	// maxKeys is how many keys of a callback may be published at once.
	maxKeys = 5
)

// A Signature says by what a callback's requests are signed.
type Signature struct {
	HMAC    bool // v1 of Standard Webhooks, by the callback's secrets
	Ed25519 bool // v1a of Standard Webhooks, by Keys
	RFC9421 bool // HTTP Message Signatures, by Keys

	// Keys are the key pairs, the newest first. They are there as long as Ed25519 or
	// RFC9421 is.
	Keys []SigningKey
}

// SigningKey is one of a callback's key pairs. Its stage follows from its times, so
// that nothing has to happen for it to change.
type SigningKey struct {
	Key         payloads.SigningKey
	AnnouncedAt time.Time // it is published from then on
	SignsFrom   time.Time // AnnouncedAt: at once
	SignsUntil  time.Time // zero: it stays
}

// The stages of a key.
const (
	KeyAnnounced = "announced" // published, and does not sign yet
	KeySigns     = "signing"   // published, and signs
	KeyRetired   = "retired"   // published, and no longer signs
	keyGone      = ""          // no longer published
)

// Stage is the stage of the key at a time.
func (k SigningKey) Stage(at time.Time) string {
	switch {
	case at.Before(k.SignsFrom) && !k.SignsFrom.Equal(k.AnnouncedAt): // whose clock is behind knows that it signs at once, too
		return KeyAnnounced
	case k.SignsUntil.IsZero() || at.Before(k.SignsUntil):
		return KeySigns
	case at.Before(k.PublishedUntil()):
		return KeyRetired
	default:
		return keyGone
	}
}

// PublishedUntil is when the key is no longer published. It is zero if it stays.
func (k SigningKey) PublishedUntil() time.Time {
	if k.SignsUntil.IsZero() {
		return time.Time{}
	}
	return k.SignsUntil.Add(keyRetires)
}

func published(keys []SigningKey, at time.Time) []SigningKey {
	return slices.DeleteFunc(slices.Clone(keys), func(k SigningKey) bool { return k.Stage(at) == keyGone })
}

// wantsKeys reports whether requests are to be signed by keys.
func (s *Signature) wantsKeys() bool { return s != nil && (s.Ed25519 || s.RFC9421) }

// signatureSettings are how a signature is shown, and what of it a client may set.
type signatureSettings struct {
	HMAC    bool       `json:"hmac"`
	Ed25519 bool       `json:"ed25519"`
	RFC9421 bool       `json:"rfc9421"`
	Keys    []shownKey `json:"keys,omitempty"`
}

// shownKey is the public half of a key, with its times.
type shownKey struct {
	KID            string             `json:"kid"`
	PublicKey      payloads.PublicKey `json:"public_key"`
	Stage          string             `json:"stage"`
	AnnouncedAt    time.Time          `json:"announced_at"`
	SignsFrom      time.Time          `json:"signs_from"`
	SignsUntil     time.Time          `json:"signs_until,omitzero"`
	PublishedUntil time.Time          `json:"published_until,omitzero"`
}

// settings are what of a signature a client may set. They are nil if it is the one that all callbacks have.
func (s *Signature) settings() *signatureSettings {
	if !s.wantsKeys() {
		return nil
	}
	return &signatureSettings{HMAC: s.HMAC, Ed25519: s.Ed25519, RFC9421: s.RFC9421}
}

// shown are settings with the keys that are published.
func (s *Signature) shown(at time.Time) *signatureSettings {
	if s == nil {
		return nil
	}
	keys := published(s.Keys, at)
	if len(keys) == 0 {
		return s.settings()
	}
	shown := &signatureSettings{HMAC: s.HMAC, Ed25519: s.Ed25519, RFC9421: s.RFC9421}
	for _, k := range keys {
		public := k.Key.Public()
		shown.Keys = append(shown.Keys, shownKey{public.KID(), public, k.Stage(at), k.AnnouncedAt, k.SignsFrom, k.SignsUntil, k.PublishedUntil()})
	}
	return shown
}

// storedSignature is a signature as it is sealed.
type storedSignature struct {
	HMAC    bool        `json:"hmac,omitempty"`
	Ed25519 bool        `json:"ed25519,omitempty"`
	RFC9421 bool        `json:"rfc9421,omitempty"`
	Keys    []storedKey `json:"keys"`
}

type storedKey struct {
	Key         string    `json:"k"`
	AnnouncedAt time.Time `json:"a"`
	SignsFrom   time.Time `json:"f"`
	SignsUntil  time.Time `json:"u,omitzero"`
}

func (s *Signature) stored() *storedSignature {
	if s == nil {
		return nil
	}
	stored := &storedSignature{HMAC: s.HMAC, Ed25519: s.Ed25519, RFC9421: s.RFC9421}
	for _, k := range s.Keys {
		stored.Keys = append(stored.Keys, storedKey{k.Key.Reveal(), k.AnnouncedAt, k.SignsFrom, k.SignsUntil})
	}
	return stored
}

// open is the inverse of stored. The error holds nothing of a key.
func (s *storedSignature) open() (*Signature, error) {
	if s == nil {
		return nil, nil
	}
	opened := &Signature{HMAC: s.HMAC, Ed25519: s.Ed25519, RFC9421: s.RFC9421}
	for _, k := range s.Keys {
		key, err := payloads.ParseSigningKey(k.Key)
		if err != nil {
			return nil, err
		}
		opened.Keys = append(opened.Keys, SigningKey{key, k.AnnouncedAt, k.SignsFrom, k.SignsUntil})
	}
	return opened, nil
}
