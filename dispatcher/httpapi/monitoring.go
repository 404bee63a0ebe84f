package httpapi

import (
	"bytes"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/hibiken/asynq"
	"github.com/hibiken/asynqmon"
	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry"
)

// sharedRedis hands asynq's UI the connection we have. The UI would close it if it were told to close, and nobody tells it to.
type sharedRedis struct{ redis.UniversalClient }

// MakeRedisClient implements asynq.RedisConnOpt.
func (r sharedRedis) MakeRedisClient() any { return r.UniversalClient }

// monitor is asynq's UI behind a lock. The UI's bulk buttons can lose tasks, so it shows and does nothing else.
type monitor struct {
	server *server
	lock   lock
	ui     http.Handler
	queues *asynq.Inspector
	page   []byte // the one page of the UI
	policy string // its Content-Security-Policy
}

// monitoring adds asynq's UI, and the login form before it.
func (s *server) monitoring() error {
	ui := asynqmon.New(asynqmon.Options{
		RootPath:         monitoringRoot,
		RedisConnOpt:     sharedRedis{s.Redis},
		ReadOnly:         true,
		PayloadFormatter: asynqmon.PayloadFormatterFunc(s.Client.FormatTask),
		// Our tasks have no results. Other programs that share this Redis keep theirs to themselves.
		ResultFormatter: asynqmon.ResultFormatterFunc(func(string, []byte) string { return "(not shown)" }),
	})
	html, err := monitoringPage(ui)
	if err != nil {
		return err
	}
	m := &monitor{server: s, lock: lock{s, registry.NewSessions(s.Keys)}, ui: ui, queues: asynq.NewInspectorFromRedisClient(s.Redis), page: html, policy: pagePolicy(html)}

	chapter := []string{"Operations"}
	s.document(page{mediaType: "text/html", schema: plainText, need: &watch, Operation: huma.Operation{
		OperationID: "monitoring", Method: http.MethodGet, Path: monitoringRoot + "/", Tags: chapter, Summary: "asynq's UI, read-only",
		Description: "For an operator's or viewer's key of all companies, by header or by the cookie that its login form sets. " +
			"Without a key the answer is that form, with status 401.",
	}})
	s.mux.Handle("GET "+monitoringRoot+"/", http.HandlerFunc(m.serve))
	m.lock.install(chapter)
	return nil
}

// serve shows the UI to those who may see it, and the login form to others.
func (m *monitor) serve(w http.ResponseWriter, r *http.Request) {
	rest := strings.TrimPrefix(r.URL.Path, monitoringRoot+"/")
	isAPI := strings.HasPrefix(rest, "api/")
	if err := m.lock.admit(r); err != nil {
		if isAPI || r.Header.Get("Authorization") != "" {
			m.server.refuse(w, r, err)
			return
		}
		m.lock.form(w, r, err)
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

// serveAPI answers with the UI's data. The UI reports its own faults as text, with Redis's address in it. The text goes to the
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

// diagnose finds out the cause of a fault of the UI, which tells its reasons in prose: Redis that does not answer, a queue
// that does not exist, or something else.
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

// faultless passes on an answer below 500, and keeps any other back.
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

// isTopFile reports whether a path is that of an icon or the like. Every other path is a place within the one page.
func isTopFile(rest string) bool { return strings.Contains(rest, ".") && !strings.Contains(rest, "/") }

var (
	scripts = regexp.MustCompile(`(?s)<script>(.*?)</script>`)
	// strangers are links of the UI's page to a font service. Without them the page falls back to a font that is there.
	strangers = regexp.MustCompile(`<link[^>]+href="https?://[^>]*>`)
)

// logoutButton stands over the UI, which knows of no login.
const logoutButton = `<form method="post" action="` + logoutPath + `" style="position:fixed;right:1rem;bottom:1rem;z-index:2000"><button>Log out</button></form>`

// monitoringPage is the UI's one page, with a button to log out, and without the links that would load something from elsewhere.
func monitoringPage(ui http.Handler) ([]byte, error) {
	r, err := http.NewRequest(http.MethodGet, monitoringRoot+"/", nil) //nolint:noctx // answered from memory, at once
	if err != nil {
		return nil, err
	}
	answer := &keep{discard: discard{header: http.Header{}}}
	ui.ServeHTTP(answer, r)
	page := strangers.ReplaceAll(answer.body.Bytes(), nil)
	page = bytes.Replace(page, []byte("</body>"), []byte(logoutButton+"</body>"), 1)
	if !bytes.Contains(page, []byte(logoutButton)) || !bytes.Contains(page, []byte(`id="root"`)) || bytes.Contains(page, []byte("https://")) {
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

// pagePolicy lets the UI run its own scripts, the two in its page included, and style itself. It allows nothing else.
func pagePolicy(page []byte) string {
	return "default-src 'none'; script-src 'self' " + hashesOf(scripts, page) + "; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
		"font-src 'self' data:; connect-src 'self'; manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
}
