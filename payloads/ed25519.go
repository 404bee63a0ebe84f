package payloads

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// SignEd25519 is [Sign] for the asymmetric scheme: "v1a,BASE64" per key.
func SignEd25519(id string, at time.Time, body []byte, keys ...SigningKey) (string, error) {
	if err := signable(id, at); err != nil {
		return "", err
	}
	if len(keys) == 0 {
		return "", errors.New("sign: no key to sign with")
	}
	text := signedText(id, strconv.FormatInt(at.Unix(), 10), body)
	signatures := make([]string, len(keys))
	for i, key := range keys {
		if key.IsZero() {
			return "", fmt.Errorf("sign: key %d of %d is empty", i+1, len(keys))
		}
		signatures[i] = asymmetricVersion + "," + key.sign(text)
	}
	return strings.Join(signatures, " "), nil
}

// signedText is what a signature is of. Ed25519 reads it twice, so it has to be in one piece.
func signedText(id, timestamp string, body []byte) []byte {
	return slices.Concat([]byte(id), []byte{'.'}, []byte(timestamp), []byte{'.'}, body)
}

// VerifyEd25519 is [Verify] for signatures of the asymmetric scheme, by any of the
// public keys, such as those of [ParseJWKS].
func VerifyEd25519(h http.Header, body []byte, now time.Time, keys ...PublicKey) error {
	r, err := readTriple(h, asymmetricVersion, HeaderID, HeaderTimestamp, HeaderSignature)
	if err != nil {
		return err
	}
	return r.judge(body, now, func(body []byte) error { return r.matchesKeys(body, keys) })
}

// DiagnoseEd25519 is [Diagnose] for signatures of the asymmetric scheme.
func DiagnoseEd25519(h http.Header, body []byte, now time.Time, keys ...PublicKey) error {
	r, err := readTriple(h, asymmetricVersion, HeaderID, HeaderTimestamp, HeaderSignature)
	if err != nil {
		return err
	}
	return r.judgeTwice(body, now, func(body []byte) error { return r.matchesKeys(body, keys) })
}

// maxSignatures is how many signatures of a request are looked at, each with each key:
// verifying one takes time, and its sender may be a stranger. Ringback sends a few.
const maxSignatures = 10

var noKeys = &VerifyError{NoSecret, "no public key was given: a company's keys stand under its /.well-known/jwks.json, and it has some once a callback of it has signature.ed25519 or signature.rfc9421"}

// matchesKeys reports, as an error, that no key verifies any of the signatures.
func (r signedRequest) matchesKeys(body []byte, keys []PublicKey) error {
	if len(keys) == 0 {
		return noKeys
	}
	text := signedText(r.id, r.timestamp, body)
	for _, key := range keys {
		for _, signature := range r.signatures[:min(len(r.signatures), maxSignatures)] {
			if key.verifies(text, signature) {
				return nil
			}
		}
	}
	return &VerifyError{NoMatch, "no signature matches: either none of the public keys is this callback's (are they up to date?), or the body is not byte for byte what arrived (was it parsed and written anew?)"}
}
