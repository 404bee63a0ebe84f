package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ringback/ringback/dispatcher/httpapi"
)

// tlsLookEvery is how often, at most, the files of TLS are looked at for changes. Handshakes do it: a server that nobody calls needs no
// certificate.
const tlsLookEvery = time.Second

// certificates hold the certificate that a server shows to its callers, and the authority that signed theirs. If a file changes, all of them are read
// again. If they do not fit each other, as a pair half written does not, those before stay in use.
type certificates struct {
	cert, key string
	clientCA  string // empty: no certificates of callers are wanted
	log       *slog.Logger

	current atomic.Pointer[tls.Config]

	mu     sync.Mutex
	looked time.Time
	seen   []fs.FileInfo // of the files as they were read last, good or bad
}

// loadCertificates reads the files for the first time, when they have to be good.
func loadCertificates(cert, key, clientCA string, log *slog.Logger) (*certificates, error) {
	c := &certificates{cert: cert, key: key, clientCA: clientCA, log: log}
	c.seen, _ = c.stat() // reading says more of what is missing
	config, err := c.read()
	if err != nil {
		return nil, err
	}
	c.current.Store(config)
	return c, nil
}

func (c *certificates) read() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert %s and --tls-key %s: %w", c.cert, c.key, err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}}
	if c.clientCA == "" {
		return config, nil
	}
	text, err := os.ReadFile(c.clientCA)
	if err != nil {
		return nil, fmt.Errorf("--tls-client-ca: %w", err)
	}
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("--tls-client-ca %s: there is no certificate in it; it takes PEM", c.clientCA)
	}
	config.ClientAuth = tls.VerifyClientCertIfGiven // a caller who gives none sees the server's health, and hears what is missing
	config.SessionTicketsDisabled = true            // a certificate is judged in every handshake
	return config, nil
}

// config is for the server.
func (c *certificates) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			c.look(hello.Context())
			return c.current.Load(), nil
		},
	}
}

// look reads the files again if one of them changed.
func (c *certificates) look(ctx context.Context) {
	if !c.mu.TryLock() {
		return // another handshake looks
	}
	defer c.mu.Unlock()
	if time.Since(c.looked) < tlsLookEvery {
		return
	}
	c.looked = time.Now()
	now, err := c.stat() // before they are read: what changes meanwhile is another change
	if err == nil && slices.EqualFunc(now, c.seen, sameFile) || err != nil && c.seen == nil {
		return
	}
	c.seen = now
	var config *tls.Config
	if err == nil {
		config, err = c.read()
	}
	if err != nil {
		c.log.ErrorContext(ctx, "the files of TLS changed and will not do: those before stay in use", "error", oneLine(err.Error()))
		return
	}
	c.current.Store(config)
	c.log.InfoContext(ctx, "the files of TLS were read again", "certificate_ends", config.Certificates[0].Leaf.NotAfter)
}

func (c *certificates) stat() ([]fs.FileInfo, error) {
	var all []fs.FileInfo
	for _, name := range []string{c.cert, c.key, c.clientCA} {
		if name == "" {
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		all = append(all, info)
	}
	return all, nil
}

func sameFile(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// certified lets callers in whose certificate was verified. Health is for all: a program that asks for it, such as a kubelet, often has none.
func certified(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		open := r.URL.Path == "/healthz" || r.URL.Path == "/readyz"
		if !open && (r.TLS == nil || len(r.TLS.VerifiedChains) == 0) {
			httpapi.Problem(w, http.StatusForbidden, "this server wants a client certificate: call it with one that its operator's authority signed")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// tlsFrom is what the flags say of TLS; nil is none.
func tlsFrom(cert, key, clientCA string, log *slog.Logger) (*certificates, error) {
	switch {
	case cert == "" && key == "" && clientCA == "":
		return nil, nil //nolint:nilnil // clear text
	case cert == "" || key == "":
		return nil, usagef("--tls-cert and --tls-key go together, and --tls-client-ca with both")
	}
	c, err := loadCertificates(cert, key, clientCA, log)
	if err != nil {
		return nil, &usageError{oneLine(err.Error())}
	}
	return c, nil
}
