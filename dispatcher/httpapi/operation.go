package httpapi

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// An operation is one method of one path: its description, the keys that may use it, and the body that it takes.
type operation struct {
	huma.Operation
	need need
	// bounds say how a bounded caller is kept to its bounds. Those of an operation that says nothing are refused.
	bounds bounds
	// patience is how long the answer may take, if that is longer than the server allows others. 0: it is not.
	patience time.Duration
	// long says that the operation may take Redis many seconds. It has a place among its kind.
	long bool
	// paged says that the operation works page by page, and takes a place for each page.
	paged bool
	// stream says that the answer has no end. It needs no place.
	stream bool
	// attributes says that match attributes of callback types are parameters, too.
	attributes bool
	// also documents a second status of success, for the same answer.
	also map[int]string
	// repeats say what becomes of a POST that is repeated with its Idempotency-Key.
	repeats repeats
	// body documents the request's body, which the input's RawBody receives. Nil: no body is read.
	body *body
}

// errorsOf lists the statuses an operation may refuse with. huma adds 500.
func errorsOf(op operation) []int {
	statuses := []int{
		http.StatusBadRequest, http.StatusUnauthorized, http.StatusUnprocessableEntity, // if not for the body, then for the query
		http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable,
	}
	if op.need.everywhere || len(op.need.roles) < len(readFates.roles) {
		statuses = append(statuses, http.StatusForbidden)
	}
	if strings.Contains(op.Path, "{") {
		statuses = append(statuses, http.StatusNotFound)
	}
	if op.body != nil {
		statuses = append(statuses, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	statuses = append(statuses, op.Errors...)
	slices.Sort(statuses)
	return slices.Compact(statuses)
}

// A page is a path whose handler is not one of the API's operations.
type page struct {
	huma.Operation
	mediaType string
	schema    *huma.Schema
	need      *need // nil: open to all
}

// plainText describes an answer that is not JSON.
var plainText = &huma.Schema{Type: huma.TypeString}

// A noContent is the output of operations that answer 204.
type noContent struct{}

// repeats say what becomes of a POST that is repeated with its Idempotency-Key. One that says nothing refuses the header.
type repeats int

const (
	refusesKey repeats = iota
	// actsOnce: the scripts that act note it in the company's place (package once). actsOnceInBulk: they do where replays over companies are.
	actsOnce
	actsOnceInBulk
	// actsAnew: it keeps nothing, and there is nothing to protect.
	actsAnew
	// namesEvent: the key is the event's id, and the rules of events hold.
	namesEvent
)
