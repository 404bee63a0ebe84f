package registry

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/ringback/ringback/payloads"
)

// A KeySet is the public keys of all of a company's callbacks, as they are published.
type KeySet struct {
	Document []byte // a [payloads.JWKS]
	ETag     string // of Document

	empty bool
	of    *snapshot
	until time.Time // when a key comes to another stage; zero: none does
	inquiry
}

// An inquiry is when Redis was asked for a company's keys.
type inquiry struct {
	looked time.Time // last, whether it answered or not
	known  time.Time // last, of the times that it answered
}

// MaxAge is for how long a receiver may remember the set that it gets at a time: until
// KeysMaxAge after Redis was last known to hold it, for another process may have
// announced a key since then. It is in whole seconds, and keysLeast at least. An empty
// set is not to be remembered at all: a company's first key signs at once.
func (s *KeySet) MaxAge(at time.Time) time.Duration {
	if s.empty {
		return 0
	}
	age := max(at.Sub(s.known), 0).Truncate(time.Second)
	return max(KeysMaxAge-age, keysLeast)
}

// noKeys is the set of a company that has none, or is none.
var noKeys = keySetOf(nil, nil, inquiry{}, time.Time{})

// keySetOf is the set of the keys in a snapshot at a time. If it is that of before, so is its document.
func keySetOf(snap *snapshot, before *KeySet, asked inquiry, at time.Time) *KeySet {
	if before != nil && before.of == snap && (before.until.IsZero() || at.Before(before.until)) {
		same := *before
		same.inquiry = asked
		return &same
	}
	set := &KeySet{of: snap, inquiry: asked}
	keys := payloads.JWKS{}
	if snap != nil {
		for _, cb := range snap.byID {
			for _, k := range cb.PublishedKeys(at) {
				keys = append(keys, k.Key.Public())
				for _, change := range []time.Time{k.SignsFrom, k.SignsUntil, k.PublishedUntil()} {
					if change.After(at) && (set.until.IsZero() || change.Before(set.until)) {
						set.until = change
					}
				}
			}
		}
	}
	set.empty = len(keys) == 0
	set.Document, _ = json.Marshal(keys) // of nothing that could not be written
	sum := sha256.Sum256(set.Document)
	set.ETag = fmt.Sprintf("%q", base64.RawURLEncoding.EncodeToString(sum[:16]))
	return set
}
