package registry

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ringback/ringback/payloads"
)

// bearers make a callback, or its type, have a trait.
var bearers = map[string]func(*Callback, *payloads.Type){
	"auth":       func(cb *Callback, _ *payloads.Type) { cb.Auth = &Auth{} },
	"headers":    func(cb *Callback, _ *payloads.Type) { cb.Headers = map[string]string{"X-A": "1"} },
	"trace":      func(cb *Callback, _ *payloads.Type) { cb.Trace = true },
	"rate_limit": func(cb *Callback, _ *payloads.Type) { cb.RateLimit = &RateLimit{} },
	"timeout":    func(cb *Callback, _ *payloads.Type) { cb.Timeout = 2 * DefaultTimeout },
	"retry":      func(cb *Callback, _ *payloads.Type) { cb.Retry.MaxAttempts = 1 },
	"success":    func(cb *Callback, _ *payloads.Type) { cb.Success = payloads.Any2xx },
	"destination.content_type application/x-www-form-urlencoded": func(cb *Callback, _ *payloads.Type) {
		cb.Destination.ContentType = payloads.ContentTypeForm
	},
	"a type with a stamped field":     func(_ *Callback, t *payloads.Type) { t.Stamp = "/sent" },
	"a synchronous type":              func(_ *Callback, t *payloads.Type) { t.Synchronous = true },
	"filter":                          func(cb *Callback, _ *payloads.Type) { cb.Filter = &payloads.Filter{} },
	"template":                        func(cb *Callback, _ *payloads.Type) { cb.Template = &payloads.Template{} },
	"envelope cloudevents-structured": func(cb *Callback, _ *payloads.Type) { cb.Envelope = EnvelopeStructured },
	"envelope cloudevents-binary":     func(cb *Callback, _ *payloads.Type) { cb.Envelope = EnvelopeBinary },
	"tls":                             func(cb *Callback, _ *payloads.Type) { cb.TLS = &TLS{ServerName: "x.example"} },
	"body thin":                       func(cb *Callback, _ *payloads.Type) { cb.Body = BodyThin },
	"header_style":                    func(cb *Callback, _ *payloads.Type) { cb.HeaderStyle = payloads.StyleSvix },
	"signature.ed25519":               func(cb *Callback, _ *payloads.Type) { signing(cb).Ed25519 = true },
	"signature.rfc9421":               func(cb *Callback, _ *payloads.Type) { signing(cb).RFC9421 = true },
	"signature.hmac false":            func(cb *Callback, _ *payloads.Type) { signing(cb).HMAC = false },
	"destination.pull":                func(cb *Callback, _ *payloads.Type) { cb.Destination.Pull = true },
	"ordering":                        func(cb *Callback, _ *payloads.Type) { cb.Ordering = &Ordering{} },
	"batch":                           func(cb *Callback, _ *payloads.Type) { cb.Batch = &Batch{} },
}

