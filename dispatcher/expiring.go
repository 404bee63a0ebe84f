package dispatcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// A company hears of a client certificate that expires by an event of an operational type, once a step:
//
//	1  a worker finds the certificate in the file (package registry), and the callback has it still
//	2  it sends the event, whose id holds the callback, the certificate and the step: sent twice, it is a duplicate
//	3  it notes the step at the callback, by a script that takes no step back
//
// A kill before 3 leaves a step that was told and is not noted, which the next look tells again.

const (
	// expiringEvery is how often the file is looked through, and expiringPage how many certificates of it in one round.
	expiringEvery, expiringPage = 10 * time.Minute, 50
)

// expiring is the payload of [ledger.TypeExpiring] (payloads/contracts/operational.json).
type expiring struct {
	Company      string    `json:"company"`
	CallbackID   int64     `json:"callback_id,omitempty"` // absent: it is the company's, as the type is
	CallbackType string    `json:"callback_type,omitempty"`
	WithinDays   int       `json:"within_days"`
	NotAfter     time.Time `json:"not_after"`
	Subject      string    `json:"subject"`
	Issuer       string    `json:"issuer"`
	Fingerprint  string    `json:"fingerprint"`
}

// lookAtCertificates tells of client certificates that expire, some in each round until all were looked at.
func (w *Worker) lookAtCertificates(ctx context.Context, t *tour) {
	r := &w.rounds.certificates
	if !r.underWay && !r.began.IsZero() && time.Since(r.began) < expiringEvery || !t.knowsTime(ctx) {
		return
	}
	if !r.underWay {
		r.began, r.place = time.Now(), 0
	}
	t.note(ctx, "looking for client certificates that expire", "", func() error { return w.tellCertificates(ctx, t.now) })
}

// tellCertificates tells of some. If that fails, the next look begins anew.
func (w *Worker) tellCertificates(ctx context.Context, now time.Time) error {
	r, c := &w.rounds.certificates, w.client
	r.underWay = false
	found, err := c.registry.FiledUntil(ctx, now.Add(expiryStages[len(expiryStages)-1].within()), r.place, expiringPage)
	if err != nil || len(found) == 0 {
		return err
	}
	err = c.registry.KnownEverywhere(ctx, "what is told of client certificates", registry.CertificatesLevel)
	if _, old := errors.AsType[*registry.OldProcessError](err); old {
		return nil // it would not know the event's type: the next look tells
	}
	if err != nil {
		return err
	}
	var gone []registry.Filed
	var failed []error
	for _, f := range found {
		if !w.rounds.peers.mine(f.Company) || ctx.Err() != nil {
			continue
		}
		inUse, err := c.tellCertificate(ctx, f, now)
		failed = append(failed, err)
		if !inUse {
			gone = append(gone, f)
		}
	}
	r.place, r.underWay = r.place+len(found)-len(gone), len(found) == expiringPage
	return errors.Join(append(failed, c.registry.Unfile(ctx, gone...))...)
}

// tellCertificate tells of one that is filed, unless it was told already. inUse is false if there is another certificate now, or none.
func (c *Client) tellCertificate(ctx context.Context, f registry.Filed, now time.Time) (inUse bool, err error) {
	cb, certificate, err := c.registry.InUse(ctx, f)
	if err != nil || certificate == nil {
		return err != nil, err
	}
	stage, near := expiryStageOf(certificate.NotAfter.Sub(now))
	if !near {
		return true, nil
	}
	days := int(stage)
	fingerprint := certificate.Short()
	switch told, ok, err := c.ledger.ToldExpiry(ctx, f.Company, f.Callback, fingerprint); {
	case err != nil:
		return true, err
	case ok && told <= days:
		return true, nil
	}
	payload, err := json.Marshal(expiring{f.Company, cb.ID, cb.Type, days, certificate.NotAfter, certificate.Subject, certificate.Issuer, certificate.Fingerprint})
	if err != nil {
		return true, err
	}
	e := payloads.Event{
		Company: f.Company, Type: ledger.TypeExpiring, Payload: payload,
		ID: fmt.Sprintf("%s:%d:%s:%d", ledger.TypeExpiring, f.Callback, fingerprint, days),
	}
	if _, err := c.send(ctx, e, true); err != nil && !errors.Is(err, ErrEventConflict) { // of its id there is no other
		return true, err
	}
	c.at("told of a certificate")
	if err := c.ledger.NoteExpiry(ctx, f.Company, f.Callback, fingerprint, days); err != nil {
		return true, err
	}
	c.log.WarnContext(ctx, "a company was told of a client certificate that "+certificate.Lives(now),
		"company", f.Company, "callback", f.Callback, "within_days", days, "not_after", certificate.NotAfter, "fingerprint", certificate.Fingerprint, "event", e.ID)
	return true, nil
}
