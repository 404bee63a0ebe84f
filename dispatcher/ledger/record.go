package ledger

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/registry"
)

// A Record is a delivery as Redis holds it: a header that the scripts read and write, and a line for each attempt that only
// Go reads. lua/record.lua describes the header.
type Record struct {
	State      byte
	Generation int64
	Number     int   // of the last attempt begun
	Spent      int   // attempts that count against the callback's budget
	At         int64 // ms; see lua/record.lua
	Token      string
	Attempts   string // "" or "\n" and a JSON line, for each attempt

	// Batch is the webhook-id of the unfinished batch that it travels in. State, At, Spent and what came to Number and Attempts are that batch's then.
	Batch string
	// Order is its place among those of its callback and key, where that was read; zero: it has none.
	Order Order
}

// An Order is a delivery's place among those of its callback and key.
type Order struct {
	Number int64
	Key    string // what names the key
}

// ErrBadRecord says that what Redis holds, or what a script answered, is not what this version writes.
var ErrBadRecord = errors.New("the record in Redis cannot be read")

// ParseRecord reads a record.
func ParseRecord(text string) (Record, error) {
	head, _, _ := strings.Cut(text, "\n")
	words := strings.Split(head, " ")
	if len(words) != 6 || len(words[0]) != 1 {
		return Record{}, ErrBadRecord
	}
	var n [4]int64
	for i, word := range words[1:5] {
		var err error
		if n[i], err = strconv.ParseInt(word, 10, 64); err != nil {
			return Record{}, ErrBadRecord
		}
	}
	return Record{
		State: words[0][0], Generation: n[0], Number: int(n[1]), Spent: int(n[2]), At: n[3], Token: words[5], Attempts: text[len(head):],
	}, nil
}

// An Entry is an attempt as its line in the record holds it: short names, since every delivery pays for them.
type Entry struct {
	Number      int             `json:"n"`
	Started     int64           `json:"t"` // ms
	DurationMS  int64           `json:"d,omitempty"`
	Status      int             `json:"s,omitempty"`
	Verdict     verdict.Verdict `json:"v"`
	Reason      verdict.Reason  `json:"r,omitempty"`
	ContentType string          `json:"ct,omitempty"` // where the reason turns on it
	Note        string          `json:"e,omitempty"`  // what the network said, without names
	Repeated    bool            `json:"rp,omitempty"` // the request went out twice: see egress.Request.Repeatable
	// Looks and Auth are there where the sentence turns on them; see verdict.Account.
	Looks verdict.Look `json:"l,omitempty"`
	Auth  string       `json:"a,omitempty"`
	// AskedSeconds is what the partner asked us to wait (Retry-After), bounded.
	AskedSeconds int64 `json:"w,omitempty"`
	// Inside says that reason and note are what partners may read; see [Entry.Unmasked].
	Inside bool `json:"i,omitempty"`
	// Batch is the webhook-id of the batch that it was an attempt of. It stands before headers and body: a batch's members have the lines up to there.
	Batch   string            `json:"bt,omitempty"`
	Headers map[string]string `json:"h,omitempty"`
	Body    string            `json:"b,omitempty"`

	// Of a challenge or a test, of which nothing is kept; and whether the handshake was enough.
	Challenge, Handshake, Test bool `json:"-"`

	operators bool // it is for them to read
}

const (
	// KeptEntries is how many lines are kept in a record; the oldest go first.
	KeptEntries = 100
	// KeptAnswers is how many of them keep the partner's headers and body.
	KeptAnswers = 3
)

// ParseEntries reads a record's lines, but for those that cannot be read.
func ParseEntries(lines string) []Entry {
	var entries []Entry
	for line := range strings.SplitSeq(lines, "\n") {
		var e Entry
		if line != "" && json.Unmarshal([]byte(line), &e) == nil {
			entries = append(entries, e)
		}
	}
	return entries
}

// Line is e as a record has it.
func (e Entry) Line() string {
	b, _ := json.Marshal(e) // strings and numbers always encode
	return string(b)
}

