package payloads_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/payloads"
)

// The vector that GitHub publishes: https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
const (
	githubSecret    = "It's a Secret to Everybody"
	githubBody      = "Hello, World!"
	githubSignature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
)

func text(t testing.TB, s string) payloads.Secret {
	t.Helper()
	secret, err := payloads.ParseText(s)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

// in signs a message in a style.
func in(t testing.TB, style payloads.HeaderStyle, m payloads.Message, secrets ...payloads.Secret) http.Header {
	t.Helper()
	h := http.Header{}
	if err := style.Sign(h, m, secrets...); err != nil {
		t.Fatalf("%s: %v", style, err)
	}
	return h
}

// TestStylesSign: each style writes its own headers and no others, as published vectors have them.
func TestStylesSign(t *testing.T) {
	vector := payloads.Message{ID: vectorID, EventType: "payment_proof", At: time.Unix(vectorTime, 0), Body: []byte(vectorBody)}
	hello := payloads.Message{ID: "dlv_1", EventType: "payment_proof", At: time.Unix(vectorTime, 0), Body: []byte(githubBody)}
	stamp := fmt.Sprint(vectorTime)
	// echo -n 1614265330.Hello, World! | openssl dgst -sha256 -hmac "It's a Secret to Everybody"
	const stripeHex = "f37376a318b83773050e9e3ac8c6d599d2254e4f69edd75a1419cb54dc7264f3"
	tests := []struct {
		style  payloads.HeaderStyle
		m      payloads.Message
		secret string
		want   map[string]string
	}{
		{"", vector, vectorSecret, map[string]string{"Webhook-Timestamp": stamp, "Webhook-Signature": vectorSignature}},
		{payloads.StyleStandard, vector, vectorSecret, map[string]string{"Webhook-Timestamp": stamp, "Webhook-Signature": vectorSignature}},
		{payloads.StyleSvix, vector, vectorSecret, map[string]string{"Svix-Id": vectorID, "Svix-Timestamp": stamp, "Svix-Signature": vectorSignature}},
		{payloads.StyleGitHub, hello, githubSecret, map[string]string{"X-Hub-Signature-256": githubSignature, "X-Github-Delivery": "dlv_1", "X-Github-Event": "payment_proof"}},
		{payloads.StyleStripe, hello, githubSecret, map[string]string{"Stripe-Signature": "t=" + stamp + ",v1=" + stripeHex}},
	}
	for _, tt := range tests {
		h := in(t, tt.style, tt.m, text(t, tt.secret))
		tt.want["Webhook-Id"] = tt.m.ID
		for name, want := range tt.want {
			if got := h.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", tt.style, name, got, want)
			}
		}
		if len(h) != len(tt.want) {
			t.Errorf("%s: the headers are %v", tt.style, h)
		}
		for _, name := range tt.style.Headers() {
			if h.Get(name) == "" || name != http.CanonicalHeaderKey(name) {
				t.Errorf("%s does not set %s", tt.style, name)
			}
		}
		if of := payloads.StyleOf(h); of != tt.style && tt.style != "" {
			t.Errorf("%s is taken for %s", tt.style, of)
		}
	}
}

