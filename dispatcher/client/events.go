package client

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"time"
)

// The server's limits on one batch.
const (
	MaxBatchLines = 10_000
	MaxBatchBytes = 16 << 20 // 16 MiB, line ends included
)

// An Event is something that happened, to be told to every callback that matches.
type Event struct {
	Type string // the callback type; required
	// ID is 1 to 128 of A-Z a-z 0-9 _ . : - (not . or ..) and unique in the company. Sent twice, an event is delivered once. Empty: one is made up.
	ID         string
	OccurredAt time.Time       // optional
	Payload    json.RawMessage // what partners receive, byte for byte; required
}

// Line is the event as one line of a batch. The payload's bytes stay as they are, but if it has line ends, it is compacted.
func (e Event) Line() ([]byte, error) {
	payload := e.Payload
	if bytes.ContainsAny(payload, "\r\n") {
		var compact bytes.Buffer
		if err := json.Compact(&compact, payload); err != nil {
			return nil, fmt.Errorf("client: Event.Payload is not JSON: %w", err)
		}
		payload = compact.Bytes()
	}
	return e.object(payload)
}

// object is written by hand where it matters: encoding/json would compact and escape the payload.
func (e Event) object(payload json.RawMessage) ([]byte, error) {
	if !json.Valid(payload) {
		return nil, errors.New("client: Event.Payload is not JSON")
	}
	head, err := json.Marshal(struct {
		ID         string    `json:"event_id,omitempty"`
		Type       string    `json:"event_type"`
		OccurredAt time.Time `json:"occurred_at,omitzero"`
	}{e.ID, e.Type, e.OccurredAt})
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	body := append(head[:len(head)-1], `,"payload":`...)
	body = append(body, bytes.TrimSpace(payload)...)
	return append(body, '}'), nil
}

// A Receipt says that an event is durable.
type Receipt struct {
	Answer
	EventID    string     `json:"event_id"`
	EventType  string     `json:"event_type"`
	AcceptedAt time.Time  `json:"accepted_at"`
	Deliveries []Accepted `json:"deliveries"` // one for each callback that matched
	// Duplicate is set when the event was accepted before; the rest is the first answer. It may have been this very call that
	// handed it over, if an answer was lost on the way.
	Duplicate bool `json:"duplicate,omitempty"`
	// Expanding is set while a large fan-out is still under way: there will be more deliveries than are listed.
	Expanding bool     `json:"expanding,omitempty"`
	Warnings  []string `json:"warnings,omitempty"` // what the type's schema found, where it only warns
}

// Accepted is a delivery as it stood when its event was accepted.
type Accepted struct {
	DeliveryID string `json:"delivery_id"`
	CallbackID int64  `json:"callback_id"`
	State      string `json:"state"`
}

// Send hands over an event. Once it has returned a receipt, the event will be delivered. It is repeated where the first try may have
// failed, see the package's documentation; without Event.ID an id is made up first, so that this cannot deliver it twice.
func (c *Client) Send(ctx context.Context, company string, e Event) (*Receipt, error) {
	if e.ID == "" {
		e.ID = NewEventID(time.Now())
	}
	body, err := e.object(e.Payload)
	if err != nil {
		return nil, err
	}
	return ask[Receipt](ctx, c, request{method: http.MethodPost, path: []string{"companies", company, "events"}, body: body, repeat: true})
}

// A BatchResult is what became of one line of a batch.
type BatchResult struct {
	Receipt            // where Status is 200 or 202
	Line    int        `json:"line"`   // counts from 1
	Status  int        `json:"status"` // 202; 200 if accepted before; else why not. 0: not known, see SendBatch
	Title   string     `json:"title,omitempty"`
	Detail  string     `json:"detail,omitempty"`
	Errors  []FieldErr `json:"errors,omitempty"`
	// RetryAfter is how many seconds the server asked to wait, 0 if it did not.
	RetryAfter int `json:"retry_after,omitempty"`
}

// Err is nil for an event that was accepted, now or before, and an [*APIError] for one that was refused.
func (r *BatchResult) Err() error {
	if r.Status/100 == 2 {
		return nil
	}
	return &APIError{
		Status: r.Status, Title: r.Title, Detail: r.Detail, Errors: r.Errors, RetryAfter: seconds(int64(r.RetryAfter)),
	}
}

