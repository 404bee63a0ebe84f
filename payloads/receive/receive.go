package receive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/ringback/ringback/payloads"
)

// ErrUnsubscribe is what a function returns, wrapped or not, to have no more deliveries: the answer is 410, and Ringback disables the callback.
var ErrUnsubscribe = errors.New("no more deliveries, please")

const (
	// defaultMaxBody is the longest body that Ringback makes: that of a form.
	defaultMaxBody = 4 << 20
	// defaultMemory is how many deliveries are remembered where Config.Once is nil: a good day's work in some 10 MB.
	defaultMemory = 100_000
)

// Config says whom a [Handler] believes, and what it remembers. Either Secrets or Keys must be there.
type Config struct {
	// Secrets are the callback's signing secrets, as Ringback shows them, whsec_…, or as you gave it one. Give the new and the old one while you change from one to the
	// other.
	Secrets []string

	// Keys gives the public keys of callbacks that sign with ed25519: [JWKS.Keys]. Nil: such signatures do not count.
	Keys PublicKeys

	// Once keeps deliveries from being handled twice. Nil: a Memory of the last 100,000 deliveries, which forgets with the process.
	Once Once

	// MaxBody is how many bytes a body may have. Zero: 4 MiB, the most that Ringback makes of a payload by default. A batch that is longer comes again in
	// halves.
	MaxBody int64

	// Log gets a line about each delivery that is not handled. Nil: slog's default.
	Log *slog.Logger
}

// Handler receives deliveries over HTTP. It may be used by many goroutines at once. Register functions with [On] before it serves.
type Handler struct {
	trust   trust
	once    Once
	maxBody int64
	log     *slog.Logger

	mu     sync.RWMutex
	routes map[string]route // by event type, or "*"
}

// route handles the deliveries of a type. prepare reads the payload, and returns what handles it.
type route func(d Delivery) (handle func(context.Context) error, err error)

// New makes a Handler.
func New(config Config) (*Handler, error) {
	h := &Handler{trust: trust{keys: config.Keys}, once: config.Once, maxBody: config.MaxBody, log: config.Log, routes: map[string]route{}}
	for i, text := range config.Secrets {
		secret, err := payloads.StyleStandard.ParseSecret(text)
		if err != nil {
			return nil, fmt.Errorf("secret %d of %d: %w", i+1, len(config.Secrets), err)
		}
		h.trust.secrets = append(h.trust.secrets, secret)
	}
	if len(h.trust.secrets) == 0 && h.trust.keys == nil {
		return nil, errors.New("there is nothing to verify signatures with: give Secrets the callback's signing secret, or Keys where its public keys are")
	}
	if h.maxBody < 0 {
		return nil, errors.New("MaxBody is below zero: leave it out for 4 MiB")
	}
	if h.maxBody == 0 {
		h.maxBody = defaultMaxBody
	}
	if h.once == nil {
		h.once = NewMemory(defaultMemory)
	}
	if h.log == nil {
		h.log = slog.Default()
	}
	return h, nil
}

// ServeHTTP receives one attempt of a delivery, or of a batch of them, and answers as the package's comment says.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s, body, ok := h.admit(w, r)
	if !ok {
		return
	}
	if s.isBatch(r.Header) {
		h.serveBatch(w, r, s, body)
		return
	}
	d, err := newDelivery(s, r.Header, body)
	if err != nil {
		http.Error(w, "the body is no form of Ringback's", http.StatusBadRequest)
		return
	}
	if token := d.challenge(); token != nil {
		w.Header().Set("Content-Type", payloads.ContentTypeJSON)
		_, _ = w.Write(token) //nolint:gosec // JSON, and said so, to who knows the signing secret
		return
	}
	answer(w, h.deal(r.Context(), d))
}

// answer answers with a status that deal returned.
func answer(w http.ResponseWriter, status int) {
	if status != http.StatusNoContent {
		http.Error(w, saying[status], status)
		return
	}
	w.WriteHeader(status)
}

// deal has a delivery handled by the function that takes its type, and says how to answer it.
func (h *Handler) deal(ctx context.Context, d Delivery) int {
	handle, status := h.prepare(ctx, d)
	if status != 0 {
		return status
	}
	return h.handle(ctx, d, handle)
}

// serveBatch has each delivery of a batch handled, in their order, and answers for all of them, or for each.
func (h *Handler) serveBatch(w http.ResponseWriter, r *http.Request, s signed, body []byte) {
	all, err := newBatch(s, r.Header, body)
	if err != nil {
		h.log.ErrorContext(r.Context(), "a batch could not be read", "delivery", s.id, "error", err)
		http.Error(w, errNoBatch.Error(), http.StatusBadRequest)
		return
	}
	statuses := h.each(r.Context(), all)
	taken := func(status int) bool { return status == http.StatusNoContent }
	failed := slices.IndexFunc(statuses, func(status int) bool { return !taken(status) })
	switch {
	case failed < 0:
		w.WriteHeader(http.StatusNoContent)
	case statuses[len(statuses)-1] == http.StatusGone:
		answer(w, http.StatusGone)
	case r.Header.Get(headerResults) != "" && all[0].name != "" && slices.ContainsFunc(statuses, taken):
		w.Header().Set("Content-Type", payloads.ContentTypeJSON)
		_, _ = w.Write(results(all, statuses))
	default:
		answer(w, statuses[failed])
	}
}

