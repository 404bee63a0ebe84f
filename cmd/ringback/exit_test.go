package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/ringback/ringback/dispatcher/client"
	"github.com/ringback/ringback/dispatcher/ledger"
)

// TestServersSayWhetherStartingAgainHelps: a supervisor leaves a process alone whose call or configuration is wrong (64), and starts it again
// after everything else, a panic's 2 included.
func TestServersSayWhetherStartingAgainHelps(t *testing.T) {
	t.Parallel()
	plain, locked, newer := miniredis.RunT(t), miniredis.RunT(t), miniredis.RunT(t)
	locked.RequireAuth("sesame")
	if err := newer.Set(ledger.ModelKey, strconv.Itoa(ledger.Model+1)); err != nil {
		t.Fatal(err)
	}
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	garbage, fresh, away := writeFile(t, "no keyset"), filepath.Join(t.TempDir(), "k.json"), "redis://127.0.0.1:1"
	url := func(m *miniredis.Miniredis) string { return "redis://" + m.Addr() }
	for _, tt := range []struct {
		name string
		args []string
		want int
	}{
		{"serve: unknown flag", []string{"serve", "--nonsense"}, exitConfig},
		{"serve: unknown flag before it", []string{"--nonsense", "serve"}, exitConfig},
		{"serve: no Redis", []string{"serve"}, exitConfig},
		{"serve: bad URL of Redis", []string{"serve", "--redis", "localhost:6379"}, exitConfig},
		{"serve: wrong password", []string{"serve", "--redis", "redis://:wrong@" + locked.Addr(), "--keyset-file", fresh}, exitConfig},
		{"serve: newer data", []string{"serve", "--redis", url(newer), "--keyset-file", fresh}, exitConfig},
		{"serve: unreadable keyset", []string{"serve", "--redis", url(plain), "--keyset-file", garbage}, exitConfig},
		{"serve: bad address", []string{"serve", "--redis", url(plain), "--keyset-file", fresh, "--listen", "nonsense"}, exitConfig},
		{"serve: address in use", []string{"serve", "--redis", url(plain), "--keyset-file", fresh, "--listen", taken.Addr().String()}, exitFailure},
		{"serve: Redis away", []string{"serve", "--redis", away, "--keyset-file", fresh}, exitFailure},
		{"dev: unknown flag", []string{"dev", "--nonsense"}, exitConfig},
		{"dev: bad URL of Redis", []string{"dev", "--listen", "127.0.0.1:0", "--redis", "nonsense"}, exitConfig},
		{"dev: address in use", []string{"dev", "--listen", taken.Addr().String()}, exitFailure},
		{"others: unknown flag", []string{"callbacks", "list", "--nonsense"}, exitUsage},
		{"others: called as serve is", []string{"--server", "serve", "keys", "list", "--redis", "nonsense"}, exitUsage},
		{"others: wrong password", []string{"keys", "list", "--redis", "redis://:wrong@" + locked.Addr()}, exitFailure},
	} {
		var stderr bytes.Buffer
		if code := run(t.Context(), append([]string{"ringback"}, tt.args...), strings.NewReader(""), io.Discard, &stderr); code != tt.want {
			t.Errorf("%s: exit %d, want %d: %s", tt.name, code, tt.want, &stderr)
		}
	}
	unit, err := os.ReadFile("../../deploy/ringback.service")
	if want := fmt.Sprintf("\nRestartPreventExitStatus=%d\n", exitConfig); err != nil || !strings.Contains(string(unit), want) {
		t.Errorf("deploy/ringback.service has no %q: %v", want, err)
	}
}

func TestLogsHaveDurationsInWords(t *testing.T) {
	var out bytes.Buffer
	newLog(&out).With("a", 90*time.Second).WithGroup("g").InfoContext(t.Context(), "said", "grace", 65*time.Second, slog.Group("h", "took", 1500*time.Microsecond))
	for _, want := range []string{`"a":"1m30s"`, `"grace":"1m5s"`, `"took":"1.5ms"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in %s", want, &out)
		}
	}
}

// TestAnUnknownKeyIsSaid: also where a proxy answers, that says nothing.
func TestAnUnknownKeyIsSaid(t *testing.T) {
	for _, tt := range []struct {
		refused client.APIError
		want    string
	}{
		{client.APIError{Status: 401, Title: "Unauthorized", Detail: "it expired"}, "(it expired)"},
		{client.APIError{Status: 401, Title: "Unauthorized"}, "(the server answered Unauthorized)"},
	} {
		if said := remedy(&tt.refused).Error(); !strings.HasSuffix(said, tt.want) {
			t.Errorf("%s, want %s", said, tt.want)
		}
	}
}
