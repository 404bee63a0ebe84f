package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Duration is a [time.Duration] that is a text such as "1m30s" in JSON.
type Duration time.Duration

// String is the duration as Go writes it.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes the duration as Go does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a duration as Go writes it.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = Duration(parsed)
	return err
}

// A Destination is where a callback's requests go, and how.
type Destination struct {
	URL         string `json:"url,omitempty"` // called exactly as it is
	Method      string `json:"method,omitempty"`
	ContentType string `json:"content_type,omitempty"`
	Pull        bool   `json:"pull,omitempty"` // nothing is sent: the partner fetches, with [Client.Poll], and there is no URL
}

// Auth is how requests prove to the partner who they are.
type Auth struct {
	Type     string `json:"type"`               // bearer, basic or oauth2
	Token    string `json:"token,omitempty"`    // answers have "***"
	Username string `json:"username,omitempty"` // with basic
	Password string `json:"password,omitempty"` // answers have "***"

	// With oauth2: what access tokens are asked for with (client credentials, RFC 6749, section 4.4).
	TokenURL     string   `json:"token_url,omitempty"`
	ClientID     string   `json:"client_id,omitempty"`
	ClientSecret string   `json:"client_secret,omitempty"` // answers have "***"
	Scopes       []string `json:"scopes,omitempty"`
	Audience     string   `json:"audience,omitempty"`
}

// Retry says when failed deliveries are tried again. What is zero has the server's default.
type Retry struct {
	InitialInterval Duration `json:"initial_interval,omitzero"`
	Multiplier      float64  `json:"multiplier,omitzero"`
	MaxInterval     Duration `json:"max_interval,omitzero"`
	MaxAttempts     int      `json:"max_attempts,omitzero"`
}

// TLS is who the requests are in the TLS handshake, and whom they trust. What follows on ServerName is shown of the certificate, and not taken.
type TLS struct {
	ClientCertificate string `json:"client_certificate,omitempty"` // PEM, with those between it and its authority
	ClientKey         string `json:"client_key,omitempty"`         // PEM; comes back as "***"
	CA                string `json:"ca,omitempty"`                 // PEM: trusted instead of the system's authorities
	ServerName        string `json:"server_name,omitempty"`        // asked for, and verified, instead of the URL's host

	Subject     string    `json:"subject,omitempty"`
	Issuer      string    `json:"issuer,omitempty"`
	NotAfter    time.Time `json:"not_after,omitzero"`
	Fingerprint string    `json:"fingerprint,omitempty"` // SHA-256, in hex
}

// Expiry says in words how long the client certificate is good for at a time.
func (t *TLS) Expiry(at time.Time) string {
	left, end := t.NotAfter.Sub(at), t.NotAfter.UTC().Format(time.RFC3339)
	switch days := int(left / (24 * time.Hour)); {
	case left < 0:
		return "has expired at " + end
	case days == 0:
		return "expires within a day, at " + end
	case days == 1:
		return "expires in a day, at " + end
	default:
		return fmt.Sprintf("expires in %d days, at %s", days, end)
	}
}

// A RateLimit is how fast a partner wants to be called.
type RateLimit struct {
	PerSecond float64 `json:"per_second"`      // attempts, on average: 0.01 to 10000
	Burst     int     `json:"burst,omitempty"` // attempts at once: 1 to 10000; default: PerSecond, rounded up
}

// A Filter narrows a callback's match by what the payload holds. It is a group, with one of All, Any and Not, or a clause, with Pointer, Op and Value.
type Filter struct {
	All     []Filter        `json:"all,omitempty"`     // all of them hold
	Any     []Filter        `json:"any,omitempty"`     // one of them holds, or several
	Not     []Filter        `json:"not,omitempty"`     // none of them holds
	Pointer *string         `json:"pointer,omitempty"` // a JSON Pointer (RFC 6901), of which the empty one is the whole payload
	Op      string          `json:"op,omitempty"`      // equals, not_equals, in, not_in, prefix, suffix, exists, gt, gte, lt or lte
	Value   json.RawMessage `json:"value,omitempty"`
}

// A Batch says how deliveries travel together: as a JSON array in one request. It goes once MaxEvents wait, or about MaxBytes of payloads, or the first has waited
// for MaxWait.
type Batch struct {
	MaxEvents int      `json:"max_events,omitempty"` // 1 to 1,000, with Results to 500; default: 100
	MaxBytes  int      `json:"max_bytes,omitempty"`  // 1 KiB to 1 MiB; default: 256 KiB
	MaxWait   Duration `json:"max_wait,omitzero"`    // up to 60s; default: 5s
	Element   string   `json:"element,omitempty"`    // payload, or envelope: an object with id, type and payload; default: payload
	Results   bool     `json:"results,omitempty"`    // the answer's body may speak of each element
	RateLimit string   `json:"rate_limit,omitempty"` // what takes a token of the rate limit: requests, or events; default: requests
}

