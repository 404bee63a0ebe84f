package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A Sent is what an attempt sent, and what it was answered beyond its line in the record. It is written in the same step as the attempt's outcome, into a
// field of its own of the event's hash: so begin and finish do not carry it around, and it goes with the event. Names are short, since every
// delivery pays for them.
type Sent struct {
	Number int   `json:"n"`           // of the attempt
	At     int64 `json:"t,omitempty"` // ms, by the clock of the process that sent it
	// Of the request, with *** for its secrets. An empty URL says that there is none: nothing was sent, or it is not kept.
	Method    string `json:"m,omitempty"` // empty: POST
	URL       []byte `json:"-"`           // sealed: what a callback holds is nowhere to be read in Redis
	URLLength int    `json:"u,omitempty"` // of URL, which stands behind the rest, on a line of its own
	// Headers are names and values of those that do not follow from the attempt's other data, and Without the names of those that would and were not sent.
	Headers []string `json:"h,omitempty"`
	Without []string `json:"o,omitempty"`
	Partly  bool     `json:"p,omitempty"` // writing the request failed: the partner may have a part of it
	Body    *Edit    `json:"b,omitempty"` // how the body differs from the event's payload; nil: it does not

	// Of a batch, Sums has [SumLength] bytes for each element, in order. So whoever makes the elements of their payloads again knows whether they are what was sent.
	Sums []byte `json:"c,omitempty"`
	// Events are those of the elements, with spaces between, where the batch's own list may have others after the attempt. Empty: that list has them.
	Events string `json:"i,omitempty"`

	Timing []int64 `json:"d,omitempty"` // µs: total, first byte, lookup, connecting, handshake; as many as are not 0
	Reused bool    `json:"r,omitempty"` // the connection had served before

	// Of the answer, where the record's line does not have all that is kept of it.
	AnswerHeaders map[string]string `json:"a,omitempty"`
	AnswerLength  int               `json:"l,omitempty"` // of the answer's body, if that is compressed
	AnswerBody    string            `json:"-"`           // stands behind the URL
}

// An Edit is how a body that was sent differs from its event's payload.
type Edit struct {
	// Begin and End are how many bytes of the payload stand before and behind Middle.
	Begin  int    `json:"b,omitempty"`
	End    int    `json:"e,omitempty"`
	Middle string `json:"m,omitempty"`
	// Other names a body that is another altogether: it has a field of its own, which has the last such body of a delivery.
	Other string `json:"o,omitempty"`
	// NotKept says that the body is another one, and too long to be kept, or not to be kept at all.
	NotKept bool `json:"x,omitempty"`
}

const (
	// KeptSent is of how many attempts of a delivery what they sent is kept: the last ones.
	KeptSent = KeptAnswers
	// mostOther is how long a body that is no payload may be, as it is stored.
	mostOther = 64 << 10
	// mostMiddle is how long what differs may be for a body to be kept by that: a time, and the quotes around it.
	mostMiddle = 64
)

// sentField is the field that has what an attempt sent. The attempts of a delivery take turns in a few: so an event gets no more of them.
//
// count.lua of some versions takes an event with more than ten fields for one with several deliveries: one with a single delivery that was never replayed has six
// without these (m, b, z, a, h, d), so there may be three of these, and one that has another body.
func sentField(callback int64, number int) string {
	return "q" + strconv.FormatInt(callback, 10) + "." + strconv.Itoa(number%KeptSent)
}

// otherField is the field that has the last body that is no payload.
func otherField(callback int64) string { return "k" + strconv.FormatInt(callback, 10) }

// EditOf is how a body that was sent differs from the payload. If it is another altogether, other is to be kept with it, by [Finish].
func EditOf(payload, body []byte) (change *Edit, other []byte) {
	if bytes.Equal(payload, body) {
		return nil, nil
	}
	begin := commonPrefix(payload, body)
	end := commonSuffix(payload[begin:], body[begin:])
	if middle := body[begin : len(body)-end]; len(middle) <= mostMiddle && begin > 0 && end > 0 && utf8.Valid(middle) {
		return &Edit{Begin: begin, End: end, Middle: string(middle)}, nil
	}
	if len(body) > packMost {
		return &Edit{NotKept: true}, nil
	}
	return &Edit{Other: digest(body)}, body
}

func commonPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

func commonSuffix(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[len(a)-1-i] != b[len(b)-1-i] {
			return i
		}
	}
	return n
}