// pairs says of each pair of traits, in their order, what becomes of it: "works", or a piece of the refusal. "one field" is a pair of one field's values.
var pairs = map[[2]string]string{
	{"auth", "destination.pull"}:       "the partner fetches",
	{"headers", "destination.pull"}:    "the partner fetches",
	{"trace", "destination.pull"}:      "the partner fetches",
	{"rate_limit", "destination.pull"}: "the partner fetches",
	{"timeout", "destination.pull"}:    "the partner fetches",
	{"retry", "destination.pull"}:      "the partner fetches",

	{"success", "destination.pull"}: "nobody answers",
	{"destination.content_type application/x-www-form-urlencoded", "destination.pull"}: "what is fetched is JSON",
	{"a type with a stamped field", "destination.pull"}:                                "works",
	{"a synchronous type", "destination.pull"}:                                         "its caller waits",
	{"filter", "destination.pull"}:                                                     "works",
	{"template", "destination.pull"}:                                                   "works",
	{"envelope cloudevents-structured", "destination.pull"}:                            "works",
	{"envelope cloudevents-binary", "destination.pull"}:                                "could have its headers",
	{"tls", "destination.pull"}:                                                        "nothing is sent",
	{"body thin", "destination.pull"}:                                                  "has the payload at once",
	{"header_style", "destination.pull"}:                                               "nothing is sent",
	{"signature.ed25519", "destination.pull"}:                                          "could be signed",
	{"signature.rfc9421", "destination.pull"}:                                          "could be signed",
	{"destination.pull", "ordering"}:                                                   "in the order of its acceptance",
	{"destination.pull", "batch"}:                                                      "how many come at once",
	{"signature.hmac false", "destination.pull"}:                                       "could be signed",

	{"success", "destination.content_type application/x-www-form-urlencoded"}: "works",
	{"success", "a type with a stamped field"}:                                "works",
	{"success", "a synchronous type"}:                                         "works",
	{"success", "envelope cloudevents-structured"}:                            "works",
	{"success", "envelope cloudevents-binary"}:                                "works",
	{"success", "tls"}:       "works",
	{"success", "body thin"}: "works",

	{"destination.content_type application/x-www-form-urlencoded", "a type with a stamped field"}:     "works",
	{"destination.content_type application/x-www-form-urlencoded", "a synchronous type"}:              "works",
	{"destination.content_type application/x-www-form-urlencoded", "envelope cloudevents-structured"}: "a structured event is JSON throughout",
	{"destination.content_type application/x-www-form-urlencoded", "envelope cloudevents-binary"}:     "works",
	{"destination.content_type application/x-www-form-urlencoded", "tls"}:                             "works",
	{"destination.content_type application/x-www-form-urlencoded", "body thin"}:                       "works",

	{"a type with a stamped field", "a synchronous type"}:              "works",
	{"a type with a stamped field", "envelope cloudevents-structured"}: "works",
	{"a type with a stamped field", "envelope cloudevents-binary"}:     "works",
	{"a type with a stamped field", "tls"}:                             "works",
	{"a type with a stamped field", "body thin"}:                       "works",

	{"a synchronous type", "envelope cloudevents-structured"}: "works",
	{"a synchronous type", "envelope cloudevents-binary"}:     "works",
	{"a synchronous type", "tls"}:                             "works",
	{"a synchronous type", "body thin"}:                       "its caller waits for the decision",

	{"success", "filter"}: "works",
	{"destination.content_type application/x-www-form-urlencoded", "filter"}:   "works",
	{"a type with a stamped field", "filter"}:                                  "works",
	{"a synchronous type", "filter"}:                                           "works",
	{"success", "template"}:                                                    "works",
	{"destination.content_type application/x-www-form-urlencoded", "template"}: "works",
	{"a type with a stamped field", "template"}:                                "works",
	{"a synchronous type", "template"}:                                         "works",
	{"filter", "template"}:                                                     "works",
	{"filter", "envelope cloudevents-structured"}:                              "works",
	{"filter", "envelope cloudevents-binary"}:                                  "works",
	{"filter", "body thin"}:                                                    "works",
	{"template", "envelope cloudevents-structured"}:                            "works",
	{"template", "envelope cloudevents-binary"}:                                "works",
	{"filter", "tls"}:                                                          "works",
	{"template", "tls"}:                                                        "works",
	{"template", "body thin"}:                                                  "works",

	{"success", "batch"}: "works",
	{"destination.content_type application/x-www-form-urlencoded", "batch"}: "a batch is a JSON array",
	{"a type with a stamped field", "batch"}:                                "works",
	{"a synchronous type", "batch"}:                                         "waits for the decision about one event",
	{"envelope cloudevents-structured", "batch"}:                            "works",
	{"envelope cloudevents-binary", "batch"}:                                "its attributes are headers",
	{"header_style", "batch"}:                                               "works",
	{"body thin", "batch"}:                                                  "works",
	{"filter", "batch"}:                                                     "works",
	{"template", "batch"}:                                                   "works",
	{"signature.ed25519", "batch"}:                                          "works",
	{"signature.rfc9421", "batch"}:                                          "works",
	{"signature.hmac false", "batch"}:                                       "works",
	{"tls", "batch"}:                                                        "works",

	{"envelope cloudevents-structured", "envelope cloudevents-binary"}: "one field",
	{"envelope cloudevents-structured", "tls"}:                         "works",
	{"envelope cloudevents-structured", "body thin"}:                   "works",
	{"envelope cloudevents-binary", "tls"}:                             "works",
	{"envelope cloudevents-binary", "body thin"}:                       "which a signature of the body does not cover",

	{"tls", "body thin"}: "works",

	{"header_style", "signature.ed25519"}:    "receivers of that style verify by the secret",
	{"header_style", "signature.hmac false"}: "is an HMAC",

	{"success", "ordering"}: "works",
	{"destination.content_type application/x-www-form-urlencoded", "ordering"}: "works",
	{"a type with a stamped field", "ordering"}:                                "works",
	{"a synchronous type", "ordering"}:                                         "so nothing of it waits in a line",
	{"filter", "ordering"}:                                                     "works",
	{"template", "ordering"}:                                                   "works",
	{"envelope cloudevents-structured", "ordering"}:                            "works",
	{"envelope cloudevents-binary", "ordering"}:                                "works",
	{"tls", "ordering"}:                                                        "works",
	{"body thin", "ordering"}:                                                  "works",
	{"batch", "ordering"}:                                                      "its events may be of many keys",
}

// besides are traits of what goes on the wire beside the body, or of how it goes: they work with all that pairs does not name.
var besides = strings.Fields("auth headers trace rate_limit timeout retry header_style signature")

