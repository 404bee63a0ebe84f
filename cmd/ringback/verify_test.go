package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/payloads"
)

// TestVerifyLooksAtBothSignatures of a request that is signed by keys in both ways. Without its URL it says that it looked at one.
func TestVerifyLooksAtBothSignatures(t *testing.T) {
	t.Parallel()
	key, at, body := payloads.NewSigningKey(), time.Now(), []byte(`{"a":1}`)
	header := http.Header{payloads.HeaderID: {"dlv_1"}, "Content-Type": {"application/json"}, "Ce-Type": {"t.a"}, "Ce-Id": {"1"}}
	const url = "https://partner.example/hook?q=1"
	header.Set(payloads.HeaderTimestamp, strconv.FormatInt(at.Unix(), 10))
	v1a, err := payloads.SignEd25519("dlv_1", at, body, key)
	if err != nil {
		t.Fatal(err)
	}
	byMessage := header.Clone()
	if err := (payloads.HTTPMessage{Method: http.MethodPost, URL: url, Header: byMessage, Body: body}).Sign(at, key); err != nil {
		t.Fatal(err)
	}
	both := byMessage.Clone()
	both.Set(payloads.HeaderSignature, v1a)
	dir := t.TempDir()
	file := func(name, method string, h http.Header) string {
		var b strings.Builder
		b.WriteString(method + " /hook?q=1 HTTP/1.1\r\n")
		_ = h.Write(&b)
		b.WriteString("\r\n" + string(body))
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	set, err := payloads.JWKS{key.Public()}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(dir, "keys.json")
	if err := os.WriteFile(keys, set, 0o600); err != nil {
		t.Fatal(err)
	}
	changed := both.Clone()
	changed.Set("Ce-Type", "t.b")
	stripped := both.Clone()
	stripped.Del(payloads.HeaderSignatureInput)
	for _, tt := range []struct {
		name, method string
		header       http.Header
		args         []string
		want         string
	}{
		{"both", "POST", both, []string{"--jwks", keys, "--url", url}, "verified: the signature is right"},
		{"both, whose URL is not said", "POST", both, []string{"--jwks", keys}, "its message signature (RFC 9421) was not looked at"},
		{"another header", "POST", changed, []string{"--jwks", keys, "--url", url}, "not verified: no message signature matches"},
		{"another method", "PUT", both, []string{"--jwks", keys, "--url", url}, "not verified: no message signature matches"},
		{"another URL", "POST", both, []string{"--jwks", keys, "--url", url + "2"}, "not verified: no message signature matches"},
		{"a header taken away", "POST", stripped, []string{"--jwks", keys, "--url", url}, "not verified: the header Signature-Input is missing"},
		{"by a message signature, and a secret", "POST", byMessage, []string{"--secret", payloads.NewSecret().Reveal()}, "not verified: no secret signs this request, a key does"},
		{"by keys, and a secret", "POST", both, []string{"--secret", payloads.NewSecret().Reveal()}, "not verified: no secret signs this request, a key does"},
	} {
		out, err := runVerify(t, append(tt.args, "--request", file("request", tt.method, tt.header))...)
		if said := out + err; !strings.Contains(said, tt.want) {
			t.Errorf("%s: %s", tt.name, said)
		}
	}
	// As registration takes it, a secret may come without whsec_.
	secret := payloads.NewSecret()
	signed := header.Clone()
	if err := payloads.StyleStandard.Sign(signed, payloads.Message{ID: "dlv_1", At: at, Body: body}, secret); err != nil {
		t.Fatal(err)
	}
	if out, err := runVerify(t, "--secret", strings.TrimPrefix(secret.Reveal(), "whsec_"), "--request", file("request", "POST", signed)); err != "" {
		t.Errorf("without whsec_: %s%s", out, err)
	}
}

// runVerify is what the command says, and the error that it ends with.
func runVerify(t *testing.T, args ...string) (out, failed string) {
	t.Helper()
	var said strings.Builder
	root := newCLI(strings.NewReader(""), &said, &said)
	if err := root.RunContext(t.Context(), arrange(root, append([]string{"ringback", "verify"}, args...))); err != nil {
		failed = err.Error()
	}
	return said.String(), failed
}