// An Ordering keeps deliveries to a callback in order, where their events have the same value at Key.
type Ordering struct {
	Key       string   `json:"key"`                 // a JSON Pointer (RFC 6901) into the payload
	SkipAfter Duration `json:"skip_after,omitzero"` // how long one may keep those behind it waiting; default: until it has ended
}

// A Registration is what a partner asks for: events of a type to be sent to a URL. Type and Destination, with a URL or Pull, are required.
type Registration struct {
	CallbackType string `json:"callback_type"` // or a glob over types, such as customer.*
	// Match narrows the match to events with these attributes, such as campaign_token; the type says which there are. It stands in
	// the registration under the name MatchBlock, by default the type.
	Match       map[string]string `json:"-"`
	MatchBlock  string            `json:"-"`
	Destination Destination       `json:"destination"`
	Description string            `json:"description,omitempty"`
	StartDate   time.Time         `json:"start_date,omitzero"` // events accepted before do not match; default: none is excluded
	Headers     map[string]string `json:"headers,omitempty"`   // sent with every request
	Auth        *Auth             `json:"auth,omitempty"`
	TLS         *TLS              `json:"tls,omitempty"`     // default: the usual
	Success     string            `json:"success,omitempty"` // json_200_or_204, any_2xx or any_response; default: the type's
	Trace       bool              `json:"trace,omitempty"`   // send traceparent
	Timeout     Duration          `json:"timeout,omitzero"`  // of one attempt; default 15s
	Retry       *Retry            `json:"retry,omitempty"`
	RateLimit   *RateLimit        `json:"rate_limit,omitempty"` // default: none
	Ordering    *Ordering         `json:"ordering,omitempty"`   // default: deliveries go out as they come
	Filter      *Filter           `json:"filter,omitempty"`     // narrows the match by what the payload holds
	Template    json.RawMessage   `json:"template,omitempty"`   // makes a new body of the payload
	// HeaderStyle is how the signature travels: standard (the default), svix, github or stripe.
	HeaderStyle string `json:"header_style,omitempty"`
	// Secret is a signing secret that the receiver has already; no answer shows it. Default: one is made.
	Secret    string     `json:"secret,omitempty"`
	Envelope  string     `json:"envelope,omitempty"`  // none, cloudevents-structured or cloudevents-binary; default: none
	Body      string     `json:"body,omitempty"`      // full, or thin: an address where the payload is had; default: full
	Signature *Signature `json:"signature,omitempty"` // default: HMAC alone
	Batch     *Batch     `json:"batch,omitempty"`     // default: deliveries go out one by one
}

// MarshalJSON writes the registration as the server takes it.
func (r Registration) MarshalJSON() ([]byte, error) {
	type plain Registration
	doc, err := json.Marshal(plain(r))
	if err != nil || len(r.Match) == 0 {
		return doc, err
	}
	block := cmp.Or(r.MatchBlock, r.CallbackType)
	if slices.Contains(ownMembers(), block) || block == "" {
		return nil, fmt.Errorf("client: Registration.MatchBlock must be a callback type, not %q", block)
	}
	extra, err := json.Marshal(map[string]any{block: r.Match})
	if err != nil {
		return nil, err
	}
	return slices.Concat(doc[:len(doc)-1], []byte(","), extra[1:]), nil
}

