package httpapi

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher"
)

// A refusal is an error of this package's own making. It knows its answer.
type refusal struct {
	status int
	detail string
	header http.Header // may be nil
	shed   bool        // there is too much to do, for all or for this key: the log counts it
}

func (e *refusal) Error() string { return e.detail }

var (
	errNoSuchPath = &refusal{status: http.StatusNotFound, detail: "there is nothing at this path: /openapi.json and /docs list the paths there are"}
	errNoKey      = &refusal{
		status: http.StatusUnauthorized, detail: "this path needs an API key: send the header Authorization: Bearer KEY",
		header: http.Header{"Www-Authenticate": {`Bearer realm="ringback"`}},
	}
	errBadKey = &refusal{
		status: http.StatusUnauthorized, detail: "the API key is unknown or was revoked: check it, or ask the operator for a new one",
		header: http.Header{"Www-Authenticate": {`Bearer realm="ringback", error="invalid_token"`}},
	}
	// errOldKey says that there was such a key. Only somebody who holds its secret comes to read that.
	errOldKey = &refusal{
		status: http.StatusUnauthorized, detail: "this API key has expired, or was replaced by a new one: use that, or ask the operator for one",
		header: http.Header{"Www-Authenticate": {`Bearer realm="ringback", error="invalid_token"`}},
	}
	errNoSession = &refusal{
		status: http.StatusUnauthorized, detail: "this session is over: log in again",
		header: http.Header{"Www-Authenticate": {`Bearer realm="ringback", error="invalid_token"`}},
	}
	errBadQuery = &refusal{
		status: http.StatusBadRequest, detail: "the query cannot be read: percent-encode what is special in it, a % as %25 and a ; as %3B",
	}
	// errHidden is what a key of one company hears about every other.
	errHidden     = &refusal{status: http.StatusNotFound, detail: "there is no such company for this key"}
	errNoCallback = &refusal{status: http.StatusNotFound, detail: "there is no such callback in this company"}
	errNoRecord   = &refusal{status: http.StatusNotFound, detail: "there is no such event or delivery in this company, or it is no longer kept"}
	errNoReplay   = &refusal{status: http.StatusNotFound, detail: "there is no such replay in this company, or it is no longer kept"}
	errNoLink     = &refusal{status: http.StatusNotFound, detail: "there is no such portal link in this company, or it ended more than a week ago"}
	errNoAddress  = &refusal{status: http.StatusConflict, detail: "this installation does not know the address that its pages are reached at: start it with --public-url https://… (RINGBACK_PUBLIC_URL)"}
	errLinkByLink = &refusal{status: http.StatusForbidden, detail: "whoever came by a portal link makes and sees no others: it takes an API key"}
	errNoCompany  = &refusal{status: http.StatusNotFound, detail: "there is nothing of this company: it was never used, or is erased"}
	errNoType     = &refusal{status: http.StatusNotFound, detail: "there is no such callback type: GET /callback-types lists those there are"}
	// errBuiltinStays is about a type that Ringback comes with.
	errBuiltinStays = &refusal{status: http.StatusConflict, detail: "this callback type comes with Ringback and cannot be deleted"}
	errNoQueue      = &refusal{status: http.StatusNotFound, detail: "there is no such queue: /monitoring/api/queues lists those there are"}
	errPanicked     = errors.New("panic") // the cause is logged where it is caught
	errNotAllSeers  = &refusal{status: http.StatusForbidden, detail: "this is about all companies: it takes a key of all of them, which an operator makes with `ringback keys create --company '*'`"}
	errNoSuchKey    = &refusal{status: http.StatusNotFound, detail: "there is no such API key: GET /keys lists those there are"}
	errOwnKey       = &refusal{status: http.StatusConflict, detail: "this is the key that the request shows, and it would be worthless at once: add own=true to the query if that is meant"}
)

// noType is errNoType, with the names that may have been meant.
func noType(near []string) error {
	if len(near) == 0 {
		return errNoType
	}
	return &refusal{status: errNoType.status, detail: "there is no such callback type; near: " + strings.Join(near, ", ") + "; GET /callback-types lists those there are"}
}

// badRequest refuses a request that cannot be read.
func badRequest(detail string) error {
	return &refusal{status: http.StatusBadRequest, detail: detail}
}

// methodNotAllowed refuses a method that a path does not have.
func methodNotAllowed(method, allow string) error {
	return &refusal{
		status: http.StatusMethodNotAllowed, detail: fmt.Sprintf("%s is not possible here: use %s", method, allow),
		header: http.Header{"Allow": {allow}},
	}
}

// tooOften refuses a request that came too soon.
func tooOften(wait time.Duration, why string) error {
	seconds := max(1, int(math.Ceil(wait.Seconds())))
	return &refusal{
		status: http.StatusTooManyRequests, detail: fmt.Sprintf("%s: try again in %s", why, time.Duration(seconds)*time.Second),
		header: retryIn(seconds),
	}
}

// The details that several errors share.
const (
	busyNow         = "Ringback has more to do at the moment than it can: try again in a moment (an event with the same event_id)"
	busyDetail      = "this is being changed by others at the moment: try again"
	overtakenDetail = "its ETag is none that If-Match names: it was changed meanwhile, or is no longer there, or the ETag was not copied with its quotes. Get it as it is now, and decide again"
	builtinDetail   = "this callback type comes with Ringback and cannot be changed: choose another name"
)

const (
	// retryAfter is what a 503 advises, in seconds: a Redis that restarts or fails over is back after a few of them.
	retryAfter = 2
	// retryAfterFull is what a 503 advises if Redis is nearly full: that takes longer to pass.
	retryAfterFull = 10
)

// retryIn is the header that asks the caller to wait for some seconds.
func retryIn(seconds int) http.Header { return http.Header{"Retry-After": {strconv.Itoa(seconds)}} }

// The refusals of what is no ticket, or one no longer.
var (
	errNoTicket   = &refusal{status: http.StatusNotFound, detail: "there is no such address, or no longer: it ends with its callback, and when the callback's signing secret is rotated"}
	errTicketOver = &refusal{status: http.StatusGone, detail: dispatcher.ErrFetchOver.Error()}
)
