package registry

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ringback/ringback/payloads"
)

// Defaults and limits of a registration, as the API documents them.
const (
	DefaultMethod      = "POST"
	DefaultContentType = payloads.ContentTypeJSON
	DefaultTimeout     = 15 * time.Second

	// 15 attempts over about 57 hours: 5 s, then 2.5 times as long each time,
	// 12 h at most.
	DefaultInitialInterval = 5 * time.Second
	DefaultMultiplier      = 2.5
	DefaultMaxInterval     = 12 * time.Hour
	DefaultMaxAttempts     = 15
)

// Kinds of [Auth].
const (
	AuthBearer = "bearer"
	AuthBasic  = "basic"
	AuthOAuth2 = "oauth2"
)

// Masked stands where an answer leaves a secret out; in a patch it leaves the
// secret as it is.
const Masked = "***"

// Status says whether deliveries to a callback go out.
type Status string

// The statuses. Events match callbacks of all but the last alike: what may not go
// out is held.
const (
	Enabled  Status = "enabled"
	Paused   Status = "paused"   // by request
	Disabled Status = "disabled" // by Ringback, for example because the partner answered 410
	// Unverified is a callback whose endpoint has not answered its challenge; see [Config.VerifyDestinations].
	Unverified Status = "unverified"
	Deleted    Status = "deleted" // only ever seen in a Gate
)

// Callback is one registration. Those that [Registry.Match], [Registry.Lookup]
// and [Registry.List] return are shared: read them, do not write to them.
//
// It holds secrets in clear. Printing, logging and [Callback.MarshalJSON] leave
// them out.
type Callback struct {
	Company string
	ID      int64

	// Type is the callback type, or a glob over types.
	Type string

	// MatchBlock is the name of the block that narrows the match, as it was
	// registered; empty if there was none. Match holds its members.
	MatchBlock string
	Match      map[string]string

	Destination Destination
	Description string

	// StartDate is the earliest acceptance of an event that matches, where
	// StartDateGiven; else it is CreatedAt, for show, and excludes nothing.
	StartDate      time.Time
	StartDateGiven bool

	Headers map[string]string // values are secret
	Auth    *Auth             // nil: none

	Success payloads.SuccessRule // empty: the callback type's, see SuccessRule
	Trace   bool                 // send traceparent
	Timeout time.Duration        // of one attempt
	Retry   Retry

	RateLimit *RateLimit // nil: none

	// Secrets sign the requests, the newest first. Use LiveSecrets.
	Secrets []SigningSecret

	CreatedAt, UpdatedAt time.Time // milliseconds, UTC
	Version              int64     // of the company's registry, by the last change of this callback

	// Status is Enabled, Paused, Disabled or Unverified, and since when;
	// DisabledReason says why where it is Disabled, and UnverifiedReason what
	// came of the last challenge where it is Unverified, empty: none was sent.
	// All are zero in what Match and Lookup return: memory does not hold them.
	Status           Status
	DisabledReason   string
	UnverifiedReason string
	StatusAt         time.Time // zero where Enabled

	// Moved says that the call that returned the callback took away its
	// endpoint's proof of control: a challenge is due.
	Moved bool
}

// Destination is where and how a callback's requests go.
type Destination struct {
	URL         string `json:"url"` // called exactly as it is
	Method      string `json:"method"`
	ContentType string `json:"content_type"`
}

// Host is a name for the host and port that requests go to: the same for all
// callbacks that go there, and nothing that tells where that is.
func (d Destination) Host() string {
	u, err := url.Parse(d.URL)
	if err != nil {
		return "" // no registration holds such a URL
	}
	port := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	sum := sha256.Sum256([]byte(strings.ToLower(strings.TrimSuffix(u.Hostname(), ".")) + ":" + port))
	return hex.EncodeToString(sum[:8])
}

