package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/dispatcher/httpapi"
	"github.com/ringback/ringback/registry/redistest"
)

// serveDoor serves handler as ringback serve does, with limit connections at most, and idle of them idle.
func serveDoor(t *testing.T, limit, idle int, handler http.HandlerFunc) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	server := newServer(handler, quiet)
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(limitConnections(server, ln, limit, idle, quiet)) })
	t.Cleanup(func() {
		_ = server.Close()
		wg.Wait()
	})
	return ln.Addr().String()
}

func dialTCP(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// ping asks over a connection and wants an answer.
func ping(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 12)
	if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "HTTP/1.1 204" {
		t.Fatalf("%q, %v", answer, err)
	}
}

// Connections that do nothing, before their first request or after one, are closed when there are too many of them, those that have been idle
// longest first; whoever comes is served.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	t.Parallel()
	const limit, idle, all = 10, 4, 40
	addr := serveDoor(t, limit, idle, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	closed := func(name string, conns []net.Conn) {
		t.Helper()
		for i, conn := range conns {
			_ = conn.SetReadDeadline(time.Now().Add(patience))
			if _, err := io.Copy(io.Discard, conn); err != nil {
				t.Errorf("%s: connection %d is still open: %v", name, i, err)
			}
		}
	}
	var idlers, silent []net.Conn
	for range all {
		idlers = append(idlers, dialTCP(t, addr))
		ping(t, idlers[len(idlers)-1])
	}
	closed("after a request", idlers[:all-idle])
	for range all {
		silent = append(silent, dialTCP(t, addr))
	}
	ping(t, dialTCP(t, addr))
	closed("after a request, when there is no room", idlers[all-idle:])
	closed("before one", silent[:all-limit])
}

// piped is a listener without a network, for a bubble.
type piped chan net.Conn

func (p piped) Accept() (net.Conn, error) {
	conn, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (p piped) Close() error { close(p); return nil }

func (p piped) Addr() net.Addr { return &net.TCPAddr{} }

func (p piped) dial() net.Conn {
	client, server := net.Pipe()
	p <- server
	return client
}

// Callers who have their refusal and go on sending, as fast as is demanded, hold no place: whoever comes is served at once.
func TestAnsweredConnectionsMakeRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const limit = 3
		listener, quiet := make(piped), slog.New(slog.DiscardHandler)
		server := newServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			w.WriteHeader(http.StatusNoContent)
		}), quiet)
		var running sync.WaitGroup
		running.Go(func() { _ = server.Serve(limitConnections(server, listener, limit, limit, quiet)) })
		for range limit {
			conn := listener.dial()
			heard := make(chan struct{})
			running.Go(func() {
				defer close(heard)
				if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || resp.StatusCode != http.StatusUnauthorized {
					t.Errorf("the refusal: %v", err)
				} else {
					_ = resp.Body.Close()
				}
			})
			_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
			<-heard
			running.Go(func() { // for as long as anybody reads
				for _, err := conn.Write(make([]byte, 4<<10)); err == nil; _, err = conn.Write(make([]byte, 4<<10)) {
					time.Sleep(time.Second)
				}
			})
		}
		synctest.Wait()
		began := time.Now()
		conn := listener.dial()
		ping(t, conn)
		if took := time.Since(began); took > 0 {
			t.Errorf("served after %s", took)
		}
		_ = server.Close()
		_ = conn.Close()
		running.Wait()
	})
	if conn := new(net.TCPConn); accepted(tls.Server(conn, nil)) != conn {
		t.Error("a connection that speaks TLS is not known again")
	}
}

// Connections that are busy are left alone: whoever comes waits until one of them is through.
func TestBusyConnectionsAreLeftAlone(t *testing.T) {
	t.Parallel()
	goOn, begun := make(chan struct{}), make(chan struct{}, 3)
	addr := serveDoor(t, 2, 2, func(w http.ResponseWriter, _ *http.Request) {
		begun <- struct{}{}
		<-goOn
		w.WriteHeader(http.StatusNoContent)
	})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { ping(t, dialTCP(t, addr)) })
		<-begun
	}
	wg.Go(func() { ping(t, dialTCP(t, addr)) })
	select {
	case <-begun:
		t.Error("a third connection was served beside two of two")
	case <-time.After(50 * time.Millisecond):
	}
	close(goOn)
	wg.Wait()
}