// A Callback is a registration as it stands, with its health.
type Callback struct {
	Answer
	// ETag names the settings as they are, for [WithIfMatch]. Empty in lists, and from servers of version 0.1.
	ETag         string            `json:"-"`
	Company      string            `json:"company,omitempty"` // in lists over all companies
	CallbackID   int64             `json:"callback_id"`       // counts up in the company
	CallbackType string            `json:"callback_type"`
	EventType    string            `json:"event_type"` // the same, by its deprecated name
	Match        map[string]string `json:"-"`          // the block that narrows the match
	MatchBlock   string            `json:"-"`          // its name
	Destination  Destination       `json:"destination"`
	Description  string            `json:"description,omitempty"`
	StartDate    time.Time         `json:"start_date"`
	Headers      map[string]string `json:"headers,omitempty"` // their values are "***"
	Auth         *Auth             `json:"auth,omitempty"`
	TLS          *TLS              `json:"tls,omitempty"`
	Success      string            `json:"success,omitempty"`
	Trace        bool              `json:"trace"`
	Timeout      Duration          `json:"timeout"`
	Retry        Retry             `json:"retry"`
	RateLimit    *RateLimit        `json:"rate_limit,omitempty"`
	Ordering     *Ordering         `json:"ordering,omitempty"`
	Filter       *Filter           `json:"filter,omitempty"`
	Template     json.RawMessage   `json:"template,omitempty"`
	HeaderStyle  string            `json:"header_style,omitempty"` // empty: standard
	Envelope     string            `json:"envelope,omitempty"`     // empty: none
	Body         string            `json:"body,omitempty"`         // empty: full
	Batch        *Batch            `json:"batch,omitempty"`        // nil: deliveries go out one by one
	URL          string            `json:"url"`                    // the callback's path in the API
	Signature    *Signature        `json:"signature,omitempty"`    // nil: HMAC alone
	CreatedAt    time.Time         `json:"created_at"`
	UpdatedAt    time.Time         `json:"updated_at"`

	Status           string    `json:"status"`             // enabled, paused, disabled or unverified
	StatusAt         time.Time `json:"status_at,omitzero"` // since when it is not enabled
	DisabledReason   string    `json:"disabled_reason,omitempty"`
	UnverifiedReason string    `json:"unverified_reason,omitempty"` // what came of the last challenge

	SecretOverlapUntil time.Time `json:"secret_overlap_until,omitzero"` // until then the secrets before sign, too

	Pending         int64     `json:"pending"`                    // deliveries on their way: due, under way or to be tried again
	Held            int64     `json:"held"`                       // deliveries that wait
	OldestWaitingAt time.Time `json:"oldest_waiting_at,omitzero"` // when the oldest of both was accepted
	Dead            int64     `json:"dead"`                       // deliveries that were given up
	LastSuccessAt   time.Time `json:"last_success_at,omitzero"`
	LastFailure     *Failure  `json:"last_failure,omitempty"`
	// LastTokenFailure is the last attempt that got no access token, with oauth2: LastFailure does not count those.
	LastTokenFailure *Failure `json:"last_token_failure,omitempty"`

	ConsecutiveFailures int64     `json:"consecutive_failures"`  // since the last success
	Breaker             string    `json:"breaker"`               // closed, open (it keeps failing) or half_open (delivering again)
	PausedUntil         time.Time `json:"paused_until,omitzero"` // when the next may be tried, where an open breaker waits

	// Secret is the signing secret, "whsec_…". Only CreateCallback and RotateSecret show it, and only one that was made.
	Secret string `json:"secret,omitempty"`
}

func (cb *Callback) tag(etag string) { cb.ETag = etag }

// A Failure is the last attempt of a callback that did not deliver.
type Failure struct {
	At         time.Time `json:"at"`
	DeliveryID string    `json:"delivery_id"`
	StatusCode int       `json:"status_code,omitempty"` // 0 if there was no answer
	Reason     string    `json:"reason,omitempty"`
	Detail     string    `json:"detail,omitempty"` // a sentence that the partner can act on
}

// UnmarshalJSON also finds the block that narrows the match.
func (cb *Callback) UnmarshalJSON(doc []byte) error {
	type plain Callback
	if err := json.Unmarshal(doc, (*plain)(cb)); err != nil {
		return err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(doc, &members); err != nil {
		return err
	}
	cb.Match, cb.MatchBlock = nil, ""
	for _, own := range ownMembers() {
		delete(members, own)
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		var block map[string]string
		if value := bytes.TrimSpace(members[name]); value[0] != '{' || json.Unmarshal(value, &block) != nil {
			continue
		}
		if cb.MatchBlock == "" || name == cb.CallbackType {
			cb.Match, cb.MatchBlock = block, name
		}
	}
	return nil
}

// ownMembers are the names that a callback's JSON has besides that of its block.
var ownMembers = sync.OnceValue(func() []string {
	var names []string
	for field := range reflect.TypeFor[Callback]().Fields() {
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" && name != "-" {
			names = append(names, name)
		}
	}
	return names
})

// A CallbacksQuery narrows a list of callbacks. The zero value is all of them.
type CallbacksQuery struct {
	CallbackType string // as registered
	Status       string // enabled, paused, disabled or unverified
	Limit        int    // of a page, 1 to 500; default 50
	Cursor       string // the NextCursor of the page before
}

