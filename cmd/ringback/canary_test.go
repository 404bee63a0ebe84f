package main

import (
	"bufio"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/ringback/ringback/registry/redistest"
)

// canaries are secrets by what they are. Each is random, and looked for in whatever an installation says.
type canaries struct {
	t     *testing.T
	forms map[[leastSeen / 2]byte][]form // by how each begins
}

// A form is what a secret may look like.
type form struct{ name, looks string }

func newCanaries(t *testing.T) *canaries {
	return &canaries{t: t, forms: map[[leastSeen / 2]byte][]form{}}
}

// leastSeen is how many bytes of a secret's beginning are told from chance: what was cut off in the middle of it is found, too.
const leastSeen = 12

// awkward are the marks that JSON, HTML and URLs write otherwise, which headers may hold.
const awkward = `/+&"<'=`

// hatch makes a secret up, and remembers it under a name.
func (c *canaries) hatch(name string) string {
	secret := rand.Text()
	c.add(name, secret)
	return secret
}

// add remembers a secret in each form that something may be written in.
func (c *canaries) add(name, secret string) {
	c.t.Helper()
	if len(secret) < leastSeen {
		c.t.Fatalf("%s is too short", name)
	}
	for _, looks := range formsOf(secret[:leastSeen]) {
		begins := [leastSeen / 2]byte([]byte(looks))
		c.forms[begins] = append(c.forms[begins], form{name, looks})
	}
}

// addSigning remembers a signing secret, as it is shown and as it is used.
func (c *canaries) addSigning(secret string) {
	c.t.Helper()
	text := strings.TrimPrefix(secret, "whsec_")
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		c.t.Fatal(err)
	}
	c.add("signing secret", text)
	c.add("signing secret's bytes", string(raw))
}

// formsOf are the ways to write a few bytes: as they are, in hexadecimal digits, and in base64 at each of its three alignments.
func formsOf(secret string) []string {
	digits := hex.EncodeToString([]byte(secret))
	forms := []string{secret, digits, strings.ToUpper(digits)}
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 {
			encoded := encoding.EncodeToString([]byte(strings.Repeat("x", before) + secret))
			forms = append(forms, encoded[(8*before+5)/6:8*(before+len(secret))/6]) // the digits that hold bits of the secret's alone
		}
	}
	return forms
}

// seen are the secrets that are in a text, each with its form, but for those that may be.
func (c *canaries) seen(text string, may ...string) (found []string) {
	for i := range len(text) - leastSeen/2 + 1 {
		for _, f := range c.forms[[leastSeen / 2]byte([]byte(text[i:i+leastSeen/2]))] {
			if strings.HasPrefix(text[i:], f.looks) && !slices.Contains(may, f.name) {
				found = append(found, fmt.Sprintf("the %s: …%q…", f.name, text[max(0, i-200):min(len(text), i+60)]))
			}
		}
	}
	return found
}

func (c *canaries) wantNone(where, text string, may ...string) {
	c.t.Helper()
	for _, found := range c.seen(text, may...) {
		c.t.Errorf("%s tells %s", where, found)
	}
}

// TestCanariesAreSeen: each form of a secret is found, wherever it stands, so that what finds none proves something.
func TestCanariesAreSeen(t *testing.T) {
	t.Parallel()
	c := newCanaries(t)
	secret := c.hatch("secret")
	raw := make([]byte, 24)
	_, _ = rand.Read(raw)
	c.addSigning("whsec_" + base64.StdEncoding.EncodeToString(raw))
	quoted, _ := json.Marshal(map[string]string{"a": secret + awkward})
	for what, text := range map[string]string{
		"plain": secret, "its beginning": secret[:leastSeen], "json": string(quoted), "query": url.QueryEscape("a b&" + secret + awkward), "hex": hex.EncodeToString([]byte("a" + secret)),
		"user:pass": base64.StdEncoding.EncodeToString([]byte("me:" + secret)), "1 before": base64.StdEncoding.EncodeToString([]byte("m" + secret)),
		"2 before": base64.URLEncoding.EncodeToString([]byte("me" + secret + "?")), "raw": string(raw), "raw in hex": fmt.Sprintf("%X", raw),
		"raw in base64url": base64.RawURLEncoding.EncodeToString(append([]byte("1"), raw...)),
	} {
		if len(c.seen("before "+text+" after")) == 0 {
			t.Errorf("%s is not found: %q", what, text)
		}
	}
	if found := c.seen("before " + secret[:leastSeen-1] + " " + rand.Text()); len(found) > 0 {
		t.Errorf("found in something else: %v", found)
	}
	if found := c.seen(secret, "secret"); len(found) > 0 {
		t.Errorf("found where it may be: %v", found)
	}
}

