package payloads

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The headers of HTTP Message Signatures (RFC 9421) and of Digest Fields (RFC 9530).
const (
	HeaderContentDigest    = "Content-Digest"
	HeaderSignatureInput   = "Signature-Input"
	HeaderMessageSignature = "Signature"
)

// covered are the parts of a request that its message signatures are of, in their order.
var covered = []string{"@method", "@target-uri", "content-type", "content-digest", "webhook-id"}

// coveredOf are covered, and the headers of a CloudEvent in binary mode, in order of their names.
func coveredOf(h http.Header) []string {
	components := slices.Clone(covered)
	for name := range h {
		if strings.HasPrefix(name, "Ce-") {
			components = append(components, strings.ToLower(name))
		}
	}
	slices.Sort(components[len(covered):])
	return components
}

// An HTTPMessage is a request that is signed, or was, as RFC 9421 has it.
type HTTPMessage struct {
	Method string
	URL    string // where it goes, absolute, as it is on the wire: an international host in its xn-- form
	Header http.Header
	Body   []byte
}

// Sign sets Content-Digest, Signature-Input and Signature in the message's header.
// There is a signature for each key, labelled sig1, sig2 and so on. Each is of the
// method, the URL, the headers Content-Type, Content-Digest and Webhook-Id, and all whose
// names begin with Ce-, which are a CloudEvent's. It names its key by its [PublicKey.KID].
// at, in whole Unix seconds, is when it was made.
//
// No key, a zero one, a time before 1970, and a message without a Content-Type or a
// Webhook-Id are errors.
func (m HTTPMessage) Sign(at time.Time, keys ...SigningKey) error {
	if len(keys) == 0 {
		return errors.New("sign: no key to sign with")
	}
	if at.Unix() < 0 {
		return errors.New("sign: the time lies before 1970")
	}
	m.Header.Set(HeaderContentDigest, contentDigest(m.Body))
	components := coveredOf(m.Header)
	inputs, signatures := make([]string, len(keys)), make([]string, len(keys))
	for i, key := range keys {
		if key.IsZero() {
			return fmt.Errorf("sign: key %d of %d is empty", i+1, len(keys))
		}
		params := fmt.Sprintf(`("%s");created=%d;keyid="%s";alg="ed25519"`, strings.Join(components, `" "`), at.Unix(), key.Public().KID())
		base, err := m.base(components, params)
		if err != nil {
			return fmt.Errorf("sign: %w", err)
		}
		label := "sig" + strconv.Itoa(i+1) + "="
		inputs[i], signatures[i] = label+params, label+":"+key.sign(base)+":"
	}
	m.Header.Set(HeaderSignatureInput, strings.Join(inputs, ", "))
	m.Header.Set(HeaderMessageSignature, strings.Join(signatures, ", "))
	return nil
}

