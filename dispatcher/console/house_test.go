package console

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/httpapi"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/redistest"
)

func TestMain(m *testing.M) {
	// go-redis looks once more, after a second, for a Redis that was away.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// house is the console before a whole API, with a worker, a Redis of its own, and a key for everybody.
type house struct {
	t      *testing.T
	redis  *redistest.Server
	keys   *registry.Keys
	api    http.Handler
	pages  http.Handler
	guest  http.Handler // the portal
	log    *book
	has    map[string]string // actor -> API key
	portal PortalConfig

	partner string // the address of the partners, see answers
	bad     int64  // the callback of acme whose deliveries are dead at once
	waits   int64  // the one whose deliveries are tried again
	event   string // one of acme's, which went to both
	well    int64  // the callback of the other company
}

// book is a log.
type book struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *book) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// actors are who calls: a role at acme, at another company, or everywhere.
var actors = map[string]registry.Key{
	"operator":       {Role: registry.Operator, Company: registry.AllCompanies},
	"viewer":         {Role: registry.Viewer, Company: registry.AllCompanies},
	"acme operator":  {Role: registry.Operator, Company: "acme"},
	"acme viewer":    {Role: registry.Viewer, Company: "acme"},
	"other operator": {Role: registry.Operator, Company: "other"},
	"partner":        {Role: registry.Partner, Company: "acme"},
	"producer":       {Role: registry.Producer, Company: "acme"},
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, redis: redistest.Start(t), log: &book{}, has: map[string]string{}}
	rdb := redis.NewClient(&redis.Options{Network: "unix", Addr: h.redis.Socket(), MaxRetries: -1, DialerRetries: 1})
	t.Cleanup(func() { _ = rdb.Close() })
	logger := slog.New(slog.NewTextHandler(h.log, nil))
	out, err := egress.New(egress.Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	h.must(err)
	t.Cleanup(out.Close)
	keyset, err := registry.NewKeyset()
	h.must(err)
	reg, err := registry.New(registry.Config{Redis: rdb, Catalogue: payloads.Builtin(), Keyset: keyset, CheckURL: out.CheckURL, Logger: logger})
	h.must(err)
	client, err := dispatcher.New(dispatcher.Config{Redis: rdb, Registry: reg, Egress: out, Logger: logger})
	h.must(err)
	t.Cleanup(func() { _ = client.Close() })
	h.keys = registry.NewKeys(rdb)
	guesses := &httpapi.Guesses{}
	h.api, err = httpapi.New(httpapi.Config{Client: client, Registry: reg, Keys: h.keys, Redis: rdb, Logger: logger, PublicURL: "https://ringback.example.com", Guesses: guesses})
	h.must(err)
	h.portal = PortalConfig{API: h.api, Sessions: registry.NewSessions(h.keys), Logger: logger, Unknown: guesses.Unknown}
	h.guest, err = NewPortal(h.portal)
	h.must(err)
	h.pages, err = New(Config{API: h.api, Sessions: registry.NewSessions(h.keys), Logger: logger})
	h.must(err)
	for name, key := range actors {
		secret := "rbk_" + rand.Text()
		key.ID, key.RateLimit = secret[:12], new(float64)
		h.must(h.keys.Put(t.Context(), secret, key))
		h.has[name] = secret
	}
	forget, err := registry.Announce(t.Context(), rdb, nil, registry.Self("test", "api,worker"), logger)
	h.must(err)
	t.Cleanup(func() { _ = forget(context.WithoutCancel(t.Context())) })
	worker, err := dispatcher.NewWorker(client, dispatcher.WorkerConfig{Concurrency: 4})
	h.must(err)
	h.must(worker.Start())
	t.Cleanup(worker.Shutdown)
	h.furnish()
	return h
}

// answers are the partners'.
func answers(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/down":
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `<script>alert("the partner's")</script>`)
	case "/gone":
		w.WriteHeader(http.StatusGone)
	case "/well":
		w.WriteHeader(http.StatusNoContent)
	}
}

// furnish makes a company with callbacks that fail, and sends it an event.
func (h *house) furnish() {
	h.t.Helper()
	partner := httptest.NewServer(http.HandlerFunc(answers))
	h.t.Cleanup(partner.Close)
	h.partner = partner.URL
	h.bad = h.register("acme", partner.URL+"/down?token=s3cr3t", `"retry":{"max_attempts":1},"description":"<b>bold</b>"`)
	h.waits = h.register("acme", partner.URL+"/down", `"retry":{"initial_interval":"1h"}`)
	h.well = h.register("other", partner.URL+"/well", `"description":"a secret of another company"`)
	h.event = "proof-1"
	h.tell("POST", "/companies/acme/events", `{"event_type":"payment_proof","event_id":"proof-1","payload":{"requestId":"r-1","status":"OK"}}`)
	h.tell("POST", "/companies/other/events", `{"event_type":"payment_proof","event_id":"elsewhere","payload":{"requestId":"r-1","status":"OK"}}`)
	for _, state := range []string{"dead", "retrying"} {
		h.await(func() bool {
			return strings.Contains(h.tell("GET", "/companies/acme/deliveries?state="+state, ""), `"proof-1"`)
		})
	}
}

