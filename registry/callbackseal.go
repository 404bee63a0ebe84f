package registry

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/ringback/ringback/payloads"
)

// stored is a callback as it is sealed. Id, company and version are not in it:
// they are where it stands.
type stored struct {
	Model       int                  `json:"m"` // model
	Type        string               `json:"type"`
	MatchBlock  string               `json:"block,omitempty"`
	Match       map[string]string    `json:"match,omitempty"`
	Destination Destination          `json:"dest"`
	Description string               `json:"desc,omitempty"`
	StartDate   *time.Time           `json:"start,omitempty"` // nil: not given
	Headers     map[string]string    `json:"headers,omitempty"`
	Auth        *Auth                `json:"auth,omitempty"`
	TLS         *TLS                 `json:"tls,omitempty"`
	Success     payloads.SuccessRule `json:"success,omitempty"`
	Trace       bool                 `json:"trace,omitempty"`
	Timeout     time.Duration        `json:"timeout"`
	Retry       Retry                `json:"retry"`
	RateLimit   *RateLimit           `json:"rate,omitempty"`
	HeaderStyle payloads.HeaderStyle `json:"style,omitempty"` // model 2
	Ordering    *Ordering            `json:"order,omitempty"`
	Envelope    Envelope             `json:"envelope,omitempty"`
	Body        BodyForm             `json:"body,omitempty"`
	PublicURL   string               `json:"public,omitempty"`
	Batch       *Batch               `json:"batch,omitempty"`
	Secrets     []storedSecret       `json:"secrets"`
	Signature   *storedSignature     `json:"sig,omitempty"`
	narrowed
	CreatedAt time.Time `json:"created"`
	UpdatedAt time.Time `json:"updated"`
}

type storedSecret struct {
	Secret    string    `json:"s"`
	ExpiresAt time.Time `json:"x,omitzero"`
	TicketKey []byte    `json:"t,omitempty"`
}

// storedModel is the highest shape of stored. A process that meets a higher one is older
// than the process that wrote it, and must not guess. A callback is stored as the lowest
// that has all it needs.
//
//	1  what every process reads
//	2  traits that processes of wireLevel know
const storedModel = 2

// model is the shape that the callback is stored in.
func (cb *Callback) model() int {
	if _, level := newer(cb, nil); level >= wireLevel {
		return 2
	}
	return 1
}

// An anchor binds a callback's row to what stands beside it: it is fresh with each
// seal, part of the seal, and kept in another hash. So an older row that is put
// back does not open.

// place is the place that a callback's seal is bound to. Without an anchor it is the
// one that processes of level 1 seal for.
func place(company string, id int64, anchor string) string {
	at := company + "/" + strconv.FormatInt(id, 10)
	if anchor != "" {
		at += "/" + anchor
	}
	return at
}

// sealCallback seals cb for its row.
func (k *Keyset) sealCallback(cb *Callback, anchor string) ([]byte, error) {
	s := stored{
		Model: cb.model(), Type: cb.Type, MatchBlock: cb.MatchBlock, Match: cb.Match, Destination: cb.Destination, Description: cb.Description,
		Headers: cb.Headers, Auth: cb.Auth, TLS: cb.TLS, Success: cb.Success, Trace: cb.Trace, Timeout: cb.Timeout, Retry: cb.Retry, RateLimit: cb.RateLimit, HeaderStyle: cb.HeaderStyle,
		Envelope: cb.Envelope, Batch: cb.Batch, Body: cb.Body, PublicURL: cb.PublicURL, Ordering: cb.Ordering,
		Signature: cb.Signature.stored(), CreatedAt: cb.CreatedAt, UpdatedAt: cb.UpdatedAt, narrowed: cb.narrowed(),
	}
	if cb.StartDateGiven {
		s.StartDate = &cb.StartDate
	}
	for _, secret := range cb.Secrets {
		s.Secrets = append(s.Secrets, storedSecret{secret.Secret.Reveal(), secret.ExpiresAt, secret.TicketKey})
	}
	plain, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("registry: store %v: %w", cb, err)
	}
	return k.seal(plain, place(cb.Company, cb.ID, anchor))
}

// openRow opens a callback's row. The error, an ErrSealed, says what to do.
func (k *Keyset) openRow(company string, id int64, sealed []byte, anchor string) ([]byte, error) {
	plain, err := k.open(sealed, place(company, id, anchor))
	if err != nil {
		return nil, fmt.Errorf("callback %d of company %s: %w, or is not what Ringback wrote there last: "+
			"give this process the keyset that sealed it, or restore Redis from a backup, or delete the callback and register it again", id, company, err)
	}
	return plain, nil
}

// openCallback opens a row, which was written at that version.
func (k *Keyset) openCallback(company string, id int64, sealed []byte, anchor, version string) (*Callback, error) {
	plain, err := k.openRow(company, id, sealed, anchor)
	if err != nil {
		return nil, err
	}
	var s stored
	if err := json.Unmarshal(plain, &s); err != nil { // not wrapped: it may quote
		return nil, fmt.Errorf("registry: callback %d of company %s is stored in a shape this version cannot read", id, company)
	}
	if s.Model > storedModel {
		return nil, fmt.Errorf("registry: callback %d of company %s was stored by a newer Ringback (model %d, this one knows %d): update this process", id, company, s.Model, storedModel)
	}
	cb := &Callback{
		Company: company, ID: id, Type: s.Type, MatchBlock: s.MatchBlock, Match: s.Match, Destination: s.Destination, Description: s.Description,
		StartDate: s.CreatedAt, Headers: s.Headers, Auth: s.Auth, TLS: s.TLS, Success: s.Success, Trace: s.Trace, Timeout: s.Timeout, Retry: s.Retry, RateLimit: s.RateLimit, HeaderStyle: s.HeaderStyle,
		Envelope: s.Envelope, Batch: s.Batch, Body: s.Body, PublicURL: s.PublicURL, Ordering: s.Ordering,
		CreatedAt: s.CreatedAt, UpdatedAt: s.UpdatedAt,
	}
	if s.MatchBlock != "" && s.Match == nil {
		cb.Match = map[string]string{}
	}
	if s.StartDate != nil {
		cb.StartDate, cb.StartDateGiven = *s.StartDate, true
	}
	for _, secret := range s.Secrets {
		parsed, err := s.HeaderStyle.ParseSecret(secret.Secret)
		if err != nil { // not wrapped: it may quote
			return nil, fmt.Errorf("registry: a signing secret of callback %d of company %s is not readable", id, company)
		}
		cb.Secrets = append(cb.Secrets, SigningSecret{parsed, secret.ExpiresAt, secret.TicketKey})
	}
	if err := cb.openNarrowed(s.narrowed); err != nil {
		return nil, err
	}
	if cb.Signature, err = s.Signature.open(); err != nil {
		return nil, fmt.Errorf("registry: a signing key of callback %d of company %s is not readable", id, company)
	}
	if cb.Version, err = parseVersion(version); err != nil {
		return nil, fmt.Errorf("callback %d of company %s: %w", id, company, err)
	}
	return cb, nil
}
