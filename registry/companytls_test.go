package registry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ringback/ringback/dispatcher/egress/egresstest"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// pair is a certificate with its key as the API takes them.
func pair(cert, key string) string {
	text, _ := json.Marshal(map[string]string{"client_certificate": cert, "client_key": key})
	return string(text)
}

// subject is whose certificate a process would show for a callback whose version it has heard of.
func (h *house) subject(ctx context.Context, company string, id, version int64) string {
	h.t.Helper()
	cb, err := h.Lookup(ctx, company, id, version)
	if err != nil {
		h.t.Fatal(err)
	}
	if c := cb.Handshake().Certificate(); c != nil {
		return c.Subject
	}
	return ""
}

// TestCompaniesHaveClientCertificates: a change is known to whoever has heard of its version, in each process and of every callback, but for those that have a certificate of
// their own. What else a callback says of TLS holds beside it.
func TestCompaniesHaveClientCertificates(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	a := egresstest.NewAuthority(t, "authority")
	first, firstKey := a.Client("first", nil)
	second, secondKey := a.Client("second", nil)
	own, ownKey := a.Client("own", nil)
	bare := h.create("acme", plain)
	named := h.create("acme", string(jsonWith(t, map[string]any{"ca": a.PEM(), "server_name": "hooks.partner.example"})))
	theirs := h.create("acme", string(jsonWith(t, map[string]any{"client_certificate": own, "client_key": ownKey})))
	for range 70 { // more than a snapshot takes over one by one
		h.create("acme", plain)
	}
	stranger := h.create("other", plain)
	other := h.neighbour()
	want := func(what, subject string) {
		t.Helper()
		for name, p := range map[string]*house{"this process": h, "another": other, "a fresh one": h.neighbour()} {
			v := p.version(ctx, "acme")
			if got := []string{p.subject(ctx, "acme", bare.ID, v), p.subject(ctx, "acme", named.ID, v), p.subject(ctx, "acme", theirs.ID, v), p.subject(ctx, "acme", 73, v), p.subject(ctx, "other", stranger.ID, p.version(ctx, "other"))}; fmt.Sprint(got) != fmt.Sprint([]string{subject, subject, "CN=own", subject, ""}) {
				t.Errorf("%s, %s: %q", what, name, got)
			}
			cb, err := p.Lookup(ctx, "acme", named.ID, v)
			if err != nil || cb.Handshake().CA != named.TLS.CA || cb.Handshake().ServerName != "hooks.partner.example" || cb.Handshake().ClientKey == "" == (subject != "") {
				t.Errorf("%s, %s: the callback's own are %v, %v", what, name, cb, err)
			}
		}
	}
	want("none", "")
	set := func(body string) *registry.TLS {
		t.Helper()
		got, err := h.SetCompanyTLS(ctx, "acme", []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := set(pair(first, firstKey)); got.Certificate().Subject != "CN=first" {
		t.Errorf("set %+v", got.Certificate())
	}
	want("the first", "CN=first")
	h.create("acme", plain) // a change of a callback leaves it
	want("after another callback", "CN=first")
	set(pair(second, secondKey))
	want("the second", "CN=second")
	before := h.version(ctx, "acme")
	set(pair(second, registry.Masked))
	if h.version(ctx, "acme") != before {
		t.Error("what is there already is a change")
	}
	if got, err := h.CompanyTLS(ctx, "acme"); err != nil || got.ClientKey != secondKey {
		t.Errorf("the key was lost: %v", err)
	}
	got, err := h.WithCompanyTLS(ctx, bare)
	if err != nil || got.Handshake().Certificate().Subject != "CN=second" || bare.Handshake() != nil {
		t.Errorf("one from Redis has %v, %v", got.Handshake(), err)
	}
	if err := h.DeleteCompanyTLS(ctx, "acme"); err != nil {
		t.Fatal(err)
	}
	want("deleted", "")
	if err := h.DeleteCompanyTLS(ctx, "acme"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("deleted again: %v", err)
	}
	lines, _, err := h.Audit(ctx, registry.AuditQuery{Company: "acme", Limit: 3})
	if err != nil || len(lines) != 3 || lines[0].Action != "company_tls.delete" || lines[1].Action != "company_tls.update" || len(lines[1].Changes) != 2 {
		t.Errorf("the trail says %+v, %v", lines, err)
	}
	if said := fmt.Sprintf("%+v", lines) + h.log.String(); strings.Contains(said, "BEGIN") || !strings.Contains(said, "CN=second, until ") {
		t.Errorf("said: %s", said)
	}
}

// jsonWith is a registration whose tls has these members.
func jsonWith(t *testing.T, members map[string]any) []byte {
	t.Helper()
	body, err := json.Marshal(map[string]any{"callback_type": "payment_proof", "destination": map[string]any{"url": "https://partner.example/"}, "tls": members})
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// TestACompanysCertificateIsChecked as a callback's is, and a process that would not show it keeps it from being given.
func TestACompanysCertificateIsChecked(t *testing.T) {
	h := newHouse(t)
	a := egresstest.NewAuthority(t, "authority")
	cert, key := a.Client("acme", nil)
	_, strange := a.Client("acme", nil)
	for body, location := range map[string]string{
		`{}`: "body.client_certificate", `[]`: "body", pair(cert, ""): "body.client_key", pair(cert, strange): "body.client_key", pair("", key): "body.client_certificate",
		pair(cert, registry.Masked): "body.client_key", pair(key, key): "body.client_certificate",
		`{"ca":"x","client_certificate":` + quote(cert) + `,"client_key":` + quote(key) + `}`: "body.ca",
	} {
		_, err := h.SetCompanyTLS(t.Context(), "acme", []byte(body))
		if invalid, ok := errors.AsType[*payloads.InvalidError](err); !ok || invalid.Fields[0].Location != location || strings.Contains(err.Error(), "BEGIN PRIVATE") {
			t.Errorf("%.40s: %v, want it at %s", body, err, location)
		}
	}
	if _, err := h.SetCompanyTLS(t.Context(), "acme", []byte(`{`)); !errors.Is(err, registry.ErrBadJSON) {
		t.Errorf("no JSON: %v", err)
	}
	if _, err := h.CompanyTLS(t.Context(), "acme"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("there is one: %v", err)
	}
	end := h.beside(5)
	defer func() { _ = end(t.Context()) }()
	_, err := h.neighbour().SetCompanyTLS(t.Context(), "acme", []byte(pair(cert, key)))
	if _, old := errors.AsType[*registry.OldProcessError](err); !old {
		t.Errorf("beside an older process: %v", err)
	}
}

func quote(s string) string {
	text, _ := json.Marshal(s)
	return string(text)
}

// TestACompanysCertificateIsSealed at its place: nothing of it can be read in Redis, an older one that is put back does not open, another may take its place, and a rotation of
// the keyset takes it along.
func TestACompanysCertificateIsSealed(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	h.check()
	a := egresstest.NewAuthority(t, "authority")
	cert, key := a.Client("first", nil)
	next, nextKey := a.Client("second", nil)
	cb := h.create("acme", plain)
	put := func(cert, key string) string {
		t.Helper()
		if _, err := h.SetCompanyTLS(ctx, "acme", []byte(pair(cert, key))); err != nil {
			t.Fatal(err)
		}
		return h.redis.HGet(ctx, "{acme}:tls", "tls").Val()
	}
	old := put(cert, key)
	if strings.Contains(old, "first") || strings.Contains(old, "BEGIN") {
		t.Errorf("sealed as %q", old)
	}
	put(next, nextKey)
	h.redis.HSet(ctx, "{acme}:tls", "tls", old)
	if _, err := h.CompanyTLS(ctx, "acme"); !errors.Is(err, registry.ErrSealed) {
		t.Errorf("an older one is put back: %v", err)
	}
	if _, err := h.neighbour().Lookup(ctx, "acme", cb.ID, 0); !errors.Is(err, registry.ErrSealed) {
		t.Errorf("a callback is called without it: %v", err)
	}
	put(next, nextKey)
	both, promoted, older, newer := rotated(t, h)
	leading := openHouse(t, h.server, promoted)
	openHouse(t, h.server, both).check()
	leading.check()
	if seals := h.seals(); seals[older].Callbacks != 2 {
		t.Errorf("sealed by the old key: %+v", seals[older])
	}
	if done, err := leading.Reseal(ctx, untold); err != nil || done.Callbacks != 2 || done.Broken != 0 {
		t.Errorf("resealed %+v, %v", done, err)
	}
	if seals := h.seals(); seals[older].Callbacks != 0 || seals[newer].Callbacks != 2 {
		t.Errorf("after it: %+v", seals)
	}
	last, err := promoted.Without(older)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := openHouse(t, h.server, last).CompanyTLS(ctx, "acme"); err != nil || got.ClientKey != nextKey {
		t.Errorf("with the new key alone: %v", err)
	}
}