// SendBatch hands over many events in one request: each line a JSON object as [Event].Line makes it, without a line's end, at most
// [MaxBatchLines] and [MaxBatchBytes] together. It returns a result for each line, in order.
//
// A line is sent as it is, byte for byte; only where it has no event_id, one is put in first, so that repeating is safe. A request that
// fails is repeated as the package's documentation says, and so are single lines that the server was not able to take (429, 503), with what is known
// already left out. When that does not help there is an error, and the results that are not known have Status 0: send those
// lines again, with the ids that their results name.
func (c *Client) SendBatch(ctx context.Context, company string, lines [][]byte) ([]BatchResult, error) {
	results := make([]BatchResult, len(lines))
	b := &batch{results: results, lines: make([][]byte, len(lines)), todo: make([]int, len(lines))}
	for i, line := range lines {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || bytes.ContainsRune(line, '\n') {
			return nil, fmt.Errorf("client: line %d of the batch is blank or holds a line's end: one event a line", i+1)
		}
		b.todo[i] = i
		b.lines[i], results[i].EventID = Identified(line, "")
		results[i].Line = i + 1
	}
	pauses := c.pauses()
	for len(b.todo) > 0 {
		err := c.round(ctx, company, b)
		if err == nil {
			break
		}
		wait, ok := pauses.next(err)
		if !ok {
			return results, err
		}
		c.onRepeat(err, wait)
		if !sleep(ctx, wait) {
			return results, c.interrupted(ctx)
		}
	}
	return results, nil
}

// batch is a batch under way.
type batch struct {
	lines   [][]byte
	results []BatchResult
	todo    []int // the lines that have no final result yet
}

// round sends what is left to do, and takes what results there are, even if there is an error.
func (c *Client) round(ctx context.Context, company string, b *batch) error {
	var body bytes.Buffer
	for _, i := range b.todo {
		body.Write(b.lines[i])
		body.WriteByte('\n')
	}
	answered := 0
	var again []int
	err := c.send(ctx, request{
		method: http.MethodPost, path: []string{"companies", company, "events", "batch"}, body: body.Bytes(), mediaType: "application/x-ndjson", timeout: batchTimeout,
		read: func(r io.Reader) error {
			in := bufio.NewReader(r)
			for ; answered < len(b.todo); answered++ {
				result, err := nextResult(in)
				if err != nil {
					return err
				}
				i := b.todo[answered]
				if result.Line != answered+1 {
					return &unexpectedError{fmt.Errorf("a result for line %d where line %d was due", result.Line, answered+1)}
				}
				if temporaryStatus(result.Status) {
					again = append(again, i)
				}
				result.Line, result.EventID = i+1, cmp.Or(result.EventID, b.results[i].EventID)
				b.results[i] = *result
			}
			_, _ = io.CopyN(io.Discard, in, 1) // to the end, which is next, so that the connection can be used again
			return nil
		},
	})
	b.todo = append(again, b.todo[answered:]...)
	if err == nil && len(again) > 0 {
		err = b.results[again[0]].Err()
	}
	return err
}

// nextResult reads one line of a batch's answer.
func nextResult(in *bufio.Reader) (*BatchResult, error) {
	for {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		result := &BatchResult{}
		if err := json.Unmarshal(line, result); err != nil {
			return nil, &unexpectedError{err}
		}
		result.Raw = line
		return result, nil
	}
}

// idFirst is how a line begins that Identified has put an id into.
const idFirst = `{"event_id":"`