// echoes is a partner that says back what it was sent in every way there is, and a token endpoint that does. The path says how.
type echoes struct {
	net.Listener
	accessToken string
}

func newEchoes(t *testing.T, accessToken string) *echoes {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echoes{l, accessToken}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { e.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return e
}

func (e *echoes) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	r, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	body, _ := io.ReadAll(r.Body)
	said := r.URL.RequestURI() + " " + r.Header.Get("Authorization") + " " + r.Header.Get("X-Canary")
	if r.Header.Get("Authorization") == "" {
		said += " " + string(body)
	}
	if strings.HasPrefix(r.Header.Get("Authorization"), "Basic ") {
		_, password, _ := r.BasicAuth()
		said += " " + password
	}
	words, _ := json.Marshal(said)
	answer := func(status, headers, body string) {
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 %s\r\n%sContent-Length: %d\r\nConnection: close\r\n\r\n%s", status, headers, len(body), body)
	}
	const failed, isJSON = "500 Internal Server Error", "Content-Type: application/json\r\n"
	switch r.URL.Path {
	case "/plain":
		answer(failed, "", said)
	case "/cut": // in the middle of the last secret
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 %s\r\nContent-Length: 5000\r\n\r\n%s", failed, said[:len(said)-8])
	case "/json":
		answer(failed, isJSON, `{"got": `+string(words)+`}`)
	case "/php":
		answer(failed, isJSON, `{"got": `+strings.ReplaceAll(string(words), "/", `\/`)+`}`)
	case "/net": // whose JSON spells out all that HTML or a URL might take for something
		answer(failed, isJSON, `{"got": `+strings.NewReplacer("+", `\u002B`, `\u003c`, `\u003C`, `\"`, `\u0022`, "'", `\u0027`).Replace(string(words))+`}`)
	case "/html":
		answer(failed, "Content-Type: text/html\r\n", "<p>"+html.EscapeString(said))
	case "/url":
		answer(failed, "", url.QueryEscape(said)+" "+url.PathEscape(said))
	case "/headers":
		answer("500 "+said, "Server: "+said+"\r\nWWW-Authenticate: Bearer realm="+string(words)+"\r\nX-Request-Id: "+said+"\r\nLocation: /elsewhere/"+url.PathEscape(said)+"?"+said+"\r\n", "")
	case "/type":
		answer("200 OK", "Content-Type: "+strings.NewReplacer(" ", ";").Replace(said)+"\r\n", "")
	case "/twice":
		answer("204 No Content", "", "")
	case "/double":
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nX: %s\r\n\r\n%s", said, said)
		_, _ = io.Copy(io.Discard, conn)
	case "/redirect":
		answer("307 "+said, "Location: /plain?"+said+"\r\n", said)
	case "/reset":
		_ = conn.(*net.TCPConn).SetLinger(0)
	case "/garbage":
		_, _ = fmt.Fprintf(conn, "%s\r\n\r\n", said)
	case "/token":
		answer("200 OK", isJSON, fmt.Sprintf(`{"access_token": %q, "expires_in": 3600}`, e.accessToken))
	case "/no-token":
		answer("400 "+said, isJSON, fmt.Sprintf(`{"error": %[1]s, "error_description": %[1]s, "error_uri": %[1]s}`, words))
	case "/decide":
		switch {
		case strings.Contains(string(body), "yes"):
			answer("200 OK", isJSON, `{"accepted": true, "got": `+string(words)+`}`)
		case strings.Contains(string(body), "no"):
			answer("403 "+said, isJSON, `{"message": `+string(words)+`}`)
		default:
			answer("200 OK", "Content-Type: "+strings.ReplaceAll(said, " ", ";")+"\r\n", said)
		}
	}
}

