package registry

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ringback/ringback/payloads"
)

// Limits on what a registration may hold that are ours alone; the API's document
// gives the others where they are checked.
const (
	maxURLLen         = 2048 // api: registration
	maxDescriptionLen = 1024 // bytes; room for a paragraph
	maxMatchValueLen  = 256  // bytes; campaign tokens have 6
	maxTokenLen       = 4096 // bytes; what servers accept as one header line
	maxScopes         = 50
	maxScopesLen      = 2048 // bytes, as they are sent: joined by spaces
	maxInterval       = 30 * 24 * time.Hour
	minPerSecond      = 0.01 // one attempt in 100 s
	maxPerSecond      = 10_000
	maxBurst          = maxPerSecond // that of a second
)

// readOnly are the members of an answer that a client sends back unchanged at
// best, with what to do instead.
var readOnly = map[string]string{ //nolint:gosec // names of members, one of which is "secret"
	"callback_id":       "",
	"url":               ": the URL to call is destination.url",
	"created_at":        "",
	"updated_at":        "",
	"status":            ": use the callback's /pause and /resume",
	"status_at":         "",
	"disabled_reason":   ": use the callback's /resume to enable it",
	"unverified_reason": ": use the callback's /verify to have it challenged",
	"secret":            ": it is made on creation, and anew by the callback's /secret",
}

// health are members of an answer that tell what the deliveries do at that
// moment. They come from elsewhere, and in a patch they are passed over.
var health = []string{"pending", "held", "oldest_waiting_at", "dead", "last_success_at", "last_failure", "last_token_failure", "consecutive_failures", "breaker", "paused_until"}

// decoder reads one registration and collects everything that is wrong with it.
type decoder struct {
	catalogue *payloads.Catalogue
	checkURL  func(string) error
	prev      *Callback // nil on creation; where masked secrets come from
	fields    []payloads.FieldError
}

// object is a JSON object on its way through the decoder: members are taken out
// as they are read, so that what is left is unknown.
type object map[string]json.RawMessage

// decode reads body, a whole registration, into a Callback that lacks what is
// not the client's to say. prev is the callback it replaces, or nil.
func (r *Registry) decode(types *payloads.Catalogue, body []byte, prev *Callback) (*Callback, error) {
	d := &decoder{catalogue: types, checkURL: r.checkURL, prev: prev}
	if err := checkJSON(body); err != nil {
		return nil, err
	}
	cb := d.registration(body)
	if len(d.fields) > 0 {
		slices.SortStableFunc(d.fields, func(a, b payloads.FieldError) int { return cmp.Compare(a.Location, b.Location) })
		return nil, &payloads.InvalidError{Fields: d.fields}
	}
	return cb, nil
}

func (d *decoder) registration(body []byte) *Callback {
	o, ok := d.object(body, "body")
	if !ok {
		return nil
	}
	cb := &Callback{}
	d.callbackType(o, cb)
	d.matchBlock(o, cb)
	d.destination(o, cb)
	cb.Description = d.text(o, "description", maxDescriptionLen)
	cb.StartDate, cb.StartDateGiven = d.time(o, "start_date")
	d.auth(o, cb)
	d.headers(o, cb) // after auth, which owns a header
	d.success(o, cb)
	cb.Trace = d.flag(o, "trace")
	cb.Timeout, _ = d.duration(o, "body", "timeout", time.Second, time.Minute, DefaultTimeout)
	d.retry(o, cb)
	d.rateLimit(o, cb)
	d.rest(o, cb)
	return cb
}

