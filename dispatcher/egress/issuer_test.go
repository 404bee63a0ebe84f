package egress

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
)

// An issuer is a token endpoint that counts. It takes the credentials in one place only, as real ones do.
type issuer struct {
	inBody bool // else in the Authorization header
	life   int  // expires_in; 0: absent
	answer func(n int, w http.ResponseWriter, r *http.Request) bool

	mu      sync.Mutex
	asked   int
	issued  int
	forms   []url.Values
	headers []http.Header
}

const tokenSecret = "s3cr3t/+ %"

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	i.mu.Lock()
	i.asked++
	n := i.asked
	i.forms, i.headers = append(i.forms, r.PostForm), append(i.headers, r.Header)
	i.mu.Unlock()
	if i.answer != nil && i.answer(n, w, r) {
		return
	}
	id, secret, _ := r.BasicAuth()
	id, _ = url.QueryUnescape(id)
	secret, _ = url.QueryUnescape(secret)
	if i.inBody {
		id, secret = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	}
	if r.Method != http.MethodPost || r.PostForm.Get("grant_type") != "client_credentials" || id != "me" || secret != tokenSecret {
		tell(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client", "error_description": "canary " + secret})
		return
	}
	i.mu.Lock()
	i.issued++
	token := map[string]any{"access_token": "token-" + strconv.Itoa(i.issued), "token_type": "bearer"}
	i.mu.Unlock()
	if i.life > 0 {
		token["expires_in"] = i.life
	}
	tell(w, http.StatusOK, token)
}

func tell(w http.ResponseWriter, status int, what map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(what)
}

func (i *issuer) counts() (asked, issued int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked, i.issued
}

// A fetchLog is what Tokens reports.
type fetchLog struct {
	mu  sync.Mutex
	all []Fetched
}

func (l *fetchLog) add(_ context.Context, f Fetched) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, f)
}

var someone = Owner{"acme", 1}

// newTokens opens a token endpoint on loopback.
func newTokens(t *testing.T, endpoint http.Handler) (*Tokens, ClientCredentials, *fetchLog) {
	t.Helper()
	server := httptest.NewServer(endpoint)
	t.Cleanup(server.Close)
	log := &fetchLog{}
	tokens := NewTokens(newClient(t, Config{Allow: loopback}), "Ringback/test", log.add, neverPanics(t))
	t.Cleanup(tokens.Close)
	return tokens, ClientCredentials{TokenURL: server.URL + "/a%2Fb?x=<y>", ClientID: "me", ClientSecret: tokenSecret}, log
}

// inTokenBubble runs f with a token endpoint behind pipes and free time.
func inTokenBubble(t *testing.T, endpoint http.Handler, f func(t *testing.T, tokens *Tokens, creds ClientCredentials)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var wg sync.WaitGroup
		dialled := make(chan net.Conn)
		closed := make(chan struct{})
		server := &http.Server{Handler: endpoint}
		wg.Go(func() { _ = server.Serve(pipes{dialled, closed}) })
		c, err := New(Config{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			near, far := net.Pipe()
			select {
			case dialled <- far:
				return near, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		tokens := NewTokens(c, "Ringback/test", func(context.Context, Fetched) {}, neverPanics(t))
		f(t, tokens, ClientCredentials{TokenURL: "http://id.example/token", ClientID: "me", ClientSecret: tokenSecret})
		tokens.Close()
		c.Close()
		close(closed)
		_ = server.Close()
		wg.Wait()
	})
}

type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, io.EOF
	}
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func mustGet(t *testing.T, tokens *Tokens, owner Owner, creds ClientCredentials) *Token {
	t.Helper()
	token, _, err := tokens.Get(t.Context(), owner, creds)
	if err != nil {
		t.Fatal(err)
	}
	return token
}
