package payloads

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// stampLayout writes a stamp: RFC 3339 in UTC, to the millisecond.
const stampLayout = "2006-01-02T15:04:05.000Z07:00"

func compileStamp(pointer string) ([]string, error) {
	if pointer == "" {
		return nil, nil
	}
	tokens, ok := splitPointer(pointer)
	if !ok {
		return nil, invalid("body.stamp", "must be a JSON Pointer to a member of the payload, such as /timeOfIssue (RFC 6901: ~0 for ~, ~1 for / in a name)")
	}
	return tokens, nil
}

// checkStamp makes sure that there is an object for the stamp to stand in.
func (t *Type) checkStamp(v any, location string) error {
	if len(t.stamp) == 0 {
		return nil
	}
	parents := t.stamp[:len(t.stamp)-1]
	for i := 0; ; i++ {
		members, ok := v.(map[string]any)
		if !ok {
			return invalid(location, fmt.Sprintf("must be an object: the time of sending is written into it, at %s", t.Stamp))
		}
		if i == len(parents) {
			return nil
		}
		v, location = members[parents[i]], location+step(parents[i])
	}
}

// Stamped returns the payload as it is sent at that time: with the time, as RFC
// 3339 in UTC to the millisecond, as the value of the member that Stamp points
// to, which is added at the end of its object if it is not there. All other bytes
// stay as they are. A type without a stamp returns the payload itself, and so
// does one whose stamp finds no object to stand in, which [Type.Check] refuses.
func (t *Type) Stamped(payload json.RawMessage, at time.Time) json.RawMessage {
	if t == nil || len(t.stamp) == 0 {
		return payload
	}
	return stamped(payload, t.stamp, []byte(`"`+at.UTC().Format(stampLayout)+`"`))
}

// stamped writes value where path leads within an object, every time its name
// stands there: who reads the first of two and who reads the last see the same.
func stamped(object []byte, path []string, value []byte) []byte {
	dec := json.NewDecoder(bytes.NewReader(marked(object))) // it holds all but halves of pairs where object does
	if first, err := dec.Token(); err != nil || first != json.Delim('{') {
		return object
	}
	var out []byte
	copied, found, empty := 0, false, !dec.More()
	for dec.More() {
		name, err := dec.Token()
		var member json.RawMessage
		if err != nil || dec.Decode(&member) != nil {
			return object
		}
		if name != path[0] {
			continue
		}
		found = true
		end := int(dec.InputOffset())
		begin := end - len(member)
		next := value
		if len(path) > 1 {
			next = stamped(object[begin:end], path[1:], value)
		}
		out = append(append(out, object[copied:begin]...), next...)
		copied = end
	}
	if found || len(path) > 1 {
		return append(out, object[copied:]...)
	}
	end := bytes.LastIndexByte(object, '}')
	if end < 0 {
		return object
	}
	name, err := json.Marshal(path[0])
	if err != nil {
		return object
	}
	comma := ","
	if empty {
		comma = ""
	}
	return []byte(strings.Join([]string{string(object[:end]), comma, string(name), ":", string(value), string(object[end:])}, ""))
}
