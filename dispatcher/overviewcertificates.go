package dispatcher

import (
	"context"
	"errors"
	"time"

	"github.com/ringback/ringback/registry"
)

const (
	// certificatesTell is how long before its end a client certificate is told of to who is on call.
	certificatesTell = 7 * 24 * time.Hour
	// certificatesRead is how many are looked at, and certificatesShown how many of them are named.
	certificatesRead, certificatesShown = 200, 20
)

// read finds the client certificates that expire soon. Those of callbacks that do not open it leaves out, and tells of.
func (p *CertificatesPart) read(ctx context.Context, all *registry.Registry, now time.Time) error {
	p.Callbacks = []ExpiringCertificate{}
	filed, err := all.FiledUntil(ctx, now.Add(certificatesTell), 0, certificatesRead)
	if err != nil {
		return err
	}
	var closed []error
	for _, f := range filed {
		cb, certificate, err := all.InUse(ctx, f)
		if errors.Is(err, registry.ErrSealed) {
			closed = append(closed, err)
			continue
		}
		if err != nil {
			return err
		}
		if certificate == nil || cb.Status == registry.Paused || cb.Status == registry.Disabled {
			continue // there is another one by now, or nothing is sent to the callback
		}
		p.Of++
		if !certificate.NotAfter.After(now) {
			p.Expired++
		}
		if len(p.Callbacks) < certificatesShown {
			p.Callbacks = append(p.Callbacks, ExpiringCertificate{f.Company, cb.ID, cb.Type, certificate.NotAfter, certificate.Subject, certificate.Fingerprint})
		}
	}
	return errors.Join(closed...)
}