// A CallbackPage is a part of a list of callbacks.
type CallbackPage struct {
	Answer
	Callbacks  []*Callback `json:"callbacks"`
	NextCursor string      `json:"next_cursor,omitempty"` // empty on the last page
}

func callbackPath(company string, id int64, more ...string) []string {
	return append([]string{"companies", company, "config", "callbacks", strconv.FormatInt(id, 10)}, more...)
}

// CreateCallback registers a callback. The answer shows its signing secret, and no other does. Events accepted from now on reach
// the callback if they match.
func (c *Client) CreateCallback(ctx context.Context, company string, r Registration) (*Callback, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return ask[Callback](ctx, c, request{method: http.MethodPost, path: []string{"companies", company, "config", "callbacks"}, body: body, timeout: testTimeout})
}

// Callback shows a callback.
func (c *Client) Callback(ctx context.Context, company string, id int64) (*Callback, error) {
	return ask[Callback](ctx, c, request{method: http.MethodGet, path: callbackPath(company, id)})
}

// Callbacks lists a page of a company's callbacks, by id.
func (c *Client) Callbacks(ctx context.Context, company string, q CallbacksQuery) (*CallbackPage, error) {
	path := []string{"companies", company, "config", "callbacks"}
	if company == AllOfThem {
		path = []string{"companies", company, "callbacks"}
	}
	return ask[CallbackPage](ctx, c, request{
		method: http.MethodGet, path: path,
		query: query("callback_type", q.CallbackType, "status", q.Status, "limit", number(q.Limit), "cursor", q.Cursor),
	})
}

// AllCallbacks are a company's callbacks, by id, page after page from q.Cursor on. An error ends them.
func (c *Client) AllCallbacks(ctx context.Context, company string, q CallbacksQuery) iter.Seq2[*Callback, error] {
	return all(func(cursor string) ([]*Callback, string, error) {
		q.Cursor = cursor
		page, err := c.Callbacks(ctx, company, q)
		if err != nil {
			return nil, "", err
		}
		return page.Callbacks, page.NextCursor, nil
	}, q.Cursor)
}

// PatchCallback changes a callback by a JSON Merge Patch (RFC 7396): whatever encodes as one, such as a map[string]any or a
// [json.RawMessage]. Members replace, null removes, "***" leaves a secret as it is. If somebody else changed the callback meanwhile, the last change of
// a member wins, unless the context is one of [WithIfMatch].
func (c *Client) PatchCallback(ctx context.Context, company string, id int64, patch any) (*Callback, error) {
	body, err := json.Marshal(patch)
	if err != nil {
		return nil, fmt.Errorf("client: the patch: %w", err)
	}
	return ask[Callback](ctx, c, request{method: http.MethodPatch, path: callbackPath(company, id), body: body, timeout: testTimeout, conditional: true})
}

// DeleteCallback deletes a callback and cancels what waits for it; an attempt in flight finishes.
func (c *Client) DeleteCallback(ctx context.Context, company string, id int64) error {
	return c.send(ctx, request{method: http.MethodDelete, path: callbackPath(company, id), conditional: true})
}

// PauseCallback makes what is for a callback wait until it is resumed.
func (c *Client) PauseCallback(ctx context.Context, company string, id int64) (*Callback, error) {
	return ask[Callback](ctx, c, request{method: http.MethodPost, path: callbackPath(company, id, "pause")})
}

// ResumeCallback lets a callback be called again, a disabled one too. What was held is delivered, or cancelled if skipHeld. An unverified one
// stays so, if the server wants proof of control: see [Client.VerifyCallback].
func (c *Client) ResumeCallback(ctx context.Context, company string, id int64, skipHeld bool) (*Callback, error) {
	r := request{method: http.MethodPost, path: callbackPath(company, id, "resume")}
	if skipHeld {
		r.body = []byte(`{"skip_held":true}`)
	}
	return ask[Callback](ctx, c, r)
}

// A TestResult is the attempt that [Client.TestCallback] made.
type TestResult struct {
	Answer
	DeliveryID      string            `json:"delivery_id"` // as the partner saw it, "tst_…"
	EventType       string            `json:"event_type"`
	Number          int               `json:"number"`
	StartedAt       time.Time         `json:"started_at"`
	DurationMS      int64             `json:"duration_ms"`
	StatusCode      int               `json:"status_code,omitempty"` // the partner's, 0 if there was no answer
	Verdict         string            `json:"verdict"`               // delivered; retry: a real one would be tried again; dead or gone
	Reason          string            `json:"reason,omitempty"`
	Detail          string            `json:"detail"` // a sentence that the partner can act on
	ResponseHeaders map[string]string `json:"response_headers,omitempty"`
	ResponseBody    string            `json:"response_body,omitempty"`

	Request        *Request `json:"request,omitempty"`         // as it went out
	RequestMissing string   `json:"request_missing,omitempty"` // why there is none to show
	Timing         *Timing  `json:"timing,omitempty"`
}

