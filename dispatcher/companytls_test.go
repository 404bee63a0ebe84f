package dispatcher

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/egress/egresstest"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/registry"
)

// A visitors' book has, by path, whose certificates the requests came with.
type visitors struct {
	*httptest.Server
	mu   sync.Mutex
	seen map[string]map[string]int
	turn func(path, who string) int // the status; nil: 204
}

// newVisitors is a server that asks for certificates of an authority.
func newVisitors(t *testing.T, a *egresstest.Authority, h2 bool) *visitors {
	v := &visitors{seen: map[string]map[string]int{}}
	v.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := "nobody"
		if len(r.TLS.PeerCertificates) > 0 {
			who = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.seen[r.URL.Path] == nil {
			v.seen[r.URL.Path] = map[string]int{}
		}
		v.seen[r.URL.Path][fmt.Sprintf("%s/%d", who, r.ProtoMajor)]++
		status := http.StatusNoContent
		if v.turn != nil {
			status = v.turn(r.URL.Path, who)
		}
		w.WriteHeader(status)
	}))
	cert, key := a.Server("hooks.partner.example")
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(a.PEM()))
	v.EnableHTTP2 = h2
	v.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool}
	v.StartTLS()
	t.Cleanup(v.Close)
	return v
}

func (v *visitors) at(path string) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return fmt.Sprint(v.seen[path])
}

// visit registers a callback of a company at a path, where its authority is trusted, with no certificate of its own.
func (h *house) visit(v *visitors, a *egresstest.Authority, company, path string) *registry.Callback {
	h.t.Helper()
	body, err := json.Marshal(map[string]any{
		"callback_type": "payment_proof", "destination": map[string]any{"url": v.URL + path}, "tls": registry.TLS{CA: a.PEM(), ServerName: "hooks.partner.example"},
		"retry": map[string]any{"initial_interval": "1s", "multiplier": 1},
	})
	h.must(err)
	cb, err := h.registry.Create(h.t.Context(), company, body)
	h.must(err)
	return cb
}

// companyCertificate gives a company one that bears a name.
func (h *house) companyCertificate(a *egresstest.Authority, company, name string) {
	h.t.Helper()
	cert, key := a.Client(name, nil)
	body, err := json.Marshal(registry.TLS{ClientCertificate: cert, ClientKey: key})
	h.must(err)
	_, err = h.registry.SetCompanyTLS(h.t.Context(), company, body)
	h.must(err)
}

// TestCompaniesShareNoConnection: two companies with certificates of their own, on one host, by deliveries that are under way together: each shows its own 200 of 200 times, over
// HTTP/1.1 and h2. A test and a challenge show it as well.
func TestCompaniesShareNoConnection(t *testing.T) {
	t.Parallel()
	for proto, h2 := range map[int]bool{1: false, 2: true} {
		t.Run(fmt.Sprint(proto), func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			a := egresstest.NewAuthority(t, "authority")
			v := newVisitors(t, a, h2)
			companies := []string{acme, "globex", "plain"}
			for _, company := range companies {
				h.visit(v, a, company, "/"+company)
				if company != "plain" {
					h.companyCertificate(a, company, company)
				}
			}
			h.work()
			var wg sync.WaitGroup
			for _, company := range companies {
				wg.Go(func() {
					for i := range 200 {
						e := proof(fmt.Sprintf("p-%d", i))
						e.Company = company
						if _, err := h.client.Send(t.Context(), e); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			want := func(n int) {
				t.Helper()
				for _, company := range companies {
					who := company
					if company == "plain" {
						who = "nobody"
					}
					said := fmt.Sprintf("map[%s/%d:%d]", who, proto, n)
					h.eventually(30*time.Second, func() bool { return v.at("/"+company) == said }, func() string { return company + " came as " + v.at("/"+company) + ", want " + said })
				}
			}
			want(200)
			for _, company := range companies {
				if _, err := h.client.Test(t.Context(), company, 1, ""); err != nil {
					t.Error(err)
				}
			}
			want(201)
			if _, err := h.client.Verify(t.Context(), acme, 1); err != nil {
				t.Error(err)
			}
			if said := v.at("/" + acme); said == fmt.Sprintf("map[%s/%d:201]", acme, proto) || len(said) > len("map[acme/1:200]") {
				t.Errorf("challenged, %s came as %s", acme, said)
			}
		})
	}
}

// TestARetryShowsTheNewCertificate: an endpoint that takes but the new certificate gets it with the next attempt of what it refused, by a worker that has known the old one.
func TestARetryShowsTheNewCertificate(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := egresstest.NewAuthority(t, "authority")
	v := newVisitors(t, a, true)
	v.turn = func(_, who string) int {
		if who == "new" {
			return http.StatusNoContent
		}
		return http.StatusForbidden
	}
	h.visit(v, a, acme, "/hook")
	h.companyCertificate(a, acme, "old")
	h.announce()
	h.work()
	id := h.send(proof("p-1")).Deliveries[0].DeliveryID
	h.eventually(10*time.Second, func() bool { return v.at("/hook") != "map[]" }, func() string { return "nobody came" })
	h.companyCertificate(a, acme, "new")
	h.await(id, ledger.Delivered, 10*time.Second)
	for i := range 5 {
		h.await(h.send(proof(fmt.Sprint("later-", i))).Deliveries[0].DeliveryID, ledger.Delivered, 10*time.Second)
		if d := h.delivery(ledger.Ref{Company: acme, Event: fmt.Sprint("later-", i), Callback: 1}.DeliveryID()); len(d.Attempts) != 1 {
			t.Errorf("%d attempts", len(d.Attempts))
		}
	}
}

// TestACompanyHearsOfItsOwnCertificate once a step, as of those of its callbacks, and nothing of it is left of an erased company.
func TestACompanyHearsOfItsOwnCertificate(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	body := certified(egresstest.NewAuthority(t, "authority"), 3*24*time.Hour)
	_, err := h.registry.SetCompanyTLS(t.Context(), acme, []byte(body))
	h.must(err)
	for range 2 {
		h.must(h.worker().tellCertificates(t.Context(), time.Now()))
	}
	h.must(h.worker().tellCertificates(t.Context(), time.Now().Add(50*time.Hour)))
	if told := h.expiries(); !slices.Equal(told, []string{"0:7", "0:1"}) {
		t.Errorf("told %v", told)
	}
	o, err := NewOverviews(h.client, nil).Overview(t.Context())
	h.must(err)
	if p := o.Certificates; p.Of != 1 || p.Callbacks[0].CallbackID != 0 {
		t.Errorf("the overview has %+v", p)
	}
	wantSentence(t, o.Certificates.Sentence[:len("1 client certificate expires within 7 days. The first is of acme itself, and expires in 2 days")], "1 client certificate expires within 7 days. The first is of acme itself, and expires in 2 days")
	erased, err := h.client.EraseCompany(t.Context(), registry.NewKeys(h.rdb), acme, "")
	if h.must(err); !erased.Done {
		t.Fatalf("erased %+v", erased)
	}
	if _, err := h.registry.CompanyTLS(t.Context(), acme); err == nil || h.rdb.Exists(t.Context(), "{acme}:tls", "ringback:certificates").Val() != 0 {
		t.Errorf("left of an erased company: %v", err)
	}
}