// callbackType reads callback_type and its deprecated alias.
func (d *decoder) callbackType(o object, cb *Callback) {
	name, given := d.str(o, "body", "callback_type")
	alias, aliasGiven := d.str(o, "body", "event_type")
	location := "body.callback_type"
	switch {
	case !given && !aliasGiven:
		if !d.failedAt(location) && !d.failedAt("body.event_type") {
			d.fail(location, "is missing: name a callback type, or several with a glob such as customer.*; "+d.typesThatExist(), nil)
		}
		return
	case !given:
		name, location = alias, "body.event_type"
	case aliasGiven && alias != name:
		d.fail("body.event_type", "is the deprecated alias of callback_type: it must be equal to it, or left out", short(alias))
	}
	cb.Type = name
	switch {
	case payloads.IsGlob(name):
		if !payloads.ValidTypeName(strings.ReplaceAll(name, "*", "-")) {
			d.fail(location, "must be a glob of 1 to 64 of A-Z a-z 0-9 _ . - and *", short(name))
		}
	case !payloads.ValidTypeName(name):
		d.fail(location, "must be 1 to 64 of A-Z a-z 0-9 _ . - (and * in a glob)", short(name))
	default:
		if _, ok := d.catalogue.Lookup(name); !ok {
			d.fail(location, "is not a callback type: "+d.typesThatExist(), short(name))
		}
	}
}

func (d *decoder) typesThatExist() string {
	return "there are " + d.catalogue.Names()
}

// matchBlock reads the block that is named after a type and narrows the match.
func (d *decoder) matchBlock(o object, cb *Callback) {
	t, ok := d.catalogue.Lookup(cb.Type)
	if !ok {
		return // a glob, or a fault that is reported already
	}
	for _, name := range blockNames(t) {
		raw, ok := o.take(name)
		if !ok {
			continue
		}
		location := at("body", name)
		if cb.MatchBlock != "" {
			d.fail(location, "comes on top of "+cb.MatchBlock+": give one block only", nil)
			continue
		}
		if block, ok := d.object(raw, location); ok {
			cb.MatchBlock = name
			cb.Match = d.attributes(block, location, t)
		}
	}
}

// blockNames are the names under which a registration for t may send its block.
func blockNames(t *payloads.Type) []string {
	if t.MatchBlocks == nil {
		return []string{t.Name}
	}
	return t.MatchBlocks
}

func (d *decoder) attributes(block object, location string, t *payloads.Type) map[string]string {
	match := make(map[string]string, len(block))
	for _, name := range slices.Sorted(maps.Keys(block)) {
		if _, ok := t.Match[name]; !ok {
			d.fail(at(location, name), "is not an attribute that "+t.Name+" is matched by: "+list("these are", slices.Sorted(maps.Keys(t.Match)), "there are none"), nil)
			continue
		}
		absent := string(block[name]) == "null" // a variable that was never set must not mean "all"
		value, ok := d.str(block, location, name)
		if !ok && !absent {
			continue
		}
		if value == "" || len(value) > maxMatchValueLen {
			d.fail(at(location, name), fmt.Sprintf("must have 1 to %d bytes; leave it out to match any value", maxMatchValueLen), nil)
			continue
		}
		match[name] = value
	}
	return match
}

func (d *decoder) destination(o object, cb *Callback) {
	const location = "body.destination"
	raw, ok := o.take("destination")
	if !ok {
		d.fail(location, `is missing: it says where to send, as {"url": "https://…"}`, nil)
		return
	}
	dest, ok := d.object(raw, location)
	if !ok {
		return
	}
	if target, ok := d.str(dest, location, "url"); ok {
		cb.Destination.URL = target
		before := ""
		if d.prev != nil {
			before = d.prev.Destination.URL
		}
		d.url(target, before, location+".url")
	} else if !d.failedAt(location + ".url") {
		d.fail(location+".url", "is missing: give the https URL that requests go to", nil)
	}
	cb.Destination.Method = d.choice(dest, location, "method", DefaultMethod, "POST", "PUT", "PATCH")
	cb.Destination.ContentType = d.choice(dest, location, "content_type", DefaultContentType, payloads.ContentTypeJSON, payloads.ContentTypeForm)
	d.unknown(dest, location, "url", "method", "content_type")
}

