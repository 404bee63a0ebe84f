package receive

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ringback/ringback/payloads"
)

const (
	asymmetric = "v1a," // marks ed25519 among a header's signatures

	// maxSignatures is how many ed25519 signatures of a request are looked at. Ringback sends two while a key pair takes the place of another. A
	// stranger could have the rest tried with every key, at the receiver's cost.
	maxSignatures = 4
)

// signed is what the three headers of Standard Webhooks say.
type signed struct {
	id, timestamp string
	at            time.Time
	symmetric     bool     // there is a signature of another scheme than ed25519
	asymmetric    [][]byte // the ed25519 signatures
}

// readSigned reads the headers. What it refuses, it explains in a *payloads.VerifyError.
func readSigned(h http.Header) (signed, error) {
	for _, name := range []string{payloads.HeaderID, payloads.HeaderTimestamp, payloads.HeaderSignature} {
		if h.Get(name) == "" {
			return signed{}, refuse(payloads.MissingHeader, "the header %s is missing: pass on all headers of the request, through proxies too", name)
		}
	}
	s := signed{id: h.Get(payloads.HeaderID), timestamp: h.Get(payloads.HeaderTimestamp)}
	if strings.Contains(s.id, ".") {
		return signed{}, refuse(payloads.BadID, "the header %s holds a '.', which Ringback never sends", payloads.HeaderID)
	}
	seconds, err := strconv.ParseUint(s.timestamp, 10, 40) // until the year 36812: no overflow anywhere
	if err != nil {
		return signed{}, refuse(payloads.BadTimestamp, "the header %s is not a Unix time in seconds: pass it on unchanged", payloads.HeaderTimestamp)
	}
	s.at = time.Unix(int64(seconds), 0)
	for signature := range strings.FieldsSeq(strings.Join(h.Values(payloads.HeaderSignature), " ")) {
		encoded, ok := strings.CutPrefix(signature, asymmetric)
		if !ok {
			s.symmetric = true
			continue
		}
		if raw, err := base64.StdEncoding.Strict().DecodeString(encoded); err == nil && len(raw) == ed25519.SignatureSize && len(s.asymmetric) < maxSignatures {
			s.asymmetric = append(s.asymmetric, raw)
		}
	}
	return s, nil
}

// PublicKeys gives the ed25519 keys to trust now. unknown says that none of those it gave before fits, so that it may look for newer ones.
type PublicKeys func(ctx context.Context, unknown bool) ([]ed25519.PublicKey, error)

// trust is whom a handler believes.
type trust struct {
	secrets []payloads.Secret
	keys    PublicKeys // nil: none
}

// verify reports whether one of the secrets or one of the keys signed the request, and lately: nil, a *payloads.VerifyError, or what kept keys from
// being fetched.
func (s signed) verify(ctx context.Context, by trust, header http.Header, body []byte, now time.Time) error {
	refusal := refuse(payloads.NoSignature, "the header %s holds no signature of a scheme that this endpoint verifies", payloads.HeaderSignature)
	if len(by.secrets) > 0 && (s.symmetric || len(s.asymmetric) == 0 || by.keys == nil) {
		err := payloads.Verify(header, body, now, by.secrets...)
		if err == nil {
			return nil
		}
		refusal = err
	}
	if by.keys == nil || len(s.asymmetric) == 0 {
		return refusal
	}
	matched, err := s.matches(ctx, body, by.keys)
	switch {
	case err != nil:
		return fmt.Errorf("get the public keys: %w", err)
	case !matched:
		return refuse(payloads.NoMatch, "no signature matches: either none of the public keys is this callback's, or the body is not byte for byte what arrived")
	case now.Sub(s.at) > payloads.Tolerance:
		return refuse(payloads.TooOld, "the signature is good, but too old: set this machine's clock, or refuse it as a replayed request")
	case s.at.Sub(now) > payloads.Tolerance:
		return refuse(payloads.TooNew, "the signature is good, but ahead of this machine's clock: set the clock")
	}
	return nil
}

// matches tries the keys that are known, and then, if none fits, those that there are now.
func (s signed) matches(ctx context.Context, body []byte, keys PublicKeys) (bool, error) {
	text := slices.Concat([]byte(s.id+"."+s.timestamp+"."), body)
	fits := func(key ed25519.PublicKey) bool {
		return len(key) == ed25519.PublicKeySize && slices.ContainsFunc(s.asymmetric, func(signature []byte) bool { return ed25519.Verify(key, text, signature) })
	}
	known, err := keys(ctx, false)
	if err != nil || slices.ContainsFunc(known, fits) {
		return err == nil, err
	}
	newer, err := keys(ctx, true)
	if err != nil || len(newer) > 0 && len(known) > 0 && &newer[0] == &known[0] { // the same ones, which need not be tried again
		return false, err
	}
	return slices.ContainsFunc(newer, fits), nil
}

func refuse(problem payloads.Problem, format string, a ...any) error {
	return &payloads.VerifyError{Problem: problem, Message: fmt.Sprintf(format, a...)}
}
