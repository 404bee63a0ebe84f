package httpapi

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/registry"
)

// TestTermsOfPortalLinks are read whole, shown whole, and hold for whoever comes in. Null is as absent.
func TestTermsOfPortalLinks(t *testing.T) {
	h := newHouse(t)
	h.register("acme")
	h.register("acme")
	const links = "/companies/acme/portal-links"
	a := h.call("operator", "POST", links, `{"expires_in":"90m","session_expires_in":"30m","callback_ids":[2],"read_only":true}`).want(http.StatusCreated)
	made := a.json()
	of := func(doc map[string]any, field string) time.Time {
		t.Helper()
		at, err := time.Parse(time.RFC3339Nano, doc[field].(string))
		h.must(err)
		return at
	}
	list := h.call("operator", "GET", links, "").want(http.StatusOK).json()["portal_links"].([]any)
	for name, doc := range map[string]map[string]any{"made": made, "got": h.call("operator", "GET", a.header.Get("Location"), "").want(http.StatusOK).json(), "listed": list[0].(map[string]any)} {
		if fmt.Sprintf("%v %v %v %v", doc["callback_ids"], doc["read_only"], doc["session_expires_in"], doc["status"]) != "[2] true 30m unused" || of(doc, "expires_at").Sub(of(doc, "created_at")) != 90*time.Minute {
			t.Errorf("%s: %v", name, doc)
		}
		if doc["used_at"] != nil || doc["session_expires_at"] != nil {
			t.Errorf("%s: nobody opened it: %v", name, doc)
		}
	}
	c, id := h.opened(`{"session_expires_in":"30m","callback_ids":[2],"read_only":true}`)
	if !c.Key.ReadOnly || !slices.Equal(c.Key.Callbacks, []int64{2}) {
		t.Errorf("whoever comes in is %+v", c.Key)
	}
	h.as(c, "GET", "/companies/acme/config/callbacks/2", "").want(http.StatusOK)
	h.as(c, "GET", "/companies/acme/config/callbacks/1", "").wantProblem(http.StatusNotFound)
	h.as(c, "POST", "/companies/acme/config/callbacks/2/pause", "").wantProblem(http.StatusForbidden)
	list = h.call("operator", "GET", links, "").want(http.StatusOK).json()["portal_links"].([]any)
	i := slices.IndexFunc(list, func(l any) bool { return l.(map[string]any)["id"] == id })
	if used := list[i].(map[string]any); used["status"] != "in_use" || of(used, "session_expires_at").Sub(of(used, "used_at")) != 30*time.Minute {
		t.Errorf("listed: %v", used)
	}
	h.must(h.rdb.HSet(t.Context(), "{acme}:links", "lnk_late", fmt.Sprintf(`{"t":"x","at":%d,"by":"cli","ends":%d,"life":60000}`, of(made, "created_at").UnixMilli()-9, of(made, "created_at").UnixMilli()-5)).Err())
	list = h.call("operator", "GET", links, "").want(http.StatusOK).json()["portal_links"].([]any)
	if late := list[len(list)-1].(map[string]any); late["id"] != "lnk_late" || late["status"] != "expired" {
		t.Errorf("listed: %v", late)
	}
	null := h.call("operator", "POST", links, `{"expires_in":null,"session_expires_in":null,"callback_ids":null,"read_only":null}`).want(http.StatusCreated).json()
	if null["callback_ids"] != nil || null["read_only"] != false || null["session_expires_in"] != "12h" || of(null, "expires_at").Sub(of(null, "created_at")) != registry.DefaultLinkLife {
		t.Errorf("null: %v", null)
	}
	for range registry.MaxLinks - 3 {
		_, _, err := h.api.Registry.CreateLink(t.Context(), "acme", registry.LinkTerms{})
		h.must(err)
	}
	h.call("operator", "POST", links, "").wantProblem(http.StatusConflict)
	for _, method := range []string{"GET", "DELETE"} {
		if p := h.call("operator", method, links+"/lnk_nobodys", "").wantProblem(http.StatusNotFound); !strings.Contains(p.Detail, "no such portal link") {
			t.Errorf("%s: %s", method, p.Detail)
		}
	}
}