// TestCallback sends a callback its type's example, once and now, even while it is paused or disabled, but not while it is unverified. Nothing of it is kept. eventType
// says which type's example, and is needed where the callback is for a glob.
func (c *Client) TestCallback(ctx context.Context, company string, id int64, eventType string) (*TestResult, error) {
	r := request{method: http.MethodPost, path: callbackPath(company, id, "test"), timeout: testTimeout}
	if eventType != "" {
		body, err := json.Marshal(map[string]string{"event_type": eventType})
		if err != nil {
			return nil, err
		}
		r.body = body
	}
	return ask[TestResult](ctx, c, r)
}

// A ChallengeResult is what [Client.VerifyCallback] came to.
type ChallengeResult struct {
	Answer
	CallbackID      int64             `json:"callback_id"`
	Verified        bool              `json:"verified"`              // the endpoint agreed to be called
	Status          string            `json:"status"`                // the callback's, as it is now
	DeliveryID      string            `json:"delivery_id,omitempty"` // as the partner saw it, "chl_…"; empty if a handshake was enough
	Number          int               `json:"number"`
	StartedAt       time.Time         `json:"started_at"`
	DurationMS      int64             `json:"duration_ms"`
	StatusCode      int               `json:"status_code,omitempty"` // the partner's, 0 if there was no answer
	Verdict         string            `json:"verdict"`               // delivered, if verified; else retry or dead
	Reason          string            `json:"reason,omitempty"`
	Detail          string            `json:"detail"` // a sentence that the partner can act on
	ResponseHeaders map[string]string `json:"response_headers,omitempty"`
	ResponseBody    string            `json:"response_body,omitempty"`
}

// VerifyCallback challenges a callback's endpoint: if it agrees to be called, an unverified callback is what it was before, and what waits for
// it goes out.
func (c *Client) VerifyCallback(ctx context.Context, company string, id int64) (*ChallengeResult, error) {
	return ask[ChallengeResult](ctx, c, request{method: http.MethodPost, path: callbackPath(company, id, "verify"), timeout: testTimeout})
}

// DefaultOverlap is how long the server keeps on signing with the old secret as well, where nobody says otherwise.
const DefaultOverlap = 24 * time.Hour

// RotateSecret gives a callback a new signing secret, which the answer shows. For as long as overlap (up to 168 h) requests are
// signed with the old ones too; zero ends those at once.
func (c *Client) RotateSecret(ctx context.Context, company string, id int64, overlap time.Duration) (*Callback, error) {
	return c.RotateSecretTo(ctx, company, id, "", overlap)
}

// RotateSecretTo is RotateSecret to a secret of your own, which no answer shows. It is safe to repeat. Empty: one is made.
func (c *Client) RotateSecretTo(ctx context.Context, company string, id int64, secret string, overlap time.Duration) (*Callback, error) {
	if overlap < 0 {
		return nil, errors.New("client: an overlap is not negative")
	}
	body, err := json.Marshal(struct { //nolint:gosec // it goes to the server, which asks for it
		Overlap Duration `json:"overlap"`
		Secret  string   `json:"secret,omitempty"`
	}{Duration(overlap), secret})
	if err != nil {
		return nil, err
	}
	return ask[Callback](ctx, c, request{method: http.MethodPost, path: callbackPath(company, id, "secret"), body: body, conditional: true})
}

// DefaultAnnounce is how long the server publishes a new key before it signs, where nobody says otherwise.
const DefaultAnnounce = 24 * time.Hour

// RotateKey announces a new key of a callback that signs by keys. Once announce (6 m to 720 h) has passed it signs, along with the key before until
// overlap (up to 168 h) has passed, too.
func (c *Client) RotateKey(ctx context.Context, company string, id int64, announce, overlap time.Duration) (*Callback, error) {
	if announce < 0 || overlap < 0 {
		return nil, errors.New("client: neither announce nor overlap is negative")
	}
	body, err := json.Marshal(map[string]Duration{"announce": Duration(announce), "overlap": Duration(overlap)})
	if err != nil {
		return nil, err
	}
	return ask[Callback](ctx, c, request{method: http.MethodPost, path: callbackPath(company, id, "signing-key"), body: body, conditional: true})
}
