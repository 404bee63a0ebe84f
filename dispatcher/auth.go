package dispatcher

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/registry"
)

// authorize adds a callback's credentials to a request. token is its access token, where auth wants one.
func authorize(h http.Header, auth *registry.Auth, token string) {
	if auth == nil {
		return
	}
	switch auth.Type {
	case registry.AuthOAuth2:
		h.Set("Authorization", "Bearer "+token)
	case registry.AuthBearer:
		h.Set("Authorization", "Bearer "+auth.Token)
	case registry.AuthBasic:
		h.Set("Authorization", "Basic "+basic(auth.Username, auth.Password))
	}
}

// identityOf is who a request is in the TLS handshake; nil: the usual.
func identityOf(t *registry.TLS) *egress.Identity {
	if t == nil {
		return nil
	}
	return &egress.Identity{Certificate: t.ClientCertificate, Key: t.ClientKey, CA: t.CA, ServerName: t.ServerName}
}

// basic is RFC 7617's user-pass.
func basic(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
}

// secretsOf are what a callback's owner gave us to authenticate with, and what we got for that: token, if any.
func secretsOf(cb *registry.Callback, token string) blotter {
	var hidden blotter
	hide := func(s string) {
		if len(s) >= leastSecret {
			hidden = append(hidden, s)
		}
	}
	hide(token)
	for _, value := range cb.Headers {
		hide(value)
	}
	if auth := cb.Auth; auth != nil {
		hide(auth.Token)
		hide(auth.Password)
		hide(basic(auth.Username, auth.Password))
		hide(auth.ClientSecret)
		hide(basic(url.QueryEscape(auth.ClientID), url.QueryEscape(auth.ClientSecret))) // as RFC 6749, section 2.3.1 sends them
	}
	_, query, _ := strings.Cut(cb.Destination.URL, "?")
	hide(query)
	for pair := range strings.SplitSeq(query, "&") {
		_, value, _ := strings.Cut(pair, "=")
		plain, err := url.QueryUnescape(value)
		if err != nil {
			plain = value
		}
		if len(plain) >= leastInValues {
			hide(value)
			if plain != value {
				hide(plain)
			}
		}
	}
	return hidden
}