// contentDigest is the value of Content-Digest for a body.
func contentDigest(body []byte) string {
	sum := sha256.Sum256(body)
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

// base is the text that is signed (RFC 9421, section 2.5).
func (m HTTPMessage) base(components []string, params string) ([]byte, error) {
	var base strings.Builder
	for _, name := range components {
		var value string
		switch name {
		case "@method":
			value = m.Method
		case "@target-uri":
			var err error
			if value, err = targetURI(m.URL); err != nil {
				return nil, err
			}
		default:
			values := m.Header.Values(name)
			if len(values) == 0 {
				return nil, fmt.Errorf("the header %s is missing", http.CanonicalHeaderKey(name))
			}
			value = strings.Join(values, ", ")
		}
		base.WriteString(`"` + name + `": ` + value + "\n")
	}
	base.WriteString(`"@signature-params": ` + params)
	return []byte(base.String()), nil
}

// targetURI is a URL as its receiver puts it together from what arrives: the scheme
// and host in lower case, without the scheme's own port, and "/" for an empty path.
// Path and query stay as they are, byte for byte.
func targetURI(raw string) (string, error) {
	scheme, rest, _ := strings.Cut(raw, "://")
	authority, target := rest, ""
	if end := strings.IndexAny(rest, "/?"); end >= 0 {
		authority, target = rest[:end], rest[end:]
	}
	if scheme == "" || authority == "" {
		return "", errors.New("the URL is not absolute") // it may hold a secret
	}
	scheme, authority = strings.ToLower(scheme), strings.ToLower(authority)
	if port := map[string]string{"http": ":80", "https": ":443"}[scheme]; port != "" {
		authority = strings.TrimSuffix(authority, port)
	}
	if !strings.HasPrefix(target, "/") {
		target = "/" + target
	}
	return scheme + "://" + authority + target, nil
}

// VerifyMessage reports whether a request carries a message signature by one of the
// keys that is of all that [HTTPMessage.Sign] signs, made lately: nil, or a *VerifyError.
// now is the receiver's clock. It reads signatures as Ringback writes them, which is
// not all that RFC 9421 allows.
func VerifyMessage(m HTTPMessage, now time.Time, keys ...PublicKey) error {
	for _, name := range []string{HeaderSignatureInput, HeaderMessageSignature, HeaderContentDigest} {
		if m.Header.Get(name) == "" {
			return &VerifyError{MissingHeader, "the header " + name + " is missing: pass on all headers of the request, through proxies too"}
		}
	}
	if len(keys) == 0 {
		return noKeys
	}
	if !strings.Contains(strings.Join(m.Header.Values(HeaderContentDigest), ", "), contentDigest(m.Body)) {
		return &VerifyError{BodyChanged, "the body is not the one that " + HeaderContentDigest + " is of: verify the bytes as they arrived, before any parser or middleware"}
	}
	signatures := map[string]string{}
	for _, s := range messageSignature.FindAllStringSubmatch(strings.Join(m.Header.Values(HeaderMessageSignature), ", "), maxSignatures) {
		signatures[s[1]] = s[2]
	}
	inputs := signatureInput.FindAllStringSubmatch(strings.Join(m.Header.Values(HeaderSignatureInput), ", "), maxSignatures)
	if len(inputs) == 0 || len(signatures) == 0 {
		return &VerifyError{NoSignature, "the headers " + HeaderSignatureInput + " and " + HeaderMessageSignature + " hold no signature as Ringback writes them: pass them on unchanged"}
	}
	components := coveredOf(m.Header)
	list := `("` + strings.Join(components, `" "`) + `")`
	for _, in := range inputs {
		for _, key := range keys {
			if key.KID() != in[4] || !strings.HasPrefix(in[2], list) {
				continue
			}
			base, err := m.base(components, in[2])
			if err != nil {
				return &VerifyError{MissingHeader, err.Error() + ": pass on all headers of the request, through proxies too"}
			}
			if key.verifies(base, signatures[in[1]]) {
				seconds, _ := strconv.ParseInt(in[3], 10, 64) // at most 12 digits
				return signedRequest{at: time.Unix(seconds, 0)}.fresh(now)
			}
		}
	}
	return &VerifyError{NoMatch, "no message signature matches: either none of the public keys is this callback's (are they up to date?), or the method, the URL (scheme, host, path and query, as the sender sees it) or one of the headers is not what was sent"}
}

// What [HTTPMessage.Sign] writes: a label, the parameters (as they are signed), the time and the key's id; and a label and the signature.
var (
	signatureInput = regexp.MustCompile(`(sig[0-9]{1,2})=(\("` + strings.Join(covered, `" "`) + `"(?: "ce-[^" ]+")*\);created=([0-9]{1,12});keyid="([A-Za-z0-9_-]{1,64})";alg="ed25519")`)

	messageSignature = regexp.MustCompile(`(sig[0-9]{1,2})=:([A-Za-z0-9+/=]{88}):`)
)
