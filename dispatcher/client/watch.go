package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
)

const (
	// silence is how long a stream may say nothing. The server says something every 15 s.
	silence = 45 * time.Second
	// comeBackIn is how long to wait after a stream's end, unless it says so itself.
	comeBackIn = 2 * time.Second
	// maxMessage bounds a line of a stream: a delivery with all its attempts stays far below.
	maxMessage = 4 << 20
)

// A WatchQuery selects what [Client.Watch] hears of. The zero value is every change of the company's deliveries from now on.
type WatchQuery struct {
	States     []string
	CallbackID int64
	EventType  string
	After      string // the Place of the last change that an earlier watch told of, to go on behind it
	// Begun is called once, when changes are told from then on. at is when that is by the server's clock, in whole seconds; zero: it does not say.
	Begun func(at time.Time)
}

// A Change is a delivery that changed: an attempt ended, or its state changed without one. Or it is a gap.
type Change struct {
	Place    string    // for WatchQuery.After
	Gap      bool      // more was missed than is known: [Client.Deliveries] has how they stand
	Delivery *Delivery // as it stands; nil with a gap. Its Raw is set
}

// Watch tells each change of a company's deliveries as it happens, until ctx ends or the server refuses. Where the connection breaks, it goes on behind the
// last change, and begins again for as long as it takes; the first time, a server that is away is waited for as by every other method.
func (c *Client) Watch(ctx context.Context, company string, q WatchQuery) iter.Seq2[*Change, error] {
	return func(yield func(*Change, error) bool) {
		s := &subscription{c: c, company: company, query: q, pauses: c.pauses(), yield: yield}
		for {
			err := s.listen(ctx)
			switch {
			case s.left:
				return
			case ctx.Err() != nil:
				yield(nil, c.interrupted(ctx))
				return
			}
			wait, ok := s.next(err)
			if !ok {
				yield(nil, err)
				return
			}
			c.onRepeat(err, wait)
			if !sleep(ctx, wait) {
				yield(nil, c.interrupted(ctx))
				return
			}
		}
	}
}

// A subscription is one watch over all its connections.
type subscription struct {
	c       *Client
	company string
	query   WatchQuery // After is where it stands
	yield   func(*Change, error) bool
	left    bool // the caller wants no more

	pauses *pauses                     // before the first connection
	again  *backoff.ExponentialBackOff // between connections; nil: there was none yet
	soon   time.Duration               // how long to wait after a stream that ended well
}

// errEnded says that the server ended a stream: it does so when it ends itself.
var errEnded = errors.New("the stream has ended")

// next is how long to wait until the next connection; false if there must be none.
func (s *subscription) next(err error) (time.Duration, bool) {
	if s.again == nil {
		return s.pauses.next(err)
	}
	asked, ok := temporary(err)
	if errors.Is(err, errEnded) {
		asked = s.soon
	}
	return max(asked, s.again.NextBackOff()), ok
}

// listen opens a stream and tells what comes, until it ends.
func (s *subscription) listen(parent context.Context) error {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	silent := time.AfterFunc(attemptTimeout, cancel)
	defer silent.Stop()
	target, err := s.c.target(request{path: []string{"companies", s.company, "deliveries", "stream"}, query: query("state", strings.Join(s.query.States, ","),
		"callback_id", number(s.query.CallbackID), "event_type", s.query.EventType, "last_event_id", s.query.After)})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+s.c.key)
	req.Header.Set("Accept", "text/event-stream, application/problem+json")
	req.Header.Set("User-Agent", s.c.userAgent)
	resp, err := s.c.http.Do(req)
	if err == nil {
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode/100 != 2 {
			return read(resp, nil)
		}
		if s.again == nil && s.query.Begun != nil {
			at, _ := http.ParseTime(resp.Header.Get("Date")) // zero if it does not say
			s.query.Begun(at)
		}
		s.again = backoff.NewExponentialBackOff(backoff.WithInitialInterval(200*time.Millisecond), backoff.WithMaxInterval(5*time.Second), backoff.WithMaxElapsedTime(0))
		s.soon = comeBackIn
		err = s.take(resp.Body, func() { silent.Reset(silence) })
	}
	if _, is := err.(*unexpectedError); is || s.left { //nolint:errorlint // take makes it, and wraps nothing in it
		return err
	}
	if ctx.Err() != nil && parent.Err() == nil {
		err = errors.New("the server says nothing any more")
	}
	return &UnreachableError{Server: s.c.server.String(), Err: unwrapURL(err)}
}

// take reads messages until the stream or the caller ends. It calls heard for each line.
func (s *subscription) take(body io.Reader, heard func()) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 64<<10), maxMessage)
	event, data, id := "", "", s.query.After
	for lines.Scan() {
		heard()
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "event":
			event = value
		case "data":
			data = value
		case "id":
			id = value // it counts once its message is whole
		case "retry":
			if ms, err := strconv.Atoi(value); err == nil {
				s.soon = time.Duration(ms) * time.Millisecond
			}
		default:
			if lines.Text() != "" { // a comment, or what a server to come says
				continue
			}
			s.query.After = id
			if err := s.tell(event, data); err != nil || s.left {
				return err
			}
			event, data = "", ""
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return errEnded
}

// tell hands a message on, if it is one.
func (s *subscription) tell(event, data string) error {
	change := &Change{Place: s.query.After}
	switch event {
	case "gap":
		change.Gap = true
	case "delivery":
		change.Delivery = new(Delivery)
		if err := json.Unmarshal([]byte(data), change.Delivery); err != nil {
			return &unexpectedError{err}
		}
		change.Delivery.keep(json.RawMessage(data))
	default:
		return nil
	}
	s.left = !s.yield(change, nil)
	return nil
}
