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

	of     *snapshot
	looked time.Time // when Redis was asked
	until  time.Time // when a key comes to another stage; zero: none does
}

// noKeys is the set of a company that has none, or is none.
var noKeys = keySetOf(nil, nil, time.Time{}, time.Time{})

// keySetOf is the set of the keys in a snapshot at a time. If it is that of before, so is its document.
func keySetOf(snap *snapshot, before *KeySet, looked, at time.Time) *KeySet {
	if before != nil && before.of == snap && (before.until.IsZero() || at.Before(before.until)) {
		same := *before
		same.looked = looked
		return &same
	}
	set := &KeySet{of: snap, looked: looked}
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
	set.Document, _ = json.Marshal(keys) // of nothing that could not be written
	sum := sha256.Sum256(set.Document)
	set.ETag = fmt.Sprintf("%q", base64.RawURLEncoding.EncodeToString(sum[:16]))
	return set
}