// Auth is how requests prove who they are to the partner. Token goes with
// AuthBearer, Username and Password with AuthBasic. Without a Password it is
// empty, and is not shown: there is nothing to hide. The others go with
// AuthOAuth2: what an access token is asked for with (RFC 6749, section 4.4).
type Auth struct {
	Type     string `json:"type"`
	Token    string `json:"token,omitempty"`
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`

	TokenURL     string   `json:"token_url,omitempty"` // called exactly as it is
	ClientID     string   `json:"client_id,omitempty"`
	ClientSecret string   `json:"client_secret,omitempty"`
	Scopes       []string `json:"scopes,omitempty"`   // nil: none is asked for
	Audience     string   `json:"audience,omitempty"` // empty: none is named
}

// String names the kind and leaves the secrets out.
func (a Auth) String() string { return a.Type + " " + Masked }

// LogValue leaves the secrets out.
func (a Auth) LogValue() slog.Value { return slog.StringValue(a.String()) }

// Retry is a callback's retry schedule: the n-th retry waits
// InitialInterval × Multiplierⁿ⁻¹, MaxInterval at most, before jitter.
type Retry struct {
	InitialInterval time.Duration `json:"initial_interval"` // 1 s or more
	Multiplier      float64       `json:"multiplier"`       // 1 to 10
	MaxInterval     time.Duration `json:"max_interval"`     // InitialInterval or more
	MaxAttempts     int           `json:"max_attempts"`     // 1 to 100, the first included
}

// RateLimit is how fast a partner wants to be called: it holds for all attempts at
// deliveries to a callback together. A bucket of Burst tokens fills at PerSecond,
// and each attempt takes one.
type RateLimit struct {
	PerSecond float64 `json:"per_second"` // 0.01 to 10,000
	Burst     int     `json:"burst"`      // 1 to 10,000
}

// String is the limit as it is stored under [RateKey]: both numbers as decimals,
// with a space between them. That of nil is empty.
func (l *RateLimit) String() string {
	if l == nil {
		return ""
	}
	return strconv.FormatFloat(l.PerSecond, 'f', -1, 64) + " " + strconv.Itoa(l.Burst)
}

// SigningSecret is one of a callback's signing secrets.
type SigningSecret struct {
	Secret    payloads.Secret
	ExpiresAt time.Time // zero: it stays
}

// LiveSecrets returns the secrets to sign with at now, the newest first. Right
// after a rotation that is more than one.
func (cb *Callback) LiveSecrets(now time.Time) []payloads.Secret {
	live := make([]payloads.Secret, 0, len(cb.Secrets))
	for _, s := range cb.Secrets {
		if s.ExpiresAt.IsZero() || now.Before(s.ExpiresAt) {
			live = append(live, s.Secret)
		}
	}
	return live
}

// SuccessRule is the rule the partner's answers are judged by for events of type
// t: the callback's own, else the type's, else payloads.JSON200Or204. t may be
// nil.
func (cb *Callback) SuccessRule(t *payloads.Type) payloads.SuccessRule {
	switch {
	case cb.Success != "":
		return cb.Success
	case t != nil && t.Success != "":
		return t.Success
	default:
		return payloads.JSON200Or204
	}
}

// String names the callback for people and logs; it holds neither URL nor secret.
func (cb Callback) String() string {
	return fmt.Sprintf("callback %d for %s of company %s", cb.ID, cb.Type, cb.Company)
}

// LogValue names the callback; it holds neither URL nor secret.
func (cb Callback) LogValue() slog.Value {
	return slog.GroupValue(slog.String("company", cb.Company), slog.Int64("callback", cb.ID), slog.String("type", cb.Type))
}

// MarshalJSON renders the callback as the API answers it: in the shape of a
// wallet registration, secrets as "***", the signing secret not at all.
func (cb *Callback) MarshalJSON() ([]byte, error) { return cb.render("") }

// Revealed renders like its Callback and shows the newest signing secret.
type Revealed struct{ *Callback }

// WithSecret returns cb as the answers to creation and rotation show it: the
// only two places where the newest signing secret appears, as `secret`.
func (cb *Callback) WithSecret() Revealed { return Revealed{cb} }

// MarshalJSON renders the callback with its newest signing secret.
func (r Revealed) MarshalJSON() ([]byte, error) {
	if len(r.Secrets) == 0 {
		return r.render("")
	}
	return r.render(r.Secrets[0].Secret.Reveal())
}

// WithoutQueries returns a copy whose URLs end before their query.
func (cb *Callback) WithoutQueries() *Callback {
	bare := *cb
	bare.Destination.URL, _, _ = strings.Cut(cb.Destination.URL, "?")
	if cb.Auth != nil {
		auth := *cb.Auth
		auth.TokenURL, _, _ = strings.Cut(auth.TokenURL, "?")
		bare.Auth = &auth
	}
	return &bare
}

// path is the callback's place in the API.
func (cb *Callback) path() string {
	return fmt.Sprintf("/companies/%s/config/callbacks/%d", cb.Company, cb.ID)
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
		Secret         string     `json:"secret,omitempty"`
	}{
		settings:  cb.settings(),
		StartDate: cb.StartDate.UTC(), URL: cb.path(), CreatedAt: cb.CreatedAt, UpdatedAt: cb.UpdatedAt,
		Status: cb.Status, DisabledReason: cb.DisabledReason, Unverified: cb.UnverifiedReason, Secret: secret,
	}
	if !cb.StatusAt.IsZero() {
		tail.StatusAt = &cb.StatusAt
	}
	parts := []any{head, cb.block(), tail}
	return joinObjects(parts...)
}

// goesElsewhere reports whether the callback's requests, or those for its access tokens, go to another URL than those of old.
func (cb *Callback) goesElsewhere(old *Callback) bool {
	return cb.Destination.URL != old.Destination.URL || cb.tokenURL() != "" && cb.tokenURL() != old.tokenURL()
}

func (cb *Callback) tokenURL() string {
	if cb.Auth == nil {
		return ""
	}
	return cb.Auth.TokenURL
}

// settings are the members of a registration that a client may set, as they are
// shown, apart from type, block and start date.
type settings struct {
	Destination Destination          `json:"destination"`
	Description string               `json:"description,omitempty"`
	Headers     map[string]string    `json:"headers,omitempty"`
	Auth        *Auth                `json:"auth,omitempty"`
	Success     payloads.SuccessRule `json:"success,omitempty"`
	Trace       bool                 `json:"trace"`
	Timeout     string               `json:"timeout"`
	Retry       retrySettings        `json:"retry"`
	RateLimit   *RateLimit           `json:"rate_limit,omitempty"`
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
		RateLimit: cb.RateLimit,
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

// joinObjects renders each part, which must be an object or null, and puts their
// members into one object, in order.
func joinObjects(parts ...any) ([]byte, error) {
	out := []byte{'{'}
	for _, part := range parts {
		var buf bytes.Buffer
		enc := json.NewEncoder(&buf)
		enc.SetEscapeHTML(false) // & in URLs
		if err := enc.Encode(part); err != nil {
			return nil, err
		}
		members := bytes.TrimSpace(buf.Bytes())
		if len(members) <= 2 || members[0] != '{' { // {} or null
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, members[1:len(members)-1]...)
	}
	return append(out, '}'), nil
}
