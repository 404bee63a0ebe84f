package httpapi

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// route is one method of one path of the API, with something to do there and who may.
type route struct {
	method, path string // {callback}, {event}, {delivery}, {replay} and {fresh type} stand for fresh ones, of acme; {company} is acme, used
	body         string
	ok           int
	roles        string // besides operators; "everywhere" asks for a key of all companies
}

var routes = []route{
	{"POST", "/companies/acme/config/callbacks", hook, 201, "partner"},
	{"GET", "/companies/acme/config/callbacks", "", 200, "partner viewer"},
	{"GET", "{callback}", "", 200, "partner viewer"},
	{"PATCH", "{callback}", `{"description":"x"}`, 200, "partner"},
	{"DELETE", "{callback}", "", 204, "partner"},
	{"POST", "{callback}/pause", "", 200, "partner"},
	{"POST", "{callback}/resume", "", 200, "partner"},
	{"POST", "{callback}/secret", "", 200, "partner"},
	{"POST", "/companies/acme/events", `{"event_type":"wallet_item_install","payload":` + payload + `}`, 202, "producer"},
	{"POST", "/companies/acme/events/batch", `{"event_type":"wallet_item_install","payload":` + payload + `}`, 200, "producer"},
	{"POST", "/companies/acme/decisions", `{"event_type":"entry_code.verify","payload":{"entryCode":"1"}}`, 200, "producer"},
	{"GET", "{event}", "", 200, "producer partner viewer"},
	{"DELETE", "{event}", "", 200, "producer"},
	{"DELETE", "{company}", "", 200, ""},
	{"GET", "/companies/acme/deliveries", "", 200, "producer partner viewer"},
	{"GET", "{delivery}", "", 200, "producer partner viewer"},
	{"POST", "{delivery}/replay", "", 202, "partner"},
	{"POST", "{delivery}/cancel", "", 200, "partner"},
	{"POST", "{callback}/test", "", 200, "partner"},
	{"POST", "{callback}/replay", `{"dry_run":true}`, 202, "partner"},
	{"GET", "/companies/acme/replays", "", 200, "partner viewer"},
	{"GET", "{replay}", "", 200, "partner viewer"},
	{"DELETE", "{replay}", "", 204, "partner"},
	{"PUT", "/callback-types/{fresh type}", `{}`, 201, "everywhere"},
	{"GET", "/audit", "", 200, "partner"},
	{"GET", "/companies/acme/quotas", "", 200, ""},
	{"PATCH", "/companies/acme/quotas", `{"callbacks":900}`, 200, ""},
	{"GET", "/quotas", "", 200, "everywhere"},
	{"PATCH", "/quotas", `{"callback_types":900}`, 200, "everywhere"},
	{"POST", "/egress/pause", "", 200, "everywhere"},
	{"GET", "/egress", "", 200, "everywhere"},
	{"POST", "/egress/resume", "", 200, "everywhere"},
	{"GET", "/callback-types", "", 200, "producer partner viewer"},
	{"GET", "/callback-types/wallet_item_install", "", 200, "producer partner viewer"},
}

// ops are paths about all companies: a key of one is not enough.
var ops = []route{
	{"GET", "/metrics", "", 200, "viewer"},
	{"GET", "/monitoring/", "", 200, "viewer"},
	{"GET", "/monitoring/api/queues", "", 200, "viewer"},
}

func (r route) String() string { return r.method + " " + r.path }

// objects makes what a route needs and returns its path. Every call makes new ones, so that no test sees another's.
func (h *house) objects(r route, n int) string {
	h.t.Helper()
	id := fmt.Sprintf("e%d", n)
	path := r.path
	if strings.Contains(path, "{callback}") {
		path = strings.ReplaceAll(path, "{callback}", h.register("acme"))
	}
	if strings.Contains(path, "{replay}") {
		path = h.call("operator", "POST", h.register("acme")+"/replay", `{"dry_run":true}`).want(http.StatusAccepted).header.Get("Location")
	}
	if strings.HasSuffix(path, "/decisions") {
		h.decider()
	}
	path = strings.ReplaceAll(path, "{fresh type}", "fresh."+id)
	if path == "{company}" {
		path = h.used("acme") + "?confirm=acme"
	}
	if strings.Contains(path, "{event}") || strings.Contains(path, "{delivery}") {
		if n == 0 || !strings.Contains(path, "{event}") {
			h.register("acme")
		}
		delivery := h.send("acme", id)
		if strings.HasSuffix(path, "/replay") {
			h.call("operator", "POST", delivery+"/cancel", "").want(http.StatusOK)
		}
		path = strings.NewReplacer("{event}", "/companies/acme/events/"+id, "{delivery}", delivery).Replace(path)
	}
	return path
}

