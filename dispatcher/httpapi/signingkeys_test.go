package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// keySet asks for a company's public keys, as a stranger.
func (h *house) keySet(company string) payloads.JWKS {
	h.t.Helper()
	keys, err := payloads.ParseJWKS(h.call("", "GET", "/companies/"+company+"/.well-known/jwks.json", "").want(http.StatusOK).body)
	h.must(err)
	return keys
}

// TestRequestsVerifyByThePublishedKeys: whoever has the answer of the open path alone can verify what arrives.
func TestRequestsVerifyByThePublishedKeys(t *testing.T) {
	h := newHouse(t)
	got := make(chan payloads.HTTPMessage, 1)
	partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- payloads.HTTPMessage{Method: r.Method, URL: "http://" + r.Host + r.RequestURI, Header: r.Header, Body: body}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(partner.Close)
	for flags, want := range map[string][3]bool{
		`"ed25519":true`:                                                       {true, true, false},
		`"hmac":false,"ed25519":true`:                                          {false, true, false},
		`"hmac":false,"rfc9421":true`:                                          {false, false, true},
		`"hmac":true,"ed25519":true,"rfc9421":true`:                            {true, true, true},
		`"hmac":false,"ed25519":false,"rfc9421":true`:                          {false, false, true},
		`"hmac":true,"ed25519":false,"rfc9421":false`:                          {true, false, false},
		`"rfc9421":true},"envelope":"cloudevents-binary","headers":{"X-A":"1"`: {true, false, true},
	} {
		for _, contentType := range []string{payloads.ContentTypeJSON, payloads.ContentTypeForm} {
			created := h.call("partner", "POST", "/companies/acme/config/callbacks", fmt.Sprintf(
				`{"callback_type":"payment_proof","destination":{"url":"%s/hook?a=b%%20c","method":"PUT","content_type":%q},"signature":{%s}}`, partner.URL, contentType, flags,
			)).want(http.StatusCreated).json()
			secret, err := payloads.ParseSecret(created["secret"].(string))
			h.must(err)
			h.call("partner", "POST", created["url"].(string)+"/test", "").want(http.StatusOK)
			m, keys, now := <-got, h.keySet("acme"), time.Now()
			is := [3]bool{payloads.Verify(m.Header, m.Body, now, secret) == nil, payloads.VerifyEd25519(m.Header, m.Body, now, keys...) == nil, payloads.VerifyMessage(m, now, keys...) == nil}
			if is != want || m.Header.Get(payloads.HeaderID) == "" || m.Header.Get(payloads.HeaderTimestamp) == "" {
				t.Errorf("%s, %s: verified %v, want %v: %v", flags, contentType, is, want, m.Header)
			}
			if (m.Header.Get(payloads.HeaderSignature) != "") != (want[0] || want[1]) || (m.Header.Get(payloads.HeaderContentDigest) != "") != want[2] {
				t.Errorf("%s: %v", flags, m.Header)
			}
			if m.Header.Get("Ce-Source") != "" {
				m.Header.Set("Ce-Source", "urn:ringback:company:other")
				if payloads.VerifyMessage(m, now, keys...) == nil {
					t.Errorf("%s: verified with another source", flags)
				}
			}
			h.call("partner", "DELETE", created["url"].(string), "").want(http.StatusNoContent) // the next key is the first one again
		}
	}
}

// TestMessageSignaturesAreOfTheURLOnTheWire: whoever puts the URL together from the Host header and the request line verifies, whatever was registered.
func TestMessageSignaturesAreOfTheURLOnTheWire(t *testing.T) {
	got := make(chan payloads.HTTPMessage, 1)
	partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- payloads.HTTPMessage{Method: r.Method, URL: "http://" + r.Host + r.RequestURI, Header: r.Header, Body: body}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(partner.Close)
	h := openHouse(t, egress.Config{Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, partner.Listener.Addr().String())
	}}, (*egress.Client).CheckURL)
	for url, arrives := range map[string]string{
		"http://bücher.example/hook":                 "http://xn--bcher-kva.example/hook",
		"http://Bücher。Example:443/a?b":              "http://xn--bcher-kva.example:443/a?b",
		"http://partner.example/{tenant}|^/hook?{x}": "http://partner.example/{tenant}|^/hook?{x}",
		"http://partner.example/%7btenant%7D":        "http://partner.example/%7btenant%7D",
		"http://partner.example//hook?":              "http://partner.example//hook?",
		"http://Partner.example:80":                  "http://Partner.example:80/",
	} {
		created := h.call("partner", "POST", "/companies/acme/config/callbacks", fmt.Sprintf(
			`{"callback_type":"payment_proof","destination":{"url":%q},"signature":{"hmac":false,"rfc9421":true}}`, url,
		)).want(http.StatusCreated).json()
		h.call("partner", "POST", created["url"].(string)+"/test", "").want(http.StatusOK)
		m := <-got
		if m.URL != arrives {
			t.Errorf("%s arrives as %s, want %s", url, m.URL, arrives)
		}
		if err := payloads.VerifyMessage(m, time.Now(), h.keySet("acme")...); err != nil {
			t.Errorf("%s, which arrives as %s: %v", url, m.URL, err)
		}
		h.call("partner", "DELETE", created["url"].(string), "").want(http.StatusNoContent) // the next key is the first one again
	}
}

