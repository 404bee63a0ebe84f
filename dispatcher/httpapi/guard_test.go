package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/ringback/ringback/registry"
)

// mayUse says who may do what besides operators (api.md): by the chapter of the API's description, for who reads and for who changes.
var mayUse = map[string]struct{ read, change string }{
	"Callbacks":      {read: "partner viewer", change: "partner"},
	"Events":         {read: "producer partner viewer", change: "producer"},
	"Decisions":      {change: "producer"},
	"Deliveries":     {read: "producer partner viewer", change: "partner"},
	"Fetching":       {read: "partner", change: "partner"},
	"Replays":        {read: "partner viewer", change: "partner"},
	"Callback types": {read: "producer partner viewer"},
	"Portal links":   {read: "partner", change: "partner"},
	"API keys":       {},
	"Egress":         {},
	"Operations":     {},
}

// exceptions are operations that others than those of their chapter may use, and open what takes no key.
var (
	exceptions = map[string]string{"list-audit": "partner", "get-caller": "producer partner viewer", "erase-company": "", "get-payload": "producer partner", "metrics": "viewer", "overview": "viewer", "list-companies": "viewer", "monitoring": "viewer"}
	open       = []string{"GET /healthz", "GET /readyz", "GET /openapi.json", "GET /docs", "GET /docs/{file}", "GET /payloads/{ticket}", "GET /companies/{company}/.well-known/jwks.json", "POST /monitoring/login", "POST /monitoring/logout"}
)

// admits is what an operation should answer an actor: 0 where it may pass, else the status it is refused with.
func (o *opDoc) admits(t *testing.T, actor string) int {
	t.Helper()
	key, chapter := actors[actor], mayUse[o.Tags[0]]
	reads := o.method == "get" || o.method == "head"
	ofCompany := strings.Contains(o.path, "{company}")
	ofEach := ofCompany && o.OperationID != "set-company-quotas" || reads && o.Tags[0] == "Callback types" || o.OperationID == "list-audit" || o.OperationID == "get-caller" || o.Tags[0] == "API keys" // else it is about all companies
	roles, special := exceptions[o.OperationID]
	if _, known := mayUse[o.Tags[0]]; !known {
		t.Errorf("%s: who may use what is in %s?", o, o.Tags[0])
	}
	if !special {
		roles = chapter.change
		if reads {
			roles = chapter.read
		}
	}
	switch {
	case (ofCompany || strings.Contains(o.path, "{key_id}") && key.Role == registry.Operator) && key.Company != "*" && key.Company != "acme":
		return http.StatusNotFound
	case !ofEach && key.Company != "*", key.Role != registry.Operator && !slices.Contains(strings.Fields(roles), string(key.Role)):
		return http.StatusForbidden
	}
	return 0
}

// guarded are the operations that take a key, which is all but the open ones.
func (h *house) guarded() []*opDoc {
	h.t.Helper()
	return slices.DeleteFunc(h.operations(), func(op *opDoc) bool {
		isOpen := slices.Contains(open, op.String())
		if isOpen != (len(op.Security) == 0) {
			h.t.Errorf("%s: is it open to all? security %v", op, op.Security)
		}
		return isOpen
	})
}

// A request is a valid one of an operation, made from its description: the body is the example, and what the path names is made anew.
type request struct {
	*opDoc
	path, query, mediaType, body string
}

// do makes the request as an actor.
func (r request) do(h *house, actor string, headers ...header) answer {
	h.t.Helper()
	return h.call(actor, strings.ToUpper(r.method), r.path+r.query, r.body, append([]header{{"Content-Type": r.mediaType}}, headers...)...)
}

