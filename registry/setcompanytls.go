package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/payloads"
)

// setCompanyTLS puts ARGV[1], with anchor ARGV[2] or none, in the place of ARGV[3], or takes it away if ARGV[1] is empty. Empty is none there, too. ARGV[4] is the line of the audit
// trail, which is like no other. KEYS: ver, the certificate's hash, anchors, audit. The answer is 1, or 0 if something else stands there than ARGV[3].
var setCompanyTLS = redis.NewScript(AuditLua + `
for _, entry in ipairs(redis.call('XREVRANGE', KEYS[4], '+', '-', 'COUNT', 16)) do
	if entry[2][2] == ARGV[4] then return 1 end -- an earlier run's answer was lost
end
if (redis.call('HGET', KEYS[2], 'tls') or '') ~= ARGV[3] then return 0 end
if ARGV[1] == '' then redis.call('DEL', KEYS[2]) else redis.call('HSET', KEYS[2], 'tls', ARGV[1]) end
if ARGV[2] == '' then redis.call('HDEL', KEYS[3], 'tls') else redis.call('HSET', KEYS[3], 'tls', ARGV[2]) end
` + raiseVersion + `
audit(KEYS[4], ARGV[4])
return 1`)

// SetCompanyTLS gives a company a client certificate, from the JSON of a TLS that has no other members. "***" as the key leaves it as it is. Attempts that begin after it has
// returned use it. A body that is no JSON gives ErrBadJSON, and one that does not fit an *payloads.InvalidError.
func (r *Registry) SetCompanyTLS(ctx context.Context, company string, body []byte) (*TLS, error) {
	if err := checkCompany(company); err != nil {
		return nil, err
	}
	if err := checkJSON(body); err != nil {
		return nil, err
	}
	if err := r.KnownEverywhere(ctx, "a company's client certificate", wireLevel); err != nil {
		return nil, err
	}
	if err := r.note(ctx, company); err != nil { // it may have been erased since this process did last
		return nil, err
	}
	return r.changeCompanyTLS(ctx, company, func(before *TLS) (*TLS, error) { return decodeCompanyTLS(body, before) })
}

// DeleteCompanyTLS takes a company's client certificate away, or returns ErrNotFound.
func (r *Registry) DeleteCompanyTLS(ctx context.Context, company string) error {
	if err := checkCompany(company); err != nil {
		return err
	}
	_, err := r.changeCompanyTLS(ctx, company, func(before *TLS) (*TLS, error) {
		if before == nil {
			return nil, ErrNotFound
		}
		return nil, nil //nolint:nilnil // none
	})
	return err
}

// changeCompanyTLS applies change until nobody else has changed the certificate meanwhile. nil is none, before and after.
func (r *Registry) changeCompanyTLS(ctx context.Context, company string, change func(*TLS) (*TLS, error)) (*TLS, error) {
	for range tries {
		was, before, err := r.companyTLS(ctx, company)
		if errors.Is(err, ErrSealed) {
			before, err = &TLS{}, nil // another one may take its place all the same
		}
		if err != nil {
			return nil, err
		}
		next, err := change(before)
		if err != nil || next != nil && before != nil && *next == *before {
			return next, err
		}
		anchor, sealed := "", []byte(nil)
		if next != nil {
			if anchor, err = r.newAnchor(ctx); err != nil {
				return nil, err
			}
			if sealed, err = r.keyset.sealCompanyTLS(company, next, anchor); err != nil {
				return nil, err
			}
			if err := r.certify(ctx, company, 0, next.Certificate(), before.Certificate()); err != nil {
				return nil, err
			}
		}
		line, err := r.companyTLSLine(ctx, company, before, next)
		if err != nil {
			return nil, err
		}
		keys := []string{VersionKey(company), companyTLSKey(company), anchorsKey(company), AuditKey(company)}
		done, err := setCompanyTLS.Run(ctx, r.redis, keys, sealed, anchor, was, line).Int()
		if err != nil {
			return nil, fmt.Errorf("registry: store the client certificate of company %s: %w", company, err)
		}
		if done == 1 {
			r.certified(ctx, company, 0, next.Certificate(), before.Certificate())
			r.log.InfoContext(ctx, "client certificate of a company changed", "company", company, "there", next != nil)
			return next, nil
		}
	}
	return nil, fmt.Errorf("%w: the client certificate of company %s", ErrBusy, company)
}

// companyTLSLine is the line of the audit trail, with its changes sealed as those of callbacks are.
func (r *Registry) companyTLSLine(ctx context.Context, company string, before, next *TLS) (string, error) {
	plain, err := json.Marshal(diff(before.auditFields(), next.auditFields()))
	if err != nil {
		return "", fmt.Errorf("registry: write a line of the audit trail: %w", err)
	}
	sealed, err := r.keyset.seal(plain, auditPlace(company))
	if err != nil {
		return "", err
	}
	action := "company_tls.update"
	if next == nil {
		action = "company_tls.delete"
	}
	return storedLine{Company: company, Actor: Actor(ctx), Action: action, Object: "tls", Sealed: sealed}.String(), nil
}

func (t *TLS) auditFields() map[string]auditField {
	c := t.Certificate()
	if c == nil {
		return map[string]auditField{}
	}
	return map[string]auditField{
		"client_certificate": {t.ClientCertificate, c.Subject + ", until " + c.NotAfter.Format(time.RFC3339) + ", " + c.Fingerprint},
		"client_key":         {t.ClientKey, Masked},
	}
}

// decodeCompanyTLS reads a certificate with its key. What an answer shows beside them is passed over: clients send back what they got.
func decodeCompanyTLS(body []byte, before *TLS) (*TLS, error) {
	const location = "body"
	d := tlsDecoder{&decoder{}, location}
	t := &TLS{}
	if o, ok := d.object(body, location); ok {
		for _, shown := range append([]string{"company"}, certificateFacts...) {
			delete(o, shown)
		}
		d.certificate(o, t, before)
		d.unknown(o, location, "client_certificate", "client_key")
		if *t == (TLS{}) && len(d.fields) == 0 {
			d.fail(at(location, "client_certificate"), "is missing: give the certificate in PEM, and its key as client_key", nil)
		}
		d.pair(t)
	}
	if len(d.fields) > 0 {
		return nil, &payloads.InvalidError{Fields: d.fields}
	}
	return t, nil
}
