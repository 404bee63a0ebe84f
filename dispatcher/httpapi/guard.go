package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// need says what a key must be for an operation.
type need struct {
	roles []registry.Role
	// everywhere asks for a key of all companies, where an answer is about all of them.
	everywhere bool
}

// Who may do what (api.md). An operator does all of it.
var (
	// Partners look after their callbacks; viewers look at them. A producer has no business with them.
	manageCallbacks = need{roles: []registry.Role{registry.Operator, registry.Partner}}
	readCallbacks   = need{roles: []registry.Role{registry.Operator, registry.Partner, registry.Viewer}}
	// Producers send events. What became of one is for all to read.
	sendEvents = need{roles: []registry.Role{registry.Operator, registry.Producer}}
	readFates  = need{roles: []registry.Role{registry.Operator, registry.Producer, registry.Partner, registry.Viewer}}
	// Partners replay and cancel what is theirs to receive.
	steerDeliveries = need{roles: []registry.Role{registry.Operator, registry.Partner}}
	readTypes       = readFates
	// Whoever sends events may take them back; to erase a company is the operator's.
	eraseEvents = sendEvents
	// Who changed what is for those who may change something.
	readAudit      = manageCallbacks
	eraseCompanies = need{roles: []registry.Role{registry.Operator}}
	// Types are the same for all companies.
	manageTypes = need{roles: []registry.Role{registry.Operator}, everywhere: true}
	// So is everything that goes out.
	manageEgress = manageTypes
	// A company's own operator reads its quotas. Quotas bound companies, so who sets them is none of them.
	readQuotas   = eraseCompanies
	manageQuotas = manageTypes
	watch        = need{roles: []registry.Role{registry.Operator, registry.Viewer}, everywhere: true}
)

// admit decides whether a request may pass: whose key it is, or the reason why not. It reads the headers and the path, no more.
func (s *server) admit(r *http.Request, n need) (registry.Key, error) {
	presented, err := bearer(r.Header)
	if err != nil {
		return registry.Key{}, err
	}
	key, err := s.authenticate(r, presented)
	if err != nil {
		return registry.Key{}, err
	}
	if err := n.permits(key, r.PathValue("company")); err != nil {
		return registry.Key{}, err
	}
	if err := validPath(r); err != nil {
		return registry.Key{}, err
	}
	return key, s.paced(r, key)
}

// paced holds a key to its rate limit, which counts whatever may change something.
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

// admissionKey is where a connection's context holds what wants to hear of its admission.
type admissionKey struct{}

// OnAdmission is a context of a connection whose requests call admitted when one shows a key that is good. It may be called often, and at once.
func OnAdmission(ctx context.Context, admitted func()) context.Context {
	return context.WithValue(ctx, admissionKey{}, admitted)
}

// authenticate finds out whose key it is. An address that has presented many unknown ones has to wait with the next, but a key that there is
// passes at once.
func (s *server) authenticate(r *http.Request, presented string) (registry.Key, error) {
	from := sourceOf(r)
	if wait := s.guesses.wait(from); wait > 0 {
		stored, err := s.Keys.Stored(r.Context(), presented)
		if err != nil {
			return registry.Key{}, err
		}
		if !stored {
			return registry.Key{}, tooOften(wait, "too many wrong API keys come from this address")
		}
	}
	key, err := s.Keys.Authenticate(r.Context(), presented)
	switch {
	case errors.Is(err, registry.ErrExpired):
		return registry.Key{}, errOldKey
	case errors.Is(err, registry.ErrUnauthorized):
		s.guesses.note(from)
		return registry.Key{}, errBadKey
	}
	if admitted, ok := r.Context().Value(admissionKey{}).(func()); ok && err == nil {
		admitted()
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

// permits judges a known key: first what it may see, then what it may do. company is empty where the path names none.
func (n need) permits(key registry.Key, company string) error {
	if company != "" && !key.Covers(company) {
		return errHidden
	}
	if !slices.Contains(n.roles, key.Role) {
		return n.wrongRole(key.Role)
	}
	if n.everywhere && key.Company != "*" {
		return errNotAllSeers
	}
	return nil
}

func (n need) wrongRole(role registry.Role) error {
	var able []string
	for _, r := range n.roles {
		able = append(able, string(r))
	}
	return &refusal{
		status: http.StatusForbidden,
		detail: fmt.Sprintf("a %s key may not do this: it takes the role %s", role, strings.Join(able, " or ")),
	}
}

// validPath checks the names in a path: a company's is a matter of form, anything else that cannot be a name names nothing.
func validPath(r *http.Request) error {
	if company := r.PathValue("company"); company != "" && !payloads.ValidCompany(company) {
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
	if id := r.PathValue("replay_id"); id != "" && !replayID.MatchString(id) {
		return errNoReplay
	}
	return nil
}

// replayID is what replays are called: another name is no part of a key.
var replayID = regexp.MustCompile(`^rpl_[a-z0-9]{1,64}$`)

// isCallbackID wants an id as it is written, so that a callback has one address: no sign, no leading zero.
func isCallbackID(s string) bool {
	id, err := strconv.ParseInt(s, 10, 64)
	return err == nil && id > 0 && strconv.FormatInt(id, 10) == s
}

// guard admits requests to an operation of the API, and no more of a key at a time than it may have.
func (s *server) guard(n need) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(ctx)
		key, err := s.admit(r, n)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		v, err := s.door.enter(key.ID)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		defer v.leave()
		known := context.WithValue(context.WithValue(registry.WithActor(ctx.Context(), key.ID), callerKey{}, key), visiting{}, v)
		if key.Role != registry.Partner { // partners choose names, and must not learn by trying which of them are known inside
			known = dispatcher.Unmasked(known)
		}
		next(huma.WithContext(ctx, known))
	}
}

// guarded admits requests to a handler that is none of the API's operations.
func (s *server) guarded(n need, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := s.admit(r, n); err != nil {
			s.refuse(w, r, err)
			return
		}
		h.ServeHTTP(w, r)
	})
}
