package httpapi

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// The readers in this file take the members of a body apart. Each returns what is wrong with a value, or "".

// text reads a JSON string.
func text(value json.RawMessage, into *string) (wrong string) {
	if value[0] != '"' || json.Unmarshal(value, into) != nil {
		return "must be a string"
	}
	if !payloads.WholePairs(value) {
		return payloads.SaysHalfPair
	}
	return ""
}

// boolean reads true or false.
func boolean(value json.RawMessage, into *bool) (wrong string) {
	if json.Unmarshal(value, into) != nil {
		return "must be true or false"
	}
	return ""
}

// duration reads a duration as Go writes it; null is none.
func duration(value json.RawMessage, into *time.Duration) (wrong string) {
	if isNull(value) {
		return ""
	}
	var s string
	if wrong := text(value, &s); wrong != "" {
		return wrong + ", such as \"24h\""
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return "must be a duration, such as \"90s\", \"24h\" or \"1h30m\""
	}
	*into = d
	return ""
}

func isNull(value json.RawMessage) bool { return string(value) == "null" }

// moment reads a time as RFC 3339 writes it; null is none.
func moment(value json.RawMessage, into *time.Time) (wrong string) {
	if isNull(value) {
		return ""
	}
	var s string
	if wrong := text(value, &s); wrong != "" {
		return wrong
	}
	t, err := time.Parse(time.RFC3339, strings.ToUpper(s)) // RFC 3339 allows "t" and "z"
	if err != nil {
		return "must be a time as RFC 3339 writes it, such as 2026-01-31T23:59:59Z"
	}
	*into = t
	return ""
}

// optionalMembers is registry.Members for bodies that may be left out: no body at all is {}.
func optionalMembers(body []byte, visit func(name string, value json.RawMessage) (wrong string)) error {
	if len(body) == 0 {
		return nil
	}
	return registry.Members(body, visit)
}
