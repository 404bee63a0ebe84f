package registry

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
)

// The bounds of an [Auth].
const (
	maxTokenLen  = 4096 // bytes; what servers accept as one header line
	maxScopes    = 50
	maxScopesLen = 2048 // bytes, as they are sent: joined by spaces
)

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

// basic checks that user name and password are as RFC 7617 asks. The password may be
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
// kept only if it goes to the same server as before. Else a client who may change a
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
