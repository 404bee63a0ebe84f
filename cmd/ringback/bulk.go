package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/client"
)

// How events of a file go to the server. Batches are small enough that a repeated one costs little, and there are enough of them under
// way that the server never waits for this side; together they are all of the file that is in memory.
const (
	batchBytes = 1 << 20
	batchLines = 1000
	inFlight   = 4
	// shownRefusals is how many refused lines are listed; the others are counted.
	shownRefusals = 20
	// bulkRepeat is how long the server may be away.
	bulkRepeat = 2 * time.Minute
	// landing is how long batches under way may take once a signal has come.
	landing = 30 * time.Second
)

const sendDescription = `

In a FILE (- is stdin) each line is an event as the API takes it: {"event_type": "…", "event_id": "…", "payload": {…}}. What is in
it goes out byte for byte. A line without event_id gets one: that of line 7 is file_HASH:7, the hash being of the whole file (SHA-256).
So the same file can be sent again, after whatever happened, and no event is delivered twice. Lines of stdin get ids at random.

Lines that the server refuses are listed on stderr as FILE:LINE: STATUS: why, and the exit code is 1.`

// sendFile hands over the events of a file, a line each.
func sendFile(c *cli.Context, name string) error {
	var progress *progress
	api, company, err := forCompany(c, func(cfg *client.Config) {
		cfg.MaxElapsed = bulkRepeat
		cfg.OnRepeat = func(err error, _ time.Duration) { progress.hiccup(err) }
	})
	if err != nil {
		return err
	}
	source, err := openEvents(c, name)
	if err != nil {
		return err
	}
	defer source.close()
	rejects, err := openRejects(c.String("rejects"), source)
	if err != nil {
		return err
	}
	progress = newProgress(c, source.size)
	b := &bulk{
		source: source, progress: progress, rejects: rejects,
		send: func(ctx context.Context, lines [][]byte) ([]client.BatchResult, error) {
			return sendPatiently(ctx, lines, progress.hiccup, func(lines [][]byte) ([]client.BatchResult, error) {
				return api.SendBatch(ctx, company, lines)
			})
		},
	}
	err = b.run(c.Context)
	progress.finish()
	if closed := rejects.close(); err == nil {
		err = closed
	}
	if said := b.print(newPrinter(c), time.Since(progress.began)); said != nil {
		return said
	}
	return err
}

// limitOf finds the limit that a batch, or any line of it, came up against, and that says when to come again; nil if there was none. err is
// about one line only, and another one may have met something else.
func limitOf(results []client.BatchResult, err error) *client.APIError {
	errs := []error{err}
	for i := range results {
		if results[i].Status == http.StatusTooManyRequests {
			errs = append(errs, results[i].Err())
		}
	}
	for _, err := range errs {
		if limit, ok := errors.AsType[*client.APIError](err); ok && limit.Status == http.StatusTooManyRequests && limit.RetryAfter > 0 {
			return limit
		}
	}
	return nil
}

// sendPatiently sends lines, however often the server says that they come too soon (429): a rate limit is no failure, and a file may take as
// long as it takes.
func sendPatiently(ctx context.Context, lines [][]byte, told func(error), send func([][]byte) ([]client.BatchResult, error)) ([]client.BatchResult, error) {
	results, err := send(lines)
	for {
		limit := limitOf(results, err)
		if limit == nil || len(results) != len(lines) {
			return results, err
		}
		told(limit)
		select {
		case <-time.After(limit.RetryAfter):
		case <-ctx.Done():
			return results, err
		}
		var todo []int
		var rest [][]byte
		for i, result := range results {
			if result.Status == 0 || result.Status == http.StatusTooManyRequests || result.Status >= http.StatusInternalServerError {
				todo, rest = append(todo, i), append(rest, lines[i])
			}
		}
		var more []client.BatchResult
		more, err = send(rest)
		for n, result := range more {
			result.Line = todo[n] + 1
			results[todo[n]] = result
		}
	}
}

// bulk sends a source's events, several batches at a time, and accounts for them in the order of the lines.
type bulk struct {
	source   *source
	progress *progress
	rejects  *rejects
	send     func(context.Context, [][]byte) ([]client.BatchResult, error)

	done       position // all up to here is accounted for
	accepted   int
	duplicates int
	refused    int
	warned     int
	random     bool // an id was made up at random
}

// batch is some lines on their way. Its fields are the sender's until sent is closed.
type batch struct {
	entries []entry
	end     position // of the source, after the last entry
	results []client.BatchResult
	random  bool
	err     error
	sent    chan struct{}
}

// run sends until the source is at its end, the context is, or a batch fails for good. It waits for the batches under way then, but not
// for a reader that waits for stdin.
func (b *bulk) run(ctx context.Context) error {
	// Requests outlive a signal, so that what the server has taken is accounted for; but not for ever.
	flight, ground := context.WithCancel(context.WithoutCancel(ctx))
	defer ground()
	defer context.AfterFunc(ctx, func() {
		select {
		case <-time.After(landing):
			ground()
		case <-flight.Done():
		}
	})()
	reading, enough := context.WithCancel(ctx)
	defer enough()
	batches, end := make(chan *batch), make(chan error, 1)
	go func() {
		defer close(batches)
		end <- b.read(reading, batches)
	}()

	var underWay []*batch // oldest first
	var failed error
	for more := true; more || len(underWay) > 0; {
		var in <-chan *batch
		if more && len(underWay) < inFlight {
			in = batches
		}
		var oldest <-chan struct{}
		if len(underWay) > 0 {
			oldest = underWay[0].sent
		}
		var stopped <-chan struct{}
		if more {
			stopped = reading.Done()
		}
		select {
		case next, ok := <-in:
			if more = ok; ok {
				go b.deliver(flight, next)
				underWay = append(underWay, next)
			}
		case <-oldest:
			next := underWay[0]
			underWay = underWay[1:]
			b.account(next, failed == nil)
			if next.err != nil && failed == nil {
				failed = next.err
				enough()
			}
		case <-stopped:
			more = false
		}
	}
	if failed == nil && ctx.Err() == nil {
		failed = <-end
	}
	return b.verdict(ctx, failed)
}