// used makes the company anew where it was erased, with the actors' keys, and returns its path.
func (h *house) used(company string) string {
	h.t.Helper()
	h.register(company)
	for name, key := range actors {
		if key.Company == company {
			h.newKey(name)
		}
	}
	return "/companies/" + company
}

// decider registers a partner that decides, unless there is one.
func (h *house) decider() {
	h.t.Helper()
	const callbacks = "/companies/acme/config/callbacks"
	if list := h.call("operator", "GET", callbacks+"?callback_type=entry_code.verify", "").want(http.StatusOK).json()["callbacks"].([]any); len(list) > 0 {
		return
	}
	partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	h.t.Cleanup(partner.Close)
	h.call("operator", "POST", callbacks, `{"callback_type":"entry_code.verify","destination":{"url":"`+partner.URL+`"}}`).want(http.StatusCreated)
}

// Whoever may not do something is told so, and changes nothing in all of Redis. That every operation described has its line in the table is
// TestEveryRouteIsInTheTableOfRoles's to see.
func TestEveryPathForEveryRole(t *testing.T) {
	h := newHouse(t)
	n := 0
	for _, r := range routes {
		t.Run(r.String(), func(t *testing.T) {
			h := h.in(t)
			for actor := range actors {
				n++
				path := h.objects(r, n)
				before := h.digest()
				a := h.call(actor, r.method, path, r.body)
				if a.status >= 400 && h.digest() != before {
					t.Errorf("refused with %d, the %s changed something", a.status, actor)
				}
				companyPath := strings.HasPrefix(path, "/companies/")
				role := actor[strings.LastIndexByte(actor, ' ')+1:]
				switch {
				case companyPath && strings.HasPrefix(actor, "other "):
					a.wantProblem(http.StatusNotFound)
				case r.roles == "everywhere" && actors[actor].Company != "*":
					a.wantProblem(http.StatusForbidden)
				case role == "operator" || slices.Contains(strings.Fields(r.roles), role):
					a.want(r.ok)
				default:
					a.wantProblem(http.StatusForbidden)
				}
			}
			wantLocked(h, r, h.objects(r, n+1))
			n++
		})
	}
}

func TestOpsPathsAreForKeysOfAllCompanies(t *testing.T) {
	h := newHouse(t)
	for _, r := range ops {
		t.Run(r.String(), func(t *testing.T) {
			h := h.in(t)
			for actor, key := range actors {
				a := h.call(actor, r.method, r.path, "")
				if key.Company == "*" && (key.Role == "operator" || key.Role == "viewer") {
					a.want(http.StatusOK)
				} else {
					a.wantProblem(http.StatusForbidden)
				}
			}
		})
	}
	wantLocked(h, ops[0], ops[0].path)
}

// wantLocked checks that a route does not open without a good key.
func wantLocked(h *house, r route, path string) {
	h.t.Helper()
	before := h.digest()
	for _, authorization := range []string{"", "Bearer", "Bearer ", "Bearer wrong", "Basic dXNlcjpwYXNz", h.keys["operator"], "Bearer " + strings.Repeat("x", 10_000)} {
		a := h.call("", r.method, path, r.body, header{"Authorization": authorization})
		a.wantProblem(http.StatusUnauthorized)
		if !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer ") {
			h.t.Errorf("%q: WWW-Authenticate = %q", authorization, a.header.Get("WWW-Authenticate"))
		}
	}
	if h.digest() != before {
		h.t.Errorf("%s: without a good key something changed", r)
	}
}

func TestOpenPaths(t *testing.T) {
	h := newHouse(t)
	for _, path := range []string{"/healthz", "/readyz", "/openapi.json", "/docs"} {
		h.call("", "GET", path, "").want(http.StatusOK)
		h.call("", "HEAD", path, "").want(http.StatusOK)
		h.call("", "POST", path, "").wantProblem(http.StatusMethodNotAllowed)
	}
}

