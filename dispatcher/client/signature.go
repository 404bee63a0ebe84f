package client

import "time"

// A Signature says by what a callback's requests are signed. One of the three has to be true.
type Signature struct {
	HMAC    bool `json:"hmac"`    // v1 of Standard Webhooks, by the callback's secrets
	Ed25519 bool `json:"ed25519"` // v1a of Standard Webhooks, by its keys
	RFC9421 bool `json:"rfc9421"` // HTTP Message Signatures, by its keys

	// Keys are the public keys, the newest first. Ringback makes them: a registration has none.
	Keys []SigningKey `json:"keys,omitempty"`
}

// A SigningKey is the public half of a callback's key pair.
type SigningKey struct {
	KID            string    `json:"kid"`        // its name in the company's key set
	PublicKey      string    `json:"public_key"` // "whpk_…"
	Stage          string    `json:"stage"`      // announced, signing or retired
	AnnouncedAt    time.Time `json:"announced_at"`
	SignsFrom      time.Time `json:"signs_from"`
	SignsUntil     time.Time `json:"signs_until,omitzero"`     // zero: it stays
	PublishedUntil time.Time `json:"published_until,omitzero"` // zero: it stays
}
