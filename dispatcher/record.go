package dispatcher

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/verdict"
)

// A record is a delivery as Redis holds it: a header that the scripts read and write, and a line for each attempt that only
// Go reads. lua/record.lua describes the header.
type record struct {
	state      byte
	generation int64
	number     int   // of the last attempt begun
	spent      int   // attempts that count against the callback's budget
	at         int64 // ms; see lua/record.lua
	token      string
	attempts   string // "" or "\n" and a JSON line, for each attempt
}

var errBadRecord = errors.New("the record in Redis cannot be read")

func parseRecord(text string) (record, error) {
	head, _, _ := strings.Cut(text, "\n")
	words := strings.Split(head, " ")
	if len(words) != 6 || len(words[0]) != 1 {
		return record{}, errBadRecord
	}
	var n [4]int64
	for i, word := range words[1:5] {
		var err error
		if n[i], err = strconv.ParseInt(word, 10, 64); err != nil {
			return record{}, errBadRecord
		}
	}
	return record{
		state: words[0][0], generation: n[0], number: int(n[1]), spent: int(n[2]), at: n[3], token: words[5], attempts: text[len(head):],
	}, nil
}

var stateOf = map[byte]State{
	'P': Pending, 'A': Active, 'R': Retrying, 'H': Held, 'D': Delivered, 'X': Dead, 'C': Cancelled,
}

// An entry is an attempt as its line in the record holds it: short names, since every delivery pays for them.
type entry struct {
	Number      int     `json:"n"`
	Started     int64   `json:"t"` // ms
	DurationMS  int64   `json:"d,omitempty"`
	Status      int     `json:"s,omitempty"`
	Verdict     Verdict `json:"v"`
	Reason      Reason  `json:"r,omitempty"`
	ContentType string  `json:"ct,omitempty"` // where the reason turns on it
	Note        string  `json:"e,omitempty"`  // what the network said, without names
	Repeated    bool    `json:"rp,omitempty"` // the request went out twice: see egress.Request.Repeatable
	// AskedSeconds is what the partner asked us to wait (Retry-After), bounded.
	AskedSeconds int64 `json:"w,omitempty"`
	// Inside says that reason and note are what partners may read; see unmasked.
	Inside  bool              `json:"i,omitempty"`
	Headers map[string]string `json:"h,omitempty"`
	Body    string            `json:"b,omitempty"`

	// Of a challenge, of which nothing is kept; and whether the handshake was enough.
	Challenge, Handshake bool `json:"-"`
}

// unknownEntry is the line that lua/overdue.lua writes for an attempt whose owner is gone.
const unknownEntry = `{"n":%n,"t":%t,"v":"retry","r":"unknown"}`

const (
	keptEntries = 100 // lines kept in a record; the oldest go first
	keptAnswers = 3   // of them, this many keep the partner's headers and body
)

func parseEntries(lines string) []entry {
	var entries []entry
	for line := range strings.SplitSeq(lines, "\n") {
		var e entry
		if line != "" && json.Unmarshal([]byte(line), &e) == nil {
			entries = append(entries, e)
		}
	}
	return entries
}

func (e entry) line() string {
	b, _ := json.Marshal(e) // strings and numbers always encode
	return string(b)
}

// appendEntry returns a record's attempts with e at their end, dropping the oldest answers and lines beyond what is kept.
func appendEntry(lines string, e entry) string {
	if lines == "" {
		return "\n" + e.line()
	}
	entries := append(parseEntries(lines), e)
	if n := len(entries) - keptEntries; n > 0 {
		entries = entries[n:]
	}
	answers := 0
	var b strings.Builder
	for i := len(entries) - 1; i >= 0; i-- {
		if entries[i].Headers == nil && entries[i].Body == "" {
			continue
		}
		if answers++; answers > keptAnswers {
			entries[i].Headers, entries[i].Body = nil, ""
		}
	}
	for _, e := range entries {
		b.WriteByte('\n')
		b.WriteString(e.line())
	}
	return b.String()
}

func (e entry) attempt() Attempt {
	return Attempt{
		Number: e.Number, StartedAt: fromMS(e.Started), Duration: time.Duration(e.DurationMS) * time.Millisecond,
		StatusCode: e.Status, Verdict: e.Verdict, Reason: e.Reason, Detail: e.detail(),
		ResponseHeaders: e.Headers, ResponseBody: e.Body,
	}
}

// account is what e knows of its attempt, for a sentence.
func (e entry) account() verdict.Account {
	return verdict.Account{
		Judgement: verdict.Judgement{
			Verdict: e.Verdict, Reason: e.Reason, Status: e.Status, ContentType: e.ContentType, Note: e.Note, Inside: e.Inside,
			RetryAfter: time.Duration(e.AskedSeconds) * time.Second,
		},
		Repeated: e.Repeated, Challenge: e.Challenge, Handshake: e.Handshake,
	}
}

// detail is the sentence for the attempt of a delivery, a test or a challenge.
func (e entry) detail() string { return e.account().Sentence() }

// decisionDetail is the sentence for a decision.
func (e entry) decisionDetail() string { return e.account().DecisionSentence() }

// unmasked is e as operators may read it: where a host name leads inside, e says that it does not exist.
func (e entry) unmasked() entry {
	if e.Inside {
		reason, note := egress.Unmask(egress.Reason(e.Reason), e.Note)
		e.Reason, e.Note = Reason(reason), note
	}
	return e
}

type unmaskedKey struct{}

// Unmasked returns ctx for a reader who may know which host names lead inside: to all others they do not exist.
func Unmasked(ctx context.Context) context.Context {
	return context.WithValue(ctx, unmaskedKey{}, true)
}

// forReader is e as the reader behind ctx may see it.
func (e entry) forReader(ctx context.Context) entry {
	if ctx.Value(unmaskedKey{}) != nil {
		return e.unmasked()
	}
	return e
}

func fromMS(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// meta is what an event's hash holds about it beside its body.
type meta struct {
	Type        string `json:"t"`
	Content     string `json:"c"`           // SHA-256 of type and payload, 16 bytes, base64
	Occurred    int64  `json:"o,omitempty"` // ms
	Version     int64  `json:"v,omitempty"` // of the registry when callbacks were matched
	TraceParent string `json:"tp,omitempty"`
}
