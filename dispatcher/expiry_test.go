package dispatcher

import (
	"bytes"
	"context"
	"crypto/x509"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/ringback/ringback/dispatcher/egress/egresstest"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/registry"
)

func TestExpiryStages(t *testing.T) {
	const day = 24 * time.Hour
	for left, want := range map[time.Duration]string{
		-time.Hour: "0d", 0: "0d", time.Second: "1d", day: "1d", day + 1: "7d", 7 * day: "7d", 7*day + 1: "30d", 30 * day: "30d", 30*day + 1: "", 365 * day: "",
	} {
		if got, ok := expiryStageOf(left); ok != (want != "") || ok && got.String() != want {
			t.Errorf("%s before: %s (%t), want %q", left, got, ok, want)
		}
	}
}

// TestExpiringCertificatesAreToldOfOnceAStage: the log names the callback, once a stage, and neither the key nor the certificate is in it.
func TestExpiringCertificatesAreToldOfOnceAStage(t *testing.T) {
	authority := egresstest.NewAuthority(t, "authority")
	with := func(left time.Duration) *registry.TLS {
		cert, key := authority.Client("acme", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(left) })
		return &registry.TLS{ClientCertificate: cert, ClientKey: key}
	}
	m, err := newMetrics(noop.NewMeterProvider().Meter(scope))
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	filed := 0
	r := reporter{
		log: slog.New(slog.NewTextHandler(&said, nil)), metrics: m, expiries: &expiries{},
		file: func(_ context.Context, company string, callback int64, c *registry.Certificate) error {
			if filed++; company != "acme" || callback != 12 || c == nil {
				t.Errorf("filed %s %d %v", company, callback, c)
			}
			return nil
		},
	}
	month, day := with(20*24*time.Hour), with(3*time.Hour)
	for _, tt := range []struct {
		tls  *registry.TLS
		want string // empty: nothing more is said
	}{
		{nil, ""},
		{&registry.TLS{ServerName: "x.example"}, ""},
		{with(40 * 24 * time.Hour), ""},
		{month, "within=30d"},
		{month, ""},
		{day, "within=1d"},
		{day, ""},
		{with(-time.Minute), "has expired"},
	} {
		said.Reset()
		r.tellExpiry(t.Context(), &attempt{ref: ledger.Ref{Company: "acme", Callback: 12}, callback: &registry.Callback{TLS: tt.tls}})
		text := said.String()
		if (tt.want == "") != (text == "") || !strings.Contains(text, tt.want) || strings.Contains(text, "BEGIN") || text != "" && !strings.Contains(text, "callback=12") {
			t.Errorf("said %q, want %q", text, tt.want)
		}
	}
	if filed != 3 {
		t.Errorf("%d were filed", filed)
	}
	for i := range maxExpiriesTold + 10 {
		r.expiries.first(strings.Repeat("x", i%100) + string(rune(i)))
	}
	if len(r.expiries.told) > maxExpiriesTold {
		t.Errorf("%d are remembered", len(r.expiries.told))
	}
}
