package dispatcher

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/egress/egresstest"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// certified is the tls member of a callback with a client certificate that is good for so long.
func certified(authority *egresstest.Authority, left time.Duration) string {
	cert, key := authority.Client("acme", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(left) })
	text, _ := json.Marshal(registry.TLS{ClientCertificate: cert, ClientKey: key})
	return string(text)
}

// withCertificate registers a callback that has one.
func (h *house) withCertificate(tls string) *registry.Callback {
	h.t.Helper()
	cb, err := h.registry.Create(h.t.Context(), acme, []byte(`{"callback_type": "payment_proof", "destination": {"url": "https://127.0.0.1:1/hook"}, "tls": `+tls+`}`))
	h.must(err)
	return cb
}

// expiries are what the company was told of client certificates, in order: callback and days.
func (h *house) expiries() (told []string) {
	h.t.Helper()
	entries, err := h.rdb.XRange(h.t.Context(), ledger.Key(acme, "log"), "-", "+").Result()
	h.must(err)
	for _, entry := range entries {
		body, err := h.rdb.HGet(h.t.Context(), ledger.EventKey(acme, fmt.Sprint(entry.Values["e"])), "b").Result()
		h.must(err)
		var e expiring
		h.must(json.Unmarshal([]byte(body), &e))
		typ, _ := payloads.Builtin().Lookup(ledger.TypeExpiring)
		_, _, err = typ.Examine([]byte(body))
		h.must(err)
		told = append(told, fmt.Sprintf("%d:%d", e.CallbackID, e.WithinDays))
	}
	return told
}

// TestCompaniesHearOfCertificatesThatExpire once a step, whichever worker looks, also after a restart, and of no certificate that is no longer in use.
func TestCompaniesHearOfCertificatesThatExpire(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	const day = 24 * time.Hour
	authority := egresstest.NewAuthority(t, "authority")
	cb := h.withCertificate(certified(authority, 40*day))
	h.withCertificate(certified(authority, 300*day))
	now := time.Now()
	look := func(at time.Duration) {
		t.Helper()
		h.must(h.worker().tellCertificates(t.Context(), now.Add(at))) // each is another process, that remembers nothing
	}
	want := func(told ...string) {
		t.Helper()
		if got := h.expiries(); !slices.Equal(got, told) {
			t.Fatalf("told %v, want %v", got, told)
		}
	}
	look(0)
	want()
	look(11 * day)
	look(12 * day)
	want("1:30")
	look(34 * day)
	want("1:30", "1:7")
	look(12 * day) // a process whose clock is late
	want("1:30", "1:7")

	// A kill after it was told: the next look tells again, and it is a duplicate.
	h.client.failpoint = func(at string) {
		if at == "told of a certificate" {
			panic(at)
		}
	}
	err := h.client.contain(t.Context(), placeReconciler, func() error { return h.worker().tellCertificates(t.Context(), now.Add(39*day+time.Hour)) })
	if err == nil {
		t.Fatal("the worker was not killed")
	}
	h.client.failpoint = nil
	want("1:30", "1:7", "1:1")
	look(39*day + time.Hour)
	want("1:30", "1:7", "1:1")
	look(41 * day)
	look(50 * day)
	want("1:30", "1:7", "1:1", "1:0")

	// What was told has left with its event, and is not told again.
	last, err := h.rdb.XRevRangeN(t.Context(), ledger.Key(acme, "log"), "+", "-", 1).Result()
	h.must(err)
	_, err = h.client.EraseEvent(t.Context(), acme, fmt.Sprint(last[0].Values["e"]), "")
	h.must(err)
	look(51 * day)
	want("1:30", "1:7", "1:1")

	// Another certificate begins anew. Without one there is nothing to tell.
	patch := func(text string) {
		t.Helper()
		_, err := h.registry.Patch(t.Context(), acme, cb.ID, []byte(text))
		h.must(err)
	}
	patch(`{"tls": ` + certified(authority, 20*day) + `}`)
	look(0)
	want("1:30", "1:7", "1:1", "1:30")
	patch(`{"tls": null}`)
	look(15 * day)
	want("1:30", "1:7", "1:1", "1:30")
	if filed, err := h.registry.FiledUntil(t.Context(), now.Add(1000*day), 0, 10); err != nil || len(filed) != 1 || filed[0].Callback != 2 {
		t.Errorf("filed are %+v, %v", filed, err)
	}
}