// read cuts the source into batches.
func (b *bulk) read(reading context.Context, batches chan<- *batch) error {
	var at position
	var held *entry // read already, and too much for the batch before
	for reading.Err() == nil {
		next := &batch{sent: make(chan struct{})}
		size := 0
		var err error
		for len(next.entries) < batchLines {
			var e entry
			before := at
			if held != nil {
				e, held = *held, nil
			} else if e, err = b.source.next(&at); err != nil {
				break
			}
			if len(next.entries) > 0 && size+len(e.line) > batchBytes {
				held, next.end = &e, before
				break
			}
			next.entries, next.end, size = append(next.entries, e), at, size+len(e.line)+1
		}
		if len(next.entries) > 0 {
			select {
			case batches <- next:
			case <-reading.Done():
				return nil
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", b.source.name, err)
		}
	}
	return nil
}

// deliver sends a batch. Lines that are too long are refused without asking the server.
func (b *bulk) deliver(ctx context.Context, next *batch) {
	defer close(next.sent)
	lines := make([][]byte, 0, len(next.entries))
	for _, e := range next.entries {
		if e.line == nil {
			continue
		}
		line, made := b.source.identified(e)
		next.random = next.random || made
		lines = append(lines, line)
	}
	var answered []client.BatchResult
	if len(lines) > 0 {
		answered, next.err = b.send(ctx, lines)
	}
	for _, e := range next.entries {
		switch {
		case e.line == nil:
			next.results = append(next.results, client.BatchResult{
				Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("the line is longer than %d bytes: send less, or a reference to it", maxLine),
			})
		case len(answered) > 0:
			next.results, answered = append(next.results, answered[0]), answered[1:]
		default:
			next.results = append(next.results, client.BatchResult{})
		}
	}
}

// account counts a batch's results; inOrder says that all before it are known.
func (b *bulk) account(next *batch, inOrder bool) {
	if next.random && !b.random {
		b.random = true
		b.progress.note(b.source.name + " cannot be resumed, for it cannot be read twice: lines without event_id get ids at random")
	}
	known := 0
	for i, result := range next.results {
		e := next.entries[i]
		switch {
		case result.Status == 0 || next.err != nil && result.Status >= http.StatusInternalServerError:
			inOrder = false
			continue
		case result.Err() != nil:
			b.refuse(e, &result)
		case result.Duplicate || result.Status == http.StatusOK:
			b.duplicates++
		default:
			b.accepted++
		}
		known++
		if len(result.Warnings) > 0 {
			b.warned++
		}
		if inOrder {
			b.done.line = e.number
		}
	}
	if inOrder {
		b.done = next.end
	}
	b.progress.add(next.end.bytes, known)
}

func (b *bulk) refuse(e entry, result *client.BatchResult) {
	b.refused++
	if b.refused <= shownRefusals {
		refusal := client.APIError{Status: result.Status, Title: result.Title, Detail: result.Detail, Errors: result.Errors}
		b.progress.note(fmt.Sprintf("%s:%d: %d: %s", b.source.name, e.number, result.Status, refusal.Sentence()))
	}
	if b.refused == shownRefusals+1 {
		b.progress.note("more lines are refused; they are counted")
	}
	b.rejects.keep(e.line)
}

// verdict is the error that the sending ends with, nil if every event was accepted.
func (b *bulk) verdict(ctx context.Context, err error) error {
	again := "the same command again goes on from there, and sends nothing twice"
	switch {
	case b.source.changed():
		again = "but the file changed since, so its lines have other event ids now: send what comes after that line as a file of its own"
	case b.source.hash == "":
		again = "it cannot be read again: send what comes after that line"
	}
	reached := fmt.Sprintf("%s is handed over up to line %d", b.source.name, b.done.line)
	if b.done.line == 0 {
		reached = "not even the first line of " + b.source.name + " is known to be handed over"
	}
	switch {
	case err != nil && ctx.Err() == nil:
		return fmt.Errorf("%w; %s: %s", remedy(err), reached, again)
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted; %s: %s", reached, again)
	case b.source.changed():
		return fmt.Errorf("%s changed while it was sent, so its lines have other event ids the next time: send what was added as a file of its own", b.source.name)
	case b.refused > 0:
		return fmt.Errorf("%d of %d events are refused: have them written to a file by --rejects FILE, correct that one, and send it alone (the whole file, once it is changed, would be sent anew)", b.refused, b.accepted+b.duplicates+b.refused)
	}
	return nil
}

// print says in one line what became of the events.
func (b *bulk) print(out printer, took time.Duration) error {
	seconds := took.Seconds()
	rate := float64(b.accepted) / max(seconds, 0.001)
	if out.json {
		return out.value(map[string]any{
			"accepted": b.accepted, "duplicates": b.duplicates, "refused": b.refused, "warned": b.warned, "up_to_line": b.done.line,
			"seconds": seconds, "accepted_per_second": rate,
		})
	}
	warned := ""
	if b.warned > 0 {
		warned = fmt.Sprintf(" (%d with warnings)", b.warned)
	}
	return out.line("%d accepted%s, %d known already, %d refused in %.1f s (%.0f accepted/s)", b.accepted, warned, b.duplicates, b.refused, seconds, rate)
}
