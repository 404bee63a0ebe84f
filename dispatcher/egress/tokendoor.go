package egress

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

const (
	// tokenTimeout bounds the asking for one token. A second try with the credentials in the other place is part of it.
	tokenTimeout = 10 * time.Second

	// maxTokenLen bounds an access token, in bytes: servers take 8 KiB to 16 KiB of header.
	maxTokenLen = 16 << 10
)

// A tokenDoor asks one token endpoint for one token. It sends the requests of the oauth2 package through the Client, and keeps the result.
type tokenDoor struct {
	client    *Client
	url       string
	identity  *Identity // nil: the usual one
	userAgent string
	answer    *Response // the last
	broken    *Error    // there was no answer, or none that is whole: another try gains nothing
}

// lateEndpoint is the detail of a fetch that takes too long.
const lateEndpoint = "the token endpoint did not answer in time"

// ask asks for one token. It makes one request, or two while config does not know how the endpoint wants the credentials.
func (d *tokenDoor) ask(ctx context.Context, config *clientcredentials.Config) (*Token, *Error) {
	asked := time.Now()
	answer, err := config.Token(context.WithValue(ctx, oauth2.HTTPClient, &http.Client{
		Transport:     d,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}))
	if err != nil {
		return nil, d.explain(err)
	}
	broken := func(what string) *Error {
		return &Error{Reason: OAuth, Detail: "the token endpoint answered " + strconv.Itoa(d.answer.Status) + " " + what}
	}
	life := time.Duration(0)
	if !answer.Expiry.IsZero() {
		if life = time.Until(answer.Expiry).Round(time.Second); life <= 0 {
			return nil, broken("with an access_token that has expired already")
		}
	}
	switch value := answer.AccessToken; {
	case !strings.EqualFold(cmp.Or(answer.TokenType, "bearer"), "bearer"):
		return nil, broken("with a token_type other than bearer")
	case len(value) > maxTokenLen:
		return nil, broken("with an access_token of more than 16 KiB")
	case strings.ContainsFunc(value, func(c rune) bool { return c <= ' ' || c > '~' }):
		return nil, broken("with an access_token that no header can hold")
	default:
		return newToken(strings.Clone(value), asked, life), nil // a clone: the original may be a piece of the body
	}
}

// RoundTrip implements http.RoundTripper. The URL is the one that was registered, not net/url's reading of it.
func (d *tokenDoor) RoundTrip(req *http.Request) (*http.Response, error) {
	if d.broken != nil {
		return nil, d.broken
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	if err := req.Body.Close(); err != nil {
		return nil, err
	}
	header := req.Header.Clone()
	header.Set("Accept", "application/json")
	header.Set("User-Agent", d.userAgent)
	d.answer, err = d.client.Do(req.Context(), Request{URL: d.url, Header: header, Body: body, Timeout: tokenTimeout, KeepBody: maxReadBody, Identity: d.identity})
	if err != nil {
		d.broken, _ = errors.AsType[*Error](err) // Do promises one
		return nil, err
	}
	if d.answer.Truncated && d.answer.Status <= 299 {
		d.broken = &Error{Reason: BadResponse, Detail: "the answer is longer than 64 KiB or broke off"}
		return nil, d.broken
	}
	return &http.Response{
		Status: http.StatusText(d.answer.Status), StatusCode: d.answer.Status, Header: d.answer.Header, Request: req,
		Body: io.NopCloser(bytes.NewReader(d.answer.Body)), ContentLength: int64(len(d.answer.Body)),
	}, nil
}

// explain says why there is no token. It looks at the answer that passed the door, for the oauth2 package's texts quote it.
func (d *tokenDoor) explain(err error) *Error {
	switch {
	case d.broken != nil && d.broken.Reason == Canceled:
		return d.broken
	case d.broken != nil && d.broken.Reason == EgressProxy: // neither the endpoint's nor the partner's doing
		return &Error{Reason: EgressProxy, Detail: "the token endpoint: " + d.broken.Detail, err: d.broken}
	case d.broken != nil && d.broken.Reason == Timeout:
		return &Error{Reason: OAuth, Detail: lateEndpoint, err: d.broken}
	case d.broken != nil:
		return &Error{Reason: OAuth, Detail: "the token endpoint: " + d.broken.Detail, Inside: d.broken.Inside, err: d.broken}
	case d.answer == nil:
		return &Error{Reason: OAuth, Detail: "the token endpoint's URL cannot be called"}
	}
	return &Error{Reason: OAuth, Detail: "the token endpoint answered " + strconv.Itoa(d.answer.Status) + d.shortcoming(err)}
}

// shortcoming says what is wrong with an answer. Its text follows on the status.
func (d *tokenDoor) shortcoming(err error) string {
	if d.answer.Status >= 300 && d.answer.Status <= 399 {
		return ": redirects are not followed"
	}
	if refusal, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		if slices.Contains(errorCodes, refusal.ErrorCode) {
			return " (" + refusal.ErrorCode + ")"
		}
		return ""
	}
	if media, _, _ := mime.ParseMediaType(d.answer.Header.Get("Content-Type")); media == "text/html" || media == "text/plain" {
		return " with " + media + " instead of an access_token in JSON"
	}
	return " without an access_token that can be read"
}

// errorCodes are those of RFC 6749, sections 4.1.2.1 and 5.2, and of RFC 8707. Others are not shown: an endpoint may repeat a secret there.
var errorCodes = []string{
	"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope",
	"access_denied", "server_error", "temporarily_unavailable", "invalid_target",
}