// url checks what holds for every URL; which hosts are allowed is for
// Config.CheckURL to say, unless it is the URL from before: what was allowed once
// does not stand in the way of other changes. No error repeats it: URLs carry
// secrets.
func (d *decoder) url(target, before, location string) {
	if len(target) > maxURLLen {
		d.fail(location, fmt.Sprintf("must have at most %d bytes", maxURLLen), nil)
		return
	}
	u, err := url.Parse(target)
	_, badEscape := errors.AsType[url.EscapeError](err)
	switch {
	case hasControl(target):
		d.fail(location, "must not hold control characters such as line breaks: remove them, or percent-encode them (%0A)", nil)
	case badEscape:
		d.fail(location, "has a % without two hex digits after it: write %25 for a literal %", nil)
	case err != nil || !strings.EqualFold(u.Scheme, "http") && !strings.EqualFold(u.Scheme, "https") || u.Host == "":
		d.fail(location, "must be an absolute http or https URL", nil)
	case u.User != nil:
		d.fail(location, "must not hold user info: use auth for that", nil)
	case strings.Contains(target, "#"):
		d.fail(location, "must not hold a fragment (#…): it would never be sent", nil)
	case d.checkURL != nil && target != before:
		if err := d.checkURL(target); err != nil {
			d.fail(location, err.Error(), nil)
		}
	}
}

func (d *decoder) success(o object, cb *Callback) {
	rule, ok := d.str(o, "body", "success")
	if !ok {
		return
	}
	cb.Success = payloads.SuccessRule(rule)
	if !cb.Success.Valid() {
		d.fail("body.success", fmt.Sprintf("must be %s, %s or %s", payloads.JSON200Or204, payloads.Any2xx, payloads.AnyResponse), short(rule))
	}
}

func (d *decoder) auth(o object, cb *Callback) {
	const location = "body.auth"
	a, ok := d.member(o, "auth")
	if !ok {
		return
	}
	kind, ok := d.str(a, location, "type")
	if !ok {
		if !d.failedAt(location + ".type") {
			d.fail(location+".type", "is missing: it must be bearer, basic or oauth2", nil)
		}
		return
	}
	var prev Auth
	hasPrev := d.prev != nil && d.prev.Auth != nil && d.prev.Auth.Type == kind
	if hasPrev {
		prev = *d.prev.Auth
	}
	auth := &Auth{Type: kind}
	switch kind {
	case AuthBearer:
		auth.Token = d.secret(a, location, "token", prev.Token, hasPrev)
		if !d.failedAt(location+".token") && !isToken68(auth.Token) {
			d.fail(location+".token", fmt.Sprintf("must be 1 to %d visible ASCII characters without spaces", maxTokenLen), nil)
		}
		d.unknown(a, location, "type", "token")
	case AuthBasic:
		auth.Username, _ = d.str(a, location, "username")
		auth.Password = d.secret(a, location, "password", prev.Password, hasPrev && prev.Password != "")
		d.basic(auth, location)
		d.unknown(a, location, "type", "username", "password")
	case AuthOAuth2:
		d.oauth2(a, location, auth, prev, hasPrev)
		d.unknown(a, location, "type", "token_url", "client_id", "client_secret", "scopes", "audience")
	default:
		d.fail(location+".type", "must be bearer, basic or oauth2", short(kind))
	}
	cb.Auth = auth
}

// basic checks what RFC 7617 asks of user name and password. The password may be
// left out, which means an empty one: some APIs take a key as the user name alone.
func (d *decoder) basic(a *Auth, location string) {
	if a.Username == "" && !d.failedAt(location+".username") {
		d.fail(location+".username", "is missing", nil)
	}
	if strings.Contains(a.Username, ":") || hasControl(a.Username) || len(a.Username) > maxTokenLen/2 {
		d.fail(location+".username", fmt.Sprintf("must have at most %d bytes, no colon and no control characters", maxTokenLen/2), nil)
	}
	if hasControl(a.Password) || len(a.Password) > maxTokenLen/2 {
		d.fail(location+".password", fmt.Sprintf("must have at most %d bytes and no control characters", maxTokenLen/2), nil)
	}
}

