package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// admit decides whether a request may pass. It returns the caller, or the reason why not. It reads the headers and the path, no more.
func (s *server) admit(r *http.Request, n need) (registry.Caller, error) {
	c, err := s.callerFrom(r)
	if err != nil {
		return registry.Caller{}, err
	}
	if err := n.permits(c.Key, r.PathValue("company")); err != nil {
		return registry.Caller{}, err
	}
	if err := validPath(r, n); err != nil {
		return registry.Caller{}, err
	}
	return c, s.paced(r, c.Key)
}

// callerFrom finds out who a request comes from. Pages of this process have looked already, and say so in the request's context ([registry.WithCaller]).
// Whoever comes from the network shows an API key. No cookie is read.
func (s *server) callerFrom(r *http.Request) (registry.Caller, error) {
	if c, ok := registry.CallerOf(r.Context()); ok {
		admitted(r.Context())
		return c, nil
	}
	presented, err := bearer(r.Header)
	if err != nil {
		return registry.Caller{}, err
	}
	key, err := s.authenticate(r, presented)
	if err != nil {
		return registry.Caller{}, err
	}
	return registry.Caller{Key: key, Holds: s.Keys.Holds(presented)}, nil
}

// paced holds a key to its rate limit, which counts the requests that may change something.
func (s *server) paced(r *http.Request, key registry.Key) error {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil
	}
	wait, err := s.Keys.Take(r.Context(), key)
	if err != nil || wait == 0 {
		return err
	}
	return tooOften(wait, fmt.Sprintf("this API key may make %g changes a second, and %d at once", key.Limit(), registry.Burst(key.Limit())))
}

// admissionKey is where a connection's context holds the function of [OnAdmission].
type admissionKey struct{}

// OnAdmission returns a context for a connection. When a request of the connection shows a good key, or a session that holds, it calls admitted. Several
// requests may call admitted at the same time, and each does.
func OnAdmission(ctx context.Context, admitted func()) context.Context {
	return context.WithValue(ctx, admissionKey{}, admitted)
}

// admitted tells a request's connection that its caller is known.
func admitted(ctx context.Context) {
	if tell, ok := ctx.Value(admissionKey{}).(func()); ok {
		tell()
	}
}

// authenticate finds out whose key it is. If an address has presented many unknown keys, it has to wait before the next unknown one. A known
// key passes at once.
func (s *server) authenticate(r *http.Request, presented string) (key registry.Key, err error) {
	defer func() { s.refused.note(r.Context(), err) }() //nolint:contextcheck // it is the request's
	from := sourceOf(r)
	if wait := s.Guesses.wait(from); wait > 0 {
		stored, err := s.Keys.Stored(r.Context(), presented)
		if err != nil {
			return registry.Key{}, err
		}
		if !stored {
			return registry.Key{}, tooOften(wait, "too many wrong API keys come from this address")
		}
	}
	key, err = s.Keys.Authenticate(r.Context(), presented)
	switch {
	case errors.Is(err, registry.ErrExpired):
		return registry.Key{}, errOldKey
	case errors.Is(err, registry.ErrUnauthorized):
		s.Guesses.note(from)
		return registry.Key{}, errBadKey
	}
	if err == nil {
		admitted(r.Context())
	}
	return key, err
}

// bearer takes the key from the Authorization header (RFC 6750, section 2.1).
func bearer(h http.Header) (string, error) {
	scheme, key, _ := strings.Cut(h.Get("Authorization"), " ")
	key = strings.TrimSpace(key)
	if !strings.EqualFold(scheme, "Bearer") || key == "" {
		return "", errNoKey
	}
	return key, nil
}

// validPath checks the names in a path. A malformed company is the caller's mistake, and 422. Any other malformed name names nothing, and is 404.
func validPath(r *http.Request, n need) error {
	if company := r.PathValue("company"); company != "" && (!n.anywhere || company != registry.AllCompanies) && !payloads.ValidCompany(company) {
		return &payloads.InvalidError{Fields: []payloads.FieldError{{
			Location: "path.company", Message: "must be 1 to 64 of A-Z a-z 0-9 _ . - and not . or ..", Value: company,
		}}}
	}
	if id := r.PathValue("callback_id"); id != "" && !isCallbackID(id) {
		return errNoCallback
	}
	if id := r.PathValue("event_id"); id != "" && !payloads.ValidEventID(id) {
		return errNoRecord
	}
	if id := r.PathValue("link_id"); id != "" && !linkID.MatchString(id) {
		return errNoLink
	}
	if id := r.PathValue("replay_id"); id != "" && !replayID.MatchString(id) {
		return errNoReplay
	}
	return nil
}

// replayID is the form of a replay's id. No other name gets into a key in Redis.
var replayID = regexp.MustCompile(`^rpl_[a-z0-9]{1,64}$`)

// linkID is the form of a portal link's id.
var linkID = regexp.MustCompile(`^lnk_[a-z0-9]{1,64}$`)

// isCallbackID wants an id as it is written: no sign, no leading zero. So a callback has one address.
func isCallbackID(s string) bool {
	id, err := strconv.ParseInt(s, 10, 64)
	return err == nil && id > 0 && strconv.FormatInt(id, 10) == s
}
