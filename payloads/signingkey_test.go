package payloads_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/payloads/npmtest"
)

// The key pair of RFC 8032, section 7.1, test 1, whose thumbprint is in RFC 8037, appendix A.3.
const (
	rfcPublic = "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
	rfcKID    = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
)

func parseKey(t *testing.T, s string) payloads.PublicKey {
	t.Helper()
	key, err := payloads.ParsePublicKey(s)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestPublishedThumbprint(t *testing.T) {
	key := parseKey(t, rfcPublic)
	if got := key.KID(); got != rfcKID {
		t.Errorf("kid %s, want %s", got, rfcKID)
	}
	if key.String() != rfcPublic {
		t.Errorf("written as %s", key)
	}
}

func TestSigningKeysAreReadAsWritten(t *testing.T) {
	for range 20 {
		key := payloads.NewSigningKey()
		read, err := payloads.ParseSigningKey(key.Reveal())
		if err != nil || read.Public() != key.Public() || read.Reveal() != key.Reveal() || read.IsZero() {
			t.Fatalf("read as %v: %v", read.Public(), err)
		}
		if got := parseKey(t, key.Public().String()); got != key.Public() {
			t.Errorf("the public key is read as %v", got)
		}
	}
	key := payloads.NewSigningKey().Reveal()
	other := payloads.NewSigningKey().Reveal()
	for _, wrong := range []string{
		"", "whsk_", key + "\n", key[:50] + "\n" + key[50:], key[:len(key)-4], strings.Replace(key, "whsk_", "whsec_", 1),
		key[:60] + other[60:],
	} {
		if _, err := payloads.ParseSigningKey(wrong); err == nil || len(wrong) > 10 && strings.Contains(err.Error(), wrong[5:40]) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	for _, wrong := range []string{"", "whpk_", rfcPublic + "\n", rfcPublic[:40], strings.TrimPrefix(rfcPublic, "whpk_"), key} {
		if _, err := payloads.ParsePublicKey(wrong); err == nil {
			t.Errorf("%q is a public key", wrong)
		}
	}
}

func TestSigningKeysStayHidden(t *testing.T) {
	key := payloads.NewSigningKey()
	encoded := strings.TrimPrefix(key.Reveal(), "whsk_")
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	hidden := []string{encoded[:20], fmt.Sprintf("%x", raw[:8]), strings.Trim(fmt.Sprintf("%d", raw[:8]), "[]")}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).InfoContext(t.Context(), "x", "key", key, "in", struct{ K payloads.SigningKey }{key})
	text, err := json.Marshal(struct{ K payloads.SigningKey }{key})
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{fmt.Sprint(key), fmt.Sprintf("%+v %#v %x %d %t", key, key, key, key, struct{ k payloads.SigningKey }{key}), log.String(), string(text)} {
		for _, form := range hidden {
			if strings.Contains(shown, form) {
				t.Errorf("shown: %s", shown)
			}
		}
	}
}

func TestJWKS(t *testing.T) {
	set := payloads.JWKS{parseKey(t, rfcPublic), payloads.NewSigningKey().Public()}
	text, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	read, err := payloads.ParseJWKS(text)
	if err != nil || !slices.Equal(read, set) {
		t.Errorf("%s is read as %v: %v", text, read, err)
	}
	if text, err := json.Marshal(payloads.JWKS{}); err != nil || string(text) != `{"keys":[]}` {
		t.Errorf("no keys: %s, %v", text, err)
	}
	x := base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	for _, use := range []string{"enc", "SIG"} {
		set := `{"keys":[{"kty":"OKP","crv":"Ed25519","use":"` + use + `","x":"` + x + `"}]}`
		if read, err := payloads.ParseJWKS([]byte(set)); err != nil || len(read) != 0 {
			t.Errorf("a key for %s: %v, %v", use, read, err)
		}
	}
	for _, sloppy := range []string{x[:42] + "B", x[:40] + `\n` + x[40:]} {
		if read, err := payloads.ParseJWKS([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"` + sloppy + `"}]}`)); err == nil {
			t.Errorf("x %q is read as %v", sloppy, read)
		}
	}
	if read, err := payloads.ParseJWKS([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"` + x + `"}]}`)); err != nil || len(read) != 1 {
		t.Errorf("a key whose use is open: %v, %v", read, err)
	}
	others := `{"keys":[{"kty":"EC","crv":"P-256","x":"AA"},7,{"kty":"OKP","crv":"X25519","x":"AA"}],"more":1}`
	if read, err := payloads.ParseJWKS([]byte(others)); err != nil || len(read) != 0 {
		t.Errorf("other keys: %v, %v", read, err)
	}
	for _, wrong := range []string{"", "[]", "{}", `{"keys":null}`, `{"keys":{}}`, `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA"}]}`} {
		if read, err := payloads.ParseJWKS([]byte(wrong)); err == nil {
			t.Errorf("%s is read as %v", wrong, read)
		}
	}
}