// TestKeySetIsOpenAndCheap: anybody may ask, may keep the answer, and is answered from memory.
func TestKeySetIsOpenAndCheap(t *testing.T) {
	h := newHouse(t)
	const path = "/companies/acme/.well-known/jwks.json"
	if keys := h.keySet("nobody"); len(keys) != 0 {
		t.Errorf("nobody has %v", keys)
	}
	if a := h.call("", "GET", "/companies/no%20name/.well-known/jwks.json", "").want(http.StatusOK); string(a.body) != `{"keys":[]}` {
		t.Errorf("no company: %s", a.body)
	}
	created := h.call("partner", "POST", "/companies/acme/config/callbacks",
		`{"callback_type":"payment_proof","destination":{"url":"https://partner.example/"},"signature":{"ed25519":true}}`).want(http.StatusCreated)
	var shown struct {
		URL       string
		Signature struct {
			HMAC, Ed25519 bool
			Keys          []struct {
				KID       string
				PublicKey string `json:"public_key"`
				Stage     string
			}
		}
	}
	h.must(json.Unmarshal(created.body, &shown))
	a := h.call("", "GET", path, "").want(http.StatusOK)
	keys, err := payloads.ParseJWKS(a.body)
	h.must(err)
	if len(keys) != 1 || keys[0].KID() != shown.Signature.Keys[0].KID || keys[0].String() != shown.Signature.Keys[0].PublicKey || shown.Signature.Keys[0].Stage != registry.KeySigns {
		t.Errorf("published %s, shown %+v", a.body, shown)
	}
	var remembered int
	if _, err := fmt.Sscanf(a.header.Get("Cache-Control"), "public, max-age=%d", &remembered); err != nil || remembered < 10 || remembered > 300 {
		t.Errorf("Cache-Control: %s", a.header.Get("Cache-Control"))
	}
	if got := a.header.Get("Content-Type"); got != "application/jwk-set+json" {
		t.Errorf("Content-Type: %s", got)
	}
	tag := a.header.Get("ETag")
	for _, known := range []string{tag, "W/" + tag, `"x", ` + tag, "*"} {
		if a := h.call("", "GET", path, "", header{"If-None-Match": known}).want(http.StatusNotModified); len(a.body) != 0 {
			t.Errorf("%s: %s", known, a.body)
		}
	}
	h.call("", "GET", path, "", header{"If-None-Match": `"other"`}).want(http.StatusOK)
	h.call("", "POST", path, "").want(http.StatusMethodNotAllowed)

	h.call("partner", "POST", shown.URL+"/signing-key", `{"announce":"1h","overlap":"0s"}`).want(http.StatusOK)
	if a := h.call("", "GET", path, "", header{"If-None-Match": tag}).want(http.StatusOK); strings.Count(string(a.body), `"kid"`) != 2 {
		t.Errorf("announced: %s", a.body)
	}

	before := h.commands()
	for range 200 {
		h.call("", "GET", path, "").want(http.StatusOK)
	}
	if n := h.commands() - before; n > 20 {
		t.Errorf("200 requests took %d commands of Redis", n)
	}
	refused := 0
	for n := range 150 {
		if h.call("", "GET", fmt.Sprintf("/companies/stranger%d/.well-known/jwks.json", n), "").status == http.StatusTooManyRequests {
			refused++
		}
	}
	if refused < 30 {
		t.Errorf("of 150 names that nobody has, %d are refused", refused)
	}
	if keys := h.keySet("acme"); len(keys) != 2 {
		t.Errorf("meanwhile a known company has %v", keys)
	}
}

// commands are how many commands Redis did.
func (h *house) commands() (n int) {
	h.t.Helper()
	info, err := h.rdb.Info(h.t.Context(), "stats").Result()
	h.must(err)
	_, rest, _ := strings.Cut(info, "total_commands_processed:")
	_, err = fmt.Sscan(rest, &n)
	h.must(err)
	return n
}

func TestRotateSigningKey(t *testing.T) {
	h := newHouse(t)
	plain := h.register("acme")
	h.call("partner", "POST", plain+"/signing-key", "").wantProblem(http.StatusUnprocessableEntity)
	h.call("partner", "PATCH", plain, `{"signature":{"hmac":false,"ed25519":true}}`).want(http.StatusOK)
	if keys := h.keySet("acme"); len(keys) != 1 {
		t.Errorf("published %v", keys)
	}
	h.call("partner", "POST", plain+"/signing-key", "").wantFault("body.announce")
	h.call("partner", "DELETE", plain, "").want(http.StatusNoContent)
	keyed := h.call("partner", "POST", "/companies/acme/config/callbacks",
		`{"callback_type":"payment_proof","destination":{"url":"https://partner.example/"},"signature":{"rfc9421":true}}`).want(http.StatusCreated).json()["url"].(string)
	for body, field := range map[string]string{`{"announce":"1m"}`: "announce", `{"announce":"721h"}`: "announce", `{"overlap":"169h"}`: "overlap", `{"announce":1}`: "announce", `{"after":"1h"}`: "after"} {
		h.call("partner", "POST", keyed+"/signing-key", body).wantFault("body." + field)
	}
	h.call("viewer", "POST", keyed+"/signing-key", "").wantProblem(http.StatusForbidden)
	h.call("other partner", "POST", keyed+"/signing-key", "").wantProblem(http.StatusNotFound)
	if a := h.call("partner", "POST", keyed+"/signing-key", "").want(http.StatusOK); strings.Contains(string(a.body), "whsk_") || strings.Contains(string(a.body), "whsec_") || !strings.Contains(string(a.body), `"stage":"announced"`) {
		t.Errorf("rotated: %s", a.body)
	}
	a := h.call("partner", "GET", keyed, "").want(http.StatusOK)
	var doc map[string]json.RawMessage
	h.must(json.Unmarshal(a.body, &doc))
	if b := h.call("partner", "PATCH", keyed, `{"signature":`+string(doc["signature"])+`}`).want(http.StatusOK).json(); fmt.Sprint(b["updated_at"]) != strings.Trim(string(doc["updated_at"]), `"`) {
		t.Error("what is shown changes it when it is sent back")
	}
}
