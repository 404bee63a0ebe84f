package dispatcher

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// A Request is one as it went out, recorded when it was sent. Secrets in it are ***: the callback's own headers, its credentials, the values of its
// URL's query, and the ticket in a thin body's address. Signatures are as they were sent. Host, Content-Length and what else belongs to the connection is not part of it.
//
// If a request was made twice within an attempt, it is the last: on a connection that had been closed meanwhile (then both were the same), or with another
// access token after the partner had refused one.
type Request struct {
	Method  string
	URL     string
	Headers map[string]string
	SentAt  time.Time // when it began, by the clock of the process that sent it
	// Incomplete says that it could not be written to its end: the partner may have a part of it.
	Incomplete bool
	// Body is nil if it is not shown, and BodyMissing says why.
	Body        []byte
	BodyMissing string
	// Elements are those of a batch, in their order, as far as they are known. A test, or a dry run, has none.
	Elements []Element
}

// An Element is a delivery's part of a batch's request.
type Element struct {
	// DeliveryID and EventID are empty if the event is gone.
	DeliveryID string `json:"delivery_id,omitempty"`
	EventID    string `json:"event_id,omitempty"`
	// Body is what was sent of it, if it can be shown, and not all of the request's body can.
	Body string `json:"body,omitempty"`
	// Missing says why it cannot be shown. It is empty if it can be, and if none is.
	Missing string `json:"missing,omitempty"`
}

// A Showing says what of a request a reader may see.
type Showing struct {
	Payload bool // its body, which is the event's payload or made of it
	Query   bool // what is kept of its URL's query: the names in it
}

// hiddenPayload is why a reader sees no body who may not see payloads.
const hiddenPayload = "this key may not see payloads"

// requestJSON is a request as the API shows it.
type requestJSON struct {
	Method       string            `json:"method"`
	URL          string            `json:"url"`
	Headers      map[string]string `json:"headers"`
	SentAt       time.Time         `json:"sent_at"`
	Incomplete   bool              `json:"incomplete,omitempty"`
	Body         *string           `json:"body"`
	BodyEncoding string            `json:"body_encoding,omitempty"` // base64, if the body is no text
	BodyMissing  string            `json:"body_missing,omitempty"`
	Elements     []Element         `json:"elements,omitempty"`
}

// MarshalJSON writes the request as the API shows it.
func (r Request) MarshalJSON() ([]byte, error) {
	doc := requestJSON{r.Method, r.URL, r.Headers, r.SentAt, r.Incomplete, nil, "", r.BodyMissing, r.Elements}
	if r.Body != nil {
		text := string(r.Body)
		if !utf8.Valid(r.Body) {
			text, doc.BodyEncoding = base64.StdEncoding.EncodeToString(r.Body), "base64"
		}
		doc.Body = &text
	}
	return readable(doc)
}

// readable is v as JSON, in which <, > and & stay as they are: it is no web page.
func readable(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSpace(b.Bytes()), err
}

// A Timing says where an attempt's time went. If a phase did not happen, as on a connection that had served before, it is zero.
type Timing struct {
	DNS, Connect, TLS time.Duration // looking the host up, opening the connection, and its handshake
	FirstByte         time.Duration // from the request written to the first byte of the answer
	Total             time.Duration // of the request, with waiting for a connection and reading the answer
	Reused            bool          // the connection had served before
}

// MarshalJSON writes the timing as the API shows it, in milliseconds.
func (t Timing) MarshalJSON() ([]byte, error) {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return json.Marshal(struct {
		DNS       float64 `json:"dns_ms,omitempty"`
		Connect   float64 `json:"connect_ms,omitempty"`
		TLS       float64 `json:"tls_ms,omitempty"`
		FirstByte float64 `json:"first_byte_ms,omitempty"`
		Total     float64 `json:"total_ms"`
		Reused    bool    `json:"reused,omitempty"`
	}{ms(t.DNS), ms(t.Connect), ms(t.TLS), ms(t.FirstByte), ms(t.Total), t.Reused})
}

// µs are the phases as they are kept: those at the end that are zero are left out.
func µs(t egress.Timing) []int64 {
	all := []int64{t.Total.Microseconds(), t.FirstByte.Microseconds(), t.DNS.Microseconds(), t.Connect.Microseconds(), t.TLS.Microseconds()}
	for len(all) > 0 && all[len(all)-1] == 0 {
		all = all[:len(all)-1]
	}
	return all
}

