package httpapi

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/registry"
)

// listed are the API keys that an actor sees, page by page.
func (h *house) listed(actor, query string) (all []shownKey, text string) {
	h.t.Helper()
	for cursor := ""; ; {
		var page keyPage
		body := h.call(actor, "GET", "/keys?limit=3&cursor="+cursor+query, "").want(http.StatusOK).body
		h.must(json.Unmarshal(body, &page))
		all, text = append(all, page.Keys...), text+string(body)
		if cursor = page.NextCursor; cursor == "" {
			return all, text
		}
	}
}

// Operators see the keys that their own covers, each once, and nothing that would open a door.
func TestKeysAreListed(t *testing.T) {
	h := newHouse(t)
	all, text := h.listed("operator", "")
	seen := map[string]shownKey{}
	for _, k := range all {
		if _, twice := seen[k.ID]; twice {
			t.Errorf("%s is listed twice", k.ID)
		}
		seen[k.ID] = k
	}
	for actor, secret := range h.keys {
		if k := seen[secret[:12]]; k.Role != actors[actor].Role || k.Company != actors[actor].Company || k.CreatedAt.IsZero() {
			t.Errorf("the %s's key is listed as %+v", actor, k)
		}
		sum := sha256.Sum256([]byte(secret))
		if strings.Contains(text, secret) || strings.Contains(text, hex.EncodeToString(sum[:])) {
			t.Errorf("the list gives the %s's secret away, or its digest", actor)
		}
	}
	if len(all) != len(h.keys) || seen[h.keys["operator"][:12]].LastUsedAt.IsZero() || !seen[h.keys["viewer"][:12]].LastUsedAt.IsZero() {
		t.Errorf("%d keys, want %d; the operator's was used, the viewer's was not: %s", len(all), len(h.keys), text)
	}
	for _, tt := range []struct {
		actor, query, company string
		keys                  int
	}{{"operator", "&company=acme", "acme", 4}, {"operator", "&company=*", "*", 3}, {"acme operator", "", "acme", 4}, {"other operator", "&company=other", "other", 4}} {
		some, _ := h.listed(tt.actor, tt.query)
		if len(some) != tt.keys {
			t.Errorf("the %s sees %d keys with %q, want %d", tt.actor, len(some), tt.query, tt.keys)
		}
		for _, k := range some {
			if k.Company != tt.company {
				t.Errorf("the %s sees %+v with %q", tt.actor, k, tt.query)
			}
		}
	}
	for _, company := range []string{"other", "*"} {
		h.call("acme operator", "GET", "/keys?company="+url.QueryEscape(company), "").wantProblem(http.StatusNotFound)
	}
	for _, cursor := range []string{"x", "MTIz", "eC95"} {
		h.call("operator", "GET", "/keys?cursor="+cursor, "").wantProblem(http.StatusUnprocessableEntity)
	}
}

// A key that was rotated is one key, and says how long the secret before works.
func TestRotatedKeysAreListedOnce(t *testing.T) {
	h := newHouse(t)
	rate := 5.0
	_, k, err := h.api.Keys.CreateBound(t.Context(), registry.Partner, "acme", registry.Terms{ExpiresIn: 240 * time.Hour, RateLimit: &rate})
	h.must(err)
	_, _, err = h.api.Keys.Rotate(t.Context(), k.ID, time.Hour)
	h.must(err)
	all, _ := h.listed("acme operator", "")
	var found []shownKey
	for _, shown := range all {
		if shown.ID == k.ID {
			found = append(found, shown)
		}
	}
	if len(found) != 1 || found[0].ExpiresAt.Sub(found[0].CreatedAt) != 240*time.Hour || found[0].ReplacedUntil.Sub(found[0].CreatedAt) != time.Hour || found[0].RateLimit != rate {
		t.Errorf("%+v", found)
	}
}

// An operator revokes what its key covers. What it may not see is as what there is not, and its own key takes a second word.
func TestKeysAreRevoked(t *testing.T) {
	h := newHouse(t)
	id := func(actor string) string { return h.keys[actor][:12] }
	for _, key := range []string{id("operator"), id("other partner"), "rbk_nobodys"} {
		for _, asks := range []answer{h.call("acme operator", "DELETE", "/keys/"+key+"?own=true", ""), h.call("acme operator", "GET", "/keys/"+key, "")} {
			if p := asks.wantProblem(http.StatusNotFound); p.Detail != errNoSuchKey.detail {
				t.Error(p.Detail)
			}
		}
	}
	h.call("partner", "GET", "/caller", "").want(http.StatusOK)
	if k := h.call("acme operator", "GET", "/keys/"+id("partner"), "").want(http.StatusOK).json(); k["id"] != id("partner") || k["role"] != "partner" || k["company"] != "acme" {
		t.Errorf("%v", k)
	}
	got := h.during(func() { h.call("acme operator", "DELETE", "/keys/"+id("partner"), "").want(http.StatusNoContent) })
	if len(got) != 1 || got[0].Actor != id("acme operator") || got[0].Object != "keys/"+id("partner") || got[0].Company != "acme" {
		t.Errorf("the trail says %+v", got)
	}
	h.call("partner", "GET", "/caller", "").wantProblem(http.StatusUnauthorized)
	h.call("acme operator", "DELETE", "/keys/"+id("partner"), "").wantProblem(http.StatusNotFound)

	// A session's caller may do what its key may.
	session := registry.Caller{Key: registry.Key{ID: id("operator"), Role: registry.Operator, Company: registry.AllCompanies}}
	h.as(session, "DELETE", "/keys/"+id("viewer"), "").want(http.StatusNoContent)
	for _, asks := range []answer{h.as(session, "DELETE", "/keys/"+id("operator"), ""), h.call("operator", "DELETE", "/keys/"+id("operator")+"?own=false", "")} {
		if p := asks.wantProblem(http.StatusConflict); !strings.Contains(p.Detail, "own=true") {
			t.Error(p.Detail)
		}
	}
	h.call("operator", "DELETE", "/keys/"+id("operator")+"?own=true", "").want(http.StatusNoContent)
	h.call("operator", "GET", "/keys", "").wantProblem(http.StatusUnauthorized)
}
