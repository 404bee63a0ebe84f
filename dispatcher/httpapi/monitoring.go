package httpapi

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/hibiken/asynq"
	"github.com/hibiken/asynqmon"
	"github.com/redis/go-redis/v9"
)

const (
	monitoringRoot = "/monitoring"
	loginPath      = monitoringRoot + "/login"

	// cookieName holds the key of somebody who logged in, in base64 (a key may have characters that a cookie may not).
	// The key itself, not a session: it is checked on every request, so revoking the key also ends the visit.
	cookieName = "ringback_monitoring"
	// cookieAge is a working day, in seconds.
	cookieAge = 12 * 60 * 60
	// maxLogin bounds the login form, in bytes.
	maxLogin = 4096
)

// sharedRedis hands asynq's UI the connection we have. The UI would close it when told to close, which it never is.
type sharedRedis struct{ redis.UniversalClient }

// MakeRedisClient implements asynq.RedisConnOpt.
func (r sharedRedis) MakeRedisClient() any { return r.UniversalClient }

// monitor is asynq's UI behind a lock: it has no access control of its own, and its bulk buttons can lose tasks, so it
// shows and does nothing else.
type monitor struct {
	server *server
	ui     http.Handler
	queues *asynq.Inspector
	page   []byte // the one page of the UI
	policy string // its Content-Security-Policy
}

func (s *server) monitoring() error {
	ui := asynqmon.New(asynqmon.Options{
		RootPath:         monitoringRoot,
		RedisConnOpt:     sharedRedis{s.Redis},
		ReadOnly:         true,
		PayloadFormatter: asynqmon.PayloadFormatterFunc(s.Client.FormatTask),
		// Our tasks have no results; whatever else shares this Redis keeps its own to itself.
		ResultFormatter: asynqmon.ResultFormatterFunc(func(string, []byte) string { return "(not shown)" }),
	})
	html, err := monitoringPage(ui)
	if err != nil {
		return err
	}
	m := &monitor{server: s, ui: ui, queues: asynq.NewInspectorFromRedisClient(s.Redis), page: html, policy: pagePolicy(html)}

	chapter := []string{"Operations"}
	s.document(page{mediaType: "text/html", schema: plainText, need: &watch, Operation: huma.Operation{
		OperationID: "monitoring", Method: http.MethodGet, Path: monitoringRoot + "/", Tags: chapter, Summary: "asynq's UI, read-only",
		Description: "For an operator's or viewer's key of all companies, by header or by the cookie that its login form sets. " +
			"Without a key the answer is that form, with status 401.",
	}})
	form := &huma.Schema{Type: huma.TypeObject, Required: []string{"key"}, Properties: map[string]*huma.Schema{"key": plainText}}
	s.document(page{Operation: huma.Operation{
		OperationID: "monitoring-login", Method: http.MethodPost, Path: loginPath, Tags: chapter, Summary: "Log in to asynq's UI",
		Description: "Takes the login form and sets a cookie. With a key that will not do the answer is the form again, with the status that is due.",
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/x-www-form-urlencoded": {Schema: form}}},
		Responses:   map[string]*huma.Response{"303": {Description: "Logged in: on to the UI", Headers: stringHeaders("Location", "Set-Cookie")}},
		Errors:      []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusServiceUnavailable},
	}})

	sameOrigin := http.NewCrossOriginProtection()
	sameOrigin.SetDenyHandler(http.HandlerFunc(m.denyCrossOrigin))
	s.mux.Handle("GET "+monitoringRoot+"/", http.HandlerFunc(m.serve))
	s.mux.Handle("POST "+loginPath, sameOrigin.Handler(http.HandlerFunc(m.login)))
	return nil
}

