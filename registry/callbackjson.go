package registry

import (
	"fmt"
	"maps"
	"time"

	"github.com/ringback/ringback/payloads"
)

// MarshalJSON renders the callback as the API answers it, in the shape of a wallet
// registration. Secrets are "***". The signing secret is left out.
func (cb *Callback) MarshalJSON() ([]byte, error) { return cb.render("") }

// Revealed renders like its Callback and shows the newest signing secret.
type Revealed struct{ *Callback }

// WithSecret returns cb as the answers to creation and rotation show it: the
// only two places where the newest signing secret appears, as `secret`. If the caller
// brought it, it is not shown, for the caller has it.
func (cb *Callback) WithSecret() Revealed { return Revealed{cb} }

// MarshalJSON renders the callback with its newest signing secret.
func (r Revealed) MarshalJSON() ([]byte, error) {
	if len(r.Secrets) == 0 || r.SecretGiven {
		return r.render("")
	}
	return r.render(r.Secrets[0].Secret.Reveal())
}

func (cb *Callback) render(secret string) ([]byte, error) {
	head := struct {
		ID        int64  `json:"callback_id"`
		Type      string `json:"callback_type"`
		EventType string `json:"event_type"` // deprecated, and still read by clients of the wallet contract
	}{cb.ID, cb.Type, cb.Type}

	tail := struct {
		settings
		StartDate      time.Time  `json:"start_date"`
		URL            string     `json:"url"`
		CreatedAt      time.Time  `json:"created_at"`
		UpdatedAt      time.Time  `json:"updated_at"`
		Status         Status     `json:"status,omitempty"`
		StatusAt       *time.Time `json:"status_at,omitempty"`
		DisabledReason string     `json:"disabled_reason,omitempty"`
		Unverified     string     `json:"unverified_reason,omitempty"`
		OverlapUntil   *time.Time `json:"secret_overlap_until,omitempty"`
		Secret         string     `json:"secret,omitempty"`
	}{
		settings:  cb.settings(),
		StartDate: cb.StartDate.UTC(), URL: cb.path(), CreatedAt: cb.CreatedAt, UpdatedAt: cb.UpdatedAt,
		Status: cb.Status, DisabledReason: cb.DisabledReason, Unverified: cb.UnverifiedReason, Secret: secret,
	}
	if tail.TLS != nil {
		tail.TLS.Certificate = cb.Certificate()
	}
	if !cb.StatusAt.IsZero() {
		tail.StatusAt = &cb.StatusAt
	}
	tail.Signature = cb.Signature.shown(now())
	if until := cb.overlapUntil(now()); !until.IsZero() {
		tail.OverlapUntil = &until
	}
	parts := []any{head, cb.block(), tail}
	return joinObjects(parts...)
}

// overlapUntil is how long the secrets before the newest go on signing. It is zero if none does.
func (cb *Callback) overlapUntil(at time.Time) (until time.Time) {
	for _, s := range cb.Secrets {
		if s.ExpiresAt.After(at) && s.ExpiresAt.After(until) {
			until = s.ExpiresAt.UTC()
		}
	}
	return until
}

// path is the callback's place in the API.
func (cb *Callback) path() string {
	return fmt.Sprintf("/companies/%s/config/callbacks/%d", cb.Company, cb.ID)
}

// editable is the part of a callback's JSON that a patch can change. A start date
// that was not given is not in it, so that it stays not given.
func (cb *Callback) editable() ([]byte, error) {
	own := map[string]any{"callback_type": cb.Type}
	if cb.StartDateGiven {
		own["start_date"] = cb.StartDate
	}
	return joinObjects(own, cb.block(), cb.settings())
}

// settings are the members of a registration that a client may set, as they are
// shown, apart from type, block and start date.
type settings struct {
	Destination Destination          `json:"destination"`
	Description string               `json:"description,omitempty"`
	Headers     map[string]string    `json:"headers,omitempty"`
	Auth        *Auth                `json:"auth,omitempty"`
	TLS         *shownTLS            `json:"tls,omitempty"`
	Success     payloads.SuccessRule `json:"success,omitempty"`
	Trace       bool                 `json:"trace"`
	Timeout     string               `json:"timeout"`
	Retry       retrySettings        `json:"retry"`
	RateLimit   *RateLimit           `json:"rate_limit,omitempty"`

	HeaderStyle payloads.HeaderStyle `json:"header_style,omitempty"`
	Ordering    *orderingSettings    `json:"ordering,omitempty"`
	Filter      *payloads.Filter     `json:"filter,omitempty"`
	Template    *payloads.Template   `json:"template,omitempty"`
	Envelope    Envelope             `json:"envelope,omitempty"`
	Body        BodyForm             `json:"body,omitempty"`
	Signature   *signatureSettings   `json:"signature,omitempty"`
	Batch       *batchSettings       `json:"batch,omitempty"`
}

type retrySettings struct {
	InitialInterval string  `json:"initial_interval"`
	Multiplier      float64 `json:"multiplier"`
	MaxInterval     string  `json:"max_interval"`
	MaxAttempts     int     `json:"max_attempts"`
}

func (cb *Callback) settings() settings {
	s := settings{
		Destination: cb.Destination,
		Description: cb.Description,
		Success:     cb.Success,
		Trace:       cb.Trace,
		Timeout:     formatDuration(cb.Timeout),
		Retry: retrySettings{
			InitialInterval: formatDuration(cb.Retry.InitialInterval),
			Multiplier:      cb.Retry.Multiplier,
			MaxInterval:     formatDuration(cb.Retry.MaxInterval),
			MaxAttempts:     cb.Retry.MaxAttempts,
		},
		RateLimit:   cb.RateLimit,
		HeaderStyle: cb.HeaderStyle,
		Ordering:    cb.Ordering.settings(),
		TLS:         cb.TLS.shown(),
		Filter:      cb.Filter,
		Template:    cb.Template,
		Envelope:    cb.Envelope,
		Body:        cb.Body,
		Signature:   cb.Signature.settings(),
		Batch:       cb.Batch.settings(),
	}
	if len(cb.Headers) > 0 {
		s.Headers = maps.Clone(cb.Headers)
		for name := range s.Headers {
			s.Headers[name] = Masked
		}
	}
	if cb.Auth != nil {
		shown := *cb.Auth
		for _, secret := range []*string{&shown.Token, &shown.Password, &shown.ClientSecret} {
			if *secret != "" {
				*secret = Masked
			}
		}
		s.Auth = &shown
	}
	return s
}

// block is the match block under the name it was registered with.
func (cb *Callback) block() map[string]map[string]string {
	if cb.MatchBlock == "" {
		return nil
	}
	match := cb.Match
	if match == nil {
		match = map[string]string{} // {}, not null
	}
	return map[string]map[string]string{cb.MatchBlock: match}
}
