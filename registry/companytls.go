package registry

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// A company may have a client certificate for all of its callbacks that have none of their own. It stands beside them, and a change raises the version of the
// company as a change of a callback does. So who reads the callbacks up to a version has the certificate of that version, and an attempt that begins after
// a change has returned uses what it says.

// CompanyTLS returns the client certificate of a company, for its callbacks that have none of their own, or ErrNotFound.
func (r *Registry) CompanyTLS(ctx context.Context, company string) (*TLS, error) {
	if err := checkCompany(company); err != nil {
		return nil, err
	}
	_, t, err := r.companyTLS(ctx, company)
	if err == nil && t == nil {
		return nil, ErrNotFound
	}
	return t, err
}

// companyTLS reads a company's certificate, as it is sealed as well. nil: it has none.
func (r *Registry) companyTLS(ctx context.Context, company string) (sealed string, t *TLS, err error) {
	var values, anchors *redis.SliceCmd
	if _, err := r.redis.TxPipelined(ctx, func(p redis.Pipeliner) error { // at one moment
		values, anchors = p.HMGet(ctx, companyTLSKey(company), tlsField), p.HMGet(ctx, anchorsKey(company), tlsField)
		return nil
	}); err != nil {
		return "", nil, fmt.Errorf("registry: read the client certificate of company %s: %w", company, err)
	}
	sealed, _ = values.Val()[0].(string)
	anchor, _ := anchors.Val()[0].(string)
	t, err = r.keyset.openCompanyTLS(company, sealed, anchor)
	return sealed, t, err
}

// WithCompanyTLS returns a callback that [Registry.Get] returned with its company's client certificate, as it is in Redis.
func (r *Registry) WithCompanyTLS(ctx context.Context, cb *Callback) (*Callback, error) {
	_, t, err := r.companyTLS(ctx, cb.Company)
	if err != nil {
		return nil, err
	}
	own := *cb
	own.inherit(t)
	return &own, nil
}