// pairOf is what pairs says of a pair.
func pairOf(one, other trait) (string, bool) {
	said, ok := pairs[[2]string{one.name, other.name}]
	if !ok && (slices.Contains(besides, one.field) || slices.Contains(besides, other.field)) {
		return "works", true
	}
	return said, ok
}

func signing(cb *Callback) *Signature {
	if cb.Signature == nil {
		cb.Signature = &Signature{HMAC: true}
	}
	return cb.Signature
}

// TestEveryPairOfFields: each pair of what has a say in a request works, or is refused with a sentence that names both.
func TestEveryPairOfFields(t *testing.T) {
	seen := 0
	for i, one := range traits {
		for _, other := range traits[i+1:] {
			want, ok := pairOf(one, other)
			if !ok || bearers[one.name] == nil || bearers[other.name] == nil {
				t.Fatalf("nothing says what becomes of %s with %s", one.name, other.name)
			}
			if pairs[[2]string{one.name, other.name}] != "" {
				seen++
			}
			if want == "one field" {
				if one.field != other.field {
					t.Errorf("%s and %s are of two fields", one.name, other.name)
				}
				continue
			}
			cb, typ := &Callback{}, &payloads.Type{}
			bearers[one.name](cb, typ)
			bearers[other.name](cb, typ)
			if !one.holds(cb, typ) || !other.holds(cb, typ) {
				t.Fatalf("%s with %s: not both are there", one.name, other.name)
			}
			faults := combine(cb, typ)
			if want == "works" {
				if len(faults) > 0 {
					t.Errorf("%s with %s is refused: %v", one.name, other.name, faults)
				}
				continue
			}
			if len(faults) != 1 {
				t.Errorf("%s with %s: %d faults, want one", one.name, other.name, len(faults))
				continue
			}
			said := faults[0].Location + " " + faults[0].Message
			for _, words := range []string{one.name, other.name, want} {
				if !strings.Contains(said, words) {
					t.Errorf("%s with %s: %q does not say %q", one.name, other.name, said, words)
				}
			}
		}
	}
	if seen != len(pairs) || len(bearers) != len(traits) {
		t.Errorf("%d pairs of %d traits are there, and %d of %d are written down", seen, len(traits), len(pairs), len(bearers))
	}
	for _, d := range discords {
		if bearers[d.one] == nil || bearers[d.other] == nil {
			t.Errorf("%s and %s: there is no such trait", d.one, d.other)
		}
	}
	if faults := combine(&Callback{}, nil); len(faults) > 0 {
		t.Error(faults)
	}
}

// columns are the traits in the table of the partners' page, as that calls them. Those of one column are alike.
var columns = []struct {
	word   string
	traits []string
}{
	{"success", []string{"success"}},
	{"form", []string{"destination.content_type " + payloads.ContentTypeForm}},
	{"stamped", []string{"a type with a stamped field"}},
	{"synchronous", []string{"a synchronous type"}},
	{"structured", []string{"envelope cloudevents-structured"}},
	{"binary", []string{"envelope cloudevents-binary"}},
	{"thin", []string{"body thin"}},
	{"style", []string{"header_style"}},
	{"keys", []string{"signature.ed25519", "signature.hmac false"}},
	{"batch", []string{"batch"}},
	{"ordering", []string{"ordering"}},
}

// cellOf is what the partners' page has to say of two traits.
func cellOf(t *testing.T, one, other string) string {
	place := func(name string) int {
		return slices.IndexFunc(traits, func(tr trait) bool { return tr.name == name })
	}
	a, b := min(place(one), place(other)), max(place(one), place(other))
	if a < 0 {
		t.Fatalf("%s or %s is no trait", one, other)
	}
	switch said, ok := pairOf(traits[a], traits[b]); {
	case !ok || a == b || said == "one field":
		return ""
	case said == "works":
		return "✓"
	default:
		return "422"
	}
}

