package payloads

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// HeaderStyle says in which headers a request's signature travels, and in which form:
// as Standard Webhooks lays it down, or as a sender does whose receivers are there
// already. The zero value is StyleStandard.
type HeaderStyle string

// The styles. In each of them the key of an HMAC-SHA256 is the secret.
const (
	// StyleStandard is Standard Webhooks: Webhook-Id, Webhook-Timestamp and Webhook-Signature.
	StyleStandard HeaderStyle = "standard"
	// StyleSvix is the same under the names that Svix gives them: Svix-Id, Svix-Timestamp and Svix-Signature.
	StyleSvix HeaderStyle = "svix"
	// StyleGitHub signs the body alone, in hexadecimal, with the secret's text for its key: X-Hub-Signature-256.
	// X-GitHub-Delivery is the webhook-id, and X-GitHub-Event the event's type. There is one signature, by the first secret.
	StyleGitHub HeaderStyle = "github"
	// StyleStripe signs "timestamp.body", in hexadecimal, with the secret's text for its key: Stripe-Signature.
	StyleStripe HeaderStyle = "stripe"
)

// HeaderStyles are the styles that there are.
func HeaderStyles() []HeaderStyle {
	return []HeaderStyle{StyleStandard, StyleSvix, StyleGitHub, StyleStripe}
}

// The headers of the styles, as net/http writes them.
const (
	headerSvixID          = "Svix-Id"
	headerSvixTimestamp   = "Svix-Timestamp"
	headerSvixSignature   = "Svix-Signature"
	headerGitHubSignature = "X-Hub-Signature-256"
	headerGitHubDelivery  = "X-Github-Delivery"
	headerGitHubEvent     = "X-Github-Event"
	headerStripeSignature = "Stripe-Signature"

	githubPrefix = "sha256="
)

// Headers are the names of the headers that a style sets beside Webhook-Id, as
// net/http writes them.
func (s HeaderStyle) Headers() []string {
	switch s {
	case StyleSvix:
		return []string{headerSvixID, headerSvixTimestamp, headerSvixSignature}
	case StyleGitHub:
		return []string{headerGitHubSignature, headerGitHubDelivery, headerGitHubEvent}
	case StyleStripe:
		return []string{headerStripeSignature}
	default:
		return []string{HeaderTimestamp, HeaderSignature}
	}
}

// SignatureHeader is the name of the header that holds a style's signatures.
func (s HeaderStyle) SignatureHeader() string {
	switch s {
	case StyleSvix:
		return headerSvixSignature
	case StyleGitHub:
		return headerGitHubSignature
	case StyleStripe:
		return headerStripeSignature
	default:
		return HeaderSignature
	}
}

// TakesText reports whether the key is the secret's text, so that any text may be a
// secret. In the other styles it is what the text's base64 stands for.
func (s HeaderStyle) TakesText() bool { return s == StyleGitHub || s == StyleStripe }

// Signatures is how many signatures a request can carry; 0: as many as it has secrets.
func (s HeaderStyle) Signatures() int {
	if s == StyleGitHub {
		return 1
	}
	return 0
}

// ParseSecret reads a secret as somebody brings it who has it already. A style that
// takes text reads what [ParseText] does. The others read what the package's
// [ParseSecret] does, and the base64 without whsec_. Errors never repeat any of it.
func (s HeaderStyle) ParseSecret(text string) (Secret, error) {
	if s.TakesText() {
		return ParseText(text)
	}
	if strings.HasPrefix(text, "wh") && strings.Contains(text, "_") { // no base64 holds a _
		return ParseSecret(text)
	}
	secret, err := ParseSecret(secretPrefix + text)
	if err != nil {
		return Secret{}, fmt.Errorf("a signing secret is whsec_ and the base64 of %d to %d bytes, or that base64 alone (standard alphabet, with padding); this is neither", minSecretLen, maxSecretLen)
	}
	return secret, nil
}

// Usable reports whether requests in that style can be signed with the secret.
func (s HeaderStyle) Usable(secret Secret) bool { return !secret.IsZero() && s.keyOf(secret) != nil }

// A Message is what is signed, with what travels beside a signature.
type Message struct {
	ID        string    // the webhook-id
	EventType string    // the event's
	At        time.Time // of this attempt
	Body      []byte    // exactly what goes over the wire
}

// Sign puts the webhook-id, and what the style wants beside it, into the headers of a
// request. The secrets sign in their order. What [Sign] refuses is an error.
func (s HeaderStyle) Sign(h http.Header, m Message, secrets ...Secret) error {
	switch s {
	case StyleGitHub, StyleStripe:
		return s.signText(h, m, secrets)
	case StyleSvix:
		signatures, err := Sign(m.ID, m.At, m.Body, secrets...)
		if err != nil {
			return err
		}
		h.Set(HeaderID, m.ID)
		h.Set(headerSvixID, m.ID)
		h.Set(headerSvixTimestamp, strconv.FormatInt(m.At.Unix(), 10))
		h.Set(headerSvixSignature, signatures)
	default:
		signatures, err := Sign(m.ID, m.At, m.Body, secrets...)
		if err != nil {
			return err
		}
		h.Set(HeaderID, m.ID)
		h.Set(HeaderTimestamp, strconv.FormatInt(m.At.Unix(), 10))
		h.Set(HeaderSignature, signatures)
	}
	return nil
}

