package receive

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ringback/ringback/payloads"
)

const asymmetric = "v1a," // marks ed25519 among a header's signatures

// signed is what the headers of Standard Webhooks say, before anything is verified.
type signed struct {
	id                    string
	at                    time.Time
	symmetric, asymmetric bool // which schemes there are signatures of
}

// readSigned reads the headers. What it refuses, it explains in a *payloads.VerifyError.
func readSigned(h http.Header) (signed, error) {
	for _, name := range []string{payloads.HeaderID, payloads.HeaderTimestamp, payloads.HeaderSignature} {
		if h.Get(name) == "" {
			return signed{}, refuse(payloads.MissingHeader, "the header %s is missing: pass on all headers of the request, through proxies too", name)
		}
	}
	s := signed{id: h.Get(payloads.HeaderID)}
	seconds, err := strconv.ParseUint(h.Get(payloads.HeaderTimestamp), 10, 40) // until the year 36812: no overflow anywhere
	if err != nil {
		return signed{}, refuse(payloads.BadTimestamp, "the header %s is not a Unix time in seconds: pass it on unchanged", payloads.HeaderTimestamp)
	}
	s.at = time.Unix(int64(seconds), 0)
	for signature := range strings.FieldsSeq(strings.Join(h.Values(payloads.HeaderSignature), " ")) {
		if strings.HasPrefix(signature, asymmetric) {
			s.asymmetric = true
		} else {
			s.symmetric = true
		}
	}
	return s, nil
}

// PublicKeys gives the ed25519 keys to trust now. unknown says that none of those it gave before fits, so that it may look for newer ones.
type PublicKeys func(ctx context.Context, unknown bool) ([]payloads.PublicKey, error)

// trust is whom a handler believes.
type trust struct {
	secrets []payloads.Secret
	keys    PublicKeys // nil: none
}

// verify reports whether one of the secrets or one of the keys signed the request, and lately: nil, a *payloads.VerifyError, or what kept keys from
// being fetched.
func (s signed) verify(ctx context.Context, by trust, header http.Header, body []byte, now time.Time) error {
	refusal := refuse(payloads.NoSignature, "the header %s holds no signature of a scheme that this endpoint verifies", payloads.HeaderSignature)
	if len(by.secrets) > 0 && (s.symmetric || !s.asymmetric || by.keys == nil) {
		if refusal = payloads.Verify(header, body, now, by.secrets...); refusal == nil {
			return nil
		}
	}
	if by.keys == nil || !s.asymmetric {
		return refusal
	}
	return by.verifyByKeys(ctx, header, body, now)
}

// verifyByKeys tries the keys that are known, and then, if none fits, those that there are now.
func (by trust) verifyByKeys(ctx context.Context, header http.Header, body []byte, now time.Time) error {
	known, err := by.keys(ctx, false)
	if err != nil {
		return fmt.Errorf("get the public keys: %w", err)
	}
	verdict := payloads.VerifyEd25519(header, body, now, known...)
	if e, ok := errors.AsType[*payloads.VerifyError](verdict); !ok || e.Problem != payloads.NoMatch && e.Problem != payloads.NoSecret {
		return verdict
	}
	newer, err := by.keys(ctx, true)
	switch {
	case err != nil:
		return fmt.Errorf("get the public keys: %w", err)
	case slices.Equal(newer, known): // which need not be tried again
		return verdict
	}
	return payloads.VerifyEd25519(header, body, now, newer...)
}

func refuse(problem payloads.Problem, format string, a ...any) error {
	return &payloads.VerifyError{Problem: problem, Message: fmt.Sprintf(format, a...)}
}
