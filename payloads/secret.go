package payloads

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	secretPrefix = "whsec_"

	// Standard Webhooks asks for 24 to 64 random bytes.
	minSecretLen = 24
	maxSecretLen = 64
	newSecretLen = 32 // the size of SHA-256: more adds nothing to an HMAC's strength

	// The bounds of a text that is a key by itself, in characters.
	minTextLen = 16
	maxTextLen = 256

	redacted = secretPrefix + "***"
)

// Secret is a signing secret, shared with one partner. It shows itself only to
// [Secret.Reveal]: printing with any verb, logging with slog and encoding as JSON
// or text all give "whsec_***". So what stores secrets must reveal them on
// purpose, and parse them on the way back. The zero Secret is no secret and
// signs nothing. Compare with Equal.
type Secret struct {
	hidden *hidden
}

// hidden keeps a key out of fmt's reach. In an unexported field fmt may not call
// Format and walks the value instead: through one pointer when the verb does not
// suit (%t), but never through two.
type hidden struct {
	key  *[]byte // what the text means, if it is of the form whsec_…; else nil
	text *string // the text, if it is of another form; else nil
}

func newSecret(key []byte) Secret { return Secret{&hidden{key: &key}} }

// key is nil if the secret is a text that Standard Webhooks could not read.
func (s Secret) key() []byte {
	if s.hidden.key == nil {
		return nil
	}
	return *s.hidden.key
}

// NewSecret makes a secret of 32 random bytes.
func NewSecret() Secret {
	key := make([]byte, newSecretLen)
	_, _ = rand.Read(key) // documented never to fail
	return newSecret(key)
}

// ParseSecret reads a secret as Standard Webhooks writes it: "whsec_" and the
// base64 (standard alphabet, padded) of 24 to 64 bytes. Errors never repeat any
// of it.
func ParseSecret(s string) (Secret, error) {
	encoded, ok := strings.CutPrefix(s, secretPrefix)
	switch {
	case strings.HasPrefix(s, "whsk_") || strings.HasPrefix(s, "whpk_"):
		return Secret{}, errors.New("this is a key for the asymmetric scheme v1a: the symmetric v1 needs a secret that begins with whsec_")
	case !ok:
		return Secret{}, errors.New("a signing secret begins with whsec_: copy it whole")
	case strings.TrimSpace(s) != s:
		return Secret{}, errors.New("the signing secret ends in a space or line break: leave that out")
	}
	key, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || strings.ContainsAny(encoded, "\r\n") { // which the decoder would skip
		return Secret{}, errors.New("what follows whsec_ is not base64 (standard alphabet, with padding): copy the secret whole")
	}
	if len(key) < minSecretLen || len(key) > maxSecretLen {
		return Secret{}, fmt.Errorf("a signing secret holds %d to %d bytes, this one %d: make a new one", minSecretLen, maxSecretLen, len(key))
	}
	return newSecret(key), nil
}

// ParseText reads a secret whose text itself is the key, as GitHub's and Stripe's are:
// 16 to 256 characters. If the text is of the form that [ParseSecret] reads, the
// secret is the same as ParseSecret's, and good for every [HeaderStyle]. Errors never
// repeat any of it.
func ParseText(s string) (Secret, error) {
	if secret, err := ParseSecret(s); err == nil {
		return secret, nil
	}
	n := utf8.RuneCountInString(s)
	switch {
	case !utf8.ValidString(s) || strings.ContainsRune(s, utf8.RuneError):
		return Secret{}, errors.New("the signing secret is not UTF-8: copy it whole")
	case strings.TrimSpace(s) != s:
		return Secret{}, errors.New("the signing secret begins or ends in a space or line break: leave that out")
	case strings.ContainsFunc(s, unicode.IsControl):
		return Secret{}, errors.New("the signing secret holds a line break or another control character: it is one line of text")
	case n < minTextLen || n > maxTextLen:
		return Secret{}, fmt.Errorf("a signing secret whose text is the key has %d to %d characters, this one %d: make a new one", minTextLen, maxTextLen, n)
	}
	return Secret{&hidden{text: &s}}, nil
}

// Reveal gives the secret as ParseSecret, or else ParseText, reads it; "" for the zero
// Secret.
func (s Secret) Reveal() string {
	switch {
	case s.IsZero():
		return ""
	case s.hidden.text != nil:
		return *s.hidden.text
	}
	return secretPrefix + base64.StdEncoding.EncodeToString(s.key())
}

// IsZero reports whether s is no secret at all.
func (s Secret) IsZero() bool { return s.hidden == nil }

// Equal reports whether both are the same secret, in constant time.
func (s Secret) Equal(other Secret) bool {
	if s.IsZero() || other.IsZero() {
		return s.IsZero() && other.IsZero()
	}
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(other.Reveal())) == 1
}

// String gives "whsec_***".
func (s Secret) String() string { return redacted }

// Format gives "whsec_***" for every verb, %x and %#v included.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue gives "whsec_***".
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText gives "whsec_***", in JSON too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