// digest names a body.
func digest(body []byte) string {
	sum := sha256.Sum256(body)
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// Apply makes the body that was sent of the payload, and of what is kept of other bodies. It is nil if that is not kept.
func (c *Edit) Apply(payload []byte, others map[string][]byte) []byte {
	switch {
	case c == nil:
		return payload
	case c.Other != "":
		return others[c.Other]
	case c.NotKept || c.Begin < 0 || c.End < 0 || c.Begin+c.End > len(payload):
		return nil
	}
	return slices.Concat(payload[:c.Begin], []byte(c.Middle), payload[len(payload)-c.End:])
}

// fields are what finish.lua writes of an attempt beside its record: names and values. other is the body that was sent, if it is another than the payload.
func (s *Sent) fields(callback int64, other []byte) []any {
	if s == nil {
		return nil
	}
	var more []any
	if s.Body != nil && s.Body.Other != "" {
		stored, length := pack(other)
		if len(stored) > mostOther {
			s.Body = &Edit{NotKept: true}
		} else {
			more = []any{otherField(callback), slices.Concat([]byte(s.Body.Other+" "+strconv.Itoa(length)+"\n"), stored)}
		}
	}
	return append([]any{sentField(callback, s.Number), s.Text()}, more...)
}

// Text is s as a field has it.
func (s *Sent) Text() []byte {
	var body []byte
	if s.AnswerBody != "" {
		body, s.AnswerLength = pack([]byte(s.AnswerBody))
	}
	s.URLLength = len(s.URL)
	text, _ := json.Marshal(s) // strings and numbers always encode
	if len(s.URL)+len(body) > 0 {
		text = append(append(append(text, '\n'), s.URL...), body...)
	}
	return text
}

// parseSent reads what [Sent.Text] wrote; nil: it cannot be read.
func parseSent(text string) *Sent {
	head, rest, _ := strings.Cut(text, "\n")
	var s Sent
	if json.Unmarshal([]byte(head), &s) != nil || s.Number == 0 || s.URLLength < 0 || s.URLLength > len(rest) {
		return nil
	}
	body := rest[s.URLLength:]
	if s.URLLength > 0 {
		s.URL = []byte(rest[:s.URLLength])
	}
	length := ""
	if s.AnswerLength > 0 {
		length = strconv.Itoa(s.AnswerLength)
	}
	if answer, err := unpack([]byte(body), length); err == nil {
		s.AnswerBody = string(answer)
	}
	return &s
}

// Exchanges are what is kept of what the last attempts of a delivery sent.
type Exchanges struct {
	By     map[int]*Sent     // by the attempt's number
	Others map[string][]byte // bodies that are no payload, by [Edit.Other]
}

// Exchanges reads what is kept of what a delivery's attempts sent.
func (l *Ledger) Exchanges(ctx context.Context, r Ref) (Exchanges, error) {
	names := []string{otherField(r.Callback)}
	for i := range KeptSent {
		names = append(names, sentField(r.Callback, i))
	}
	values, err := l.rdb.HMGet(ctx, EventKey(r.Company, r.Event), names...).Result()
	if err != nil {
		return Exchanges{}, err
	}
	return readExchanges(Strings(values)), nil
}

// BatchExchanges reads what is kept of the exchanges of a batch to a callback, and the lines of its attempts, by the webhook-id that one of them had. There is
// nothing of one that is no longer kept.
func (l *Ledger) BatchExchanges(ctx context.Context, company string, callback int64, webhookID string) (x Exchanges, lines []Entry, err error) {
	name := batchOf(webhookID)
	if name == "" {
		return Exchanges{}, nil, nil
	}
	names := []string{RecordField(callback), otherField(callback)}
	for i := range KeptSent {
		names = append(names, sentField(callback, i))
	}
	values, err := l.rdb.HMGet(ctx, Key(company, "batch:"+name), names...).Result()
	if err != nil {
		return Exchanges{}, nil, err
	}
	texts := Strings(values)
	if rec, err := ParseRecord(texts[0]); err == nil {
		lines = ParseEntries(rec.Attempts)
	}
	return readExchanges(texts[1:]), lines, nil
}

// batchName is how long a batch's name is.
const batchName = 24

// batchOf is the name of the batch that has, or had, a webhook-id; empty: none has.
func batchOf(webhookID string) string {
	name := strings.TrimPrefix(webhookID, "bat_")
	if len(name) < batchName {
		return ""
	}
	return name[:batchName]
}

// readExchanges reads the fields of what was sent.
func readExchanges(texts []string) Exchanges {
	x := Exchanges{By: make(map[int]*Sent), Others: make(map[string][]byte)}
	for _, text := range texts[min(1, len(texts)):] {
		if s := parseSent(text); s != nil {
			x.By[s.Number] = s
		}
	}
	if len(texts) > 0 && texts[0] != "" {
		head, stored, _ := strings.Cut(texts[0], "\n")
		name, length, _ := strings.Cut(head, " ")
		if length == "0" {
			length = ""
		}
		if body, err := unpack([]byte(stored), length); err == nil && digest(body) == name {
			x.Others[name] = body
		}
	}
	return x
}
