package payloads

import (
	"strconv"
	"strings"
)

// InvalidError says that something handed over does not fit, field by field, and
// how to mend it. The HTTP API renders it as 422.
//
// Its text may be logged: it holds names of fields and what was expected of
// them, never the values of a payload.
type InvalidError struct {
	// Fields is never empty and stands in the order of the locations.
	Fields []FieldError
}

// Error lists all fields in one line.
func (e *InvalidError) Error() string {
	var b strings.Builder
	for i, f := range e.Fields {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(f.Location)
		b.WriteByte(' ')
		b.WriteString(f.Message)
	}
	return b.String()
}

// FieldError is one field that does not fit. Its JSON is a member of `errors` in
// the API's problem documents.
type FieldError struct {
	// Location says where the field is: "body.payload.wallet_campaign.token",
	// "body.payload.items[3].sku". Names that hold more than letters, digits,
	// '_' and '-' are quoted: body.payload["a.b"].
	Location string `json:"location"`

	// Message says what is wrong with the field and what would mend it. Read
	// after the location it is a sentence: "… must be a string, but is a number".
	Message string `json:"message"`

	// Value is what was given. Nil when it might be secret, personal or large:
	// always so for what stands inside a payload.
	Value any `json:"value,omitempty"`
}

// invalid is an InvalidError for one field.
func invalid(location, message string) *InvalidError {
	return &InvalidError{Fields: []FieldError{{Location: location, Message: message}}}
}

// maxStepLen bounds how much of a stranger's field name an error repeats.
const maxStepLen = 64

// step is one member's part of a Location: ".name", or ["na.me"] where a plain
// name would be ambiguous or break a line.
func step(name string) string {
	if isPlain(name) {
		return "." + name
	}
	cut := ""
	if len(name) > maxStepLen {
		name, cut = strings.ToValidUTF8(name[:maxStepLen], ""), "…"
	}
	return "[" + strconv.Quote(name+cut) + "]"
}

func isPlain(name string) bool {
	if name == "" || len(name) > maxStepLen {
		return false
	}
	for _, c := range []byte(name) {
		if !isNameByte(c) || c == '.' {
			return false
		}
	}
	return true
}