// What net/http has to say is one line of slog's, now and then, with nothing in it that a terminal would act on.
func TestNetHTTPSpeaksThroughSlog(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]func(io.Writer) slog.Handler{
		"json": func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) },
		"text": func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) },
	} {
		var out bytes.Buffer
		synctest.Test(t, func(*testing.T) { // in which all is said in one moment
			server := newServer(http.NotFoundHandler(), slog.New(handler(&out)))
			for range 100 {
				server.ErrorLog.Printf("http: TLS handshake error from 10.0.0.1:5: \x1b[31m\u009b1mred\u202e\u2066\r\nlevel=ERROR msg=%s", strings.Repeat("x", 8<<10))
			}
		})
		said := out.String()
		if strings.Count(said, "\n") != 1 || !strings.Contains(said, "TLS handshake error from 10.0.0.1:5") || len(said) > 2*dispatcher.MaxTold || !strings.Contains(said, "left_out") {
			t.Errorf("%s: %d lines, %d bytes: %.300s", name, strings.Count(said, "\n"), len(said), said)
		}
		if strings.ContainsAny(said, "\x1b\u009b\u202e\u2066\r") {
			t.Errorf("%s: %.300q", name, said)
		}
	}
}

// A command that waits for a connection, because this process's other commands use them all, waits for no fault of Redis's: its request hears
// something else, it is never sent, and no later command of the request is given up for it.
func TestWaitingForAConnectionIsNoFaultOfRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb, err := openRedis(server.URL(), "", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rdb.Close() }()
	begun := make(begins)
	rdb.AddHook(begun)
	var wg sync.WaitGroup
	wg.Go(func() { // holds the one connection; Redis itself is idle
		if err := rdb.BLPop(context.WithoutCancel(t.Context()), 2*time.Second, "none").Err(); err != nil && !errors.Is(err, redis.Nil) {
			t.Error(err)
		}
	})
	<-begun
	request := context.WithValue(t.Context(), patienceKey{}, new(requestPatience))
	wg.Go(func() {
		err := rdb.Set(request, "k", "v", 0).Err()
		if !errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a command: %v", err)
		}
	})
	cmds, err := rdb.Pipelined(request, func(p redis.Pipeliner) error {
		p.Set(request, "k", "v", 0)
		return nil
	})
	if !errors.Is(err, redis.ErrPoolTimeout) || !errors.Is(cmds[0].Err(), redis.ErrPoolTimeout) {
		t.Errorf("a pipeline: %v, %v", err, cmds[0].Err())
	}
	wg.Wait()
	if n, err := rdb.Exists(request, "k").Result(); err != nil || n != 0 {
		t.Errorf("after the wait: %d, %v", n, err)
	}
}

// begins is a hook that is closed once a BLPOP has its connection.
type begins chan struct{}

func (b begins) DialHook(next redis.DialHook) redis.DialHook { return next }

func (b begins) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "blpop" {
			close(b)
		}
		return next(ctx, cmd)
	}
}