// request makes what an operation of acme's needs, and a request of it. n tells it from others.
func (h *house) request(op *opDoc, n int) request {
	h.t.Helper()
	id := fmt.Sprintf("e%d", n)
	switch op.OperationID {
	case "ask-decision":
		h.decider()
	case "put-callback-type":
		id = "fresh." + id
	case "delete-callback-type":
		h.call("operator", "PUT", "/callback-types/"+id, "{}")
	}
	delivery := ""
	if strings.Contains(op.path, "{event_id}") || strings.Contains(op.path, "{delivery_id}") {
		delivery = h.send("acme", id)
	}
	if op.OperationID == "replay-delivery" {
		h.call("operator", "POST", delivery+"/cancel", "").want(http.StatusOK)
	}
	if op.OperationID == "hasten-delivery" {
		h.fail(id)
	}
	if strings.HasSuffix(op.OperationID, "-company-tls") && op.method != "put" {
		h.call("operator", "PUT", "/companies/acme/tls", someTLS(h.t)).want(http.StatusOK)
	}
	r := request{opDoc: op, path: op.path}
	for _, p := range op.Parameters {
		value := strings.Trim(string(p.Example), `"`)
		switch p.Name {
		case "company", "confirm":
			value = "acme"
		case "callback_id":
			value = path.Base(h.register("acme"))
			if op.OperationID == "rotate-signing-key" {
				value = path.Base(h.call("operator", "POST", "/companies/acme/config/callbacks", strings.Replace(hook, "{", `{"signature":{"ed25519":true},`, 1)).want(http.StatusCreated).header.Get("Location"))
			}
			if slices.Contains(op.Tags, "Fetching") {
				value = path.Base(h.puller())
			}
		case "event_id":
			value = id
		case "delivery_id":
			value = path.Base(delivery)
		case "replay_id":
			started := map[bool]string{true: h.register("acme") + "/replay", false: "/replays"}[strings.Contains(op.path, "{company}")]
			value = path.Base(h.call("operator", "POST", started, "{}").want(http.StatusAccepted).header.Get("Location"))
		case "key_id":
			_, made, err := h.api.Keys.Create(h.t.Context(), registry.Partner, "acme")
			h.must(err)
			value = made.ID
		case "link_id":
			value = path.Base(h.call("operator", "POST", "/companies/acme/portal-links", "").want(http.StatusCreated).header.Get("Location"))
		case "name":
			if value = id; op.method == "get" {
				value = "wallet_item_install"
			}
		}
		if p.In == "path" {
			r.path = strings.ReplaceAll(r.path, "{"+p.Name+"}", value)
		} else if p.Required || p.Name == "confirm" {
			r.query += map[bool]string{true: "?", false: "&"}[r.query == ""] + p.Name + "=" + value
		}
	}
	if op.RequestBody != nil {
		r.mediaType = slices.Min(slices.Collect(maps.Keys(op.RequestBody.Content)))
		r.body = string(op.RequestBody.Content[r.mediaType].Example)
		if r.mediaType == mediaNDJSON {
			h.must(json.Unmarshal([]byte(r.body), &r.body))
		}
	}
	if op.OperationID == "set-company-tls" {
		r.body = someTLS(h.t) // the example's is cut short
	}
	return r
}

