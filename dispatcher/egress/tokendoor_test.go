package egress

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ringback/ringback/dispatcher/egress/egresstest"
)

// TestTokenEndpointsThatFail: every way has its sentence, and no sentence has anything of the answer, the URL or the secret.
func TestTokenEndpointsThatFail(t *testing.T) {
	for name, tt := range failingEndpoints() {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int64
			tokens, creds, log := newTokens(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				tt.endpoint.ServeHTTP(w, r)
			}))
			for range 3 {
				_, _, err := tokens.Get(t.Context(), someone, creds)
				wantError(t, err, OAuth)
				detail := asError(t, err).Detail
				if want := strings.TrimPrefix(tt.says, "the token endpoint"); !strings.HasSuffix(detail, want) || !strings.HasPrefix(detail, "the token endpoint") {
					t.Errorf("%q, want %q", detail, tt.says)
				}
				if text := fmt.Sprintf("%v %+v", err, err); strings.Contains(text, "canary") || strings.Contains(text, tokenSecret) || strings.Contains(text, creds.TokenURL) {
					t.Errorf("it says too much: %s", text)
				}
			}
			if asked := asked.Load(); asked != tt.asked || len(log.all) != 1 || log.all[0].Err == nil {
				t.Errorf("%d requests, want %d; reported %v", asked, tt.asked, log.all)
			}
		})
	}
}

// A failingEndpoint gives no token that can be used.
type failingEndpoint struct {
	endpoint http.Handler
	says     string
	asked    int64
}

func failingEndpoints() map[string]failingEndpoint {
	return map[string]failingEndpoint{
		"wrong secret":        {&issuer{answer: func(_ int, w http.ResponseWriter, r *http.Request) bool { r.Method = "canary"; return false }}, "answered 401 (invalid_client)", 2},
		"not JSON":            {answerWith(400, "text/plain", "canary"), "answered 400", 2},
		"error in a form":     {answerWith(400, "application/x-www-form-urlencoded", "error=invalid_scope&error_description=canary"), "answered 400 (invalid_scope)", 2},
		"error with 200":      {answerWith(200, "application/json", `{"error":"invalid_client"}`), "answered 200 (invalid_client)", 2},
		"error of a stranger": {answerWith(400, "application/json", `{"error":"<canary>"}`), "answered 400", 2},
		"error too long":      {answerWith(400, "application/json", `{"error":"canary`+strings.Repeat("x", 40)+`"}`), "answered 400", 2},
		"error is the secret": {answerWith(400, "application/json", `{"error":"`+tokenSecret+`"}`), "answered 400", 2},
		"redirect":            {answerWith(302, "application/json", `{"access_token":"canary"}`), "answered 302: redirects are not followed", 2},
		"permanent redirect":  {answerWith(308, "application/json", ``), "answered 308: redirects are not followed", 2},
		"HTML":                {answerWith(200, "text/html; charset=utf-8", "<h1>canary"), "answered 200 with text/html instead of an access_token in JSON", 2},
		"JSON as text":        {answerWith(200, "text/plain", `{"access_token":"canary"}`), "answered 200 with text/plain instead of an access_token in JSON", 2},
		"empty":               {answerWith(200, "application/json", ""), "answered 200 without an access_token that can be read", 2},
		"half":                {answerWith(200, "application/json", `{"access_token":"canary"`), "answered 200 without an access_token that can be read", 2},
		"another thing":       {answerWith(200, "application/json", `{"token":"canary"}`), "answered 200 without an access_token that can be read", 2},
		"an array":            {answerWith(200, "application/json", `["canary"]`), "answered 200 without an access_token that can be read", 2},
		"huge":                {answerWith(200, "application/json", `{"access_token":"canary","x":"`+strings.Repeat("x", 70<<10)+`"}`), "the token endpoint: the answer is longer than 64 KiB or broke off", 1},
		"huge error":          {answerWith(500, "application/json", strings.Repeat("canary", 20<<10)), "answered 500", 2},
		"long token":          {answerWith(200, "application/json", `{"access_token":"canary`+strings.Repeat("x", 16<<10)+`"}`), "answered 200 with an access_token of more than 16 KiB", 1},
		"token of two lines":  {answerWith(200, "application/json", `{"access_token":"canary\r\nX-A: b"}`), "answered 200 with an access_token that no header can hold", 1},
		"mac":                 {answerWith(200, "application/json", `{"access_token":"canary","token_type":"MAC"}`), "answered 200 with a token_type other than bearer", 1},
		"odd type":            {answerWith(200, "application/json", `{"access_token":"canary","token_type":"<canary>"}`), "answered 200 with a token_type other than bearer", 1},
		"expired":             {answerWith(200, "application/json", `{"access_token":"canary","expires_in":-5}`), "answered 200 with an access_token that has expired already", 1},
		"hangs up": {
			http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
			"the token endpoint: the connection was closed before an answer", 1,
		},
	}
}

// answerWith is an endpoint that always answers the same.
func answerWith(status int, contentType, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Location", "/canary")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
}

// TestTheTokenEndpointIsAStranger: the guard stands before it as before every other.
func TestTheTokenEndpointIsAStranger(t *testing.T) {
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the guard let a request through") }))
	t.Cleanup(inside.Close)
	dns := egresstest.NewNameServer(t, func(string, int) []string { return []string{"127.0.0.1"} })
	for name, tt := range map[string]struct{ url, says string }{
		"address":      {inside.URL, "the token endpoint: the URL may not have an address as its host"},
		"name":         {"http://id.example/token", "the token endpoint: the host name does not exist or has no address"},
		"port":         {"http://id.example:9999/token", "the token endpoint: the URL has a port that is not allowed"},
		"user info":    {"http://a:canary@id.example/token", "the token endpoint: the URL may not hold a user name"},
		"no HTTP":      {"file:///canary", "the token endpoint: the URL must be absolute"},
		"no URL":       {"http://canary\x7f", "the token endpoint's URL cannot be called"},
		"refused":      {"http://id.example:80/token", "the token endpoint: "},
		"not resolved": {"https://metadata.internal/token", "the token endpoint: the URL has the host name of an internal network"},
	} {
		t.Run(name, func(t *testing.T) {
			tokens := NewTokens(newClient(t, Config{Resolver: dns.Resolver()}), "", func(context.Context, Fetched) {}, neverPanics(t))
			t.Cleanup(tokens.Close)
			_, _, err := tokens.Get(t.Context(), someone, ClientCredentials{TokenURL: tt.url, ClientID: "me", ClientSecret: "canary"})
			wantError(t, err, OAuth)
			if detail := asError(t, err).Detail; !strings.HasPrefix(detail, tt.says) || strings.Contains(detail, "canary") {
				t.Errorf("%q, want %q", detail, tt.says)
			}
		})
	}
}