func (b begins) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// TestAFloodIsToldTheTruth sends from many connections at once to a process whose Redis has nothing else to do: nobody hears that Redis does
// not answer, and what is refused is not stored. Where the machine stands still, Redis does not answer.
func TestAFloodIsToldTheTruth(t *testing.T) {
	t.Parallel()
	const connections, each = 250, 2
	server := redistest.Start(t)
	shared := []string{"RINGBACK_REDIS=" + server.URL(), "RINGBACK_KEYSET_FILE=" + filepath.Join(t.TempDir(), "keyset.json")}
	key := strings.TrimSpace(ringback(t, shared, "keys", "create", "--role", "operator"))
	url := "http://" + address(start(t, shared, "serve", "--listen", "127.0.0.1:0", "--roles", "api"))
	standstill := longestAnswer(t, server.Client())
	transport := &http.Transport{MaxIdleConnsPerHost: connections}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	ask := func(method, path, body string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), method, url+path, strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		req.Header.Set("Authorization", "Bearer "+key)
		resp, err := client.Do(req)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		defer func() { _ = resp.Body.Close() }()
		answer, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(answer)
	}
	var mu sync.Mutex
	refused := map[string]string{}
	accepted := 0
	var wg sync.WaitGroup
	for c := range connections {
		wg.Go(func() {
			for n := range each {
				id := fmt.Sprint("e-", c, "-", n)
				status, body := ask("POST", "/companies/acme/events", `{"event_type":"payment_proof","event_id":"`+id+`","payload":{"requestId":"a","status":"OK"}}`)
				mu.Lock()
				switch status {
				case http.StatusAccepted:
					accepted++
				default:
					refused[id] = body
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	longest := standstill()
	t.Logf("%d accepted, %d refused; Redis answered within %s", accepted, len(refused), longest)
	for id, why := range refused {
		if longest > 500*time.Millisecond {
			break
		}
		if !strings.Contains(why, "more to do at the moment than it can") {
			t.Errorf("%s was refused: %s", id, why)
		}
		if status, body := ask("GET", "/companies/acme/events/"+id, ""); status != http.StatusNotFound {
			t.Errorf("%s was refused and is stored: %d %s", id, status, body)
		}
	}
	if accepted == 0 {
		t.Error("nothing was accepted")
	}
}

// longestAnswer asks Redis for nothing, again and again, until its end is asked for: how long that took at most.
func longestAnswer(t *testing.T, rdb *redis.Client) (end func() time.Duration) {
	ctx, cancel := context.WithCancel(t.Context())
	var longest time.Duration
	var asking sync.WaitGroup
	asking.Go(func() {
		for began := time.Now(); ctx.Err() == nil; began = time.Now() {
			if err := rdb.Ping(ctx).Err(); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			longest = max(longest, time.Since(began))
			<-time.After(5 * time.Millisecond)
		}
	})
	return func() time.Duration {
		cancel()
		asking.Wait()
		return longest
	}
}

func TestDevAnswersToThisDeskOnly(t *testing.T) {
	t.Parallel()
	local := &net.TCPAddr{IP: net.ParseIP("192.168.7.5"), Port: 8080}
	for _, c := range []struct {
		listen, host string
		ok           bool
	}{
		{"127.0.0.1:8080", "127.0.0.1:8080", true},
		{"127.0.0.1:8080", "localhost:8080", true},
		{"127.0.0.1:8080", "LOCALHOST", true},
		{"127.0.0.1:8080", "localhost.", true},
		{"127.0.0.1:8080", "[::1]:8080", true},
		{"127.0.0.1:8080", "127.9.9.9", true},
		{"127.0.0.1:8080", "ringback.localhost:1", true},
		{"127.0.0.1:8080", "evil.example:8080", false},
		{"127.0.0.1:8080", "evil.example", false},
		{"127.0.0.1:8080", "", false},
		{"127.0.0.1:8080", "localhost.evil.example", false},
		{"127.0.0.1:8080", "127.0.0.1.evil.example", false},
		{"127.0.0.1:8080", "evillocalhost", false},
		{"127.0.0.1:8080", "192.168.7.6", false},
		{"127.0.0.1:8080", "0.0.0.0:8080", false},
		{":8080", "192.168.7.5:8080", true},
		{":8080", "", false},
		{"0.0.0.0:8080", "192.168.7.5:8080", true},
		{"0.0.0.0:8080", "[::ffff:192.168.7.5]", true},
		{"0.0.0.0:8080", "evil.example", false},
		{"desk.example:8080", "desk.example:8080", true},
		{"desk.example:8080", "desk.example.evil.example:8080", false},
	} {
		if got := isDesk(c.host, c.listen, local); got != c.ok {
			t.Errorf("listening on %s, Host %q: %v", c.listen, c.host, got)
		}
	}
	served := false
	door := deskOnly("127.0.0.1:8080", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served = true }))
	for _, c := range []struct {
		method, host, origin, site string
		ok                         bool
	}{
		{"POST", "127.0.0.1:8080", "", "", true}, // curl
		{"POST", "127.0.0.1:8080", "http://127.0.0.1:8080", "same-origin", true},
		{"POST", "127.0.0.1:8080", "http://127.0.0.1:8080", "", true},
		{"POST", "127.0.0.1:8080", "http://evil.example", "cross-site", false},
		{"POST", "127.0.0.1:8080", "http://evil.example", "", false},
		{"POST", "127.0.0.1:8080", "null", "", false},
		{"DELETE", "127.0.0.1:8080", "http://127.0.0.1:9000", "same-site", false},
		{"GET", "127.0.0.1:8080", "http://evil.example", "cross-site", true},
		{"GET", "evil.example:8080", "", "same-origin", false},
		{"POST", "evil.example:8080", "http://evil.example:8080", "same-origin", false},
	} {
		r := httptest.NewRequest(c.method, "http://"+c.host+"/companies/acme/events", nil)
		for name, value := range map[string]string{"Origin": c.origin, "Sec-Fetch-Site": c.site} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		w := httptest.NewRecorder()
		served = false
		door.ServeHTTP(w, r)
		if served != c.ok || !c.ok && (w.Code != http.StatusForbidden || w.Header().Get("Content-Type") != "application/problem+json") {
			t.Errorf("%+v: served %v, %d %s", c, served, w.Code, w.Body)
		}
	}
}

// An authority signs certificates for a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour)}
	a.cert, a.key, a.pem, _ = a.sign(template)
	return a
}

// sign makes a certificate; the authority's own where it has none yet.
func (a *authority) sign(template *x509.Certificate) (cert *x509.Certificate, key *ecdsa.PrivateKey, certPEM, keyPEM []byte) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

// issue makes a certificate for a server at 127.0.0.1, or for a client.
func (a *authority) issue(serial int64, usage x509.ExtKeyUsage) (certPEM, keyPEM []byte) {
	a.t.Helper()
	_, _, certPEM, keyPEM = a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{usage}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	})
	return certPEM, keyPEM
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func write(t *testing.T, path string, text []byte) string {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The certificate is read again when its files change. A pair that does not fit leaves the one before in use, and is told of.
func TestTLSFilesAreReadAgain(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "servers")
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pair := func(serial int64) {
		c, k := ca.issue(serial, x509.ExtKeyUsageServerAuth)
		write(t, cert, c)
		write(t, key, k)
	}
	pair(10)
	var log bytes.Buffer
	files, err := loadCertificates(cert, key, "", slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", files.config())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).Handshake() //nolint:forcetypeassert // it listens for nothing else
			_ = conn.Close()
		}
	})
	defer wg.Wait()
	defer func() { _ = ln.Close() }()
	serial := func() int64 {
		t.Helper()
		files.mu.Lock()
		files.looked = time.Time{} // as if a second had passed
		files.mu.Unlock()
		conn, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if got := conn.ConnectionState().NegotiatedProtocol; got != "h2" {
			t.Errorf("negotiated %q", got)
		}
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	steps := []struct {
		name string
		do   func()
		want int64
		log  string
	}{
		{"as it began", func() {}, 10, ""},
		{"a new pair", func() { pair(11) }, 11, "read again"},
		{"half of a pair", func() { c, _ := ca.issue(12, x509.ExtKeyUsageServerAuth); write(t, cert, c) }, 11, "will not do"},
		{"the same half", func() {}, 11, ""},
		{"the whole pair", func() { pair(13) }, 13, "read again"},
		{"no file", func() { _ = os.Remove(key) }, 13, "will not do"},
		{"still none", func() {}, 13, ""},
		{"rubbish", func() { write(t, key, []byte("rubbish")) }, 13, "will not do"},
		{"in order again", func() { pair(14) }, 14, "read again"},
	}
	for _, step := range steps {
		step.do()
		log.Reset()
		if got := serial(); got != step.want {
			t.Errorf("%s: certificate %d, want %d", step.name, got, step.want)
		}
		if got := log.String(); step.log == "" && got != "" || !strings.Contains(got, step.log) || strings.Count(got, "\n") > 1 {
			t.Errorf("%s: logged %q, want %q", step.name, got, step.log)
		}
	}
}