// oauth2 reads what an access token is asked for with. A hidden client secret is
// kept only where it goes to the same server as before: else whoever may change a
// registration could have somebody else's secret sent to a server of his own.
func (d *decoder) oauth2(a object, location string, auth *Auth, prev Auth, hasPrev bool) {
	required := func(name, what string) string {
		s, ok := d.str(a, location, name)
		if where := at(location, name); (!ok || s == "") && !d.failedAt(where) {
			d.fail(where, "is missing: "+what, nil)
		}
		return s
	}
	if auth.TokenURL = required("token_url", "give the https URL that access tokens are asked for at"); auth.TokenURL != "" {
		d.url(auth.TokenURL, prev.TokenURL, location+".token_url")
	}
	auth.ClientID = required("client_id", "give the name that the token endpoint knows this client by")
	auth.ClientSecret = required("client_secret", "give the secret that goes with client_id")
	if auth.ClientSecret == Masked && hasPrev && !sameServer(auth.TokenURL, prev.TokenURL) {
		d.fail(location+".client_secret", "must be given anew along with a token_url at another server: a hidden one is only sent where it was meant for", nil)
	} else {
		auth.ClientSecret = d.unmask(auth.ClientSecret, location+".client_secret", prev.ClientSecret, hasPrev)
	}
	auth.Audience, _ = d.str(a, location, "audience")
	for name, value := range map[string]string{"client_id": auth.ClientID, "client_secret": auth.ClientSecret, "audience": auth.Audience} {
		if hasControl(value) || len(value) > maxTokenLen/2 {
			d.fail(at(location, name), fmt.Sprintf("must have at most %d bytes and no control characters", maxTokenLen/2), nil)
		}
	}
	auth.Scopes = d.scopes(a, location)
}