// signText signs with the texts of the secrets.
func (s HeaderStyle) signText(h http.Header, m Message, secrets []Secret) error {
	switch {
	case m.ID == "":
		return errors.New("sign: the webhook id is empty")
	case m.At.Unix() < 0:
		return errors.New("sign: the time lies before 1970")
	case len(secrets) == 0:
		return errors.New("sign: no secret to sign with")
	}
	if most := s.Signatures(); most > 0 {
		secrets = secrets[:min(most, len(secrets))]
	}
	timestamp := strconv.FormatInt(m.At.Unix(), 10)
	signatures := "t=" + timestamp
	for i, secret := range secrets {
		if secret.IsZero() {
			return fmt.Errorf("sign: secret %d of %d is empty", i+1, len(secrets))
		}
		if s == StyleGitHub {
			signatures = githubPrefix + s.mac(secret, timestamp, m.Body)
			continue
		}
		signatures += "," + signatureVersion + "=" + s.mac(secret, timestamp, m.Body)
	}
	h.Set(HeaderID, m.ID)
	h.Set(s.SignatureHeader(), signatures)
	if s == StyleGitHub {
		h.Set(headerGitHubDelivery, m.ID)
		h.Set(headerGitHubEvent, m.EventType)
	}
	return nil
}

// keyOf is the key that a style makes of a secret. It is nil if the secret is none for it.
func (s HeaderStyle) keyOf(secret Secret) []byte {
	if s.TakesText() {
		return []byte(secret.Reveal())
	}
	return secret.key()
}

// mac is one signature of a style that takes text.
func (s HeaderStyle) mac(secret Secret, timestamp string, body []byte) string {
	h := hmac.New(sha256.New, s.keyOf(secret))
	if s == StyleStripe {
		h.Write([]byte(timestamp + "."))
	}
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil))
}

// StyleOf is the style whose signature a request carries: StyleStandard if it carries
// none.
func StyleOf(h http.Header) HeaderStyle {
	for _, style := range HeaderStyles() {
		if h.Get(style.SignatureHeader()) != "" {
			return style
		}
	}
	return StyleStandard
}

// Verify is the package's [Verify] for a request in that style. In StyleGitHub no time
// is signed, so that no request is too old.
func (s HeaderStyle) Verify(h http.Header, body []byte, now time.Time, secrets ...Secret) error {
	r, err := s.read(h)
	if err != nil {
		return err
	}
	return r.verify(body, now, secrets)
}

// Diagnose is the package's [Diagnose] for a request in that style.
func (s HeaderStyle) Diagnose(h http.Header, body []byte, now time.Time, secrets ...Secret) error {
	r, err := s.read(h)
	if err != nil {
		return err
	}
	return r.diagnose(body, now, secrets)
}

// read reads a request's headers.
func (s HeaderStyle) read(h http.Header) (signedRequest, error) {
	switch s {
	case StyleSvix:
		return readTriple(h, signatureVersion, headerSvixID, headerSvixTimestamp, headerSvixSignature)
	case StyleGitHub:
		return readGitHub(h)
	case StyleStripe:
		return readStripe(h)
	default:
		return readTriple(h, signatureVersion, HeaderID, HeaderTimestamp, HeaderSignature)
	}
}

// SentAt is the time that a request was signed at. It is false if the style signs none,
// or the headers hold none that can be read.
func (s HeaderStyle) SentAt(h http.Header) (time.Time, bool) {
	r, err := s.read(h)
	return r.at, err == nil && !r.at.IsZero()
}

func readGitHub(h http.Header) (signedRequest, error) {
	value := h.Get(headerGitHubSignature)
	if value == "" {
		return signedRequest{}, missingHeader(headerGitHubSignature)
	}
	signature, ok := strings.CutPrefix(value, githubPrefix)
	if !ok || signature == "" {
		return signedRequest{}, &VerifyError{NoSignature, "the header " + headerGitHubSignature + " holds no signature of the form sha256=HEX: pass it on unchanged"}
	}
	return signedRequest{signatures: []string{signature}, mac: func(secret Secret, body []byte) string {
		return StyleGitHub.mac(secret, "", body)
	}}, nil
}

func readStripe(h http.Header) (signedRequest, error) {
	value := h.Get(headerStripeSignature)
	if value == "" {
		return signedRequest{}, missingHeader(headerStripeSignature)
	}
	r := signedRequest{}
	for member := range strings.SplitSeq(value, ",") {
		switch name, text, _ := strings.Cut(member, "="); name {
		case "t":
			r.timestamp = text
		case signatureVersion:
			r.signatures = append(r.signatures, text)
		}
	}
	r.mac = func(secret Secret, body []byte) string { return StyleStripe.mac(secret, r.timestamp, body) }
	var err error
	if r.at, err = readTimestamp(r.timestamp, "t in the header "+headerStripeSignature); err != nil {
		return signedRequest{}, err
	}
	if len(r.signatures) == 0 {
		return signedRequest{}, &VerifyError{NoSignature, "the header " + headerStripeSignature + " holds no signature of the form v1=HEX: pass it on unchanged"}
	}
	return r, nil
}
