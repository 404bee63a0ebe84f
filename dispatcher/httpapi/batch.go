package httpapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/payloads"
)

const (
	batchRoute = eventsRoute + "/batch"

	// maxBatch is how many events a batch may have. A client that waits for so many answers has waited for seconds.
	maxBatch = 10_000
	// batchPage is how many of a batch's events are on their way into the store at a time. They are enough to hide its round
	// trips, and few enough that one batch does not push single events aside.
	batchPage = 64
	// batchPatience is how long a caller may take to read on. The answers of a batch have all the time they need, as long as
	// the caller takes them.
	batchPatience = time.Minute
)

type (
	batchIn struct {
		Company string `path:"company"`
		RawBody []byte `contentType:"application/x-ndjson"`
	}
	batchOut struct{ Body func(huma.Context) }

	// batchResult is a line of the answer: a receipt, or the members of a problem.
	batchResult struct {
		Line   int `json:"line"`
		Status int `json:"status"`
		*dispatcher.Receipt
		*lineFault
	}
	lineFault struct {
		Title  string              `json:"title"`
		Detail string              `json:"detail"`
		Errors []*huma.ErrorDetail `json:"errors,omitempty"`
		// RetryAfter is the Retry-After that a single event's answer would have, in seconds.
		RetryAfter int `json:"retry_after,omitempty"`
	}
)

func (s *server) batches() {
	register(s, operation{
		need: sendEvents, paged: true,
		body: &body{
			schema: reflect.TypeFor[batchDoc](), mediaTypes: []string{mediaNDJSON},
			limit: batchBodies * s.MaxBody,
		},
		Operation: huma.Operation{
			OperationID: "send-events", Method: http.MethodPost, Path: batchRoute, Tags: []string{"Events"},
			Summary: "Hand over many events",
			Description: "One event a line, as for a single one: at most 10,000, of at most 1 MiB each and 16 MiB together (the operator may have set " +
				"other limits). Blank lines are passed over. The answer has a line for each event, in order, as soon as it is known; each event " +
				"stands for itself, and one that is refused does not hold up others. Only a `status` of 200 or 202 says that the event is durable: " +
				"should the answer break off, send what it did not name again, with the same event_id.",
		},
	}, s.sendBatch)
	s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[batchResultDoc](), true, "")
	described(s.api, http.MethodPost, batchRoute).Responses["200"].Content = map[string]*huma.MediaType{
		mediaNDJSON: {Schema: linesOf("BatchResult"), Example: examples["send-events"].answers[http.StatusOK]},
	}
}

// sendBatch begins to answer when the whole body is read. Many callers write everything before they read anything. If they
// had to read meanwhile, both sides would wait for each other.
func (s *server) sendBatch(ctx context.Context, in *batchIn) (*batchOut, error) {
	lines := splitLines(in.RawBody)
	switch {
	case len(lines) == 0:
		return nil, badRequest("the body has no events: send one JSON object a line, such as {\"event_type\": …, \"payload\": …}")
	case len(lines) > maxBatch:
		return nil, &refusal{
			status: http.StatusRequestEntityTooLarge,
			detail: fmt.Sprintf("the batch has %d events: send at most %d at a time", len(lines), maxBatch),
		}
	}
	if err := s.Keys.Charge(ctx, keyOf(ctx), len(lines)-1); err != nil { // the request itself counted as one
		return nil, err
	}
	return &batchOut{func(hc huma.Context) {
		_, w := humago.Unwrap(hc)
		w.Header().Set("Content-Type", mediaNDJSON)
		w.WriteHeader(http.StatusOK)
		ctx, hangUp := context.WithCancel(ctx)
		defer hangUp()
		// The server's own deadline for writing began with the request, and the body may have taken long. The server sets a new
		// one for the next request on the connection.
		rc := http.NewResponseController(w)
		defer func() { _ = rc.SetWriteDeadline(time.Time{}) }()
		s.sendAll(ctx, in.Company, lines, func(results []batchResult) {
			if writeLines(w, rc, results) != nil {
				hangUp() // nobody reads on: pages that have not begun never do
			}
		})
	}}, nil
}