// TestStylesVerify: in each style a request verifies as it was signed, with any of the secrets that sign, and not otherwise.
func TestStylesVerify(t *testing.T) {
	now := time.Unix(vectorTime, 0)
	m := payloads.Message{ID: "dlv_1", EventType: "payment_proof", At: now, Body: []byte(vectorBody)}
	first, second, other := parse(t, vectorSecret), payloads.NewSecret(), payloads.NewSecret()
	for _, style := range payloads.HeaderStyles() {
		h := in(t, style, m, first, second)
		check := func(what string, h http.Header, body string, at time.Time, secret payloads.Secret, want payloads.Problem) {
			t.Helper()
			if got := problem(style.Verify(h, []byte(body), at, secret)); got != want {
				t.Errorf("%s, %s: %q, want %q", style, what, got, want)
			}
		}
		with := func(name, value string) http.Header {
			changed := h.Clone()
			changed.Set(name, value)
			return changed
		}
		check("as signed", h, vectorBody, now, first, "")
		again := map[int]payloads.Problem{0: "", 1: payloads.NoMatch}[style.Signatures()]
		check("by the second secret", h, vectorBody, now, second, again)
		check("another secret", h, vectorBody, now, other, payloads.NoMatch)
		check("another body", h, vectorBody+" ", now, first, payloads.NoMatch)
		check("no headers", http.Header{}, vectorBody, now, first, payloads.MissingHeader)
		check("no secret", h, vectorBody, now, payloads.Secret{}, payloads.NoSecret)
		check("no signature", with(style.SignatureHeader(), "t=1,x"), vectorBody, now, first, payloads.NoSignature)
		if late := now.Add(6 * time.Minute); style != payloads.StyleGitHub {
			check("late", h, vectorBody, late, first, payloads.TooOld)
			check("early", h, vectorBody, now.Add(-6*time.Minute), first, payloads.TooNew)
		} else {
			check("late", h, vectorBody, late, first, "") // no time is signed
		}
		if style == payloads.StyleStripe {
			check("another time", with("Stripe-Signature", strings.Replace(h.Get("Stripe-Signature"), "t=1", "t=2", 1)), vectorBody, now, first, payloads.NoMatch)
			check("no time", with("Stripe-Signature", "v1=00"), vectorBody, now, first, payloads.BadTimestamp)
		}
		pretty := strings.ReplaceAll(vectorBody, ":", ":  ")
		compactly := in(t, style, payloads.Message{ID: m.ID, At: now, Body: []byte(`{"test":2432232314}`)}, first)
		if got := problem(style.Diagnose(compactly, []byte(pretty), now, first)); got != payloads.BodyChanged {
			t.Errorf("%s, a body that was written anew: %q", style, got)
		}
	}
}

// TestTextsAreKeys: the styles that take text use all of it, its prefix included; the others refuse what is no base64.
func TestTextsAreKeys(t *testing.T) {
	m := payloads.Message{ID: "dlv_1", At: time.Unix(vectorTime, 0), Body: []byte(vectorBody)}
	for _, style := range payloads.HeaderStyles() {
		plain := text(t, githubSecret)
		err := style.Sign(http.Header{}, m, plain)
		if style.Usable(plain) != style.TakesText() || (err == nil) != style.TakesText() || err != nil && strings.Contains(err.Error(), "Everybody") {
			t.Errorf("%s with a text: %v", style, err)
		}
		if style.TakesText() {
			continue
		}
		bare := strings.TrimPrefix(vectorSecret, "whsec_")
		if secret, err := style.ParseSecret(bare); err != nil || !secret.Equal(parse(t, vectorSecret)) {
			t.Errorf("%s: base64 without whsec_: %v", style, err)
		}
		if got := problem(style.Verify(in(t, style, m, parse(t, vectorSecret)), m.Body, m.At, plain)); got != payloads.NoSecret {
			t.Errorf("%s verifies with a text: %q", style, got)
		}
	}
	if a, b := text(t, vectorSecret), text(t, strings.TrimPrefix(vectorSecret, "whsec_")); a.Equal(b) || !a.Equal(parse(t, vectorSecret)) || b.Equal(text(t, githubSecret)) {
		t.Error("texts are taken for others")
	}
	if s := text(t, githubSecret); s.Reveal() != githubSecret || strings.Contains(fmt.Sprintf("%v %+v %#v %s %x %t", s, s, s, s, s, struct{ x payloads.Secret }{s}), "Secret to") {
		t.Error("a text shows itself, or is not kept")
	}
	for _, refused := range []string{"", "fifteen letters", strings.Repeat("x", 257), "sixteen letters \xff", "sixteen letters and \ufffd", " sixteen letters and", "sixteen letters and\n", "sixteen\nletters and"} {
		if _, err := payloads.ParseText(refused); err == nil || refused != "" && strings.Contains(err.Error(), refused) {
			t.Errorf("%q: %v", refused, err)
		}
	}
	for _, bad := range []payloads.Message{{At: m.At}, {ID: "dlv_1", At: time.Unix(-1, 0)}} {
		for _, style := range payloads.HeaderStyles() {
			if style.Sign(http.Header{}, bad, parse(t, vectorSecret)) == nil || style.Sign(http.Header{}, m) == nil || style.Sign(http.Header{}, m, payloads.Secret{}) == nil {
				t.Errorf("%s signs what it should refuse", style)
			}
		}
	}
}
