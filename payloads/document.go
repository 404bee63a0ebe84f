package payloads

import (
	"encoding/json"
	"strconv"
)

// A Document is a payload as it was read, for filters to look at. That of no payload holds nothing.
type Document struct {
	root any
	read bool
}

// ReadDocument reads a payload. One that is no JSON gives a Document that holds nothing.
func ReadDocument(payload json.RawMessage) Document {
	root, fault := readJSON(payload, "body.payload")
	return Document{root, fault == nil}
}

// Readable reports whether there is a payload.
func (d Document) Readable() bool { return d.read }

// nothing is what a pointer that leads nowhere leads to.
type nothing struct{}

// follow walks from the root along a pointer.
func (d Document) follow(tokens []string) any {
	if !d.read {
		return nothing{}
	}
	at := d.root
	for _, token := range tokens {
		switch v := at.(type) {
		case map[string]any:
			next, ok := v[token]
			if !ok {
				return nothing{}
			}
			at = next
		case []any:
			i, ok := arrayIndex(token)
			if !ok || i >= len(v) {
				return nothing{}
			}
			at = v[i]
		default:
			return nothing{}
		}
	}
	return at
}

// arrayIndex is the place in an array that a reference token names.
func arrayIndex(token string) (int, bool) {
	i, err := strconv.ParseUint(token, 10, 31)
	if err != nil || len(token) > 1 && token[0] == '0' {
		return 0, false
	}
	return int(i), true
}
