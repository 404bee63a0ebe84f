package payloads

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The three headers of Standard Webhooks, as net/http writes them
// (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
const (
	HeaderID        = "Webhook-Id"
	HeaderTimestamp = "Webhook-Timestamp"
	HeaderSignature = "Webhook-Signature"
)

// Tolerance is how far a request's timestamp may be from the receiver's clock,
// either way: the five minutes of the reference libraries.
const Tolerance = 5 * time.Minute

// The schemes of a header's signatures: HMAC-SHA256, which is symmetric, and Ed25519, which is not.
const (
	signatureVersion  = "v1"
	asymmetricVersion = "v1a"
)

// Sign gives the value of [HeaderSignature] for one attempt: "v1,BASE64" per
// secret, in their order, separated by a space. id is the value of [HeaderID];
// at, in whole Unix seconds, that of [HeaderTimestamp]; body is exactly what
// goes over the wire.
//
// An id that is empty or holds a '.' is an error: the signed text is
// "id.timestamp.body", and with a dot in the id two different requests could
// share one signature. So is a time before 1970, no secret, or a zero one.
func Sign(id string, at time.Time, body []byte, secrets ...Secret) (string, error) {
	if err := signable(id, at); err != nil {
		return "", err
	}
	if len(secrets) == 0 {
		return "", errors.New("sign: no secret to sign with")
	}
	var signatures strings.Builder
	for i, secret := range secrets {
		if secret.IsZero() {
			return "", fmt.Errorf("sign: secret %d of %d is empty", i+1, len(secrets))
		}
		if secret.key() == nil {
			return "", fmt.Errorf("sign: secret %d of %d is a text, and Standard Webhooks wants whsec_ and base64", i+1, len(secrets))
		}
		if i > 0 {
			signatures.WriteByte(' ')
		}
		signatures.WriteString(signatureVersion + ",")
		signatures.WriteString(mac(secret, id, strconv.FormatInt(at.Unix(), 10), body))
	}
	return signatures.String(), nil
}

// signable reports, as an error, that nothing can be signed under an id and a time.
func signable(id string, at time.Time) error {
	switch {
	case id == "":
		return errors.New("sign: the webhook id is empty")
	case strings.Contains(id, "."):
		return errors.New("sign: the webhook id holds a '.', which separates the parts of the signed text")
	case at.Unix() < 0:
		return errors.New("sign: the time lies before 1970")
	}
	return nil
}