// signedBoth is a request that carries both schemes' signatures by some keys.
func signedBoth(t *testing.T, url, body string, at time.Time, keys ...payloads.SigningKey) payloads.HTTPMessage {
	t.Helper()
	signature, err := payloads.SignEd25519("dlv_1", at, []byte(body), keys...)
	if err != nil {
		t.Fatal(err)
	}
	m := payloads.HTTPMessage{Method: "POST", URL: url, Header: signed("dlv_1", at.Unix(), signature), Body: []byte(body)}
	m.Header.Set("Content-Type", "application/json")
	m.Header.Set("Ce-Type", "a.b")
	m.Header.Set("Ce-Source", "urn:ringback:company:acme")
	if err := m.Sign(at, keys...); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestEd25519AndMessagesVerify(t *testing.T) {
	at := time.Unix(vectorTime, 0)
	old, key := payloads.NewSigningKey(), payloads.NewSigningKey()
	sent := signedBoth(t, "https://partner.example/hook?a=b", vectorBody, at, old, key)
	both := func(m payloads.HTTPMessage, now time.Time, keys ...payloads.PublicKey) [2]payloads.Problem {
		return [2]payloads.Problem{problem(payloads.VerifyEd25519(m.Header, m.Body, now, keys...)), problem(payloads.VerifyMessage(m, now, keys...))}
	}
	with := func(change func(*payloads.HTTPMessage)) payloads.HTTPMessage {
		m := sent
		m.Header = sent.Header.Clone()
		change(&m)
		return m
	}
	set := func(name, value string) payloads.HTTPMessage {
		return with(func(m *payloads.HTTPMessage) { m.Header.Set(name, value) })
	}
	stranger := payloads.NewSigningKey().Public()
	const no = payloads.NoMatch
	for what, c := range map[string]struct {
		m    payloads.HTTPMessage
		now  time.Time
		keys []payloads.PublicKey
		want [2]payloads.Problem
	}{
		"the newest key": {sent, at, []payloads.PublicKey{stranger, key.Public()}, [2]payloads.Problem{}},
		"the key before": {sent, at.Add(4 * time.Minute), []payloads.PublicKey{old.Public()}, [2]payloads.Problem{}},
		"a stranger's":   {sent, at, []payloads.PublicKey{stranger}, [2]payloads.Problem{no, no}},
		"no key":         {sent, at, nil, [2]payloads.Problem{payloads.NoSecret, payloads.NoSecret}},
		"a zero key":     {sent, at, []payloads.PublicKey{{}}, [2]payloads.Problem{no, no}},
		"too old":        {sent, at.Add(6 * time.Minute), []payloads.PublicKey{key.Public()}, [2]payloads.Problem{payloads.TooOld, payloads.TooOld}},
		"too new":        {sent, at.Add(-6 * time.Minute), []payloads.PublicKey{key.Public()}, [2]payloads.Problem{payloads.TooNew, payloads.TooNew}},
		"another body":   {with(func(m *payloads.HTTPMessage) { m.Body = []byte("{}") }), at, []payloads.PublicKey{key.Public()}, [2]payloads.Problem{no, payloads.BodyChanged}},
		"another body with its digest": {
			with(func(m *payloads.HTTPMessage) {
				sum := sha256.Sum256([]byte("{}"))
				m.Body = []byte("{}")
				m.Header.Set(payloads.HeaderContentDigest, "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":")
			}),
			at,
			[]payloads.PublicKey{key.Public()},
			[2]payloads.Problem{no, no},
		},
		"another attribute":  {set("Ce-Type", "a.c"), at, []payloads.PublicKey{key.Public()}, [2]payloads.Problem{"", no}},
		"an attribute more":  {set("Ce-Dataref", "https://stranger.example"), at, []payloads.PublicKey{key.Public()}, [2]payloads.Problem{"", no}},
		"an attribute fewer": {with(func(m *payloads.HTTPMessage) { m.Header.Del("Ce-Type") }), at, []payloads.PublicKey{key.Public()}, [2]payloads.Problem{"", no}},
		"another id":         {set(payloads.HeaderID, "dlv_2"), at, []payloads.PublicKey{key.Public()}, [2]payloads.Problem{no, no}},
		"another type":       {set("Content-Type", "text/html"), at, []payloads.PublicKey{key.Public()}, [2]payloads.Problem{"", no}},
		"another method":     {with(func(m *payloads.HTTPMessage) { m.Method = "PUT" }), at, []payloads.PublicKey{key.Public()}, [2]payloads.Problem{"", no}},
		"another query":      {with(func(m *payloads.HTTPMessage) { m.URL = "https://partner.example/hook?a=c" }), at, []payloads.PublicKey{key.Public()}, [2]payloads.Problem{"", no}},
		"signed by v1":       {set(payloads.HeaderSignature, vectorSignature), at, []payloads.PublicKey{key.Public()}, [2]payloads.Problem{payloads.NoSignature, ""}},
		"no message sig.":    {with(func(m *payloads.HTTPMessage) { m.Header.Del("Signature-Input") }), at, []payloads.PublicKey{key.Public()}, [2]payloads.Problem{"", payloads.MissingHeader}},
		"fewer parts": {
			set("Signature-Input", strings.ReplaceAll(sent.Header.Get("Signature-Input"), ` "webhook-id"`, "")), at,
			[]payloads.PublicKey{key.Public()},
			[2]payloads.Problem{"", payloads.NoSignature},
		},
	} {
		if got := both(c.m, c.now, c.keys...); got != c.want {
			t.Errorf("%s: %q, want %q", what, got, c.want)
		}
	}
	if err := payloads.DiagnoseEd25519(sent.Header, []byte(vectorBody+"\n"), at, key.Public()); problem(err) != payloads.BodyChanged {
		t.Errorf("a line break more: %v", err)
	}
	if !strings.HasPrefix(sent.Header.Get("Webhook-Signature"), "v1a,") {
		t.Errorf("signed as %s", sent.Header.Get("Webhook-Signature"))
	}
}

func TestKeysRefuseToSign(t *testing.T) {
	at, key := time.Unix(vectorTime, 0), payloads.NewSigningKey()
	for what, err := range map[string]error{
		"no key":        second(payloads.SignEd25519("dlv_1", at, nil)),
		"a zero key":    second(payloads.SignEd25519("dlv_1", at, nil, payloads.SigningKey{})),
		"a dot":         second(payloads.SignEd25519("dlv.1", at, nil, key)),
		"before 1970":   payloads.HTTPMessage{Header: http.Header{}}.Sign(time.Unix(-1, 0), key),
		"no key at all": payloads.HTTPMessage{Header: http.Header{}}.Sign(at),
		"no header":     payloads.HTTPMessage{Method: "POST", URL: "https://partner.example", Header: http.Header{}}.Sign(at, key),
		"no URL":        payloads.HTTPMessage{Method: "POST", URL: "/secret", Header: http.Header{"Content-Type": {"a/b"}, "Webhook-Id": {"dlv_1"}}}.Sign(at, key),
	} {
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func second(_ string, err error) error { return err }

// TestNodeVerifiesKeys: jose reads the set of keys, Node's crypto verifies v1a by them, and http-message-signatures the message signatures.
func TestNodeVerifiesKeys(t *testing.T) {
	t.Parallel()
	now := time.Now()
	old, key, stranger := payloads.NewSigningKey(), payloads.NewSigningKey(), payloads.NewSigningKey()
	type request struct {
		JWKS    payloads.JWKS     `json:"jwks"`
		Method  string            `json:"method"`
		URL     string            `json:"url"`
		Headers map[string]string `json:"headers"`
		Body    []byte            `json:"body"`
	}
	var cases []request
	var want []string
	add := func(m payloads.HTTPMessage, seenAt, wanted string, keys ...payloads.SigningKey) {
		r := request{JWKS: payloads.JWKS{}, Method: m.Method, URL: seenAt, Headers: map[string]string{}, Body: m.Body}
		for _, k := range keys {
			r.JWKS = append(r.JWKS, k.Public())
		}
		for name := range maps.Keys(m.Header) {
			r.Headers[strings.ToLower(name)] = m.Header.Get(name)
		}
		cases, want = append(cases, r), append(want, wanted)
	}
	for url, seenAt := range map[string]string{
		"https://partner.example/hook?a=b&c=%20d":    "https://partner.example/hook?a=b&c=%20d",
		"https://Partner.example:443":                "https://partner.example/",
		"http://partner.example:8080?x":              "http://partner.example:8080/?x",
		"https://xn--bcher-kva.example/a%2Fb/%C3%A9": "https://xn--bcher-kva.example/a%2Fb/%C3%A9",
		"https://partner.example/hook/?":             "https://partner.example/hook/?",
		"https://partner.example/{tenant}|^/hook":    "https://partner.example/{tenant}|^/hook",
	} {
		for _, body := range []string{"{}", `{"voucherEffect":"Nómina"}`, "a=b&c=d", "\x00\xff"} {
			add(signedBoth(t, url, body, now, key), seenAt, "standard", stranger, key)
		}
	}
	add(signedBoth(t, "https://partner.example/", "{}", now, old, key), "https://partner.example/", "standard", old, key)
	add(signedBoth(t, "https://partner.example/", "{}", now, key), "https://partner.example/", "", stranger)
	changed := signedBoth(t, "https://partner.example/", "{}", now, key)
	changed.Body = []byte("{ }")
	add(changed, "https://partner.example/", "", key)
	add(signedBoth(t, "https://partner.example/", "{}", now, key), "https://partner.example/other", "v1a only", key)

	var said []struct {
		KIDs, Standard bool
		Message        string
	}
	if err := json.Unmarshal(npmtest.Run(t, "verify-keys.mjs", cases, "jose@6.2.18", "http-message-signatures@1.0.6"), &said); err != nil {
		t.Fatal(err)
	}
	for i, s := range said {
		wantStandard, wantMessage := want[i] != "", want[i] == "standard"
		if !s.KIDs || s.Standard != wantStandard || (s.Message == "") != wantMessage {
			t.Errorf("%s %q: %+v, want %s", cases[i].URL, cases[i].Body, s, strconv.Quote(want[i]))
		}
	}
	if len(said) != len(cases) {
		t.Errorf("%d of %d judged", len(said), len(cases))
	}
}
