package httpapi

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"

	"github.com/ringback/ringback/payloads"
)

const (
	// maxIdempotencyKey is how long a key may be: what other APIs take.
	maxIdempotencyKey = 255
	// keptApart stands before the digest of a key that cannot be an event's id itself.
	keptApart = "idem_"
)

// eventIDOf is the event id that the header Idempotency-Key stands for: the key itself, or its digest if the key is no event id. Without the header it is
// empty. The same key is the same id always, so a repeat is a duplicate by the rules of events.
func eventIDOf(header string) (string, error) {
	if header == "" {
		return "", nil
	}
	key, ok := readIdempotencyKey(header)
	if !ok {
		return "", errBadIdempotencyKey
	}
	if payloads.ValidEventID(key) {
		return key, nil
	}
	sum := sha256.Sum256([]byte(key))
	return keptApart + strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:])), nil
}

// errBadIdempotencyKey refuses a header that is no key.
var errBadIdempotencyKey = &payloads.InvalidError{Fields: []payloads.FieldError{{
	Location: "header.Idempotency-Key",
	Message: `must be one text of 1 to 255 printable ASCII characters, such as "8e03978e-40d5-43dd-bc93-6894a57f9324", with the quotes or without: ` +
		`in quotes, a \ stands before each " and \; without them, it has no space, no " and no \`,
}}}

// readIdempotencyKey reads a string as structured fields write it (RFC 9651, section 3.3.3), which the header is by its draft, or a bare text, which
// many clients send.
func readIdempotencyKey(header string) (key string, ok bool) {
	key, quoted := strings.CutPrefix(header, `"`)
	if quoted {
		if key, ok = unquote(key); !ok {
			return "", false
		}
	}
	for _, c := range []byte(key) {
		if c < ' ' || c > '~' || !quoted && strings.IndexByte(` "\`, c) >= 0 {
			return "", false
		}
	}
	return key, key != "" && len(key) <= maxIdempotencyKey
}

// unquote reads what follows the first quote, up to the last, which must end the text.
func unquote(rest string) (text string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(rest); i++ {
		switch c := rest[i]; c {
		case '"':
			return b.String(), i == len(rest)-1
		case '\\':
			i++
			if i == len(rest) || rest[i] != '"' && rest[i] != '\\' {
				return "", false
			}
			b.WriteByte(rest[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}
