package registry

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
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

// Masked stands where an answer leaves a secret out. In a patch it leaves the
// secret as it is.
const Masked = "***"

// Status says whether deliveries to a callback go out.
type Status string

// The statuses. Events match callbacks of all but the last alike: if a delivery may
// not go out, it is held.
const (
	Enabled  Status = "enabled"
	Paused   Status = "paused"   // by request
	Disabled Status = "disabled" // by Ringback, for example because the partner answered 410
	// Unverified is the status of a callback whose endpoint has not answered its challenge; see [Config.VerifyDestinations].
	Unverified Status = "unverified"
	Deleted    Status = "deleted" // only ever seen in a Gate
	// Pulled is only ever seen in a Gate, too: that of a callback whose partner fetches. It never opens, so that deliveries wait until they are fetched.
	Pulled Status = "pull"
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
	// registered. If there was none, it is empty. Match holds its members.
	MatchBlock string
	Match      map[string]string

	Destination Destination
	Description string

	// StartDate is the earliest acceptance of an event that matches. If it was not
	// given, it is CreatedAt, for show, and excludes nothing.
	StartDate      time.Time
	StartDateGiven bool

	Headers map[string]string // values are secret
	Auth    *Auth             // nil: none
	TLS     *TLS              // nil: the usual

	inherited *TLS // what holds instead where the company has a client certificate and the callback has none; see Handshake

	Success payloads.SuccessRule // empty: the callback type's, see SuccessRule
	Trace   bool                 // send traceparent
	Timeout time.Duration        // of one attempt
	Retry   Retry

	RateLimit *RateLimit // nil: none
	Batch     *Batch     // nil: deliveries go one by one
	Ordering  *Ordering  // nil: deliveries go out as they come

	Filter   *payloads.Filter   // nil: none
	Template *payloads.Template // nil: none, and the payload goes out as it came

	Envelope  Envelope // empty: none
	Body      BodyForm // empty: full
	PublicURL string   // of the installation when it was registered or changed, where Body is BodyThin; see [Registry.PublicURL]

	HeaderStyle payloads.HeaderStyle // of the signature; empty: payloads.StyleStandard

	// Secrets sign the requests, the newest first. Use Signers.
	Secrets []SigningSecret
	// SecretGiven says that the call that returned the callback brought its newest secret. [Callback.WithSecret] does not show that one.
	SecretGiven bool

	// Signature says by what else requests are signed, or by what instead. Nil: by Secrets alone.
	Signature *Signature

	CreatedAt, UpdatedAt time.Time // milliseconds, UTC
	Version              int64     // of the company's registry, by the last change of this callback

	// Status is Enabled, Paused, Disabled or Unverified. Match and Lookup return it,
	// its reasons and its time empty: memory does not hold them.
	Status           Status
	DisabledReason   string    // if Disabled, why
	UnverifiedReason string    // if Unverified, why the last challenge failed; empty: none was sent
	StatusAt         time.Time // since when; zero: Enabled

	// Moved says that the endpoint's proof of control was taken away by the call
	// that returned the callback: a challenge is due.
	Moved bool
}

// ETag names the callback's settings as they are (RFC 9110, section 8.8.3). Every change of them gives it another one. Its status is none of them.
func (cb *Callback) ETag() string { return `"` + strconv.FormatInt(cb.Version, 10) + `"` }

// Destination is where and how a callback's requests go.
type Destination struct {
	URL         string `json:"url"` // called exactly as it is
	Method      string `json:"method"`
	ContentType string `json:"content_type"`

	// Pull says that nothing is sent: the partner fetches the deliveries. Then there is no URL and no method, and what is fetched is JSON. It is what it was at
	// registration.
	Pull bool `json:"pull,omitempty"`
}

// Host is a name for the host and port that requests go to. It is the same for all
// callbacks that go there, and does not tell where that is. If nothing is sent, it is
// empty.
func (d Destination) Host() string {
	if d.Pull {
		return ""
	}
	u, err := url.Parse(d.URL)
	if err != nil {
		return "" // no registration holds such a URL
	}
	port := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	sum := sha256.Sum256([]byte(strings.ToLower(strings.TrimSuffix(u.Hostname(), ".")) + ":" + port))
	return hex.EncodeToString(sum[:8])
}

// Auth is how requests prove to the partner that they are Ringback's. Token goes
// with AuthBearer, Username and Password with AuthBasic. If there is no Password, it
// is empty, and is not shown: there is nothing to hide. The others go with
// AuthOAuth2, and are sent to ask for an access token (RFC 6749, section 4.4).
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

// The bounds of a [RateLimit], and those of an API key's.
const (
	minPerSecond = 0.01 // one attempt in 100 s
	maxPerSecond = 10_000
	maxBurst     = maxPerSecond // that of a second
)

// RateLimit is how fast a partner wants to be called. It holds for all attempts at
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

// MaxOverlap is the longest time that a replaced signing secret may go on signing,
// and that a replaced secret of an API key may go on working.
const MaxOverlap = 7 * 24 * time.Hour

// SigningSecret is one of a callback's signing secrets.
type SigningSecret struct {
	Secret    payloads.Secret
	ExpiresAt time.Time // zero: it stays
	TicketKey TicketKey // none: its callback's body was never thin with it
}

// ended reports whether the secret signs no more.
func (s SigningSecret) ended(at time.Time) bool {
	return !s.ExpiresAt.IsZero() && !at.Before(s.ExpiresAt)
}

// LiveSecrets returns the secrets to sign with at now, the newest first. Right
// after a rotation that is more than one.
func (cb *Callback) LiveSecrets(now time.Time) []payloads.Secret {
	live := make([]payloads.Secret, 0, len(cb.Secrets))
	for _, s := range cb.Secrets {
		if !s.ended(now) {
			live = append(live, s.Secret)
		}
	}
	return live
}

// SuccessRule is the rule that judges the partner's answers to events of type t:
// the callback's own, else the type's, else payloads.JSON200Or204. t may be nil.
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