func TestSchemeIsCaseInsensitive(t *testing.T) {
	h := newHouse(t)
	h.call("", "GET", "/callback-types", "", header{"Authorization": "bearer  " + h.keys["operator"]}).want(http.StatusOK)
}

// Property: no key of one company reads or changes anything of another, by whatever mix of path and id.
func TestCompaniesDoNotSeeEachOther(t *testing.T) {
	h := newHouse(t)
	for range 3 {
		h.register("acme")
	}
	delivery := h.send("acme", "theirs")
	callback := "/companies/acme/config/callbacks/3"
	replay := h.call("operator", "POST", callback+"/replay", "").want(http.StatusAccepted).header.Get("Location")
	before := h.snapshot("acme")

	for _, r := range routes {
		if !strings.HasPrefix(r.path, "/companies/") && !strings.HasPrefix(r.path, "{") {
			continue
		}
		path := strings.NewReplacer("{callback}", callback, "{event}", "/companies/acme/events/theirs", "{delivery}", delivery, "{replay}", replay, "{company}", "/companies/acme?confirm=acme").Replace(r.path)
		for _, role := range []string{"operator", "producer", "partner", "viewer"} {
			h.call("other "+role, r.method, path, r.body).wantProblem(http.StatusNotFound)
		}
		if r.path == path {
			continue
		}
		// The same object's id under the caller's own company.
		own := strings.Replace(path, "/companies/acme/", "/companies/other/", 1)
		h.call("other operator", r.method, own, r.body).wantProblem(http.StatusNotFound)
	}
	h.wantUnchanged("acme", before)
	if len(before) == 0 {
		t.Error("there was nothing to see")
	}

	// Lists and filters of the other company stay empty.
	for _, list := range []string{"/config/callbacks", "/replays", "/deliveries", "/deliveries?callback_id=3", "/deliveries?state=pending,held"} {
		a := h.call("other operator", "GET", "/companies/other"+list, "").want(http.StatusOK)
		if strings.Contains(string(a.body), "theirs") || strings.Contains(string(a.body), "rpl_") || strings.Contains(string(a.body), "127.0.0.1") {
			t.Errorf("%s shows what is acme's: %s", list, a.body)
		}
	}
}

// The key is judged before the body is looked at: a stranger cannot make us read.
func TestAuthenticationComesBeforeTheBody(t *testing.T) {
	h := newHouse(t)
	long := strings.Repeat("x", DefaultMaxBody+1)
	h.call("", "POST", "/companies/acme/events", long).wantProblem(http.StatusUnauthorized)
	h.call("viewer", "POST", "/companies/acme/events", long).wantProblem(http.StatusForbidden)
	h.call("other producer", "POST", "/companies/acme/events", long).wantProblem(http.StatusNotFound)
}

func TestNamesInPaths(t *testing.T) {
	h := newHouse(t)
	h.register("acme")
	for _, path := range []string{
		"/companies/acme/config/callbacks/x", "/companies/acme/config/callbacks/0", "/companies/acme/config/callbacks/-1",
		"/companies/acme/config/callbacks/01", "/companies/acme/config/callbacks/+1", "/companies/acme/config/callbacks/2",
		"/companies/acme/config/callbacks/99999999999999999999", "/companies/acme/events/none", "/companies/acme/events/a%20b", "/companies/acme/events/a%2Fb",
		"/companies/acme/deliveries/none", "/companies/acme/deliveries/dlv_", "/companies/acme/deliveries/dlv_%00", "/companies/acme/deliveries/..%2F1", "/callback-types/none",
		"/companies/acme/replays/none", "/companies/acme/replays/rpl_none", "/companies/acme/replays/rpl_%00", "/companies/acme/replays/..%2F1", "/companies/acme/replays/rpl_a%7Bother%7D",
		"/companies/acme/nothing", "/", "/nothing", "/companies",
	} {
		h.call("operator", "GET", path, "").wantProblem(http.StatusNotFound)
	}
	for _, company := range []string{"a%20b", "%7Bacme%7D", "a*", strings.Repeat("x", 65), "%C3%A9"} {
		h.call("operator", "GET", "/companies/"+company+"/deliveries", "").wantFault("path.company")
		h.call("operator", "POST", "/companies/"+company+"/events", event("x")).wantFault("path.company")
		h.call("partner", "GET", "/companies/"+company+"/deliveries", "").wantProblem(http.StatusNotFound)
	}
	h.call("operator", "GET", "/companies/"+strings.Repeat("x", 64)+"/deliveries", "").want(http.StatusOK)
}

