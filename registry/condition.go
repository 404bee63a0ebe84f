package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"

	"github.com/ringback/ringback/payloads"
)

// ErrOvertaken says that something is not as its caller knows it: somebody changed it meanwhile. Nothing was done.
var ErrOvertaken = errors.New("registry: it was changed meanwhile")

// A Condition judges a callback or a callback type by its ETag before a call changes it. A type that is not there has an empty one. If the condition does not
// hold, the call changes nothing, and its error is [ErrOvertaken]. If somebody else changes the thing between the judgement and the change, it is judged again.
type Condition func(etag string) bool

// hold returns [ErrOvertaken] unless all conditions hold.
func hold(conditions []Condition, etag string) error {
	for _, holds := range conditions {
		if !holds(etag) {
			return ErrOvertaken
		}
	}
	return nil
}

// TypeETag names a callback type as it is (RFC 9110, section 8.8.3). Every change gives it another one.
func TypeETag(t *payloads.Type) string {
	text, _ := json.Marshal(t) // what is in the catalogue always encodes
	sum := sha256.Sum256(text)
	return `"` + hex.EncodeToString(sum[:16]) + `"`
}

// storedTypeETag is the ETag of a type as it is in Redis; empty: it is not there. One that cannot be read has an ETag that nobody knows.
func storedTypeETag(name, text string) string {
	if text == "" {
		return ""
	}
	there := &payloads.Type{Name: name}
	if err := json.Unmarshal([]byte(text), there); err == nil {
		if kept, err := payloads.Keep(*there); err == nil {
			there = kept
		}
	}
	return TypeETag(there)
}
