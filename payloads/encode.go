package payloads

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
)

// The content types a callback may ask for.
const (
	ContentTypeJSON = "application/json"
	ContentTypeForm = "application/x-www-form-urlencoded"
)

// Encode turns a payload into the body a callback's content type asks for.
//
// [ContentTypeJSON] gives the payload itself, byte for byte and without a copy:
// the caller must not change the one while it uses the other.
//
// [ContentTypeForm] gives one field per member of the payload's object, in the
// order they stand there: strings as they are, numbers and booleans as they are
// written, null as an empty value, objects and arrays as compact JSON text.
// A payload that is no object, or that [Type.Check] would not read as JSON,
// gives an *InvalidError.
func Encode(contentType string, payload json.RawMessage) ([]byte, error) {
	switch contentType {
	case ContentTypeJSON:
		return payload, nil
	case ContentTypeForm:
		return encodeForm(payload)
	default:
		return nil, fmt.Errorf("cannot encode a payload as %q: use %s or %s", contentType, ContentTypeJSON, ContentTypeForm)
	}
}

func encodeForm(payload json.RawMessage) ([]byte, error) {
	v, invalidJSON := readJSON(payload, "body.payload")
	if invalidJSON != nil {
		return nil, invalidJSON
	}
	if _, ok := v.(map[string]any); !ok {
		return nil, invalid("body.payload", "must be an object to be sent as a form: its members become the fields")
	}
	dec := json.NewDecoder(bytes.NewReader(payload)) // once more: a map forgets the order
	_, _ = dec.Token()
	var form strings.Builder
	for dec.More() {
		name, _ := dec.Token()
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, invalid("body.payload", "is not valid JSON")
		}
		if form.Len() > 0 {
			form.WriteByte('&')
		}
		form.WriteString(url.QueryEscape(fmt.Sprint(name)))
		form.WriteByte('=')
		form.WriteString(url.QueryEscape(formValue(raw)))
	}
	return []byte(form.String()), nil
}

// formValue is a member's value as the text of one form field.
func formValue(raw json.RawMessage) string {
	switch raw[0] {
	case '"':
		var s string
		_ = json.Unmarshal(raw, &s) // it was read before
		return s
	case 'n':
		return ""
	case '{', '[':
		var compact bytes.Buffer
		_ = json.Compact(&compact, raw)
		return compact.String()
	default:
		return string(raw)
	}
}
