package httpapi

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/registry"
)

// as makes a request in somebody's name, as a page of this process does: with no header of its own.
func (h *house) as(c registry.Caller, method, path, body string) answer {
	h.t.Helper()
	r := httptest.NewRequestWithContext(registry.WithCaller(h.t.Context(), c), method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", mediaJSON)
	}
	return h.do(r)
}

// Whoever a page of this process has looked at needs no API key, and may do what the key says: no more, and no more often.
func TestACallerInTheContextIsAuthenticated(t *testing.T) {
	h := newHouse(t)
	limit := 0.01
	key := registry.Key{ID: "lnk_one", Role: registry.Partner, Company: "acme", RateLimit: &limit}
	partner := registry.Caller{Key: key}
	h.as(partner, "GET", "/companies/acme/config/callbacks", "").want(http.StatusOK)
	h.as(partner, "GET", "/companies/other/config/callbacks", "").wantProblem(http.StatusNotFound)
	h.as(partner, "GET", "/egress", "").wantProblem(http.StatusForbidden)
	h.as(partner, "GET", "/metrics", "").wantProblem(http.StatusForbidden)
	const body = `{"callback_type":"payment_proof","destination":{"url":"http://127.0.0.1:9/"}}`
	h.as(partner, "POST", "/companies/acme/config/callbacks", body).want(http.StatusCreated)
	h.as(partner, "POST", "/companies/acme/config/callbacks", body).wantProblem(http.StatusTooManyRequests)
}

// What takes long asks Holds whether its caller is still good, whether that showed a key or came from a page.
func TestAnOperationKnowsItsCaller(t *testing.T) {
	h := newHouse(t)
	var got registry.Caller
	register(h.api, operation{need: readTypes, Operation: huma.Operation{OperationID: "probe", Method: http.MethodGet, Path: "/probe"}},
		func(ctx context.Context, _ *struct{}) (*noContent, error) {
			got, _ = registry.CallerOf(ctx)
			return nil, nil
		})
	h.call("viewer", "GET", "/probe", "").want(http.StatusNoContent)
	if got.Key.Role != registry.Viewer || got.Holds(t.Context()) != nil {
		t.Errorf("%+v, holds: %v", got.Key, got.Holds(t.Context()))
	}
	h.must(h.api.Keys.Revoke(t.Context(), got.Key.ID))
	if err := got.Holds(t.Context()); !errors.Is(err, registry.ErrUnauthorized) {
		t.Errorf("after its key was revoked: %v", err)
	}
	refused := errors.New("refused")
	h.as(registry.Caller{Key: registry.Key{ID: "lnk_one", Role: registry.Viewer, Company: "acme"}, Holds: func(context.Context) error { return refused }}, "GET", "/probe", "")
	if got.Key.ID != "lnk_one" || !errors.Is(got.Holds(t.Context()), refused) {
		t.Errorf("%+v", got.Key)
	}
}