// Identified is a line of a batch (a JSON object, without a line's end) with the event_id that it has, else with the given one put in,
// else, where that is empty, with one made up. All other bytes stay as they are, and so does what is no JSON object: the server
// will say so. It returns the id as well, empty if there is none to be known.
func Identified(line []byte, id string) (withID []byte, eventID string) {
	var has struct {
		ID json.RawMessage `json:"event_id"`
	}
	if rest, ok := bytes.CutPrefix(line, []byte(idFirst)); ok {
		if end := bytes.IndexAny(rest, `"\`); end > 0 && rest[end] == '"' {
			return line, string(rest[:end])
		}
	}
	if len(line) == 0 || line[0] != '{' || json.Unmarshal(line, &has) != nil {
		return line, ""
	}
	if id == "" {
		id = NewEventID(time.Now())
	}
	switch {
	case has.ID == nil:
		end := ","
		if rest := bytes.TrimLeft(line[1:], " \t\r"); rest[0] == '}' {
			end = ""
		}
		return slices.Concat([]byte(idFirst), []byte(id), []byte(`"`+end), line[1:]), id
	case string(has.ID) == "null":
		return replaceNull(line, id), id
	}
	_ = json.Unmarshal(has.ID, &eventID) // what is no string is for the server to refuse
	return line, eventID
}

// replaceNull writes id where the object says "event_id": null.
func replaceNull(line []byte, id string) []byte {
	dec := json.NewDecoder(bytes.NewReader(line))
	_, _ = dec.Token() // the brace; the line was valid when it came here
	for dec.More() {
		name, _ := dec.Token()
		var value json.RawMessage
		if dec.Decode(&value) != nil {
			break
		}
		if name == "event_id" && string(value) == "null" {
			end := int(dec.InputOffset())
			return slices.Concat(line[:end-len("null")], []byte(`"`+id+`"`), line[end:])
		}
	}
	return line
}

// An ExplainQuery narrows an [Explanation].
type ExplainQuery struct {
	CallbackID int64  // only what concerns this callback; 0: all
	Limit      int    // of callbacks, 1 to 500; default 50
	Cursor     string // the NextCursor of the page before
}

// An Explanation says what became of an event, callback by callback.
type Explanation struct {
	Answer
	EventID    string    `json:"event_id"`
	EventType  string    `json:"event_type"`
	AcceptedAt time.Time `json:"accepted_at"`
	OccurredAt time.Time `json:"occurred_at,omitzero"`
	TraceID    string    `json:"trace_id,omitempty"` // of the trace (W3C Trace Context) that it came in with
	// Expanding is set while deliveries of a large fan-out are still to be written.
	Expanding bool `json:"expanding,omitempty"`
	// BodyLeft is set once the event is kept without its body: nothing of it can be replayed any more.
	BodyLeft   bool       `json:"body_left,omitempty"`
	Summary    string     `json:"summary"` // a sentence
	Callbacks  []Decision `json:"callbacks"`
	NextCursor string     `json:"next_cursor,omitempty"` // empty on the last page
}

// A Decision says whether an event went to a callback, and why or why not.
type Decision struct {
	CallbackID   int64     `json:"callback_id"`
	CallbackType string    `json:"callback_type,omitempty"` // empty if the callback was deleted since
	Decision     string    `json:"decision"`                // matched or not_matched
	Why          string    `json:"why"`                     // in sentences
	Delivery     *Delivery `json:"delivery,omitempty"`      // where it matched
}

// Event says what became of an event.
func (c *Client) Event(ctx context.Context, company, eventID string, q ExplainQuery) (*Explanation, error) {
	return ask[Explanation](ctx, c, request{
		method: http.MethodGet, path: []string{"companies", company, "events", eventID},
		query: query("callback_id", number(q.CallbackID), "limit", number(q.Limit), "cursor", q.Cursor),
	})
}

// AllDecisions say of a company's callbacks, by id, whether an event went there, page after page from q.Cursor on. An error ends them.
func (c *Client) AllDecisions(ctx context.Context, company, eventID string, q ExplainQuery) iter.Seq2[Decision, error] {
	return all(func(cursor string) ([]Decision, string, error) {
		q.Cursor = cursor
		page, err := c.Event(ctx, company, eventID, q)
		if err != nil {
			return nil, "", err
		}
		return page.Callbacks, page.NextCursor, nil
	}, q.Cursor)
}

// An ErasedEvent says what was erased with an event.
type ErasedEvent struct {
	Answer
	EventID    string `json:"event_id"`
	Deliveries int64  `json:"deliveries"`
	Unfinished int64  `json:"unfinished"` // of them, those that will not be delivered now
	Dead       int64  `json:"dead"`       // of them
	InFlight   int64  `json:"in_flight"`  // of them, those with a request under way: it finishes, and nothing is noted of it
}

// EraseEvent removes an event, its payload and its deliveries, as if it had never been handed over. It takes an operator's or a producer's
// key. An [*APIError] of 404 says that there is no such event, after a lost answer perhaps no more.
func (c *Client) EraseEvent(ctx context.Context, company, eventID string) (*ErasedEvent, error) {
	return ask[ErasedEvent](ctx, c, request{method: http.MethodDelete, path: []string{"companies", company, "events", eventID}})
}

var idEncoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// NewEventID makes up an event id as the server does: "evt_" and 26 characters that hold a UUIDv7 (RFC 9562). Ids sort by time, to
// about 250 ns; two of the same instant differ by 62 random bits.
func NewEventID(at time.Time) string {
	var u [16]byte
	_, _ = rand.Read(u[8:]) // documented never to fail
	const perMilli = int64(time.Millisecond)
	fraction := uint64(int64(at.Nanosecond()) % perMilli * 4096 / perMilli) //nolint:gosec // 0 to 4095
	binary.BigEndian.PutUint64(u[:8], uint64(max(at.UnixMilli(), 0))<<16|0x7000|fraction)
	u[8] = u[8]&0x3f | 0x80 // the variant
	return "evt_" + idEncoding.EncodeToString(u[:])
}

// Payload are the bytes of an event's payload as they came in. An [*APIError] of 410 says that the event is kept without them.
func (c *Client) Payload(ctx context.Context, company, eventID string) (payload []byte, err error) {
	err = c.send(ctx, request{
		method: http.MethodGet, path: []string{"companies", company, "events", eventID, "payload"},
		read: func(body io.Reader) (err error) {
			payload, err = io.ReadAll(body)
			return err
		},
	})
	return payload, err
}
