package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"golang.org/x/time/rate"
)

const (
	keySetRoute = "/companies/{company}/.well-known/jwks.json"
	mediaJWKS   = "application/jwk-set+json" // RFC 7517, section 8.5

	// strangeNames is how many companies of which this process remembers nothing are looked for in a second, whoever asks: the path is open to all, and each
	// costs Redis a command. One address may ask for as many as [Guesses] lets it.
	strangeNames = 200
)

// keyRotationDoc describes what a key's rotation takes.
type keyRotationDoc struct {
	_        struct{}    `additionalProperties:"false"`
	Announce durationDoc `json:"announce,omitempty" default:"24h" example:"24h" doc:"For how long the new key is published before it signs: 6m to 720h."`
	Overlap  durationDoc `json:"overlap,omitempty" default:"24h" example:"24h" doc:"For how long the key before signs along with the new one: 0s to 168h."`
}

// keySetDoc describes a set of public keys.
type keySetDoc struct {
	Keys []struct {
		KeyType   string `json:"kty" enum:"OKP"`
		Curve     string `json:"crv" enum:"Ed25519"`
		X         string `json:"x" doc:"The key, in base64url." example:"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"`
		KID       string `json:"kid" example:"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"`
		Use       string `json:"use" enum:"sig"`
		Algorithm string `json:"alg" enum:"EdDSA"`
	} `json:"keys" nullable:"false"`
}

func (s *server) signingKeys() {
	chapter := []string{"Callbacks"}
	register(s, operation{need: manageCallbacks, bounds: ofCallback, body: &body{schema: reflect.TypeFor[keyRotationDoc](), optional: true}, repeats: actsOnce, Operation: huma.Operation{
		OperationID: "rotate-signing-key", Method: http.MethodPost, Path: callbackRoute + "/signing-key", Tags: chapter, Summary: "Give a callback a new signing key",
		Description: "Of a callback with `signature.ed25519` or `signature.rfc9421`. The new key is announced: it stands in the company's key set, and does not sign until `announce` has passed. Then it signs " +
			"along with the key before, until `overlap` has passed, too. Then the key before is retired. Receivers that fetch the key set, and remember it for as long as the answer says, " +
			"never meet a signature by a key that they cannot know. While a key is announced, there is no other.",
		Errors: []int{http.StatusConflict, http.StatusPreconditionFailed},
	}}, s.rotateSigningKey)

	set := s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[keySetDoc](), true, "")
	s.document(page{mediaType: mediaJWKS, schema: set, Operation: huma.Operation{
		OperationID: "key-set", Method: http.MethodGet, Path: keySetRoute, Tags: chapter, Summary: "The public keys of a company's callbacks",
		Description: "Open to all, as a JWK Set (RFC 7517, RFC 8037): the keys that sign, those that are announced, and those that were retired lately, of all of the company's callbacks. " +
			"A company that has none, or is unknown, has an empty set. It may be kept for as long as Cache-Control says, which is less than any key is announced for: " +
			"five minutes, and the less, down to 10 s, the longer the process that answers has not heard from Redis; an empty set not at all, for the first key signs at once.",
		Parameters: []*huma.Param{{Name: "company", In: "path", Required: true, Schema: plainText, Example: "acme"}},
		Errors:     []int{http.StatusTooManyRequests, http.StatusServiceUnavailable},
	}})
	strange := &namesLookedFor{all: rate.NewLimiter(strangeNames, strangeNames)}
	s.mux.HandleFunc("GET "+keySetRoute, func(w http.ResponseWriter, r *http.Request) { s.keySet(w, r, strange) })
}

func (s *server) rotateSigningKey(ctx context.Context, in *rotateIn) (*callbackOut, error) {
	announce, overlap, err := decodeKeyRotation(in.RawBody)
	if err != nil {
		return nil, err
	}
	return shown(s.Registry.RotateKey(ctx, in.Company, in.CallbackID, announce, overlap, in.IfMatch.conditions()...))
}

// decodeKeyRotation reads {"announce": "24h", "overlap": "24h"}. Both members are optional.
func decodeKeyRotation(body []byte) (announce, overlap time.Duration, err error) {
	announce, overlap = defaultOverlap, defaultOverlap
	err = optionalMembers(body, func(name string, value json.RawMessage) string {
		switch name {
		case "announce":
			return duration(value, &announce)
		case "overlap":
			return duration(value, &overlap)
		}
		return "is not known here: there are announce and overlap"
	})
	return announce, overlap, err
}

// namesLookedFor bounds how many companies are looked for of which nothing is remembered.
type namesLookedFor struct {
	guesses Guesses // by address
	all     *rate.Limiter
}

// admit lets a request look for such a company, or says why not.
func (n *namesLookedFor) admit(r *http.Request) error {
	if wait := n.guesses.Unknown(r); wait > 0 {
		return tooOften(wait, "too many companies are asked for from this address")
	}
	if !n.all.Allow() {
		return errNoPlace
	}
	return nil
}

// keySet answers with a company's public keys.
func (s *server) keySet(w http.ResponseWriter, r *http.Request, strange *namesLookedFor) {
	set, err := s.Registry.PublishedKeys(r.Context(), r.PathValue("company"), func() error { return strange.admit(r) })
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", set.MaxAge(time.Now())/time.Second))
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("ETag", set.ETag)
	if matchesTag(r.Header.Get("If-None-Match"), set.ETag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", mediaJWKS)
	_, _ = w.Write(set.Document)
}

// matchesTag reports whether an If-None-Match names the tag, weakly or not (RFC 9110, section 13.1.2).
func matchesTag(header, tag string) bool {
	for named := range strings.SplitSeq(header, ",") {
		if named = strings.TrimSpace(named); named == "*" || strings.TrimPrefix(named, "W/") == tag {
			return true
		}
	}
	return false
}