// scopes reads a list of scope tokens (RFC 6749, section 3.3).
func (d *decoder) scopes(a object, location string) []string {
	raw, ok := a.take("scopes")
	if !ok {
		return nil
	}
	location += ".scopes"
	var scopes []string
	if err := json.Unmarshal(raw, &scopes); err != nil {
		d.fail(location, `must be a list of strings, such as ["orders.write"]`, nil)
		return nil
	}
	for i, scope := range scopes {
		if scope == "" || strings.ContainsFunc(scope, func(c rune) bool { return c <= ' ' || c > '~' || c == '"' || c == '\\' }) {
			d.fail(fmt.Sprintf("%s[%d]", location, i), `must be visible ASCII characters without spaces, " and \`, nil)
		}
	}
	if len(scopes) > maxScopes || len(strings.Join(scopes, " ")) > maxScopesLen {
		d.fail(location, fmt.Sprintf("must be at most %d, and %d bytes together", maxScopes, maxScopesLen), nil)
	}
	if len(scopes) == 0 {
		return nil
	}
	return scopes
}

// sameServer reports whether two URLs have the same scheme, host and port.
func sameServer(a, b string) bool {
	origin := func(raw string) string {
		u, err := url.Parse(raw)
		if err != nil || u.Host == "" {
			return ""
		}
		scheme := strings.ToLower(u.Scheme)
		return scheme + "://" + strings.ToLower(u.Hostname()) + ":" + cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[scheme])
	}
	return origin(a) != "" && origin(a) == origin(b)
}

func (d *decoder) retry(o object, cb *Callback) {
	const location = "body.retry"
	cb.Retry = Retry{DefaultInitialInterval, DefaultMultiplier, DefaultMaxInterval, DefaultMaxAttempts}
	m, ok := d.member(o, "retry")
	if !ok {
		return
	}
	r := &cb.Retry
	var initialGiven, maxGiven bool
	r.InitialInterval, initialGiven = d.duration(m, location, "initial_interval", time.Second, maxInterval, DefaultInitialInterval)
	r.MaxInterval, maxGiven = d.duration(m, location, "max_interval", time.Second, maxInterval, DefaultMaxInterval)
	switch {
	case initialGiven && maxGiven && r.MaxInterval < r.InitialInterval:
		d.fail(location+".max_interval", "must not be less than initial_interval", nil)
	case maxGiven:
		r.InitialInterval = min(r.InitialInterval, r.MaxInterval)
	default:
		r.MaxInterval = max(r.InitialInterval, r.MaxInterval)
	}
	if raw, ok := m.take("multiplier"); ok {
		if err := json.Unmarshal(raw, &r.Multiplier); err != nil || r.Multiplier < 1 || r.Multiplier > 10 {
			d.fail(location+".multiplier", "must be a number from 1 to 10", nil)
		}
	}
	if raw, ok := m.take("max_attempts"); ok {
		if err := json.Unmarshal(raw, &r.MaxAttempts); err != nil || r.MaxAttempts < 1 || r.MaxAttempts > 100 {
			d.fail(location+".max_attempts", "must be a whole number from 1 to 100", nil)
		}
	}
	d.unknown(m, location, "initial_interval", "multiplier", "max_interval", "max_attempts")
}

func (d *decoder) rateLimit(o object, cb *Callback) {
	const location = "body.rate_limit"
	m, ok := d.member(o, "rate_limit")
	if !ok {
		return
	}
	limit := &RateLimit{}
	if raw, ok := m.take("per_second"); !ok {
		d.fail(location+".per_second", fmt.Sprintf("is missing: give a number from %g to %d", minPerSecond, maxPerSecond), nil)
	} else if err := json.Unmarshal(raw, &limit.PerSecond); err != nil || limit.PerSecond < minPerSecond || limit.PerSecond > maxPerSecond {
		d.fail(location+".per_second", fmt.Sprintf("must be a number from %g to %d", minPerSecond, maxPerSecond), nil)
	}
	if raw, ok := m.take("burst"); !ok {
		limit.Burst = int(math.Ceil(limit.PerSecond))
	} else if err := json.Unmarshal(raw, &limit.Burst); err != nil || limit.Burst < 1 || limit.Burst > maxBurst {
		d.fail(location+".burst", fmt.Sprintf("must be a whole number from 1 to %d", maxBurst), nil)
	}
	d.unknown(m, location, "per_second", "burst")
	cb.RateLimit = limit
}

// rest reports what is left of a registration, each member with its remedy.
func (d *decoder) rest(o object, cb *Callback) {
	for _, name := range slices.Sorted(maps.Keys(o)) {
		location := at("body", name)
		_, isType := d.catalogue.Lookup(name)
		t, exact := d.catalogue.Lookup(cb.Type)
		switch remedy, ok := readOnly[name]; {
		case ok:
			d.fail(location, "is set by Ringback, leave it out"+remedy, nil)
		case slices.Contains(health, name):
			d.fail(location, "is set by Ringback, leave it out", nil)
		case payloads.IsGlob(cb.Type) && (isType || name == cb.Type):
			d.fail(location, "narrows the match for one type, and "+cb.Type+" is a glob over several: leave the block out, or register the types one by one", nil)
		case isType && exact:
			d.fail(location, "does not go with callback_type "+cb.Type+", which takes "+list("a block named", blockNames(t), "no block")+" (in a patch, null removes a block)", nil)
		case isType || name == cb.Type:
			// The type itself is the fault, and is reported.
		default:
			d.fail(location, "is not known: a registration has callback_type, a block named after the type, destination, description, start_date, headers, auth, success, trace, timeout, retry and rate_limit", nil)
		}
	}
}

// unknown reports what is left of an object within a registration.
func (d *decoder) unknown(o object, location string, known ...string) {
	for _, name := range slices.Sorted(maps.Keys(o)) {
		d.fail(at(location, name), "is not known here: "+list("there are", known, "")+" (in a patch, null removes a member)", nil)
	}
}

// take removes a member and returns it. null counts as absent.
func (o object) take(name string) (json.RawMessage, bool) {
	raw, ok := o[name]
	delete(o, name)
	return raw, ok && string(raw) != "null"
}

// member reads an optional object of the registration.
func (d *decoder) member(o object, name string) (object, bool) {
	raw, ok := o.take(name)
	if !ok {
		return nil, false
	}
	return d.object(raw, at("body", name))
}

func (d *decoder) object(raw json.RawMessage, location string) (object, bool) {
	var o object
	if err := json.Unmarshal(raw, &o); err != nil || o == nil {
		d.fail(location, "must be an object, but is "+kind(raw), nil)
		return nil, false
	}
	return o, true
}

// str reads an optional string; a member of another kind is reported.
func (d *decoder) str(o object, location, name string) (string, bool) {
	raw, ok := o.take(name)
	if !ok {
		return "", false
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		d.fail(at(location, name), "must be a string, but is "+kind(raw), nil)
		return "", false
	}
	return s, true
}

func (d *decoder) text(o object, name string, maxLen int) string {
	s, _ := d.str(o, "body", name)
	if len(s) > maxLen {
		d.fail(at("body", name), fmt.Sprintf("must have at most %d bytes", maxLen), nil)
	}
	return s
}

// secret reads a secret string; "***" stands for prev, if there is one.
func (d *decoder) secret(o object, location, name, prev string, hasPrev bool) string {
	s, _ := d.str(o, location, name)
	return d.unmask(s, at(location, name), prev, hasPrev)
}

// unmask returns prev for "***", which is never a secret itself.
func (d *decoder) unmask(s, location, prev string, hasPrev bool) string {
	if s != Masked {
		return s
	}
	if !hasPrev {
		d.fail(location, `must be the secret itself: "***" stands for one that is hidden, and there is none yet`, nil)
	}
	return prev
}

func (d *decoder) choice(o object, location, name, def string, allowed ...string) string {
	s, ok := d.str(o, location, name)
	if !ok {
		return def
	}
	if !slices.Contains(allowed, s) {
		d.fail(at(location, name), "must be "+strings.Join(allowed, " or "), short(s))
	}
	return s
}

func (d *decoder) flag(o object, name string) (b bool) {
	raw, ok := o.take(name)
	if ok && json.Unmarshal(raw, &b) != nil {
		d.fail(at("body", name), "must be true or false, but is "+kind(raw), nil)
	}
	return b
}

func (d *decoder) time(o object, name string) (t time.Time, given bool) {
	s, ok := d.str(o, "body", name)
	if !ok {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.UTC().Year() < 1 || t.UTC().Year() > 9999 {
		d.fail(at("body", name), "must be a time as RFC 3339 writes it, such as 2026-01-31T12:00:00Z", short(s))
		return time.Time{}, false
	}
	return t.UTC(), true
}

func (d *decoder) duration(o object, location, name string, lowest, highest, def time.Duration) (dur time.Duration, given bool) {
	s, ok := d.str(o, location, name)
	if !ok {
		return def, false
	}
	dur, err := time.ParseDuration(s)
	if err != nil || dur < lowest || dur > highest {
		d.fail(at(location, name), fmt.Sprintf("must be a duration such as \"90s\" or \"12h\", from %s to %s", formatDuration(lowest), formatDuration(highest)), short(s))
		return def, false
	}
	return dur, true
}

func (d *decoder) fail(location, message string, value any) {
	d.fields = append(d.fields, payloads.FieldError{Location: location, Message: message, Value: value})
}

func (d *decoder) failedAt(location string) bool {
	return slices.ContainsFunc(d.fields, func(f payloads.FieldError) bool { return f.Location == location })
}

// isToken68 reports whether s can stand behind "Bearer ". RFC 6750 allows less,
// but tokens with other visible characters are about.
func isToken68(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return s != "" && len(s) <= maxTokenLen
}

func hasControl(s string) bool {
	return !utf8.ValidString(s) || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f })
}