// mac is the signature proper, in base64.
func mac(secret Secret, id, timestamp string, body []byte) string {
	h := hmac.New(sha256.New, secret.key())
	h.Write([]byte(id + "." + timestamp + "."))
	h.Write(body)
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// Problem is why a request does not verify, for code to switch on.
type Problem string

const (
	// MissingHeader says: one of the three headers is not there, or empty.
	MissingHeader Problem = "missing_header"
	// BadID says: the id holds a '.', so that the signature could be another request's.
	BadID Problem = "bad_id"
	// BadTimestamp says: the timestamp is not a Unix time in seconds.
	BadTimestamp Problem = "bad_timestamp"
	// NoSignature says: the signature header holds nothing of the form v1,BASE64.
	NoSignature Problem = "no_signature"
	// NoMatch says: no signature is of any of the secrets.
	NoMatch Problem = "no_match"
	// BodyChanged says: as NoMatch, but a signature matches another writing of the
	// body; only Diagnose says so.
	BodyChanged Problem = "body_changed"
	// TooOld says: the signature is good, but the timestamp lies more than
	// Tolerance behind the clock.
	TooOld Problem = "too_old"
	// TooNew says: the signature is good, but the timestamp lies more than
	// Tolerance ahead of the clock.
	TooNew Problem = "too_new"
	// NoSecret says: Verify was given no secret, or only zero ones.
	NoSecret Problem = "no_secret"
)

// VerifyError says why a request does not verify.
type VerifyError struct {
	Problem Problem
	// Message says what to do about it, in a sentence. It holds no secret and no
	// correct signature.
	Message string
}

// Error is the message.
func (e *VerifyError) Error() string { return e.Message }

// Verify reports whether a request was signed with one of the secrets, and lately:
// nil, or a *VerifyError. body is the request's body as it arrived, before any
// parser saw it; now is the receiver's clock.
//
// During a rotation a request carries several signatures; one that matches one
// of the secrets is enough. Unknown versions are passed over. Signatures are
// compared in constant time. A request whose signature does not match is
// reported as such, however old it is.
func Verify(h http.Header, body []byte, now time.Time, secrets ...Secret) error {
	r, err := readTriple(h, signatureVersion, HeaderID, HeaderTimestamp, HeaderSignature)
	if err != nil {
		return err
	}
	return r.verify(body, now, secrets)
}

// Diagnose verifies as [Verify] does and takes a second look at a request that
// does not match: if it would with the body as some frameworks rewrite it, the
// problem is [BodyChanged]. It costs several times what Verify costs: for the
// desk, not for each request.
func Diagnose(h http.Header, body []byte, now time.Time, secrets ...Secret) error {
	r, err := readTriple(h, signatureVersion, HeaderID, HeaderTimestamp, HeaderSignature)
	if err != nil {
		return err
	}
	return r.diagnose(body, now, secrets)
}

// verify is Verify for a request whose headers are read.
func (r signedRequest) verify(body []byte, now time.Time, secrets []Secret) error {
	return r.judge(body, now, func(body []byte) error { return r.matches(body, secrets) })
}

// diagnose is Diagnose for a request whose headers are read.
func (r signedRequest) diagnose(body []byte, now time.Time, secrets []Secret) error {
	return r.judgeTwice(body, now, func(body []byte) error { return r.matches(body, secrets) })
}

// judge verifies a request. matches reports, as an error, that none of its signatures is of a body.
func (r signedRequest) judge(body []byte, now time.Time, matches func(body []byte) error) error {
	if err := matches(body); err != nil {
		return err
	}
	return r.fresh(now)
}

// judgeTwice is judge with a second look at a body that does not match.
func (r signedRequest) judgeTwice(body []byte, now time.Time, matches func(body []byte) error) error {
	verdict := r.judge(body, now, matches)
	if e, ok := errors.AsType[*VerifyError](verdict); !ok || e.Problem != NoMatch {
		return verdict
	}
	for _, rewriting := range rewritings {
		if other := rewriting.undo(body); !bytes.Equal(other, body) && matches(other) == nil {
			return bodyChanged(rewriting.without)
		}
	}
	for _, other := range fragileWritings(body) {
		if matches(other) == nil {
			return bodyChanged("as Ringback writes the JSON of a test (something parsed it and wrote it anew)")
		}
	}
	return verdict
}

func bodyChanged(without string) error {
	return &VerifyError{BodyChanged, "the body was changed before it was verified: it would match " + without + "; verify the bytes as they arrived, before any parser or middleware"}
}

// rewritings are the changes bodies commonly suffer that can be undone.
var rewritings = []struct {
	without string
	undo    func([]byte) []byte
}{
	{"without the line break at its end", func(b []byte) []byte { return bytes.TrimRight(b, "\r\n") }},
	{"with a line break at its end", func(b []byte) []byte { return append(bytes.Clone(b), '\n') }},
	{"as compact JSON (something pretty-printed it)", func(b []byte) []byte { return compact(b) }},
	{"with members sorted, as compact JSON", sorted},
	{"with \\r\\n for its line breaks", func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")) }},
	{"with \\n for its line breaks", func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")) }},
}

// sorted is body as an encoder writes it that sorts members by name.
func sorted(body []byte) []byte {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil {
		return body
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if enc.Encode(v) != nil {
		return body
	}
	return bytes.TrimRight(out.Bytes(), "\n")
}

// signedRequest is what the headers of a request say.
type signedRequest struct {
	id         string
	timestamp  string
	at         time.Time // zero: none was signed
	signatures []string  // as they stand in the header: in base64, of some styles in hex
	// mac is the signature that a secret gives, written as signatures are; empty: the secret is none for such requests. Keys do without it.
	mac func(secret Secret, body []byte) string
}

// readTriple reads an id, a time and signatures of a version from the headers of these names.
func readTriple(h http.Header, version, idName, timestampName, signatureName string) (signedRequest, error) {
	for _, name := range []string{idName, timestampName, signatureName} {
		if h.Get(name) == "" {
			return signedRequest{}, missingHeader(name)
		}
	}
	r := signedRequest{id: h.Get(idName), timestamp: h.Get(timestampName)}
	if strings.Contains(r.id, ".") {
		return signedRequest{}, &VerifyError{BadID, "the header " + idName + " holds a '.', which Ringback never sends: its signature could have been made for another request"}
	}
	r.mac = func(secret Secret, body []byte) string {
		if secret.key() == nil {
			return ""
		}
		return mac(secret, r.id, r.timestamp, body)
	}
	var err error
	if r.at, err = readTimestamp(r.timestamp, "the header "+timestampName); err != nil {
		return signedRequest{}, err
	}
	for signature := range strings.FieldsSeq(strings.Join(h.Values(signatureName), " ")) {
		if encoded, ok := strings.CutPrefix(signature, version+","); ok {
			r.signatures = append(r.signatures, encoded)
		}
	}
	if len(r.signatures) == 0 {
		return signedRequest{}, &VerifyError{NoSignature, "the header " + signatureName + " holds no signature of the form " + version + ",BASE64: pass it on unchanged"}
	}
	return r, nil
}

func missingHeader(name string) error {
	return &VerifyError{MissingHeader, "the header " + name + " is missing: pass on all headers of the request, through proxies too"}
}

// readTimestamp reads seconds since 1970. where it stands is for the error.
func readTimestamp(text, where string) (time.Time, error) {
	seconds, err := strconv.ParseUint(text, 10, 40) // until the year 36812: no overflow anywhere
	if err != nil {
		return time.Time{}, &VerifyError{BadTimestamp, where + " is not a Unix time in seconds: pass it on unchanged"}
	}
	return time.Unix(int64(seconds), 0), nil
}

// matches reports, as an error, that no secret gives any of the signatures.
func (r signedRequest) matches(body []byte, secrets []Secret) error {
	usable, matched := 0, false
	for _, secret := range secrets {
		if secret.IsZero() {
			continue
		}
		want := []byte(r.mac(secret, body))
		if len(want) == 0 {
			continue
		}
		usable++
		for _, signature := range r.signatures {
			if hmac.Equal([]byte(signature), want) {
				matched = true
			}
		}
	}
	switch {
	case usable == 0:
		return &VerifyError{NoSecret, "no signing secret was given: use the callback's, which begins with whsec_"}
	case !matched:
		return &VerifyError{NoMatch, "no signature matches: either the secret is not this callback's (was it rotated?), or the body is not byte for byte what arrived (was it parsed and written anew?)"}
	}
	return nil
}

// fresh reports, as an error, that the timestamp is too far from now.
func (r signedRequest) fresh(now time.Time) error {
	if r.at.IsZero() {
		return nil
	}
	switch age := now.Sub(r.at); {
	case age > Tolerance:
		return &VerifyError{TooOld, fmt.Sprintf("the signature is good, but %s old (at most %s): set this machine's clock, or refuse it as a replayed request", rough(age), rough(Tolerance))}
	case age < -Tolerance:
		return &VerifyError{TooNew, fmt.Sprintf("the signature is good, but %s ahead of this machine's clock (at most %s): set the clock", rough(-age), rough(Tolerance))}
	}
	return nil
}

// rough is a duration as people say it: "7m0s" is "7 min".
func rough(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	case d%time.Minute == 0 || d >= 10*time.Minute:
		return fmt.Sprintf("%d min", d/time.Minute)
	default:
		return d.Round(time.Second).String()
	}
}