// each has the deliveries handled one after the other, and says how each would be answered. If a function wants no more, that delivery is the last. Once
// nobody waits for the answer, no further one is begun.
func (h *Handler) each(ctx context.Context, all []Delivery) (statuses []int) {
	for _, d := range all {
		status := http.StatusInternalServerError
		if ctx.Err() == nil {
			status = h.deal(ctx, d)
		}
		if statuses = append(statuses, status); status == http.StatusGone {
			break
		}
	}
	return statuses
}

// saying is the text of answers that are not 204.
var saying = map[int]string{
	http.StatusNotImplemented:      "nothing here takes events of this type",
	http.StatusInternalServerError: "the delivery was not handled",
	http.StatusGone:                "no more deliveries, please",
}

// Verified lets only requests through to next that verify, with their body as it arrived; it answers the others itself. It is for what next has to
// answer by itself, such as a decision. It does not know what was handled before.
func (h *Handler) Verified(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, body, ok := h.admit(w, r)
		if !ok {
			return
		}
		r = r.Clone(r.Context())
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		next.ServeHTTP(w, r)
	})
}

// admit reads and verifies a request, or answers it. Headers without a signature are refused before the body is read.
func (h *Handler) admit(w http.ResponseWriter, r *http.Request) (signed, []byte, bool) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "deliveries come by POST", http.StatusMethodNotAllowed)
		return signed{}, nil, false
	}
	s, err := readSigned(r.Header)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return signed{}, nil, false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.maxBody))
	if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
		http.Error(w, fmt.Sprintf("the body is longer than %d bytes", h.maxBody), http.StatusRequestEntityTooLarge)
		return signed{}, nil, false
	}
	if err != nil {
		http.Error(w, "the body could not be read", http.StatusBadRequest)
		return signed{}, nil, false
	}
	switch err := s.verify(r.Context(), h.trust, r.Header, body, time.Now()); {
	case err == nil:
		return s, body, true
	case isRefusal(err):
		http.Error(w, err.Error(), http.StatusUnauthorized)
	default:
		h.log.ErrorContext(r.Context(), "a delivery was not verified", "delivery", s.id, "error", err)
		http.Error(w, "the public keys could not be fetched", http.StatusServiceUnavailable)
	}
	return signed{}, nil, false
}

func isRefusal(err error) bool {
	_, ok := errors.AsType[*payloads.VerifyError](err)
	return ok
}

// prepare finds what handles a delivery, or the status that says why nothing does.
func (h *Handler) prepare(ctx context.Context, d Delivery) (func(context.Context) error, int) {
	h.mu.RLock()
	take, ok := h.routes[d.EventType]
	if !ok {
		take, ok = h.routes["*"]
	}
	h.mu.RUnlock()
	if !ok {
		said := "nothing takes events of this type"
		if d.EventType == "" {
			said = `a delivery does not say its type, and no function takes "*": those of a batch say it if the callback has element: envelope`
		}
		h.log.ErrorContext(ctx, said, "delivery", d.ID, "event_type", d.EventType)
		return nil, http.StatusNotImplemented
	}
	handle, err := take(d)
	if err != nil {
		h.log.ErrorContext(ctx, "a payload does not fit its function's argument", "delivery", d.ID, "event_type", d.EventType, "error", err)
		return nil, http.StatusInternalServerError
	}
	return handle, 0
}

// handle has the delivery handled, once, and says how to answer it. A test's payload is an example, which nobody must act on.
func (h *Handler) handle(ctx context.Context, d Delivery, handle func(context.Context) error) (status int) {
	if d.test {
		return http.StatusNoContent
	}
	defer func() {
		if p := recover(); p != nil {
			h.log.ErrorContext(ctx, "a delivery's function panicked", "delivery", d.ID, "event_type", d.EventType, "panic", p, "stack", string(debug.Stack()))
			status = http.StatusInternalServerError
		}
	}()
	switch err := h.once.Do(ctx, d.ID, handle); {
	case err == nil:
		return http.StatusNoContent
	case errors.Is(err, ErrUnsubscribe):
		return http.StatusGone
	default:
		h.log.ErrorContext(ctx, "a delivery was not handled", "delivery", d.ID, "event_type", d.EventType, "attempt", d.Attempt, "error", err)
		return http.StatusInternalServerError
	}
}