// A server that wants certificates of its callers serves those it can verify, and shows others its health and what they lack. The command line
// has one to show.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	servers, callers, strangers := newAuthority(t, "servers"), newAuthority(t, "callers"), newAuthority(t, "strangers")
	c, k := servers.issue(1, x509.ExtKeyUsageServerAuth)
	cert, key, ca := write(t, dir+"/cert.pem", c), write(t, dir+"/key.pem", k), write(t, dir+"/ca.pem", callers.pem)
	shared := []string{"RINGBACK_REDIS=" + redistest.Start(t).URL(), "RINGBACK_KEYSET_FILE=" + filepath.Join(dir, "keyset.json")}
	apiKey := strings.TrimSpace(ringback(t, shared, "keys", "create", "--role", "operator"))
	url := "https://" + address(startPlain(t, shared, "serve", "--listen", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key, "--tls-client-ca", ca))

	get := func(path string, from *authority) (status, proto int, err error) {
		config := &tls.Config{RootCAs: servers.pool(), MinVersion: tls.VersionTLS12}
		if from != nil {
			c, k := from.issue(2, x509.ExtKeyUsageClientAuth)
			pair, err := tls.X509KeyPair(c, k)
			if err != nil {
				t.Fatal(err)
			}
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil } // whether it is wanted or not
		}
		transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
		defer transport.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+apiKey)
		resp, err := (&http.Client{Transport: transport}).Do(req)
		if err != nil {
			return 0, 0, err
		}
		_ = resp.Body.Close()
		return resp.StatusCode, resp.ProtoMajor, nil
	}
	for _, c := range []struct {
		path   string
		from   *authority
		status int
	}{
		{"/callback-types", callers, 200},
		{"/callback-types", nil, 403},
		{"/metrics", nil, 403},
		{"/docs", nil, 403},
		{"/healthz/", nil, 403},
		{"/nothing", nil, 403},
		{"/healthz", nil, 200},
		{"/readyz", nil, 200},
		{"/healthz", callers, 200},
		{"/metrics", callers, 200},
	} {
		if status, proto, err := get(c.path, c.from); status != c.status || proto != 2 {
			t.Errorf("%s, certificate %v: %d over HTTP/%d, %v", c.path, c.from != nil, status, proto, err)
		}
	}
	if status, _, err := get("/healthz", strangers); err == nil {
		t.Errorf("a stranger's certificate: %d", status)
	}

	c, k = callers.issue(3, x509.ExtKeyUsageClientAuth)
	own := []string{
		"RINGBACK_SERVER=" + url, "RINGBACK_KEY=" + apiKey, "RINGBACK_SERVER_CA=" + write(t, dir+"/servers.pem", servers.pem),
		"RINGBACK_CLIENT_CERT=" + write(t, dir+"/own.pem", c), "RINGBACK_CLIENT_KEY=" + write(t, dir+"/own-key.pem", k),
	}
	if out := ringback(t, own, "events", "types"); !strings.Contains(out, "payment_proof") {
		t.Errorf("the command line: %s", out)
	}
	if _, said, code := try(t, own[:3], "events", "types"); code != exitFailure || !strings.Contains(said, "wants a client certificate") {
		t.Errorf("without a certificate: exit %d, %s", code, said)
	}
}