// serve shows the UI to those who may see it, and the login form to others.
func (m *monitor) serve(w http.ResponseWriter, r *http.Request) {
	rest := strings.TrimPrefix(r.URL.Path, monitoringRoot+"/")
	isAPI := strings.HasPrefix(rest, "api/")
	if err := m.admit(r); err != nil {
		if isAPI || r.Header.Get("Authorization") != "" {
			m.server.refuse(w, r, err)
			return
		}
		m.form(w, r, err)
		return
	}
	w.Header().Set("Content-Security-Policy", m.policy)
	if isAPI {
		m.serveAPI(w, r, rest)
		return
	}
	if strings.HasPrefix(rest, "static/") || isTopFile(rest) {
		m.ui.ServeHTTP(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(m.page)
}

// serveAPI answers with the UI's data. The UI reports its own faults as text, with Redis's address in it: that is for the
// log, and the caller gets an answer like any other of ours.
func (m *monitor) serveAPI(w http.ResponseWriter, r *http.Request, rest string) {
	w.Header().Set("Content-Type", mediaJSON) // the UI leaves it to sniffing, which nosniff forbids
	answer := &faultless{ResponseWriter: w}
	m.ui.ServeHTTP(answer, r)
	if !answer.faulty {
		return
	}
	queue, _, _ := strings.Cut(strings.TrimPrefix(rest, "api/queues/"), "/")
	m.server.refuse(w, r, m.diagnose(strings.HasPrefix(rest, "api/queues/"), queue, strings.TrimSpace(answer.fault.String())))
}

// diagnose finds out what is behind a fault of the UI, which keeps its reasons in prose: Redis that does not answer, a
// queue that there is not, or something else.
func (m *monitor) diagnose(ofQueue bool, queue, fault string) error {
	queues, err := m.queues.Queues()
	switch {
	case err != nil:
		return fmt.Errorf("asynq's UI: %s: %w", fault, err)
	case ofQueue && !slices.Contains(queues, queue):
		return errNoQueue
	default:
		return fmt.Errorf("asynq's UI: %s", fault)
	}
}

// faultless passes on an answer below 500 and keeps others back.
type faultless struct {
	http.ResponseWriter
	faulty bool
	fault  bytes.Buffer
}

func (f *faultless) WriteHeader(status int) {
	f.faulty = status >= http.StatusInternalServerError
	if !f.faulty {
		f.ResponseWriter.WriteHeader(status)
	}
}

func (f *faultless) Write(b []byte) (int, error) {
	if f.faulty {
		return f.fault.Write(b)
	}
	return f.ResponseWriter.Write(b)
}

// isTopFile reports whether it is an icon or the like. Every other path is a place within the one page.
func isTopFile(rest string) bool { return strings.Contains(rest, ".") && !strings.Contains(rest, "/") }

// admit takes the key from the header or else from the cookie.
func (m *monitor) admit(r *http.Request) error {
	presented, err := bearer(r.Header)
	if err != nil && r.Header.Get("Authorization") == "" {
		presented = keyFromCookie(r)
	}
	if presented == "" {
		return errNoKey
	}
	return m.check(r, presented)
}

func (m *monitor) check(r *http.Request, presented string) error {
	key, err := m.server.authenticate(r, presented)
	if err != nil {
		return err
	}
	return watch.permits(key, "")
}

func keyFromCookie(r *http.Request) string {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return ""
	}
	key, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil {
		return ""
	}
	return string(key)
}

// login takes the form, and leaves a cookie if its key is good.
func (m *monitor) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxLogin)
	if err := r.ParseForm(); err != nil {
		m.server.refuse(w, r, badRequest("this is not the login form"))
		return
	}
	key := strings.TrimSpace(r.PostForm.Get("key"))
	if key == "" {
		m.form(w, r, errNoKey)
		return
	}
	if err := m.check(r, key); err != nil {
		m.form(w, r, err)
		return
	}
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure wherever the browser spoke TLS: dev is plain HTTP on loopback
		Name: cookieName, Value: base64.RawURLEncoding.EncodeToString([]byte(key)),
		Path: monitoringRoot + "/", MaxAge: cookieAge, HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: overTLS(r),
	})
	http.Redirect(w, r, monitoringRoot+"/", http.StatusSeeOther)
}

// overTLS reports whether the browser spoke TLS, with us or with the proxy before us. To lie about it gains nothing: a
// Secure cookie only stays at home on plain HTTP.
func overTLS(r *http.Request) bool {
	return r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

func (m *monitor) denyCrossOrigin(w http.ResponseWriter, r *http.Request) {
	m.server.refuse(w, r, &refusal{status: http.StatusForbidden, detail: "this form was sent from another site: log in from " + monitoringRoot + "/"})
}

//go:embed login.html
var loginHTML string

var (
	loginForm   = template.Must(template.New("login").Parse(loginHTML))
	loginPolicy = "default-src 'none'; img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'; style-src " + hashesOf(styles, []byte(loginHTML))
)

// form shows the login form, with the status that is due and, to somebody who tried, the reason.
func (m *monitor) form(w http.ResponseWriter, r *http.Request, err error) {
	p, header := m.server.answer(r.Context(), r.Method+" "+routeOf(r), err)
	var page bytes.Buffer
	problem := p.Detail
	if errors.Is(err, errNoKey) {
		problem = ""
	}
	if err := loginForm.Execute(&page, struct{ Action, Problem string }{loginPath, problem}); err != nil {
		m.server.refuse(w, r, err)
		return
	}
	maps.Copy(w.Header(), header)
	w.Header().Set("Content-Security-Policy", loginPolicy)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(p.Status)
	_, _ = w.Write(page.Bytes())
}

var (
	styles  = regexp.MustCompile(`(?s)<style>(.*?)</style>`)
	scripts = regexp.MustCompile(`(?s)<script>(.*?)</script>`)
	// strangers are links of the UI's page to a font service. The page does without: it falls back to a font that is there.
	strangers = regexp.MustCompile(`<link[^>]+href="https?://[^>]*>`)
)

// monitoringPage is the UI's one page, without what it would load from elsewhere.
func monitoringPage(ui http.Handler) ([]byte, error) {
	r, err := http.NewRequest(http.MethodGet, monitoringRoot+"/", nil) //nolint:noctx // answered from memory, at once
	if err != nil {
		return nil, err
	}
	answer := &keep{discard: discard{header: http.Header{}}}
	ui.ServeHTTP(answer, r)
	page := strangers.ReplaceAll(answer.body.Bytes(), nil)
	if !bytes.Contains(page, []byte(`id="root"`)) || bytes.Contains(page, []byte("https://")) {
		return nil, fmt.Errorf("asynq's UI has another page than expected (status %d)", answer.status)
	}
	return page, nil
}

// keep keeps an answer whole.
type keep struct {
	discard
	body bytes.Buffer
}

func (k *keep) Write(b []byte) (int, error) { return k.body.Write(b) }

// pagePolicy lets the UI run its own scripts, the two in its page included, and style itself; nothing else.
func pagePolicy(page []byte) string {
	return "default-src 'none'; script-src 'self' " + hashesOf(scripts, page) + "; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
		"font-src 'self' data:; connect-src 'self'; manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
}

// hashesOf lists the hashes of inline elements as a Content-Security-Policy names them.
func hashesOf(elements *regexp.Regexp, page []byte) string {
	var hashes []string
	for _, m := range elements.FindAllSubmatch(page, -1) {
		sum := sha256.Sum256(m[1])
		hashes = append(hashes, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
	}
	return strings.Join(hashes, " ")
}
