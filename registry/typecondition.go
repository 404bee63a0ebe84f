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

// TypeETag names a callback type as it is (RFC 9110, section 8.8.3). Every change gives it another one.
func TypeETag(t *payloads.Type) string {
	text, _ := json.Marshal(t) // what is in the catalogue always encodes
	sum := sha256.Sum256(text)
	return `"` + hex.EncodeToString(sum[:16]) + `"`
}

// A TypeCondition judges a callback type before a call changes it; nil: there is none. If it does not hold, the call changes nothing. If somebody else changes
// the type between the judgement and the change, it is judged again.
type TypeCondition func(*payloads.Type) bool

// holdOfType returns [ErrOvertaken] unless all conditions hold for a type as it is in Redis. One that cannot be read has no version that anybody knows.
func holdOfType(conditions []TypeCondition, name, text string) error {
	if len(conditions) == 0 {
		return nil
	}
	var there *payloads.Type
	if text != "" {
		there = &payloads.Type{Name: name}
		if err := json.Unmarshal([]byte(text), there); err == nil {
			if kept, err := payloads.Keep(*there); err == nil {
				there = kept
			}
		}
	}
	for _, holds := range conditions {
		if !holds(there) {
			return ErrOvertaken
		}
	}
	return nil
}