// Strangers who ask for the pages that need no key, and read nothing of them, hold no place either.
func TestReadersOfPagesMakeRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const limit = 3
		listener, quiet := make(piped), slog.New(slog.DiscardHandler)
		server := newServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/" {
				w.WriteHeader(http.StatusNoContent)
				return
			}
			_, _ = w.Write(make([]byte, 1<<20))
		}), quiet)
		var running sync.WaitGroup
		running.Go(func() { _ = server.Serve(limitConnections(server, listener, limit, limit, quiet)) })
		for _, path := range []string{"/docs", "/docs/swagger-ui-bundle.js", "/openapi.json"} {
			if _, err := io.WriteString(listener.dial(), "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		began := time.Now()
		for range limit {
			conn := listener.dial()
			ping(t, conn)
			_ = conn.Close()
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("served after %s", took)
		}
		_ = server.Close()
		running.Wait()
	})
}

// Streams, which have no end, hold no place that somebody else needs; but what idles goes first.
func TestStreamsMakeRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const limit = 3
		var served atomic.Int64
		listener, quiet := make(piped), slog.New(slog.DiscardHandler)
		server := newServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/stream" {
				httpapi.Streaming(r.Context())
			}
			if r.URL.Path == "/" {
				served.Add(1)
			} else {
				<-r.Context().Done()
			}
			w.WriteHeader(http.StatusNoContent)
		}), quiet)
		var running sync.WaitGroup
		running.Go(func() { _ = server.Serve(limitConnections(server, listener, limit, limit, quiet)) })
		ask := func(conn net.Conn, path string) {
			if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		open := func(path string, end func()) net.Conn {
			conn := listener.dial()
			running.Go(func() {
				_, _ = io.Copy(io.Discard, conn) // else the server would still write
				end()
			})
			ask(conn, path)
			return conn
		}
		var gone atomic.Int64
		for range limit - 1 {
			open("/stream", func() { gone.Add(1) })
		}
		open("/", func() {})
		busy := open("/", func() {})
		if served.Load() != 2 || gone.Load() != 0 {
			t.Errorf("%d are served, and %d streams made room beside what idles", served.Load(), gone.Load())
		}
		ask(busy, "/busy")
		open("/", func() {})
		if served.Load() != 3 || gone.Load() != 1 {
			t.Errorf("%d are served, and %d streams made room where all else is busy", served.Load(), gone.Load())
		}
		_ = server.Close()
		running.Wait()
	})
}

