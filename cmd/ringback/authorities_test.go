package main

import (
	"crypto/tls"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ringback/ringback/dispatcher/egress"
)

// TestEgressCA: with its authority in the file a private partner is trusted, and what is no authority is named.
func TestEgressCA(t *testing.T) {
	t.Parallel()
	partner := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	partner.Config.ErrorLog = nil
	partner.StartTLS()
	t.Cleanup(partner.Close)
	write := func(blocks ...pem.Block) string {
		file := filepath.Join(t.TempDir(), "ca.pem")
		var text []byte
		for _, block := range blocks {
			text = append(text, pem.EncodeToMemory(&block)...)
		}
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	own := pem.Block{Type: "CERTIFICATE", Bytes: partner.Certificate().Raw}
	roots, err := authorities(write(own))
	if err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []*tls.Config{nil, {RootCAs: roots, MinVersion: tls.VersionTLS12}} {
		c, err := egress.New(egress.Config{Allow: privateDestinations.Allow, TLS: cfg})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Do(t.Context(), egress.Request{URL: partner.URL}); (err == nil) != (cfg != nil) {
			t.Errorf("with %v: %v", cfg, err)
		}
		c.Close()
	}
	for says, blocks := range map[string][]pem.Block{
		"holds a PRIVATE KEY":          {own, {Type: "PRIVATE KEY", Bytes: []byte("canary")}},
		"certificate 2 cannot be read": {own, {Type: "CERTIFICATE", Bytes: []byte("canary")}},
		"holds no certificate":         {},
	} {
		if _, err := authorities(write(blocks...)); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%v, want %q", err, says)
		}
	}
}