// writeLines sends lines of an answer on their way at once.
func writeLines(w io.Writer, rc *http.ResponseController, results []batchResult) error {
	var text []byte
	for _, result := range results {
		b, err := encode(result)
		if err != nil {
			panic(err) // only our own types come here
		}
		text = append(text, b...)
	}
	_ = rc.SetWriteDeadline(time.Now().Add(batchPatience)) // not every writer can
	if _, err := w.Write(text); err != nil {
		return err
	}
	if err := rc.Flush(); !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// A line is one event of a batch.
type line struct {
	number int // in the body, from 1; blank lines count
	text   []byte
}

// splitLines returns the lines of a batch that are not blank.
func splitLines(body []byte) []line {
	var lines []line
	number := 0
	for text := range bytes.Lines(body) {
		number++
		if text = bytes.Trim(text, " \t\r\n"); len(text) > 0 {
			lines = append(lines, line{number, text})
		}
	}
	return lines
}

// sendAll hands over a batch's events, [batchPage] at a time, and tells the result of each, in order. When ctx ends, no
// further page begins.
//
// If the store is away, it is not asked for every page: when none of a page got in for that reason, the rest is answered 503.
func (s *server) sendAll(ctx context.Context, company string, lines []line, tell func([]batchResult)) {
	var away error
	for page := range slices.Chunk(lines, batchPage) {
		if ctx.Err() != nil {
			return
		}
		results := make([]batchResult, len(page))
		refusal := away
		if refusal == nil {
			refusal, away = s.sendPlaced(ctx, company, page, results)
		}
		if refusal != nil {
			for i, l := range page {
				results[i] = failed(l.number, refusal)
			}
		}
		tell(results)
	}
}

// sendPlaced waits for a place for a page, and then is sendPage. If there is no place, refusal says why.
func (s *server) sendPlaced(ctx context.Context, company string, page []line, results []batchResult) (refusal, away error) {
	size := 0
	for _, l := range page {
		size += len(l.text)
	}
	release, err := visitOf(ctx).place(ctx, int64(size))
	if err != nil {
		_, _ = s.answer(ctx, http.MethodPost+" "+batchRoute, err) // which logs it, unless the caller hung up
		return err, nil
	}
	defer release()
	return nil, s.sendPage(ctx, company, page, results)
}

// sendPage hands over a page's events and fills in the result of each. If not one got in because the store is away, it returns
// why the store is away.
func (s *server) sendPage(ctx context.Context, company string, page []line, results []batchResult) (away error) {
	var events []payloads.Event
	var places []int // of the events in the page
	for i, l := range page {
		e, err := s.decodeLine(ctx, company, l.text)
		if err != nil {
			results[i] = failed(l.number, err)
			continue
		}
		events, places = append(events, e), append(places, i)
	}
	unavailable := 0
	for n, sent := range s.sendEvents(ctx, events) {
		number := page[places[n]].number
		result := &results[places[n]]
		if sent.Err != nil {
			p, header := s.answer(ctx, http.MethodPost+" "+batchRoute, sent.Err)
			*result, away = refused(number, p, header), sent.Err
			if result.Status == http.StatusServiceUnavailable {
				unavailable++
			}
			continue
		}
		out := receiptOf(company, sent.Receipt)
		*result = batchResult{Line: number, Status: out.Status, Receipt: &out.Body}
	}
	if unavailable < len(events) {
		return nil
	}
	return away
}

// sendEvents hands over events together. If one of them makes that panic, each goes by itself: an event must not take its
// neighbours down with it.
func (s *server) sendEvents(ctx context.Context, events []payloads.Event) []dispatcher.Sent {
	for i := range events {
		if events[i].ID == "" {
			events[i].ID = payloads.NewEventID(time.Now()) // so that it is the same if the event goes by itself afterwards
		}
	}
	all, err := func() (_ []dispatcher.Sent, err error) {
		defer s.contain(ctx, &err)
		return s.Client.SendAll(ctx, events), nil
	}()
	if err == nil {
		return all
	}
	all = make([]dispatcher.Sent, len(events))
	for i, e := range events {
		all[i].Receipt, all[i].Err = func() (_ dispatcher.Receipt, err error) {
			defer s.contain(ctx, &err)
			return s.Client.Send(ctx, e)
		}()
	}
	return all
}

// decodeLine reads one event of a batch, within the limit of a single one.
func (s *server) decodeLine(ctx context.Context, company string, text []byte) (e payloads.Event, err error) {
	defer s.contain(ctx, &err)
	if int64(len(text)) > s.MaxBody {
		return payloads.Event{}, tooLong("line", s.MaxBody)
	}
	return decodeEvent(company, text)
}

// contain turns a panic into an error.
func (s *server) contain(ctx context.Context, err *error) {
	if cause := recover(); cause != nil {
		s.panicked(ctx, http.MethodPost+" "+batchRoute, cause)
		*err = errPanicked
	}
}

// failed is the line of an event that was not handed over.
func failed(number int, err error) batchResult {
	p, header := explain(err)
	return refused(number, p, header)
}

// refused is the line of an event that got a problem for an answer.
func refused(number int, p *huma.ErrorModel, header http.Header) batchResult {
	seconds, _ := strconv.Atoi(header.Get("Retry-After")) // none: 0
	return batchResult{Line: number, Status: p.Status, lineFault: &lineFault{p.Title, p.Detail, p.Errors, seconds}}
}
