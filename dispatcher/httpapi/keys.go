package httpapi

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/registry"
)

// API keys are listed and revoked here, and made on the command line alone: so a key that is lost or stolen makes no others.

const (
	keysRoute = "/keys"
	keyRoute  = keysRoute + "/{key_id}"
)

type (
	keysIn struct {
		Company string `query:"company" doc:"Only keys that are bound to this company; * is those of all companies. A key of one company sees its company's keys alone."`
		Limit   int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
		Cursor  string `query:"cursor"`
	}
	keysOut struct{ Body keyPage }
	keyOut  struct{ Body shownKey }
	keyIn   struct {
		KeyID string `path:"key_id"`
	}
	revokedKeyIn struct {
		KeyID string `path:"key_id"`
		Own   bool   `query:"own" doc:"Revoke it though it is the key that the request shows. Without this, that is refused."`
	}

	keyPage struct {
		Keys       []shownKey `json:"keys"`
		NextCursor string     `json:"next_cursor,omitempty" doc:"Absent on the last page."`
	}
	// shownKey is what is told of an API key.
	shownKey struct {
		ID            string        `json:"id" doc:"Names the key in public: its first characters."`
		Role          registry.Role `json:"role" enum:"operator,producer,partner,viewer"`
		Company       string        `json:"company" doc:"* where it is for all companies."`
		CreatedAt     time.Time     `json:"created_at" doc:"When its secret was made."`
		ExpiresAt     time.Time     `json:"expires_at,omitzero" doc:"Absent where it does not expire. A key that has expired is listed for a week."`
		ReplacedUntil time.Time     `json:"replaced_until,omitzero" doc:"Until then the secret works, too, that it had before it was rotated."`
		LastUsedAt    time.Time     `json:"last_used_at,omitzero" doc:"To a minute. Absent where it was not used."`
		RateLimit     float64       `json:"rate_limit,omitempty" doc:"How many changes a second it may make. Absent: any number."`
	}
)

func (s *server) apiKeys() {
	chapter := []string{"API keys"}
	register(s, operation{need: manageKeys, Operation: huma.Operation{
		OperationID: "list-keys", Method: http.MethodGet, Path: keysRoute, Tags: chapter, Summary: "List API keys",
		Description: "The oldest first, for operators. One of a single company sees that company's keys. The keys themselves are not stored. `ringback keys create` and `ringback keys rotate` make them.",
	}}, s.listKeys)
	register(s, operation{need: manageKeys, Operation: huma.Operation{
		OperationID: "get-key", Method: http.MethodGet, Path: keyRoute, Tags: chapter, Summary: "Show an API key",
	}}, func(ctx context.Context, in *keyIn) (*keyOut, error) {
		k, err := s.keyFor(ctx, in.KeyID)
		return &keyOut{k}, err
	})
	register(s, operation{need: manageKeys, Operation: huma.Operation{
		OperationID: "revoke-key", Method: http.MethodDelete, Path: keyRoute, Tags: chapter, Summary: "Revoke an API key",
		Description: "With all its secrets and all sessions that were begun with it. From then on this process does not take it; others may for a second.",
		Errors:      []int{http.StatusConflict},
	}}, s.revokeKey)
}

func (s *server) listKeys(ctx context.Context, in *keysIn) (*keysOut, error) {
	caller := keyOf(ctx)
	if in.Company == "" && caller.Company != registry.AllCompanies {
		in.Company = caller.Company
	}
	if in.Company != "" && !caller.Covers(in.Company) {
		return nil, errHidden
	}
	after, err := parseKeyCursor(in.Cursor)
	if err != nil {
		return nil, err
	}
	keys, err := s.Keys.List(ctx)
	if err != nil {
		return nil, err
	}
	page := keyPage{Keys: []shownKey{}}
	for _, k := range shownKeys(keys) {
		switch {
		case in.Company != "" && k.Company != in.Company, after.compare(k) >= 0:
		case len(page.Keys) == in.Limit:
			page.NextCursor = keyCursorOf(page.Keys[in.Limit-1])
			return &keysOut{page}, nil
		default:
			page.Keys = append(page.Keys, k)
		}
	}
	return &keysOut{page}, nil
}

// shownKeys are keys, one each, the oldest first. One that was rotated is in the registry's list once for each of its secrets.
func shownKeys(secrets []registry.Key) []shownKey {
	byID := map[string]shownKey{}
	for _, k := range secrets {
		shown, other := byID[k.ID]
		used := shown.LastUsedAt
		if k.LastUsed > 0 && time.Unix(k.LastUsed, 0).After(used) {
			used = time.Unix(k.LastUsed, 0).UTC()
		}
		if k.Replaced && other { // what is there already tells of the secret that replaced this one
			shown.ReplacedUntil = k.ExpiresAt
		} else {
			until := shown.ExpiresAt // of the secret before, if there was one
			shown = shownKey{ID: k.ID, Role: k.Role, Company: k.Company, CreatedAt: k.CreatedAt, ExpiresAt: k.ExpiresAt, RateLimit: k.Limit()}
			if other {
				shown.ReplacedUntil = until
			}
		}
		shown.LastUsedAt = used
		byID[k.ID] = shown
	}
	keys := make([]shownKey, 0, len(byID))
	for _, k := range byID {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b shownKey) int { return keyPlace{a.CreatedAt, a.ID}.compare(b) })
	return keys
}

// A keyPlace is where a key stands in the list.
type keyPlace struct {
	made time.Time
	id   string
}

func (p keyPlace) compare(k shownKey) int {
	return cmp.Or(p.made.Compare(k.CreatedAt), cmp.Compare(p.id, k.ID))
}

func keyCursorOf(k shownKey) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(k.CreatedAt.UnixNano(), 10) + "/" + k.ID))
}

// parseKeyCursor is the place that a cursor names. That of an empty one is before all keys.
func parseKeyCursor(cursor string) (keyPlace, error) {
	if cursor == "" {
		return keyPlace{}, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	made, id, ok := strings.Cut(string(text), "/")
	ns, bad := strconv.ParseInt(made, 10, 64)
	if err != nil || !ok || bad != nil {
		return keyPlace{}, dispatcher.ErrBadCursor
	}
	return keyPlace{time.Unix(0, ns), id}, nil
}

// keyFor is a key that the caller may see. Another one does not exist for it.
func (s *server) keyFor(ctx context.Context, id string) (shownKey, error) {
	keys, err := s.Keys.List(ctx)
	if err != nil {
		return shownKey{}, err
	}
	caller, shown := keyOf(ctx), shownKeys(keys)
	i := slices.IndexFunc(shown, func(k shownKey) bool { return k.ID == id && caller.Covers(k.Company) })
	if i < 0 {
		return shownKey{}, errNoSuchKey
	}
	return shown[i], nil
}

func (s *server) revokeKey(ctx context.Context, in *revokedKeyIn) (*noContent, error) {
	_, err := s.keyFor(ctx, in.KeyID)
	if err != nil {
		return nil, err
	}
	if in.KeyID == keyOf(ctx).ID && !in.Own {
		return nil, errOwnKey
	}
	if err = s.Keys.Revoke(ctx, in.KeyID); errors.Is(err, registry.ErrNotFound) {
		err = errNoSuchKey
	}
	return &noContent{}, err
}
