package egress

import (
	"sync/atomic"
	"time"
)

// ClientCredentials are the credentials that ask for an access token (RFC 6749, section 4.4).
type ClientCredentials struct {
	TokenURL     string // as it was registered; see [Client.CheckURL]
	ClientID     string
	ClientSecret string
	Scopes       []string // nil: none is asked for
	Audience     string   // empty: none is named

	Identity *Identity // in the handshake with the token endpoint; nil: as [Config.TLS] says
}

// String leaves all of it out.
func (ClientCredentials) String() string { return "client credentials ***" }

// Owner is the callback that a token is for. Two callbacks never share one, whatever their credentials.
type Owner struct {
	Company  string
	Callback int64
}

// provenAge is how old a token must be before a refusal of it counts, if it never worked or took the place of a refused one. So a partner that
// refuses every token costs its token endpoint one request a second. A token that worked is given up at once.
const provenAge = time.Second

// A Token is an access token. After each use the caller says how the partner took it: [Token.Worked] or [Token.Refused].
type Token struct {
	value   string
	got     time.Time
	refresh time.Time // from then on another is fetched beside it; zero: never
	expired time.Time // from then on it is not used any more; zero: never
	instead bool      // it took the place of one that was refused
	worked  atomic.Bool
	refused atomic.Bool
}

// newToken dates a token. Nobody knows when it was made, so its life counts from the time when it was asked for. A life of zero is for ever.
//
// In the last fifth of its life, a minute at most, another is fetched beside it. In the last tenth, 5 s at most, it is not used any more: it
// would expire on its way.
func newToken(value string, asked time.Time, life time.Duration) *Token {
	t := &Token{value: value, got: time.Now()}
	if life > 0 {
		expiry := asked.Add(life)
		t.refresh = expiry.Add(-min(life/5, time.Minute))
		t.expired = expiry.Add(-min(life/10, 5*time.Second))
	}
	return t
}

// String leaves the token out.
func (*Token) String() string { return "access token ***" }

// Reveal returns the token itself, which is secret.
func (t *Token) Reveal() string { return t.value }

// Worked notes that the partner took the token: its answer was any but 401.
func (t *Token) Worked() { t.worked.Store(true) }

// Refused notes that the partner answered 401, and reports whether another token may mend that. If so, this one is not given out again. If the
// token is new, and either never worked or took the place of a refused one, another would not help.
func (t *Token) Refused() bool {
	age := time.Since(t.got)
	if age >= provenAge || t.worked.Load() && !t.instead {
		t.refused.Store(true)
	}
	return t.refused.Load()
}

// usable reports whether the token may still be sent.
func (t *Token) usable(now time.Time) bool {
	return t != nil && !t.refused.Load() && (t.expired.IsZero() || now.Before(t.expired))
}

// ageing reports whether it is time to fetch another beside the token.
func (t *Token) ageing(now time.Time) bool { return !t.refresh.IsZero() && !now.Before(t.refresh) }
