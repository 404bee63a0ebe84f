package registry

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/ringback/ringback/payloads"
)

// An *payloads.InvalidError says what is wrong with a request, field by field.

// invalid is an error about one field.
func invalid(location, message string, value any) *payloads.InvalidError {
	return &payloads.InvalidError{Fields: []payloads.FieldError{{Location: location, Message: message, Value: value}}}
}

// checkCompany returns an error if no company can have the name.
func checkCompany(company string) error {
	if payloads.ValidCompany(company) {
		return nil
	}
	return invalid("path.company", "must be 1 to 64 of A-Z a-z 0-9 _ . - and not . or ..", short(company))
}

// maxEcho bounds what an error repeats of what it was given.
const maxEcho = 64

// short is s as an error may repeat it. If s is empty or long, it is nil.
func short(s string) any {
	if s == "" || len(s) > maxEcho {
		return nil
	}
	return s
}

// at is the location of a member: its name stands plain after a dot. If the name holds
// more than letters, digits, '_' and '-', it is quoted.
func at(location, name string) string {
	plain := name != "" && len(name) <= maxEcho && !strings.Contains(name, ".") && payloads.ValidTypeName(name)
	if plain {
		return location + "." + name
	}
	if len(name) > maxEcho {
		name = strings.ToValidUTF8(name[:maxEcho], "") + "…"
	}
	return location + "[" + strconv.Quote(name) + "]"
}

// list joins names behind lead. If there are no names, it is none.
func list(lead string, names []string, none string) string {
	if len(names) == 0 {
		return none
	}
	return lead + " " + strings.Join(names, ", ")
}

// kind names the JSON type of a value.
func kind(raw json.RawMessage) string {
	switch bytes.TrimSpace(raw)[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "true or false"
	case 'n':
		return "null"
	default:
		return "a number"
	}
}