func (h *house) register(company, to, more string) int64 {
	h.t.Helper()
	var made struct {
		ID int64 `json:"callback_id"`
	}
	h.must(json.Unmarshal([]byte(h.tell("POST", "/companies/"+company+"/config/callbacks", fmt.Sprintf(`{"callback_type":"payment_proof","destination":{"url":%q},%s}`, to, more))), &made))
	return made.ID
}

// await waits for what takes moments.
func (h *house) await(reached func() bool) {
	h.t.Helper()
	for deadline := time.After(time.Minute); !reached(); {
		select {
		case <-deadline:
			h.t.Fatal("it never came to that")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// tell asks the API itself, as an operator.
func (h *house) tell(method, path, body string) string {
	h.t.Helper()
	r := httptest.NewRequestWithContext(h.t.Context(), method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+h.has["operator"])
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	h.api.ServeHTTP(w, r)
	if w.Code/100 != 2 {
		h.t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	return w.Body.String()
}

// delivery is the path of the event's delivery to a callback, from the company on.
func (h *house) delivery(callback int64) string {
	h.t.Helper()
	var x struct {
		Callbacks []struct {
			Delivery struct {
				ID string `json:"delivery_id"`
			}
		}
	}
	h.must(json.Unmarshal([]byte(h.tell("GET", fmt.Sprintf("/companies/acme/events/%s?callback_id=%d", h.event, callback), "")), &x))
	return "/companies/acme/deliveries/" + x.Callbacks[0].Delivery.ID
}

// A visitor is a browser without script: it keeps cookies, sends forms as pages have them, and says where a form comes from.
type visitor struct {
	*house
	key     string            // shown with every request; empty: none
	cookies map[string]string // by name
}

// showing is a visitor who shows an API key with every request.
func (h *house) showing(actor string) *visitor { return &visitor{h, h.has[actor], map[string]string{}} }

// loggedIn is a visitor who logged in.
func (h *house) loggedIn(actor string) *visitor {
	h.t.Helper()
	v := &visitor{h, "", map[string]string{}}
	a := v.send("/console/login", url.Values{"key": {h.has[actor]}, "next": {"/console/types"}})
	if a.status != http.StatusSeeOther || a.header.Get("Location") != "/console/types" || v.cookies["ringback_console"] == "" {
		h.t.Fatalf("no login: %d %s", a.status, a.text)
	}
	return v
}

// An answer is what a visitor sees.
type answer struct {
	status int
	header http.Header
	text   string
}

func (v *visitor) do(r *http.Request) answer {
	v.t.Helper()
	if v.key != "" {
		r.Header.Set("Authorization", "Bearer "+v.key)
	}
	for name, value := range v.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	w := httptest.NewRecorder()
	pages, root := v.pages, "/console/"
	if strings.HasPrefix(r.URL.Path, PortalRoot+"/") {
		pages, root = v.guest, "/portal/"
	}
	pages.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != root {
			v.t.Errorf("a cookie that others get: %s", c)
		}
		if v.cookies[c.Name] = c.Value; c.MaxAge < 0 {
			delete(v.cookies, c.Name)
		}
	}
	a := answer{w.Code, w.Result().Header, w.Body.String()}
	a.wantSafe(v.t)
	return a
}

// get asks for a page.
func (v *visitor) get(path string) answer {
	v.t.Helper()
	return v.do(httptest.NewRequestWithContext(v.t.Context(), http.MethodGet, path, nil))
}

// send sends a form from a page of the same origin.
func (v *visitor) send(path string, form url.Values) answer {
	v.t.Helper()
	r := httptest.NewRequestWithContext(v.t.Context(), http.MethodPost, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", "http://"+r.Host)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return v.do(r)
}

// follow goes where an answer leads.
func (v *visitor) follow(a answer) answer {
	v.t.Helper()
	if a.status != http.StatusSeeOther {
		v.t.Fatalf("it leads nowhere: %d %s", a.status, a.text)
	}
	return v.get(a.header.Get("Location"))
}

// submit sends a form of a page as it is, but for what is filled in. The form is the one that posts to an address.
func (v *visitor) submit(a answer, to string, fill url.Values) answer {
	v.t.Helper()
	for form := range elements(a.parse(v.t), "form") {
		if attribute(form, "method") != "post" || attribute(form, "action") != to {
			continue
		}
		values := url.Values{}
		for input := range elements(form, "input") {
			_, checked := has(input, "checked")
			if kind := attribute(input, "type"); kind != "radio" && kind != "checkbox" || checked {
				values.Add(attribute(input, "name"), attribute(input, "value"))
			}
		}
		for field := range elements(form, "select") {
			for option := range elements(field, "option") {
				if _, selected := has(option, "selected"); selected || !values.Has(attribute(field, "name")) {
					values.Set(attribute(field, "name"), attribute(option, "value"))
				}
			}
		}
		for field := range elements(form, "textarea") {
			values.Add(attribute(field, "name"), strings.TrimPrefix(fieldText(field), "\n"))
		}
		maps.Copy(values, fill)
		return v.send(to, values)
	}
	v.t.Fatalf("no form posts to %s: %s", to, a.text)
	return answer{}
}

// example is a payload of a type.
func (h *house) example(name string) string {
	h.t.Helper()
	var typ struct{ Example json.RawMessage }
	h.must(json.Unmarshal([]byte(h.tell("GET", "/callback-types/"+name, "")), &typ))
	return string(typ.Example)
}
