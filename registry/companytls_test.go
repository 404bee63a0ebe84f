package registry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

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
	if h.redis.Exists(ctx, "{acme}:tls").Val() != 0 || h.redis.HExists(ctx, "{acme}:cbseal", "tls").Val() {
		t.Error("deleted, something of it is left")
	}
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

// TestOfTwoWhoChangeACompanysCertificate, the later one looks at what the earlier one left: a key that is to stay is that of the certificate which is there.
func TestOfTwoWhoChangeACompanysCertificate(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	a := egresstest.NewAuthority(t, "authority")
	first, firstKey := a.Client("first", nil)
	second, secondKey := a.Client("second", nil)
	for _, body := range []string{pair(second, secondKey), pair(first, firstKey)} {
		if _, err := h.SetCompanyTLS(ctx, "acme", []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	later := h.neighbour()
	later.redis.AddHook(&before{key: "{acme}:tls", do: func() {
		if _, err := h.SetCompanyTLS(ctx, "acme", []byte(pair(second, secondKey))); err != nil {
			t.Error(err)
		}
	}})
	renewed, renewedKey := a.Client("first", nil)
	_, err := later.SetCompanyTLS(ctx, "acme", []byte(pair(first+a.PEM(), registry.Masked)))
	if invalid, ok := errors.AsType[*payloads.InvalidError](err); !ok || invalid.Fields[0].Location != "body.client_key" {
		t.Errorf("the first one's certificate is put anew with the second one's key: %v", err)
	}
	if got, err := h.CompanyTLS(ctx, "acme"); err != nil || got.ClientKey != secondKey {
		t.Errorf("it has %v, %v", got.Certificate(), err)
	}
	if _, err := later.SetCompanyTLS(ctx, "acme", []byte(pair(renewed, renewedKey))); err != nil {
		t.Errorf("once nobody interferes: %v", err)
	}
}

// before does something once, before the first script that has a key.
type before struct {
	key string
	do  func()
}

func (b *before) DialHook(next redis.DialHook) redis.DialHook { return next }

func (b *before) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (b *before) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if do := b.do; do != nil && cmd.Name() == "evalsha" && slices.Contains(cmd.Args(), any(b.key)) {
			b.do = nil
			do()
		}
		return next(ctx, cmd)
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

// TestACompanysCertificateDespiteFaults: each write fails, before and after Redis did it. Then everybody has either the old certificate or the new one, the version tells them
// apart, and whoever says it again comes to the new one. None is in use that was not filed, and the trail has one line for each change.
func TestACompanysCertificateDespiteFaults(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	a := egresstest.NewAuthority(t, "authority")
	cert, key := a.Client("old", nil)
	next, nextKey := a.Client("new", nil)
	old := []byte(pair(cert, key))
	for name, op := range map[string]struct {
		do    func(r *registry.Registry, company string) error
		want  string
		again error // of saying it again after it was done
	}{
		"set": {func(r *registry.Registry, company string) error {
			_, err := r.SetCompanyTLS(ctx, company, []byte(pair(next, nextKey)))
			return err
		}, "CN=new", nil},
		"delete": {func(r *registry.Registry, company string) error { return r.DeleteCompanyTLS(ctx, company) }, "", registry.ErrNotFound},
	} {
		if err := op.do(h.Registry, "warm-"+name); err != nil && !errors.Is(err, op.again) { // its scripts are known to the server
			t.Fatal(err)
		}
		for step, faults := 1, 0; ; step++ {
			hit := false
			for _, after := range []bool{false, true} {
				company := fmt.Sprintf("%s-%d-%t", name, step, after)
				cb := h.create(company, plain)
				if _, err := h.SetCompanyTLS(ctx, company, old); err != nil {
					t.Fatal(err)
				}
				version := h.version(ctx, company)
				broken := h.neighbour()
				if err := broken.redis.Ping(ctx).Err(); err != nil {
					t.Fatal(err)
				}
				f := &fault{after: after}
				broken.redis.AddHook(f)
				f.countdown.Store(int64(step))
				err := op.do(broken.Registry, company)
				hit = f.countdown.Load() <= 0
				f.countdown.Store(0)
				look := func(what string) string {
					t.Helper()
					now := h.version(ctx, company)
					subject := h.neighbour().subject(ctx, company, cb.ID, now)
					if mine := h.subject(ctx, company, cb.ID, now); mine != subject || subject != "CN=old" && subject != op.want || now > version != (subject == op.want) {
						t.Errorf("%s, %s: it is %q, to another process %q, at version %d after %d", company, what, mine, subject, now, version)
					}
					filed, err := h.FiledUntil(ctx, time.Now().Add(100*365*24*time.Hour), 0, 1000)
					inUse := slices.ContainsFunc(filed, func(f registry.Filed) bool {
						_, c, err := h.InUse(ctx, f)
						return f.Company == company && err == nil && c != nil
					})
					if err != nil || inUse != (subject != "") {
						t.Errorf("%s, %s: one in use is filed: %t, %v", company, what, inUse, err)
					}
					return subject
				}
				stored := look("after the fault") == op.want
				if err == nil && !stored || err != nil && stored && !after {
					t.Errorf("%s: stored: %t, and said %v", company, stored, err)
				}
				if again := op.do(broken.Registry, company); stored && !errors.Is(again, op.again) || !stored && again != nil {
					t.Errorf("%s, again: %v", company, again)
				}
				if look("said again") != op.want {
					t.Errorf("%s: said again, it is not there", company)
				}
				if lines, _, err := h.Audit(ctx, registry.AuditQuery{Company: company, Limit: 10}); err != nil || len(lines) != 3 { // with the registration and the first certificate
					t.Errorf("%s: the trail says %+v, %v", company, lines, err)
				}
				if hit && err != nil {
					faults++
				}
			}
			if !hit {
				if faults < 2 {
					t.Errorf("%s: %d faults showed: this test proves nothing", name, faults)
				}
				break
			}
		}
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
