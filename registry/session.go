package registry

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"time"
)

// SessionLife is how long a session lasts that somebody began with an API key: a working day.
const SessionLife = 12 * time.Hour

// A Place is the pages that a session is for. It is of no use at others.
type Place string

// The places.
const (
	PlaceConsole    Place = "console"
	PlacePortal     Place = "portal"
	PlaceMonitoring Place = "monitoring"
)

// A Session is a person's visit to a place. Its token is in the person's cookie, and nowhere else.
type Session struct {
	Key       Key       // who acts: the API key that it was begun with, or what its portal link allows
	Place     Place     // where it is good
	BeganAt   time.Time // by the installation's time
	ExpiresAt time.Time // by the installation's time; its key may end before

	// CSRF is the token that the place's forms carry. It follows from the session's token, which it does not give away.
	CSRF string
}

// The beginnings of tokens. They tell secrets of one kind from those of another, for programs that look for lost secrets, too.
const (
	keySessionPrefix = "rbs_" // of a session that was begun with an API key, whose id the token ends in
)

// randomLen is how many characters of a token are random: 32 bytes.
const randomLen = 43

// newToken makes a token. It ends in the name of what it belongs to, so that its place in Redis follows from it.
func newToken(prefix, name string) string { return prefix + randomText() + "." + name }

// nameInToken is the name that a token ends in. It is empty if the token is not one of that prefix.
func nameInToken(prefix, token string) string {
	rest, ok := strings.CutPrefix(token, prefix)
	if !ok || len(token) > maxSecretLen || len(rest) <= randomLen || rest[randomLen] != '.' {
		return ""
	}
	return rest[randomLen+1:]
}

// csrfOf is the token for the forms of a session.
func csrfOf(token string) string {
	mac := hmac.New(sha256.New, []byte(token))
	_, _ = mac.Write([]byte("forms")) // documented never to fail
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
