package client

import (
	"cmp"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// An APIError is the server's refusal: a problem (RFC 9457), or any answer that is not 2xx.
type APIError struct {
	Status int        `json:"status"` // the HTTP status; of a line of a batch, the line's
	Title  string     `json:"title"`  // the status in words
	Detail string     `json:"detail"` // a sentence that says what to do; empty if somebody else than Ringback answered
	Errors []FieldErr `json:"errors"` // the fields at fault, with status 422
	// RetryAfter is how long the server asked to wait, zero if it did not.
	RetryAfter time.Duration `json:"-"`
	// RequestID is what the server's log calls the request; empty if somebody else than Ringback answered.
	RequestID string `json:"-"`
	// Decision is about a decision that did not come, see [Client.Ask].
	Decision Undecided `json:"-"`
}

// A FieldErr is what is wrong with one field.
type FieldErr struct {
	Location string `json:"location"`        // such as body.destination.url
	Message  string `json:"message"`         // such as "must be an http or https URL"
	Value    any    `json:"value,omitempty"` // what was given, unless it is secret or long
}

// Error is the refusal as a sentence, with its status, and if the server failed (500, 503) with what its log calls the request.
func (e *APIError) Error() string {
	if (e.Status == http.StatusInternalServerError || e.Status == http.StatusServiceUnavailable) && e.RequestID != "" {
		return fmt.Sprintf("%s (%d, request %s)", e.Sentence(), e.Status, e.RequestID)
	}
	return fmt.Sprintf("%s (%d)", e.Sentence(), e.Status)
}

// Sentence is what is wrong, and where, without the status.
func (e *APIError) Sentence() string {
	said := cmp.Or(e.Detail, "the server answered "+e.Title)
	for _, field := range e.Errors {
		if !strings.Contains(said, field.Message) {
			said += strings.TrimSuffix("; "+field.Location, "; ") + ": " + field.Message
		}
	}
	return said
}

// refusal makes an error of an answer that is not 2xx.
func refusal(resp *http.Response, body []byte) *APIError {
	e := &APIError{}
	if json.Unmarshal(body, e) != nil || json.Unmarshal(body, &e.Decision) != nil {
		*e = APIError{}
	}
	e.Status = resp.StatusCode
	e.Title = cmp.Or(e.Title, http.StatusText(resp.StatusCode), "something unheard of")
	e.RequestID = resp.Header.Get("X-Request-Id")
	e.RetryAfter = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	return e
}

// longestWait bounds what a server may ask for, so that no sum of times overflows. No caller waits so long.
const longestWait = 365 * 24 * time.Hour

// retryAfter reads the header of that name: seconds or a date (RFC 9110, section 10.2.3). Zero if it is neither, [longestWait] at most.
func retryAfter(value string, now time.Time) time.Duration {
	if value != "" && strings.Trim(value, "0123456789") == "" {
		n, _ := strconv.ParseInt(value, 10, 64) // out of range, it is the nearest there is
		return seconds(n)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(0, at.Sub(now)), longestWait)
	}
	return 0
}

// seconds is a number of them as a Duration from zero to [longestWait].
func seconds(n int64) time.Duration {
	return time.Duration(min(max(n, 0), int64(longestWait/time.Second))) * time.Second
}

// An UnreachableError says that the server gave no answer, or only the beginning of one.
type UnreachableError struct {
	Server string // its URL
	Err    error  // what the network said
}

func (e *UnreachableError) Error() string { return fmt.Sprintf("cannot reach %s: %v", e.Server, e.Err) }

// Unwrap returns Err.
func (e *UnreachableError) Unwrap() error { return e.Err }

// unwrapURL takes off what net/http puts around: method and URL, which UnreachableError says shorter.
func unwrapURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// unexpectedError says that an answer of 2xx is none of Ringback's.
type unexpectedError struct{ err error }

func (e *unexpectedError) Error() string {
	return fmt.Sprintf("the server answered something unexpected: is it a Ringback server, and not older than this client? (%v)", e.err)
}

func (e *unexpectedError) Unwrap() error { return e.err }

// temporary reports whether another try may help, and how long the server asked to wait first.
func temporary(err error) (wait time.Duration, ok bool) {
	if e, is := errors.AsType[*APIError](err); is {
		return e.RetryAfter, temporaryStatus(e.Status) || e.underWay()
	}
	if _, is := errors.AsType[*tls.CertificateVerificationError](err); is {
		return 0, false
	}
	_, ok = errors.AsType[*UnreachableError](err)
	return 0, ok
}

// tooSoon reports whether the server did nothing, and asked to come later: a rate limit.
func tooSoon(err error) bool {
	e, is := errors.AsType[*APIError](err)
	return is && e.Status == http.StatusTooManyRequests && e.RetryAfter > 0
}

func temporaryStatus(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// underWay reports whether the same request is under way, and when to come again.
func (e *APIError) underWay() bool { return e.Status == http.StatusConflict && e.RetryAfter > 0 }