// timingOf is the inverse of µs.
func timingOf(kept []int64, reused bool) *Timing {
	if len(kept) == 0 {
		return nil
	}
	var phases [5]time.Duration
	for i, n := range kept[:min(len(kept), len(phases))] {
		phases[i] = time.Duration(n) * time.Microsecond
	}
	return &Timing{Total: phases[0], FirstByte: phases[1], DNS: phases[2], Connect: phases[3], TLS: phases[4], Reused: reused}
}

// A known is what tells the value of some headers of a request, beside the request.
type known struct {
	id, event, typ string
	number         int
	at             int64 // ms
}

// knownNames are the headers of which known has the value.
var knownNames = []string{"Content-Type", payloads.HeaderID, payloads.HeaderTimestamp, "Ringback-Event-Id", "Ringback-Event-Type", "Ringback-Attempt"}

// value is that of a header, or empty.
func (k known) value(name string) string {
	switch name {
	case "Content-Type":
		return "application/json"
	case payloads.HeaderID:
		return k.id
	case payloads.HeaderTimestamp:
		return strconv.FormatInt(k.at/1000, 10)
	case "Ringback-Event-Id":
		return k.event
	case "Ringback-Event-Type":
		return k.typ
	case "Ringback-Attempt":
		return strconv.Itoa(k.number)
	}
	return ""
}

// shortNames are headers that nearly all requests have, as they are kept. No header's name holds a colon.
var shortNames = map[string]string{"User-Agent": ":a", payloads.HeaderSignature: ":s", "Traceparent": ":t"}

// keep returns names and values of those headers that do not follow from what is known, and the names of those that would, and are not there.
func (k known) keep(sent http.Header) (headers, without []string) {
	told := 0
	for name, values := range sent {
		value := values[0]
		if len(values) > 1 {
			value = strings.Join(values, ", ")
		}
		if known := k.value(name); known != "" {
			told++
			if value == known {
				continue
			}
		}
		if short, ok := shortNames[name]; ok {
			name = short
		}
		headers = append(headers, name, value)
	}
	if told == len(knownNames) {
		return headers, nil
	}
	for _, name := range knownNames {
		if _, ok := sent[name]; !ok {
			without = append(without, name)
		}
	}
	return headers, without
}

// all is the inverse of keep.
func (k known) all(headers, without []string) map[string]string {
	all := make(map[string]string, len(headers)/2+len(knownNames))
	for _, name := range knownNames {
		all[name] = k.value(name)
	}
	for _, name := range without {
		delete(all, name)
	}
	for pair := range slices.Chunk(headers, 2) {
		name := pair[0]
		for long, short := range shortNames {
			if name == short {
				name = long
			}
		}
		all[name] = pair[len(pair)-1]
	}
	return all
}

// longestName is how long the name of a parameter is at most. A longer one may be a secret.
const longestName = 40

// blotQuery replaces the values of a URL's query, and what is no value and may be a secret as well.
func blotQuery(raw string) string {
	path, query, ok := strings.Cut(raw, "?")
	if !ok {
		return raw
	}
	var b strings.Builder
	b.WriteString(path)
	for i, pair := range strings.Split(query, "&") {
		b.WriteByte("?&"[min(i, 1)])
		name, value, _ := strings.Cut(pair, "=")
		switch {
		case pair == "":
		case strings.Trim(value, "=") == "", len(name) > longestName: // it is padding, or all of it is a value
			b.WriteString(registry.Masked)
		default:
			b.WriteString(name + "=" + registry.Masked)
		}
	}
	return b.String()
}

// withoutQuery is a URL for those who are not to see its query.
func withoutQuery(raw string) string {
	if path, _, ok := strings.Cut(raw, "?"); ok {
		return path + "?" + registry.Masked
	}
	return raw
}

// requestOf is a request without its body.
func requestOf(s *ledger.Sent, k known, url string) *Request {
	return &Request{
		Method: defaulted(s.Method, http.MethodPost), URL: url, Headers: k.all(s.Headers, s.Without), SentAt: time.UnixMilli(s.At).UTC(), Incomplete: s.Partly,
	}
}
