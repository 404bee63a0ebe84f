package payloads_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/payloads"
)

func TestEventValidate(t *testing.T) {
	good := payloads.Event{Company: "bi3bwNRk", ID: "evt_1", Type: "payment_proof", Payload: json.RawMessage(`{}`)}
	with := func(change func(*payloads.Event)) payloads.Event {
		e := good
		change(&e)
		return e
	}
	tests := []struct {
		what            string
		event           payloads.Event
		location, words string // "" where it is sound
	}{
		{"all set", good, "", ""},
		{"no id", with(func(e *payloads.Event) { e.ID = "" }), "", ""},
		{"a payload that is not an object", with(func(e *payloads.Event) { e.Payload = json.RawMessage(`[1]`) }), "", ""},
		{"an id with a space", with(func(e *payloads.Event) { e.ID = "a b" }), "body.event_id", "1 to 128"},
		{"an id too long", with(func(e *payloads.Event) { e.ID = strings.Repeat("x", 129) }), "body.event_id", "1 to 128"},
		{"no type", with(func(e *payloads.Event) { e.Type = "" }), "body.event_type", "1 to 64"},
		{"a glob for a type", with(func(e *payloads.Event) { e.Type = "*" }), "body.event_type", "1 to 64"},
		{"no company", with(func(e *payloads.Event) { e.Company = "" }), "path.company", "1 to 64"},
		{"a company with a brace", with(func(e *payloads.Event) { e.Company = "{a}" }), "path.company", "1 to 64"},
		{"no payload", with(func(e *payloads.Event) { e.Payload = nil }), "body.payload", "is missing"},
		{"a payload that is not JSON", with(func(e *payloads.Event) { e.Payload = json.RawMessage(`{"a":}`) }), "body.payload", "is not valid JSON at byte 6"},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			err := tt.event.Validate()
			if tt.location == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantField(t, err, tt.location, tt.words)
		})
	}
	t.Run("everything wrong at once", func(t *testing.T) {
		var locations []string
		for _, f := range fields(t, payloads.Event{ID: "ä", Type: "ö", Company: "ü", Payload: json.RawMessage(`,`)}.Validate()) {
			locations = append(locations, f.Location)
		}
		want := []string{"body.event_id", "body.event_type", "body.payload", "path.company"}
		if diff := cmp.Diff(want, locations); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestNames(t *testing.T) {
	tests := []struct {
		s           string
		name, event bool // a company's or type's name, an event's id
	}{
		{"", false, false},
		{"a", true, true},
		{"customer.level_changed-2", true, true},
		{"ba9bcNKc", true, true},
		{"a:b", false, true},
		{"a b", false, false},
		{"a/b", false, false},
		{"a{b}", false, false},
		{"a*", false, false},
		{"ä", false, false},
		{"a\n", false, false},
		{"a\x00", false, false},
		{strings.Repeat("x", 64), true, true},
		{strings.Repeat("x", 65), false, true},
		{strings.Repeat("x", 128), false, true},
		{strings.Repeat("x", 129), false, false},
	}
	for _, tt := range tests {
		if got := payloads.ValidCompany(tt.s); got != tt.name {
			t.Errorf("ValidCompany(%q) = %t", tt.s, got)
		}
		if got := payloads.ValidTypeName(tt.s); got != tt.name {
			t.Errorf("ValidTypeName(%q) = %t", tt.s, got)
		}
		if got := payloads.ValidEventID(tt.s); got != tt.event {
			t.Errorf("ValidEventID(%q) = %t", tt.s, got)
		}
	}
}

func TestNewEventID(t *testing.T) {
	form := regexp.MustCompile(`^evt_[0-9a-v]{26}$`)
	times := []time.Time{
		{}, // before 1970 counts as 1970
		time.Unix(0, 1_000),
		time.Unix(1731234567, 0),
		time.Unix(1731234567, 500_000),
		time.Unix(1731234567, 999_999),
		time.Unix(1731234567, 1_000_000),
		time.Unix(1731234568, 0),
		time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC),
	}
	last := ""
	for _, at := range times {
		id := payloads.NewEventID(at)
		if !form.MatchString(id) || !payloads.ValidEventID(id) {
			t.Errorf("%s is no event id", id)
		}
		if id <= last {
			t.Errorf("%s of %s does not sort after %s", id, at, last)
		}
		last = id
	}
	now := time.Unix(1731234567, 0)
	if one, other := payloads.NewEventID(now), payloads.NewEventID(now); one == other {
		t.Error("two ids of one instant are the same")
	}
}

// The time, version and variant stand where RFC 9562 wants them.
func TestNewEventIDIsAUUIDv7(t *testing.T) {
	at := time.Date(2022, 2, 22, 19, 22, 22, 0, time.UTC) // the RFC's own example: 0x017F22E279B0 ms
	bits := base32hexBits(t, strings.TrimPrefix(payloads.NewEventID(at), "evt_"))
	if got := bits[:48]; got != fmt.Sprintf("%048b", 0x017F22E279B0) {
		t.Errorf("time %s", got)
	}
	if bits[48:52] != "0111" || bits[52:64] != strings.Repeat("0", 12) || bits[64:66] != "10" {
		t.Errorf("version, fraction, variant: %s %s %s", bits[48:52], bits[52:64], bits[64:66])
	}
}

func base32hexBits(t *testing.T, s string) string {
	t.Helper()
	var bits strings.Builder
	for _, c := range s {
		fmt.Fprintf(&bits, "%05b", strings.IndexRune("0123456789abcdefghijklmnopqrstuv", c))
	}
	return bits.String()[:128]
}

func TestInvalidErrorJSON(t *testing.T) {
	err := payloads.Event{Company: "acme", ID: "a b", Type: "x", Payload: json.RawMessage(`1`)}.Validate()
	got, _ := json.Marshal(fields(t, err))
	const want = `[{"location":"body.event_id","message":"must be 1 to 128 of A-Z a-z 0-9 _ . : - and not . or .. (or leave it out: one is made up)","value":"a b"}]`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Names come from strangers: none may break a log line or grow without bound.
func TestLocationsStayOnOneShortLine(t *testing.T) {
	typ := custom(t, `{"additionalProperties": {"type": "string"}}`, nil)
	for _, name := range []string{"a\nb", "a.b", "", "ä", "\u2028", strings.Repeat("x", 10_000), strings.Repeat("é", 10_000), `"]`} {
		payload, _ := json.Marshal(map[string]int{name: 1})
		_, err := typ.Check(payload)
		got := fields(t, err)[0].Location
		if len(got) > 300 || strings.ContainsAny(got, "\n\u2028") || !strings.HasPrefix(got, `body.payload["`) {
			t.Errorf("%.20q: location %q", name, got)
		}
	}
}

func ExampleEvent_Validate() {
	e := payloads.Event{Company: "ba9bcNKc", Type: "payment proof", Payload: json.RawMessage(`{"status": "OK",}`)}
	fmt.Println(strings.ReplaceAll(e.Validate().Error(), "; ", "\n"))
	// Output:
	// body.event_type must be 1 to 64 of A-Z a-z 0-9 _ . - and not . or ..
	// body.payload is not valid JSON at byte 17: invalid character '}' looking for beginning of object key string
}