// What a path says is what is meant: one with segments that name nothing is never cleaned, for it would be about something else then.
func TestUncleanPathsAreNowhere(t *testing.T) {
	h := newHouse(t)
	h.register("acme")
	h.send("acme", "ev.1:a")
	before := h.snapshot("acme")
	for _, path := range []string{
		"/companies/acme/events/..", "/companies/acme/events/.", "/companies/acme/events/%2e%2e", "/companies/acme/events/%2E.", "/companies/acme/events/x/..",
		"/companies/acme/./events", "/companies/./acme", "/companies//acme", "//companies/acme", "/companies/acme//", "/companies/acme%2F", "/companies/acme%2fevents",
		"/companies/acme/events/x%2F..", "/companies/x/%2e%2e/acme", "/companies/../companies/acme", "/companies/acme/.", "/companies/acme/..",
		"//monitoring/", "/monitoring//", "/monitoring/../docs", "/monitoring/%2e%2e/docs", "/monitoring/./", "/monitoring/a%2Fb", "//docs", "/docs/..", "/docs/../healthz", "/./healthz", "//",
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS"} {
			a := h.call("operator", method, path+"?confirm=acme", "")
			if a.status != http.StatusNotFound || a.header.Get("Location") != "" {
				t.Errorf("%s %s: %d, Location %q", method, path, a.status, a.header.Get("Location"))
			}
		}
	}
	h.wantUnchanged("acme", before)
	for path, status := range map[string]int{
		"/companies/acme/events/ev.1%3Aa": 200, "/companies/acme/events/ev.1:a": 200, "/companies/ac%6de/events/ev%2e1:a": 200, "/monitoring/": 200, "/docs": 200,
		"/companies/acme/.well-known/jwks.json": 404, // nothing is there yet, but it is no unclean path
	} {
		h.call("operator", "GET", path, "").want(status)
	}
	for path, clean := range map[string]bool{
		"/": true, "/a": true, "/a/": true, "/.well-known/jwks.json": true, "/a/...": true, "/a/.b": true, "/a/b.": true, "/a%20b": true, "/%25": true, "/a:b": true,
		"": false, "*": false, "//": false, "/a//": false, "//a": false, "/a//b": false, "/.": false, "/..": false, "/a/./": false, "/a/../": false,
		"/%2e": false, "/%2E%2e/a": false, "/a%2f": false, "/a%2Fb": false, "/%2F": false,
	} {
		u := &url.URL{}
		u.RawPath = path
		u.Path, _ = url.PathUnescape(path)
		if got := isClean(u); got != clean {
			t.Errorf("isClean(%q) = %v", path, got)
		}
	}
}

// Names that a path cannot hold are refused wherever they come in.
func TestDotsAreNoNames(t *testing.T) {
	h := newHouse(t)
	for _, id := range []string{".", ".."} {
		h.call("operator", "POST", "/companies/acme/events", event(id)).wantFault("body.event_id")
		a := h.call("operator", "POST", "/companies/acme/events/batch", event(id)).want(http.StatusOK)
		if !strings.Contains(string(a.body), `"status":422`) {
			t.Errorf("a batch with %q: %s", id, a.body)
		}
		if _, _, err := h.api.Keys.Create(t.Context(), "producer", id); err == nil {
			t.Errorf("a key for company %q", id)
		}
	}
}

func TestErasingACompanyWantsItsNameAgain(t *testing.T) {
	h := newHouse(t)
	h.register("acme")
	before := h.snapshot("acme")
	for _, query := range []string{"", "?confirm=", "?confirm=other", "?confirm=ACME"} {
		h.call("operator", "DELETE", "/companies/acme"+query, "").wantFault("query.confirm")
	}
	h.call("operator", "DELETE", "/companies/acme?confirm=acme&confirm=acme", "").wantFault("query.confirm")
	h.wantUnchanged("acme", before)
	h.call("operator", "DELETE", "/companies/acme?confirm=acme", "").want(http.StatusOK)
}
