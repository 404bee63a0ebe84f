package payloads

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

const (
	signingKeyPrefix = "whsk_"
	publicKeyPrefix  = "whpk_"

	redactedKey = signingKeyPrefix + "***"
)

// SigningKey is a private key of Ed25519 (RFC 8032), for the asymmetric scheme of
// Standard Webhooks. Whoever has its [PublicKey] can verify, and cannot sign. As a
// [Secret] does, it shows itself only to [SigningKey.Reveal]. The zero SigningKey is
// no key and signs nothing.
type SigningKey struct {
	hidden *hidden
}

// NewSigningKey makes a key.
func NewSigningKey() SigningKey {
	_, private, _ := ed25519.GenerateKey(rand.Reader) // which is documented never to fail
	return keyOf(private)
}

func keyOf(private ed25519.PrivateKey) SigningKey {
	key := []byte(private)
	return SigningKey{&hidden{key: &key}}
}

// ParseSigningKey reads a key as Reveal gives it: "whsk_" and the base64 (standard
// alphabet, padded) of its 64 bytes, the public key the second half of them. Errors
// never repeat any of it.
func ParseSigningKey(s string) (SigningKey, error) {
	encoded, ok := strings.CutPrefix(s, signingKeyPrefix)
	if !ok {
		return SigningKey{}, errors.New("a private key begins with whsk_: copy it whole")
	}
	key, err := decodeStrictly(base64.StdEncoding, encoded)
	if err != nil || len(key) != ed25519.PrivateKeySize {
		return SigningKey{}, fmt.Errorf("what follows whsk_ is not the base64 (standard alphabet, with padding) of %d bytes: copy the key whole", ed25519.PrivateKeySize)
	}
	private := ed25519.NewKeyFromSeed(key[:ed25519.SeedSize])
	if subtle.ConstantTimeCompare(private, key) != 1 {
		return SigningKey{}, errors.New("the halves of the private key do not belong together: copy the key whole")
	}
	return keyOf(private), nil
}

// decodeStrictly reads base64 as it is written, without line breaks, which a decoder would skip.
func decodeStrictly(by *base64.Encoding, encoded string) ([]byte, error) {
	if strings.ContainsAny(encoded, "\r\n") {
		return nil, errors.New("a line break")
	}
	return by.Strict().DecodeString(encoded)
}

func (k SigningKey) private() ed25519.PrivateKey { return *k.hidden.key }

// sign is the signature of text, in base64.
func (k SigningKey) sign(text []byte) string {
	return base64.StdEncoding.EncodeToString(ed25519.Sign(k.private(), text))
}

// Public is the key to verify with, and the zero PublicKey for the zero SigningKey.
func (k SigningKey) Public() (p PublicKey) {
	if !k.IsZero() {
		copy(p.key[:], k.private()[ed25519.SeedSize:])
	}
	return p
}

// Reveal gives the key as ParseSigningKey reads it; "" for the zero SigningKey.
func (k SigningKey) Reveal() string {
	if k.IsZero() {
		return ""
	}
	return signingKeyPrefix + base64.StdEncoding.EncodeToString(k.private())
}

// IsZero reports whether k is no key at all.
func (k SigningKey) IsZero() bool { return k.hidden == nil }

// String gives "whsk_***".
func (k SigningKey) String() string { return redactedKey }

// Format gives "whsk_***" for every verb, %x and %#v included.
func (k SigningKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redactedKey)) }

// LogValue gives "whsk_***".
func (k SigningKey) LogValue() slog.Value { return slog.StringValue(redactedKey) }

// MarshalText gives "whsk_***", in JSON too.
func (k SigningKey) MarshalText() ([]byte, error) { return []byte(redactedKey), nil }

// PublicKey is the half of a [SigningKey] that is published. It is comparable. The zero
// PublicKey is no key and verifies nothing.
type PublicKey struct {
	key [ed25519.PublicKeySize]byte
}

// ParsePublicKey reads a key as Standard Webhooks writes it: "whpk_" and the base64
// (standard alphabet, padded) of its 32 bytes.
func ParsePublicKey(s string) (p PublicKey, err error) {
	encoded, ok := strings.CutPrefix(s, publicKeyPrefix)
	if !ok {
		return PublicKey{}, errors.New("a public key begins with whpk_: copy it whole")
	}
	key, err := decodeStrictly(base64.StdEncoding, encoded)
	if err != nil || len(key) != ed25519.PublicKeySize {
		return PublicKey{}, fmt.Errorf("what follows whpk_ is not the base64 (standard alphabet, with padding) of %d bytes: copy the key whole", ed25519.PublicKeySize)
	}
	copy(p.key[:], key)
	return p, nil
}

// IsZero reports whether p is no key at all.
func (p PublicKey) IsZero() bool { return p == PublicKey{} }

// String gives the key as ParsePublicKey reads it.
func (p PublicKey) String() string {
	return publicKeyPrefix + base64.StdEncoding.EncodeToString(p.key[:])
}

// MarshalText gives the key as String does.
func (p PublicKey) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// KID is the name of the key in a [JWKS]: its thumbprint (RFC 7638 and RFC 8037,
// appendix A.3), which follows from the key alone.
func (p PublicKey) KID() string {
	sum := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + p.x() + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (p PublicKey) x() string { return base64.RawURLEncoding.EncodeToString(p.key[:]) }

// verifies reports whether a signature, in base64, is of text and the key's.
func (p PublicKey) verifies(text []byte, signature string) bool {
	raw, err := base64.StdEncoding.DecodeString(signature)
	return err == nil && len(raw) == ed25519.SignatureSize && !p.IsZero() && ed25519.Verify(p.key[:], text, raw)
}

// A JWKS is a set of public keys as it is published (RFC 7517 and RFC 8037).
type JWKS []PublicKey

// jwk is a key of a set. Of others than those of Ed25519 no more is read.
type jwk struct {
	KeyType   string `json:"kty"`
	Curve     string `json:"crv"`
	X         string `json:"x"`
	KID       string `json:"kid"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
}

// MarshalJSON writes the set. An empty one has no keys.
func (s JWKS) MarshalJSON() ([]byte, error) {
	keys := make([]jwk, len(s))
	for i, p := range s {
		keys[i] = jwk{KeyType: "OKP", Curve: "Ed25519", X: p.x(), KID: p.KID(), Use: "sig", Algorithm: "EdDSA"}
	}
	return json.Marshal(map[string][]jwk{"keys": keys})
}

// ParseJWKS reads the keys of Ed25519 in a set that may verify signatures, and passes over others.
func ParseJWKS(text []byte) (JWKS, error) {
	var set struct {
		Keys *[]json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil || set.Keys == nil {
		return nil, errors.New(`this is no set of keys, which is a JSON object with the member "keys"`)
	}
	keys := JWKS{}
	for _, raw := range *set.Keys {
		var k jwk
		if json.Unmarshal(raw, &k) != nil || k.KeyType != "OKP" || k.Curve != "Ed25519" || k.Use != "" && k.Use != "sig" {
			continue
		}
		x, err := decodeStrictly(base64.RawURLEncoding, k.X)
		if err != nil || len(x) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("a key of the set is no Ed25519 key, although it says so: its x is not the base64url of %d bytes", ed25519.PublicKeySize)
		}
		keys = append(keys, PublicKey{[ed25519.PublicKeySize]byte(x)})
	}
	return keys, nil
}
