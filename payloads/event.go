package payloads

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"time"
)

const (
	maxNameLen    = 64  // companies and callback types
	maxEventIDLen = 128 // event ids
)

// Event is one domain event as an internal system hands it over.
type Event struct {
	// Company is the partner's company whose callbacks are to hear of it:
	// 1 to 64 of A-Z a-z 0-9 _ . -
	Company string

	// ID names the event within its company: 1 to 128 of A-Z a-z 0-9 _ . : -
	// Handing over the same ID and content again is a duplicate, not a second
	// event. Empty: one is made up on acceptance. It is never taken from the
	// payload, whose own ids (a wallet sample's event_id) may repeat.
	ID string

	// Type is the name of a callback type of the catalogue.
	Type string

	// OccurredAt is when it happened, as the producer says. Zero: not said.
	OccurredAt time.Time

	// Payload is the JSON text partners receive, byte for byte: spaces, order
	// of members and escapes stay as they are here.
	Payload json.RawMessage
}

// Validate checks what can be checked without the catalogue: the names, and that
// the payload is there and is JSON. It returns nil or an *InvalidError that lists
// every fault. Whether the payload suits its type is for [Type.Check] to say,
// which reads the whole payload.
func (e Event) Validate() error {
	var fields []FieldError
	add := func(ok bool, location, message string, value any) {
		if !ok {
			fields = append(fields, FieldError{Location: location, Message: message, Value: value})
		}
	}
	add(ValidEventID(e.ID) || e.ID == "", "body.event_id", "must be 1 to 128 of A-Z a-z 0-9 _ . : - and not . or .. (or leave it out: one is made up)", short(e.ID))
	add(ValidTypeName(e.Type), "body.event_type", namesRule, short(e.Type))
	switch {
	case len(e.Payload) == 0:
		add(false, "body.payload", "is missing: it is the JSON that callbacks receive", nil)
	case !json.Valid(e.Payload):
		if _, err := readJSON(e.Payload, "body.payload"); err != nil {
			fields = append(fields, err.Fields...)
		}
	}
	add(ValidCompany(e.Company), "path.company", namesRule, short(e.Company))
	if len(fields) > 0 {
		return &InvalidError{Fields: fields}
	}
	return nil
}

const namesRule = "must be 1 to 64 of A-Z a-z 0-9 _ . - and not . or .."

// short is a name as an error repeats it: nil when absent or unreasonably long.
func short(name string) any {
	if name == "" || len(name) > 2*maxEventIDLen {
		return nil
	}
	return name
}

// ValidCompany reports whether s can name a company: 1 to 64 of A-Z a-z 0-9 _ . - other than "." and "..", which a URL's path cannot hold.
func ValidCompany(s string) bool { return isName(s, maxNameLen, "") }

// ValidTypeName reports whether s can name a callback type: 1 to 64 of
// A-Z a-z 0-9 _ . - other than "." and ".." (a glob is no name; see [IsGlob]).
func ValidTypeName(s string) bool { return isName(s, maxNameLen, "") }

// ValidEventID reports whether s can be an event's id: 1 to 128 of
// A-Z a-z 0-9 _ . : - other than "." and "..".
func ValidEventID(s string) bool { return isName(s, maxEventIDLen, ":") }

func isName(s string, maxLen int, extra string) bool {
	if s == "" || s == "." || s == ".." || len(s) > maxLen { // dots alone would be lost from a URL's path
		return false
	}
	for _, c := range []byte(s) {
		if !isNameByte(c) && (extra == "" || c != extra[0]) {
			return false
		}
	}
	return true
}

func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '.' || c == '-'
}

// idEncoding is base32hex in lower case: the one base32 alphabet that sorts as
// the bytes do.
var idEncoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// NewEventID makes up an event id: "evt_" and 26 characters that hold a UUIDv7
// (RFC 9562). Ids sort by time, to about 250 ns: the twelve bits after the
// version carry the fraction of the millisecond. Two ids of the same instant
// still differ by 62 random bits. Times before 1970 count as 1970.
func NewEventID(at time.Time) string { return "evt_" + newID(at) }

// NewDecisionID makes up the id of a decision: as [NewEventID], but for "dec_".
func NewDecisionID(at time.Time) string { return "dec_" + newID(at) }

func newID(at time.Time) string {
	var u [16]byte
	_, _ = rand.Read(u[8:]) // documented never to fail
	const perMilli = int64(time.Millisecond)
	ms := max(at.UnixMilli(), 0)
	fraction := uint64(int64(at.Nanosecond()) % perMilli * 4096 / perMilli) //nolint:gosec // 0 to 4095
	binary.BigEndian.PutUint64(u[:8], uint64(ms)<<16|0x7000|fraction)
	u[8] = u[8]&0x3f | 0x80 // variant
	return idEncoding.EncodeToString(u[:])
}