// AppendEntry returns a record's attempts with e at their end, dropping the oldest answers and lines beyond what is kept.
func AppendEntry(lines string, e Entry) string {
	if lines == "" {
		return "\n" + e.Line()
	}
	entries := append(ParseEntries(lines), e)
	if n := len(entries) - KeptEntries; n > 0 {
		entries = entries[n:]
	}
	answers := 0
	var b strings.Builder
	for i := len(entries) - 1; i >= 0; i-- {
		if entries[i].Headers == nil && entries[i].Body == "" {
			continue
		}
		if answers++; answers > KeptAnswers {
			entries[i].Headers, entries[i].Body = nil, ""
		}
	}
	for _, e := range entries {
		b.WriteByte('\n')
		b.WriteString(e.Line())
	}
	return b.String()
}

// account is what e knows of its attempt, for a sentence.
func (e Entry) account() verdict.Account {
	return verdict.Account{
		Judgement: verdict.Judgement{
			Verdict: e.Verdict, Reason: e.Reason, Status: e.Status, ContentType: e.ContentType, Note: e.Note, Inside: e.Inside,
			RetryAfter: time.Duration(e.AskedSeconds) * time.Second,
		},
		Repeated: e.Repeated, Challenge: e.Challenge, Handshake: e.Handshake, Test: e.Test, Batch: e.Batch != "", Looks: e.Looks, Auth: e.Auth,
		ForOperators: e.operators,
	}
}

// Detail is the sentence for the attempt of a delivery, a test or a challenge.
func (e Entry) Detail() string { return e.account().Sentence() }

// DecisionDetail is the sentence for a decision.
func (e Entry) DecisionDetail() string { return e.account().DecisionSentence() }

// Unmasked is e as operators may read it. Where a host name leads inside, partners are told that it does not exist; and where an operator has a remedy,
// they are not told which.
func (e Entry) Unmasked() Entry {
	if e.Inside {
		reason, note := egress.Unmask(egress.Reason(e.Reason), e.Note)
		e.Reason, e.Note = verdict.Reason(reason), note
	}
	e.Note, e.operators = egress.ForOperators(e.Note), true
	return e
}

// FromMS is a time in milliseconds since 1970; 0 is none.
func FromMS(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// Meta is what an event's hash holds about it beside its body.
type Meta struct {
	Type        string `json:"t"`
	Content     string `json:"c"`           // SHA-256 of type and payload, 16 bytes, base64
	Occurred    int64  `json:"o,omitempty"` // ms
	TraceParent string `json:"tp,omitempty"`
}

// StateBehind is how a delivery stands behind a gate, or none. If the callback was deleted, a waiting delivery is as good as cancelled. The next script
// that touches it writes that down.
func (r Record) StateBehind(gate *registry.Gate) State {
	state := StateOf[r.State]
	if gate != nil && gate.Status == registry.Deleted && !state.Final() && state != Active {
		return Cancelled
	}
	return state
}

// Pruned reports whether a dead delivery has left the dead-letter book, and what buried it, if anything did; see lua/record.lua.
func (r Record) Pruned() (buried verdict.Reason, gone bool) {
	token, gone := strings.CutSuffix(r.Token, "pruned")
	return verdict.Reason(strings.TrimSuffix(token, ".")), gone
}

// Failed says in asynq's UI, which is for operators, what a delivery's attempt failed by.
func (e Entry) Failed(r Ref) string {
	e = e.Unmasked()
	return fmt.Sprintf("%s: attempt %d to callback %d of %s: %s", e.Reason, e.Number, r.Callback, r.Company, e.Detail())
}

// WithoutWords is e as logs and traces may tell of it.
func (e Entry) WithoutWords() Entry {
	if e.Status >= http.StatusBadRequest {
		e.Note = ""
	}
	return e
}

// LogTime is when Redis put an entry into the log, in its own clock: the event's accepted_at.
func LogTime(logID string) time.Time {
	ms, _, _ := strings.Cut(logID, "-")
	n, _ := strconv.ParseInt(ms, 10, 64)
	return FromMS(n)
}

// FirstLogID is the first that an entry of that millisecond can have.
func FirstLogID(ms int64) string { return strconv.FormatInt(ms, 10) + "-0" }

// LogIDLess reports whether an entry of a log comes before another.
func LogIDLess(a, b string) bool {
	split := func(id string) (ms, seq uint64) {
		l, r, _ := strings.Cut(id, "-")
		ms, _ = strconv.ParseUint(l, 10, 64)
		seq, _ = strconv.ParseUint(r, 10, 64)
		return ms, seq
	}
	am, as := split(a)
	bm, bs := split(b)
	return cmp.Or(cmp.Compare(am, bm), cmp.Compare(as, bs)) < 0
}