// TestThePartnersTableOfPairs: what the page says of each pair is what becomes of it. What is not in its table goes with everything.
func TestThePartnersTableOfPairs(t *testing.T) {
	page, err := os.ReadFile("../deploy/PARTNERS.md")
	if err != nil {
		t.Fatal(err)
	}
	head, there := "\n| |", map[string]bool{}
	for _, c := range columns {
		head += " " + c.word + " |"
		for _, name := range c.traits {
			there[name] = true
		}
	}
	_, table, ok := strings.Cut(string(page), head+"\n")
	rows := strings.Split(table, "\n")
	if !ok || len(rows) < 1+len(columns) {
		t.Fatalf("there is no table that begins %s", head)
	}
	for _, d := range discords {
		if d.one == "destination.pull" || d.other == "destination.pull" { // the page names what goes with it
			continue
		}
		if !there[d.one] || !there[d.other] {
			t.Errorf("%s does not go with %s, and one of them is not in the table", d.one, d.other)
		}
	}
	_, goes, _ := strings.Cut(string(page), "It goes with the attributes that narrow the match, ")
	goes, _, ok = strings.Cut(goes, ", and with\nnothing else")
	for _, one := range traits {
		want := pairs[[2]string{one.name, "destination.pull"}] + pairs[[2]string{"destination.pull", one.name}]
		word := strings.Replace(one.name, " ", ": ", 1)
		if said := strings.Contains(goes, "`"+word+"`"); one.field != "" && one.name != "destination.pull" && (said != (want == "works") || !ok) {
			t.Errorf("destination.pull with %s: %q, and the page says that it goes with %s", one.name, want, goes)
		}
	}
	for i, row := range columns {
		cells := strings.Split(rows[1+i], "|")
		if len(cells) != len(columns)+3 || !strings.HasPrefix(strings.Trim(cells[1], " `"), row.word) {
			t.Fatalf("the row of %s is %s", row.word, rows[1+i])
		}
		for j, column := range columns {
			got := strings.TrimSpace(cells[2+j])
			for _, one := range row.traits {
				for _, other := range column.traits {
					if want := cellOf(t, one, other); i != j && got != want {
						t.Errorf("%s with %s: the page says %q, want %q", one, other, got, want)
					}
				}
			}
			if i == j && got != "" {
				t.Errorf("%s with itself: the page says %q", row.word, got)
			}
		}
	}
}

// TestNewerTraits: only what a callback newly has asks what other processes know.
func TestNewerTraits(t *testing.T) {
	plain, thin := &Callback{}, &Callback{Body: BodyThin}
	svix, stripe := &Callback{HeaderStyle: payloads.StyleSvix}, &Callback{HeaderStyle: payloads.StyleStripe}
	for _, tt := range []struct {
		cb, before *Callback
		level      int
	}{{plain, nil, 0}, {thin, nil, wireLevel}, {thin, plain, wireLevel}, {thin, thin, 0}, {plain, thin, 0}, {svix, plain, wireLevel}, {stripe, svix, 0}, {svix, svix, 0}, {plain, svix, 0}} {
		if what, level := newer(tt.cb, tt.before); level != tt.level || (what == "") != (level == 0) {
			t.Errorf("%v after %v: %q, level %d, want %d", tt.cb.Body, tt.before, what, level, tt.level)
		}
	}
}

// TestEnvelopesAndThinBodiesAreRead: as they are written, with the faults at their fields.
func TestEnvelopesAndThinBodiesAreRead(t *testing.T) {
	for members, want := range map[string]string{
		`"envelope":"none","body":"full"`:                                     "",
		`"envelope":null,"body":null`:                                         "",
		`"envelope":"cloudevents-structured","body":"thin"`:                   "",
		`"envelope":"cloudevents-binary","headers":{"X-Ce-Id":"1"}`:           "",
		`"headers":{"ce-id":"1","Ce_Type":"x"}`:                               "",
		`"envelope":"cloudevents"`:                                            "body.envelope must be none or cloudevents-structured or cloudevents-binary",
		`"envelope":true`:                                                     "body.envelope must be a string",
		`"body":"slim"`:                                                       "body.body must be full or thin",
		`"envelope":"cloudevents-structured","headers":{"ce-id":"1"}`:         "body.headers.ce-id may not be set beside envelope",
		`"envelope":"cloudevents-binary","headers":{"CE_Mine":"1"}`:           "body.headers.CE_Mine may not be set beside envelope",
		`"envelope":"cloudevents-binary","body":"thin"`:                       "body.body (body thin) does not go with envelope cloudevents-binary: ",
		`"callback_type":"entry_code.verify","body":"thin"`:                   "body.body (body thin) does not go with a synchronous type: ",
		`"callback_type":"entry_code.verify","envelope":"cloudevents-binary"`: "",
		`"callback_type":"entry_code.*","body":"thin"`:                        "",
		`"destination":{"url":"https://x","content_type":"application/x-www-form-urlencoded"},"envelope":"cloudevents-structured"`: "body.envelope (envelope cloudevents-structured) does not go with destination.content_type application/x-www-form-urlencoded: ",
	} {
		body := `{` + members
		if !strings.Contains(members, "callback_type") {
			body += `,"callback_type":"payment_proof"`
		}
		if !strings.Contains(members, "destination") {
			body += `,"destination":{"url":"https://x"}`
		}
		cb, err := decode(payloads.Builtin(), nil, []byte(body+`}`), nil)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", members, err, want)
		}
		if err != nil {
			continue
		}
		if got := cb.model(); (got == 2) != (cb.Envelope != "" || cb.Body != "") {
			t.Errorf("%s is stored in shape %d", members, got)
		}
	}
}