// TestWorkersLookForCertificates as they begin, through all pages, and pass over what nobody has.
func TestWorkersLookForCertificates(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	tls := certified(egresstest.NewAuthority(t, "authority"), time.Hour)
	cb := h.withCertificate(tls)
	for i := range 2*expiringPage + 1 { // of callbacks that are gone
		h.must(h.registry.FileCertificate(t.Context(), "gone", int64(i+1), &registry.Certificate{NotAfter: time.Now(), Fingerprint: strings.Repeat("0", 64)}))
	}
	w := h.worker()
	w.rounds.filed, w.rounds.all = true, false
	for range 4 {
		w.turn(t.Context())
	}
	if told := h.expiries(); !slices.Equal(told, []string{fmt.Sprintf("%d:1", cb.ID)}) {
		t.Errorf("told %v", told)
	}
	if filed, err := h.registry.FiledUntil(t.Context(), time.Now().Add(time.Hour), 0, 1000); err != nil || len(filed) != 1 {
		t.Errorf("%d are filed, %v", len(filed), err)
	}
	h.withCertificate(certified(egresstest.NewAuthority(t, "authority"), 3*24*time.Hour))
	h.withCertificate(certified(egresstest.NewAuthority(t, "authority"), 9*24*time.Hour))
	idle := h.withCertificate(tls)
	_, err := h.registry.Pause(t.Context(), acme, idle.ID)
	h.must(err)
	o, err := NewOverviews(h.client, nil).Overview(t.Context())
	h.must(err)
	if p := o.Certificates; p.Of != 2 || p.Expired != 0 || len(p.Callbacks) != 2 || p.Callbacks[0].CallbackID != cb.ID || len(o.Unread) > 0 ||
		!strings.HasPrefix(p.Sentence, "2 client certificates expire within 7 days. The first is of callback 1 of acme, and expires within a day, at 20") {
		t.Errorf("the overview has %+v, unread %q", p, o.Unread)
	}
	if w.rounds.certificates.underWay || time.Since(w.rounds.certificates.began) > time.Minute {
		t.Errorf("the look stands at %+v", w.rounds.certificates)
	}
	erased, err := h.client.EraseCompany(t.Context(), registry.NewKeys(h.rdb), acme, "")
	if h.must(err); !erased.Done {
		t.Fatalf("erased %+v", erased)
	}
	if n := h.rdb.ZCard(context.Background(), "ringback:certificates").Val(); n != 0 {
		t.Errorf("%d certificates are filed of an erased company", n)
	}
}

// TestACertificateThatDoesNotOpenHidesNoOther in the overview, which says that not all could be read.
func TestACertificateThatDoesNotOpenHidesNoOther(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	authority := egresstest.NewAuthority(t, "authority")
	broken := h.withCertificate(certified(authority, time.Hour))
	sound := h.withCertificate(certified(authority, 48*time.Hour))
	h.must(h.rdb.HSet(t.Context(), "{"+acme+"}:cb", broken.ID, "nothing that was sealed").Err())
	o, err := NewOverviews(h.client, nil).Overview(t.Context())
	h.must(err)
	if p := o.Certificates; p.Of != 1 || len(p.Callbacks) != 1 || p.Callbacks[0].CallbackID != sound.ID {
		t.Errorf("the overview has %+v", p)
	}
	if !slices.Contains(o.Unread, "Not all could be read: which client certificates expire.") {
		t.Errorf("unread: %q", o.Unread)
	}
}