// Strangers who ask over HTTP/2, where each connection may always have a request under way, and read nothing, hold no place either; a caller who
// has shown a key keeps its own.
func TestStrangersOverHTTP2MakeRoom(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "servers")
	certPEM, keyPEM := ca.issue(1, x509.ExtKeyUsageServerAuth)
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		const limit = 3
		listener, quiet := make(piped), slog.New(slog.DiscardHandler)
		var door *crowd
		server := newServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "" {
				door.know(r.Context().Value(connectionKey{}).(net.Conn))
			}
			_, _ = w.Write(make([]byte, 1<<20))
		}), quiet)
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
		door = limitConnections(server, listener, limit, limit, quiet).(*crowd)
		var running sync.WaitGroup
		running.Go(func() { _ = server.ServeTLS(door, "", "") })
		// ask sends a request, and reads nothing but what ends the connection.
		ask := func(headers ...string) (ended <-chan struct{}) {
			conn := tls.Client(listener.dial(), &tls.Config{RootCAs: ca.pool(), ServerName: "127.0.0.1", NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12})
			var block bytes.Buffer
			fields := hpack.NewEncoder(&block)
			for field := range slices.Chunk(append([]string{":method", "GET", ":scheme", "https", ":authority", "x", ":path", "/"}, headers...), 2) {
				if err := fields.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}); err != nil {
					t.Fatal(err)
				}
			}
			done := make(chan struct{})
			running.Go(func() {
				defer close(done)
				_, _ = io.Copy(io.Discard, conn)
			})
			if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
				t.Fatal(err)
			}
			framer := http2.NewFramer(conn, nil)
			if err := framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}); err != nil {
				t.Fatal(err)
			}
			if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			return done
		}
		over := func(ended <-chan struct{}) bool {
			synctest.Wait()
			select {
			case <-ended:
				return true
			default:
				return false
			}
		}
		known := ask("authorization", "Bearer good")
		first, second := ask(), ask()
		began := time.Now()
		third := ask()
		if !over(first) || over(second) || over(third) || over(known) {
			t.Errorf("of three strangers and one with a key the first had to go: %v, %v, %v, %v", over(first), over(second), over(third), over(known))
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("served after %s", took)
		}
		_ = server.Close()
		running.Wait()
	})
}