// parrotRedis answers each command as Redis answers those it does not know: with its arguments.
func parrotRedis(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = conn.Close() }()
				for r := bufio.NewReader(conn); ; {
					var n int
					if _, err := fmt.Fscanf(r, "*%d\r\n", &n); err != nil {
						return
					}
					var words []string
					for range n {
						var length int
						if _, err := fmt.Fscanf(r, "$%d\r\n", &length); err != nil {
							return
						}
						word := make([]byte, length+2)
						if _, err := io.ReadFull(r, word); err != nil {
							return
						}
						words = append(words, "'"+string(word[:length])+"'")
					}
					_, _ = fmt.Fprintf(conn, "-ERR unknown command %s, with args beginning with: %s\r\n", words[0], strings.Join(words[1:], " "))
				}
			})
		}
	})
	return l.Addr().String()
}

// newProxy is a proxy that takes CONNECT with a password, and tells it to whom it refuses: those who want to go to forbidden.
func newProxy(t *testing.T, password, forbidden string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		given := r.Header.Get("Proxy-Authorization")
		if r.Method != http.MethodConnect || given != "Basic "+base64.StdEncoding.EncodeToString([]byte("me:"+password)) || r.Host == forbidden {
			w.Header().Set("Proxy-Authenticate", given)
			http.Error(w, given+" "+password, http.StatusProxyAuthRequired)
			return
		}
		there, err := new(net.Dialer).DialContext(r.Context(), "tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer func() { _ = there.Close() }()
		here, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = here.Close() }()
		_, _ = io.WriteString(here, "HTTP/1.1 200 Connection established\r\n\r\n")
		go func() {
			_, _ = io.Copy(there, here)
			_ = there.Close()
		}()
		_, _ = io.Copy(here, there)
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// A canaryInstallation is an API and a worker of their own over a Redis, with a secret wherever there can be one.
type canaryInstallation struct {
	*canaries
	server string
	keys   map[string]string // by whom
}

// ask makes a request as whoever has that key, and looks for secrets in the answer, but for those that may stand there.
func (i *canaryInstallation) ask(who, method, path, body string, status int, may ...string) string {
	i.t.Helper()
	req, err := http.NewRequestWithContext(i.t.Context(), method, i.server+path, strings.NewReader(body))
	if err != nil {
		i.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+i.keys[who])
	req.Header.Set("Content-Type", "application/json")
	if strings.HasSuffix(path, "/batch") {
		req.Header.Set("Content-Type", "application/x-ndjson")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		i.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		i.t.Fatal(err)
	}
	if resp.StatusCode != status && status != 0 {
		i.t.Errorf("%s %s answers the %s %d, want %d: %s", method, path, who, resp.StatusCode, status, answer)
	}
	i.wantNone(fmt.Sprintf("%s %s, asked by the %s,", method, path, who), fmt.Sprint(resp.Header, string(answer)), may...)
	return string(answer)
}

// try runs a command and looks for secrets in what it says.
func (i *canaryInstallation) try(env []string, code int, args ...string) {
	i.t.Helper()
	i.tryBut(nil, env, code, args...)
}

func (i *canaryInstallation) tryBut(may, env []string, code int, args ...string) {
	i.t.Helper()
	stdout, stderr, got := try(i.t, env, args...)
	if got != code {
		i.t.Errorf("ringback %s ends with %d, want %d: %s", strings.Join(args, " "), got, code, stderr)
	}
	i.wantNone("ringback "+strings.Join(args[:min(len(args), 3)], " "), stdout+stderr, may...)
}

const acmeCallbacks = "/companies/acme/config/callbacks"

// TestNoSecretGetsOut puts a secret wherever there can be one, lets partners echo them in every way there is, and fail in each way there is,
// and then looks for them in logs, metrics, traces, answers, asynq's UI, Redis, and in what commands say. A secret may be in two places: the
// answer that gives a signing secret, and a callback's URL where somebody reads it who may change it.
func TestNoSecretGetsOut(t *testing.T) {
	t.Parallel()
	c := newCanaries(t)
	redis := redistest.Start(t)
	redisPassword, proxyPassword := c.hatch("Redis password"), c.hatch("proxy password")
	if err := redis.Client().Do(t.Context(), "ACL", "SETUSER", "me", "on", ">"+redisPassword, "~*", "&*", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	collector := newCollector(t)
	partner := newEchoes(t, c.hatch("access token")+awkward)
	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(untrusted.Close)
	untrusted.Config.ErrorLog = nil
	forbidden := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(forbidden.Close)
	proxy := newProxy(t, proxyPassword, forbidden.Listener.Addr().String())

	keyset := filepath.Join(t.TempDir(), "keyset.json")
	env := []string{
		"RINGBACK_REDIS=redis://me:" + redisPassword + "@" + redis.Addr() + "/0", "RINGBACK_KEYSET_FILE=" + keyset, "RINGBACK_LISTEN=127.0.0.1:0",
		"RINGBACK_EGRESS_ALLOW=127.0.0.0/8", "OTEL_EXPORTER_OTLP_ENDPOINT=" + collector.URL, "OTEL_EXPORTER_OTLP_HEADERS=api-key=" + c.hatch("collector's key"),
	}
	throughProxy := append(env, "RINGBACK_EGRESS_PROXY=http://me:"+proxyPassword+"@"+proxy)
	serve := func(env []string, role string) *process {
		cmd := exec.Command(plainRingback(t), "serve", "--roles", role)
		cmd.Env = append(os.Environ(), env...)
		return launch(t, cmd)
	}
	api := serve(throughProxy, "api")
	i := &canaryInstallation{canaries: c, server: "http://" + address(api), keys: map[string]string{}}
	worker := serve(append(env, "RINGBACK_KEEP_ANSWERS=all", "RINGBACK_KEEP_ANSWER_BYTES=16384"), "worker")
	workerURL := "http://" + address(worker)
	for who, scope := range map[string]string{"operator": "*", "viewer": "*", "producer": "acme", "partner": "acme", "other partner": "other"} {
		_, role, both := strings.Cut(who, " ")
		if !both {
			role = who
		}
		i.keys[who] = strings.TrimSpace(ringback(t, env, "keys", "create", "--role", role, "--company", scope, "--rate-limit", "0"))
		c.add("key of the "+who, i.keys[who][len(i.keys[who])-20:]) // its beginning is its id
	}
	i.keys["stranger"] = c.hatch("key of a stranger")
	c.addKeyset(keyset)

	urls := []string{"query", "token query"}
	ids := i.register(partner.Addr().String(), untrusted.URL, forbidden.URL, urls)
	i.refuseRegistrations(urls)

	// Attempts, tests and decisions.
	payload := c.hatch("payload")
	i.ask("producer", "POST", "/companies/acme/events", `{"event_type": "payment_proof", "event_id": "e-1", "payload": {"requestId": "`+payload+`", "status": "OK"}}`, 202)
	for path, id := range ids {
		if path == "/decide" {
			continue
		}
		worker.await(fmt.Sprintf(`"callback":%d,.*"verdict":"(dead|delivered|retry)"`, id))
		i.ask("partner", "POST", fmt.Sprintf("%s/%d/test", acmeCallbacks, id), `{"event_type": "payment_proof"}`, 200)
		i.ask("partner", "POST", fmt.Sprintf("%s/%d/verify", acmeCallbacks, id), "", 200)
	}
	worker.await(fmt.Sprintf(`"callback":%d,.*"attempt":2,"verdict":"dead"`, ids["/type"]))
	worker.await("Unsolicited response received")
	i.ask("partner", "POST", fmt.Sprintf("%s/%d/replay", acmeCallbacks, ids["/type"]), `{}`, 202)
	worker.await(fmt.Sprintf(`"callback":%d,.*"attempt":3,`, ids["/type"]))
	const ask = `{"event_type": "entry_code.verify", "payload": {"entryCode": %q}}`
	i.ask("producer", "POST", "/companies/acme/decisions", fmt.Sprintf(ask, "yes"), 200)
	i.ask("producer", "POST", "/companies/acme/decisions", fmt.Sprintf(ask, "no"), 502)
	i.ask("producer", "POST", "/companies/acme/decisions", fmt.Sprintf(ask, "nonsense"), 502)

	i.look(workerURL, ids, urls, payload)
	i.commands(env, ids)

	// What goes wrong with Redis, and with the settings.
	for _, url := range []string{"redis://me:" + redisPassword + "@127.0.0.1:1", "redis://me:" + redisPassword + "x@" + redis.Addr(), "redis://me:" + redisPassword + "@" + parrotRedis(t)} {
		i.try(env, exitFailure, "keys", "list", "--redis", url)
		i.try(throughProxy, exitFailure, "doctor", "--redis", url)
	}

	for _, p := range []*process{api, worker} {
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []*process{api, worker} {
		<-p.done
		c.wantNone("the log of "+p.name, p.said.String())
	}
	collector.await("attempt payment_proof")
	c.wantNone("what OpenTelemetry sends", collector.raw.String())
	c.wantNone("Redis", everWritten(t, redis), "payload")
}

// addKeyset remembers the key in a keyset's file.
func (c *canaries) addKeyset(file string) {
	c.t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		c.t.Fatal(err)
	}
	key := regexp.MustCompile(`"value": *"([^"]+)"`).FindSubmatch(text)
	if key == nil {
		c.t.Fatalf("there is no key in %s", text)
	}
	raw, err := base64.StdEncoding.DecodeString(string(key[1]))
	if err != nil {
		c.t.Fatal(err)
	}
	c.add("keyset", string(raw[len(raw)-32:]))
}

// register makes a callback for each way to echo, and one for each way to fail, and returns their ids by path.
func (i *canaryInstallation) register(partner, untrusted, forbidden string, urls []string) map[string]int64 {
	i.t.Helper()
	query := func() string { return "?token=" + i.hatch("query") + "%2F%2B%26&s=" + i.hatch("query") }
	oauth2 := func(path string) string {
		return fmt.Sprintf(`{"type": "oauth2", "token_url": "http://%s%s?k=%s", "client_id": "me", "client_secret": %q}`, partner, path, i.hatch("token query"), i.hatch("client secret")+awkward)
	}
	bearer := func() string { return fmt.Sprintf(`{"type": "bearer", "token": %q}`, i.hatch("bearer token")+awkward) }
	basic := func() string {
		return fmt.Sprintf(`{"type": "basic", "username": "me", "password": %q}`, i.hatch("password")+awkward)
	}
	ids := map[string]int64{}
	for _, cb := range []struct{ path, auth, retry string }{
		{"/plain", bearer(), `{"initial_interval": "1h"}`},
		{"/cut", bearer(), `{"max_attempts": 1}`},
		{"/json", bearer(), `{"max_attempts": 1}`},
		{"/php", basic(), `{"initial_interval": "1h"}`},
		{"/net", bearer(), `{"max_attempts": 1}`},
		{"/html", basic(), `{"max_attempts": 1}`},
		{"/url", oauth2("/token"), `{"initial_interval": "1h"}`},
		{"/headers", bearer(), `{"initial_interval": "1h"}`},
		{"/type", bearer(), `{"initial_interval": "1s", "max_attempts": 2}`},
		{"/double", bearer(), `{"max_attempts": 1}`},
		{"/redirect", basic(), `{"max_attempts": 1}`},
		{"/reset", bearer(), `{"max_attempts": 1}`},
		{"/garbage", bearer(), `{"initial_interval": "1h"}`},
		{"/untrusted", bearer(), `{"max_attempts": 1}`},
		{"/forbidden", bearer(), `{"max_attempts": 1}`},
		{"/token-fails", oauth2("/no-token"), `{"initial_interval": "1h"}`},
		{"/decide", bearer(), `{"max_attempts": 1}`},
	} {
		typ, base := "payment_proof", "http://"+partner
		switch cb.path {
		case "/decide":
			typ = "entry_code.verify"
		case "/untrusted":
			base = untrusted
		case "/forbidden":
			base = forbidden
		}
		answer := i.ask("partner", "POST", acmeCallbacks, fmt.Sprintf(`{"callback_type": %q, "destination": {"url": "%s%s%s"}, "auth": %s, "headers": {"X-Canary": %q}, "retry": %s}`,
			typ, base, cb.path, query(), cb.auth, i.hatch("header")+awkward, cb.retry), http.StatusCreated, urls...)
		var made struct {
			ID     int64 `json:"callback_id"`
			Secret string
		}
		if err := json.Unmarshal([]byte(answer), &made); err != nil || made.Secret == "" {
			i.t.Fatalf("%s: %v", answer, err)
		}
		i.addSigning(made.Secret)
		ids[cb.path] = made.ID
	}
	return ids
}

// refuseRegistrations sends secrets with something wrong about them, and in wrong places.
func (i *canaryInstallation) refuseRegistrations(urls []string) {
	canary := i.hatch("refused")
	const dest = `"destination": {"url": "http://127.0.0.1/"}`
	for _, members := range []string{
		`"auth": {"type": "bearer", "token": "CANARY\n"}, ` + dest,
		`"auth": {"type": "bearer", "token": {"x": "CANARY"}}, ` + dest,
		`"auth": {"type": "bearer", "token": ["CANARY"]}, ` + dest,
		`"auth": {"type": "bearer", "secret": "CANARY"}, ` + dest,
		`"auth": {"type": "CANARY"}, ` + dest,
		`"auth": "CANARY", ` + dest,
		`"auth": {"type": "basic", "username": "a:b", "password": "CANARY"}, ` + dest,
		`"auth": {"type": "oauth2", "token_url": "http://10.0.0.1/CANARY?x=CANARY", "client_id": "a\n", "client_secret": "CANARY"}, ` + dest,
		`"headers": {"X-Proof": "CANARY\r\n"}, ` + dest,
		`"headers": {"X-Proof": {"is": "CANARY"}}, ` + dest,
		`"headers": {"Host": "CANARY"}, ` + dest,
		`"headers": "CANARY", ` + dest,
		`"secret": "CANARY", ` + dest,
		`"password": "CANARY", ` + dest,
		`"retry": "CANARY", ` + dest,
		`"destination": {"url": "http://10.0.0.1/?key=CANARY"}`,
		`"destination": {"url": "http://u:CANARY@127.0.0.1/"}`,
		`"destination": {"url": "http://127.0.0.1/#CANARY"}`,
		`"destination": {"url": "http://127.0.0.1:CANARY/"}`,
		`"destination": {"url": "http://127.0.0.1/%zz?CANARY"}`,
		`"destination": {"url": "http://127.0.0.1/\u0000CANARY"}`,
		`"destination": {"url": ["http://127.0.0.1/?CANARY"]}`,
		`"destination": "http://127.0.0.1/?key=CANARY"`,
		`"auth": {"type": "bearer", "token": "CANARY`,
	} {
		body := `{"callback_type": "*", ` + strings.ReplaceAll(members, "CANARY", canary) + `}`
		i.ask("partner", "POST", acmeCallbacks, body, 422-22*i.broken(body))
		i.ask("partner", "PATCH", acmeCallbacks+"/1", body, 422-22*i.broken(body))
	}
	i.ask("producer", "POST", "/companies/acme/events", `{"event_type": "payment_proof", "payload": {"requestId": ["`+canary+`"]}}`, 422)
	i.ask("producer", "POST", "/companies/acme/events", `{"event_type": "payment_proof", "payload": {"requestId": "`+canary+`",}}`, 400)
	i.ask("producer", "POST", "/companies/acme/events/batch", `{"event_type": "payment_proof", "payload": {"requestId": ["`+canary+`"]}}`+"\n"+canary+"\n", 200)
	i.ask("partner", "POST", acmeCallbacks+"/1/secret", `{"overlap": "`+canary+`"}`, 422)
	i.ask("operator", "GET", "/companies/acme/deliveries?key="+canary, "", 422)
	i.ask("operator", "GET", "/nothing?key="+canary, "", 404)
	i.ask("stranger", "GET", acmeCallbacks, "", 401)
	i.ask("stranger", "POST", acmeCallbacks, "{}", 401)
	var rotated struct{ Secret string }
	if err := json.Unmarshal([]byte(i.ask("partner", "POST", acmeCallbacks+"/1/secret", `{"overlap": "1h"}`, 200, append(urls, "signing secret")...)), &rotated); err != nil {
		i.t.Fatal(err)
	}
	i.addSigning(rotated.Secret)
}

// broken is 1 if a text is no JSON, else 0.
func (i *canaryInstallation) broken(text string) int {
	if json.Valid([]byte(text)) {
		return 0
	}
	return 1
}

// look reads everything there is to read, as everybody.
func (i *canaryInstallation) look(workerURL string, ids map[string]int64, urls []string, payload string) {
	i.t.Helper()
	paths := []string{"/companies/acme/events/e-1/payload"}
	for path, id := range ids {
		paths = append(paths, fmt.Sprintf("%s/%d", acmeCallbacks, id))
		if path == "/decide" {
			continue
		}
		one := i.ask("partner", "GET", fmt.Sprintf("/companies/acme/deliveries?callback_id=%d", id), "", 200)
		delivery := regexp.MustCompile(`"delivery_id":"(dlv_[^"]+)"`).FindStringSubmatch(one)
		paths = append(paths, "/companies/acme/deliveries/"+delivery[1], "/companies/acme/deliveries/"+delivery[1]+"?include=request")
		i.wantSent(path, delivery[1])
		echoed := !slices.Contains([]string{"/double", "/redirect", "/reset", "/untrusted", "/forbidden", "/garbage", "/token-fails"}, path)
		if echoed && !strings.Contains(one, "***") {
			i.t.Errorf("nothing is kept of what %s echoed, so it proves little: %s", path, one)
		}
	}
	paths = append(paths, acmeCallbacks, "/companies/acme/events/e-1", "/companies/acme/deliveries?limit=500", "/companies/acme/replays", "/callback-types", "/companies/acme/quotas",
		"/audit?company=acme", "/egress", "/lanes", "/metrics", "/healthz", "/readyz", "/openapi.json", "/monitoring/", "/monitoring/api/queues", "/monitoring/api/redis_info",
		"/monitoring/api/servers", "/monitoring/api/scheduler_entries", "/monitoring/api/queue_stats")
	for _, lane := range regexp.MustCompile(`"queue":"([^"]+)"`).FindAllStringSubmatch(i.ask("operator", "GET", "/monitoring/api/queues", "", 200), -1) {
		for _, state := range []string{"pending", "active", "retry", "scheduled", "archived", "completed"} {
			paths = append(paths, "/monitoring/api/queues/"+lane[1]+"/"+state+"_tasks")
		}
	}
	for _, path := range paths {
		for who := range i.keys {
			var may []string
			if who != "viewer" && (strings.HasSuffix(path, "/payload") || strings.HasSuffix(path, "include=request")) {
				may = []string{"payload"}
			}
			if strings.HasPrefix(path, acmeCallbacks) && (who == "operator" || who == "partner") {
				may = urls
			}
			i.ask(who, "GET", path, "", map[string]int{"operator": 200}[who], may...)
		}
	}
	_, metrics := get(i.t, workerURL+"/metrics", i.keys["operator"])
	i.wantNone("the worker's /metrics", metrics)
}

// wantSent verifies that a delivery shows what was sent, with *** in it, unless nothing was: else that it tells no secret proves little.
func (i *canaryInstallation) wantSent(path, delivery string) {
	i.t.Helper()
	said := i.ask("operator", "GET", "/companies/acme/deliveries/"+delivery+"?include=request", "", 200, "payload")
	sent := !slices.Contains([]string{"/untrusted", "/token-fails"}, path)
	for _, part := range []string{`"X-Canary":"***"`, `"Authorization":"***"`, path + `?token=***&s=***"`, `"Webhook-Signature":"v1,`, `"body":"{`} {
		if strings.Contains(said, part) != sent {
			i.t.Errorf("%s: is %s in what was sent? %s", path, part, said)
		}
	}
}

// commands runs those that show something.
func (i *canaryInstallation) commands(env []string, ids map[string]int64) {
	i.t.Helper()
	env = append(env, "RINGBACK_SERVER="+i.server, "RINGBACK_COMPANY=acme", "RINGBACK_KEY="+i.keys["operator"])
	urls := []string{"query", "token query"}
	delivery := regexp.MustCompile(`dlv_[A-Za-z0-9_-]+`).FindString(i.ask("operator", "GET", fmt.Sprintf("/companies/acme/deliveries?callback_id=%d", ids["/plain"]), "", 200))
	for _, format := range []string{"table", "json"} {
		i.tryBut(urls, env, exitOK, "callbacks", "list", "-o", format)
		i.tryBut(urls, env, exitOK, "callbacks", "get", fmt.Sprint(ids["/plain"]), "-o", format)
		i.try(env, exitOK, "events", "get", "e-1", "-o", format)
		i.try(env, exitOK, "deliveries", "list", "-o", format)
		i.tryBut([]string{"payload"}, env, exitOK, "deliveries", "get", delivery, "--request", "-o", format)
		i.tryBut([]string{"payload"}, env, exitOK, "events", "payload", "e-1", "-o", format)
		i.try(env, exitOK, "keys", "list", "-o", format)
		i.try(env, exitOK, "audit", "-o", format)
	}
	i.try(append(env, "RINGBACK_KEY="+i.keys["stranger"]), exitFailure, "callbacks", "list")
	i.try(append(env, "RINGBACK_KEYSET="+i.hatch("broken keyset")), exitConfig, "serve")
	i.try(append(env, "RINGBACK_SECRET=whsec_"+i.hatch("broken secret")+"!"), exitUsage, "listen", "--listen", "127.0.0.1:0")
}

// everWritten is what stands in Redis's append-only files: all that was ever written, in plain text.
func everWritten(t *testing.T, redis *redistest.Server) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(redis.Dir(), "appendonlydir", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no append-only file: %v", err)
	}
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}
