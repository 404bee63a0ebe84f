package payloads

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
)

// A Key is a place in payloads. What has equal values there belongs together: strings are equal byte by byte, numbers by their exact value, and a value of one
// kind never equals one of another, as in a [Filter].
type Key struct {
	pointer string
	tokens  []string
}

// ParseKey reads the JSON Pointer (RFC 6901) to a key. What is wrong with it is an *InvalidError at the given location.
func ParseKey(pointer, location string) (*Key, error) {
	tokens, ok := parsePointer(pointer)
	switch {
	case !ok || pointer == "":
		return nil, invalid(location, saysPointer)
	case len(pointer) > maxPointerBytes || len(tokens) > maxPointerTokens:
		return nil, invalid(location, fmt.Sprintf("is too long: it may have %d bytes and %d steps", maxPointerBytes, maxPointerTokens))
	}
	return &Key{pointer, tokens}, nil
}

// String is the pointer; that of nil is empty.
func (k *Key) String() string {
	if k == nil {
		return ""
	}
	return k.pointer
}

// MarshalJSON is the pointer.
func (k *Key) MarshalJSON() ([]byte, error) { return json.Marshal(k.pointer) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (k *Key) UnmarshalJSON(text []byte) error {
	var pointer string
	if err := json.Unmarshal(text, &pointer); err != nil {
		return err
	}
	read, err := ParseKey(pointer, "key")
	if err != nil {
		return err
	}
	*k = *read
	return nil
}

// Check says why no payload has such a key, by the schemas of the types that it is for: the pointer leads to no place, or never to a string, a number, true or
// false. Where a schema says nothing, anything may be. Of several types, as a glob has them, one is enough.
func (k *Key) Check(types []*Type, location string) (fields []FieldError) {
	message := ""
	for _, t := range types {
		said := ""
		switch {
		case !t.enforces():
		case !t.allows(k.tokens, anyKind):
			said = fmt.Sprintf("leads nowhere: the schema of %s has no place for it", t.Name)
		case !t.allows(k.tokens, kindString|kindNumber|kindBool):
			said = fmt.Sprintf("is to lead to a string, a number, true or false, and the schema of %s allows none of them there", t.Name)
		}
		if said == "" {
			return nil
		}
		if message == "" {
			message = said
		}
	}
	if message == "" {
		return nil
	}
	if len(types) > 1 {
		message += fmt.Sprintf("; nor does that of the other %s", counted(len(types)-1, "type"))
	}
	return []FieldError{{Location: location, Message: message}}
}

// keyBytes is how much of a digest names a key's value.
const keyBytes = 8

// Of returns a name for the value that a payload has at the key's place. Equal values of one key have the same name. It is empty if there is nothing, or null, an object or an array.
func (k *Key) Of(d Document) string {
	v := newScalarValue(d.follow(k.tokens))
	text := v.text
	switch v.kind {
	case aNumber:
		text = v.number.String()
	case aString, aBool:
	case noScalar, aNull:
		return ""
	}
	sum := sha256.Sum256([]byte(k.pointer + "\x00" + strconv.Itoa(int(v.kind)) + "\x00" + text))
	return hex.EncodeToString(sum[:keyBytes])
}

// String is the same for numbers that are equal, and for no others.
func (d number) String() string {
	sign := ""
	if d.negative {
		sign = "-"
	}
	return sign + "0." + d.digits + "e" + strconv.Itoa(d.point)
}