// afresh gives acme up, with all that was made and changed there, and makes it anew with the actors' keys and one callback.
func (h *house) afresh() {
	h.t.Helper()
	h.api.Guesses.forget()
	h.call("operator", "DELETE", "/companies/acme?confirm=acme", "")
	h.call("operator", "POST", "/egress/resume", "").want(http.StatusOK)
	h.register("acme")
	for name, key := range actors {
		if key.Company == "acme" {
			h.newKey(name)
		}
	}
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

// Every operation that is described is asked by everybody, as its example shows. Whoever may, is not refused; whoever may not, is told so, as
// if there were nothing where it is about another company, and changes nothing in all of Redis. An operation that is new needs no line here.
func TestEveryPathForEveryRole(t *testing.T) {
	h := newHouse(t)
	n := 0
	for _, op := range h.guarded() {
		t.Run(op.String(), func(t *testing.T) {
			h := h.in(t)
			h.afresh()
			n++
			r := h.request(op, n)
			before := h.digest()
			for actor := range actors {
				refused := op.admits(t, actor)
				if refused == 0 {
					continue
				}
				a := r.do(h, actor)
				a.wantProblem(refused)
				if h.digest() != before {
					t.Errorf("refused with %d, the %s changed something", a.status, actor)
				}
				if refused == http.StatusNotFound {
					wantNoOracle(h, r, actor, a)
				}
			}
			wantLocked(h, r)
			if h.digest() != before {
				t.Error("without a good key, or from another company, something changed")
			}
			for actor := range actors {
				if op.admits(t, actor) != 0 {
					continue
				}
				n++
				if op.OperationID == "rotate-signing-key" {
					h.afresh() // the key of the next callback is the company's first one again
				}
				if a := h.request(op, n).do(h, actor); a.status >= 300 {
					t.Errorf("the %s, who may, is answered %d: %s", actor, a.status, a.body)
				}
				if op.OperationID == "erase-company" {
					h.afresh()
				}
			}
		})
	}
	h.in(t).call("viewer", "GET", "/monitoring/api/queues", "").want(http.StatusOK)
	for _, actor := range []string{"producer", "partner", "acme operator", "acme viewer", "all producer"} {
		h.in(t).call(actor, "GET", "/monitoring/api/queues", "").wantProblem(http.StatusForbidden)
	}
}

// nobodys are names of things that there are not, by the parameter that stands for them.
var nobodys = map[string]string{"{callback_id}": "999999", "{event_id}": "nobodys", "{delivery_id}": "dlv_AYIrM62HwW5vYm9keXM", "{replay_id}": "rpl_nobodys", "{link_id}": "lnk_nobodys", "{key_id}": "rbk_nobodys"}

// wantNoOracle checks that an actor of another company, who was answered a about what there is, hears the same of what there is not, whether it
// asks in acme's name, in nobody's, or in its own.
func wantNoOracle(h *house, r request, actor string, a answer) {
	h.t.Helper()
	same := func(r request, a answer) {
		h.t.Helper()
		if b := r.do(h, actor); b.status != a.status || !bytes.Equal(a.body, b.body) {
			h.t.Errorf("%s: the %s tells what there is (%d %s) from what there is not (%d %s)", r.path, actor, a.status, a.body, b.status, b.body)
		}
	}
	elsewhere, own, none := r, r, r
	elsewhere.path = strings.Replace(r.path, "/companies/acme", "/companies/nowhere", 1)
	same(elsewhere, a)
	own.path = strings.Replace(r.path, "/companies/acme", "/companies/other", 1)
	none.path = strings.Replace(r.opDoc.path, "{company}", "other", 1)
	for parameter, value := range nobodys {
		none.path = strings.Replace(none.path, parameter, value, 1)
	}
	if own.path != none.path && r.admits(h.t.(*testing.T), strings.TrimPrefix(actor, "other ")) == 0 { // it is about one thing, which the actor might do at home
		b := own.do(h, actor)
		b.wantProblem(http.StatusNotFound)
		same(none, b)
	}
}

// wantLocked checks that an operation does not open without a good key.
func wantLocked(h *house, r request) {
	h.t.Helper()
	for _, authorization := range []string{"", "Bearer", "Bearer ", "Bearer wrong", "Basic dXNlcjpwYXNz", h.keys["operator"], "Bearer " + strings.Repeat("x", 10_000)} {
		a := r.do(h, "", header{"Authorization": authorization})
		if r.OperationID == "monitoring" { // a page for people, with a form
			a.want(http.StatusUnauthorized)
		} else {
			a.wantProblem(http.StatusUnauthorized)
		}
		if !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer ") {
			h.t.Errorf("%q: WWW-Authenticate = %q", authorization, a.header.Get("WWW-Authenticate"))
		}
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

// What there is of one company is in no list and behind no filter of another.
func TestCompaniesDoNotSeeEachOther(t *testing.T) {
	h := newHouse(t)
	for range 3 {
		h.register("acme")
	}
	h.send("acme", "theirs")
	h.call("operator", "POST", "/companies/acme/config/callbacks/3/replay", "").want(http.StatusAccepted)
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
		"/companies/acme/nothing", "/", "/nothing",
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
		"/companies/acme/.well-known/jwks.json": 200,
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
		if got := IsClean(u); got != clean {
			t.Errorf("IsClean(%q) = %v", path, got)
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
