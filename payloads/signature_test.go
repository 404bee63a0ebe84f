package payloads_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/ringback/ringback/payloads"
)

// The vector the Standard Webhooks reference libraries publish and test against.
const (
	vectorSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	vectorID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorTime      = 1614265330
	vectorBody      = `{"test": 2432232314}`
	vectorSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

func parse(t testing.TB, s string) payloads.Secret {
	t.Helper()
	secret, err := payloads.ParseSecret(s)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func signed(id string, at int64, signature string) http.Header {
	return http.Header{
		payloads.HeaderID:        {id},
		payloads.HeaderTimestamp: {strconv.FormatInt(at, 10)},
		payloads.HeaderSignature: {signature},
	}
}

func problem(err error) payloads.Problem {
	if e, ok := errors.AsType[*payloads.VerifyError](err); ok {
		return e.Problem
	}
	return ""
}

func TestHeaderNamesAreCanonical(t *testing.T) {
	for _, name := range []string{payloads.HeaderID, payloads.HeaderTimestamp, payloads.HeaderSignature} {
		if name != http.CanonicalHeaderKey(name) {
			t.Errorf("%s is not what net/http looks up", name)
		}
	}
}

func TestPublishedVector(t *testing.T) {
	at := time.Unix(vectorTime, 0)
	secret := parse(t, vectorSecret)
	got, err := payloads.Sign(vectorID, at, []byte(vectorBody), secret)
	if err != nil || got != vectorSignature {
		t.Errorf("Sign: %s (%v), want %s", got, err, vectorSignature)
	}
	if err := payloads.Verify(signed(vectorID, vectorTime, vectorSignature), []byte(vectorBody), at, secret); err != nil {
		t.Errorf("Verify: %v", err)
	}
}

// Every receiver with a reference library must accept us, and we it.
func TestCrossVerification(t *testing.T) {
	now := time.Now() // the reference library has a clock of its own
	bodies := []string{"", "{}", vectorBody, `{"voucherEffect":"Nómina"}`, "a=b&c=d", "line\r\nline\n", "\x00\xff", strings.Repeat("x", 1<<20)}
	for range 8 {
		secret := payloads.NewSecret()
		reference, err := standardwebhooks.NewWebhook(secret.Reveal())
		if err != nil {
			t.Fatal(err)
		}
		for _, body := range bodies {
			ours, err := payloads.Sign("dlv_1", now, []byte(body), payloads.NewSecret(), secret)
			if err != nil {
				t.Fatal(err)
			}
			if err := reference.Verify([]byte(body), signed("dlv_1", now.Unix(), ours)); err != nil {
				t.Errorf("%.20q: the reference refuses ours: %v", body, err)
			}
			theirs, err := reference.Sign("dlv_1", now, []byte(body))
			if err != nil {
				t.Fatal(err)
			}
			if err := payloads.Verify(signed("dlv_1", now.Unix(), theirs), []byte(body), now, payloads.NewSecret(), secret); err != nil {
				t.Errorf("%.20q: we refuse the reference's: %v", body, err)
			}
			tampered := body + " "
			if reference.Verify([]byte(tampered), signed("dlv_1", now.Unix(), ours)) == nil || payloads.Verify(signed("dlv_1", now.Unix(), theirs), []byte(tampered), now, secret) == nil {
				t.Errorf("%.20q: a changed body verifies", body)
			}
		}
	}
}

func TestSignSeveralSecretsInOrder(t *testing.T) {
	fresh, old := payloads.NewSecret(), parse(t, vectorSecret)
	at := time.Unix(vectorTime, 999_999_999) // fractions of a second do not count
	got, err := payloads.Sign(vectorID, at, []byte(vectorBody), fresh, old)
	if err != nil {
		t.Fatal(err)
	}
	first, second, _ := strings.Cut(got, " ")
	if second != vectorSignature || !strings.HasPrefix(first, "v1,") || strings.Contains(second, " ") {
		t.Errorf("signatures %q", got)
	}
	for what, secret := range map[string]payloads.Secret{"fresh": fresh, "old": old} {
		if err := payloads.Verify(signed(vectorID, vectorTime, got), []byte(vectorBody), at, secret); err != nil {
			t.Errorf("with the %s secret: %v", what, err)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	secret, at := parse(t, vectorSecret), time.Unix(vectorTime, 0)
	tests := []struct {
		what    string
		id      string
		at      time.Time
		secrets []payloads.Secret
		words   string
	}{
		{"an empty id", "", at, []payloads.Secret{secret}, "empty"},
		{"an id with a dot", "msg_1.1", at, []payloads.Secret{secret}, "'.'"},
		{"no secret", "msg_1", at, nil, "no secret"},
		{"a zero secret", "msg_1", at, []payloads.Secret{secret, {}}, "secret 2 of 2"},
		{"no time", "msg_1", time.Time{}, []payloads.Secret{secret}, "1970"},
	}
	for _, tt := range tests {
		got, err := payloads.Sign(tt.id, tt.at, nil, tt.secrets...)
		if err == nil || got != "" || !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%s: %q, %v", tt.what, got, err)
		}
	}
}

func TestVerify(t *testing.T) {
	const other = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=" // of the reference tests: matches nothing
	secret := parse(t, vectorSecret)
	set := func(name, value string) func(http.Header) {
		return func(h http.Header) { h.Set(name, value) }
	}
	tests := []struct {
		what   string
		change func(http.Header)
		skew   time.Duration
		body   string
		want   payloads.Problem
	}{
		{what: "as signed"},
		{what: "no id", change: set(payloads.HeaderID, ""), want: payloads.MissingHeader},
		{what: "no timestamp", change: func(h http.Header) { h.Del(payloads.HeaderTimestamp) }, want: payloads.MissingHeader},
		{what: "no signature", change: func(h http.Header) { h.Del(payloads.HeaderSignature) }, want: payloads.MissingHeader},
		{what: "another id", change: set(payloads.HeaderID, "msg_2"), want: payloads.NoMatch},
		{what: "an id with a dot", change: set(payloads.HeaderID, "msg_1.1"), want: payloads.BadID},
		{what: "another timestamp", change: set(payloads.HeaderTimestamp, "1614265331"), want: payloads.NoMatch},
		{what: "another body", body: `{"test":2432232314}`, want: payloads.NoMatch},
		{what: "a date for a timestamp", change: set(payloads.HeaderTimestamp, "2021-02-25T15:02:10Z"), want: payloads.BadTimestamp},
		{what: "a negative timestamp", change: set(payloads.HeaderTimestamp, "-1614265330"), want: payloads.BadTimestamp},
		{what: "a timestamp with a sign", change: set(payloads.HeaderTimestamp, "+1614265330"), want: payloads.BadTimestamp},
		{what: "a fraction", change: set(payloads.HeaderTimestamp, "1614265330.5"), want: payloads.BadTimestamp},
		{what: "an absurd timestamp", change: set(payloads.HeaderTimestamp, "9223372036854775807"), want: payloads.BadTimestamp},
		{what: "another signature", change: set(payloads.HeaderSignature, other), want: payloads.NoMatch},
		{what: "an empty signature", change: set(payloads.HeaderSignature, "v1,"), want: payloads.NoMatch},
		{what: "a cut signature", change: set(payloads.HeaderSignature, vectorSignature[:20]), want: payloads.NoMatch},
		{what: "another version", change: set(payloads.HeaderSignature, strings.Replace(vectorSignature, "v1", "v2", 1)), want: payloads.NoSignature},
		{what: "only an asymmetric signature", change: set(payloads.HeaderSignature, "v1a,xxxx"), want: payloads.NoSignature},
		{what: "no version", change: set(payloads.HeaderSignature, vectorSignature[3:]), want: payloads.NoSignature},
		{what: "one of several", change: set(payloads.HeaderSignature, other+" v2,abc nonsense v1a,xxxx "+vectorSignature+" "+other)},
		{what: "several header lines", change: func(h http.Header) { h[payloads.HeaderSignature] = []string{other, vectorSignature} }},
		{what: "5 min old", skew: 5 * time.Minute},
		{what: "a moment older", skew: 5*time.Minute + 1, want: payloads.TooOld},
		{what: "5 min ahead", skew: -5 * time.Minute},
		{what: "a moment further ahead", skew: -5*time.Minute - 1, want: payloads.TooNew},
		{what: "old and wrong", skew: time.Hour, body: "x", want: payloads.NoMatch},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			h := signed(vectorID, vectorTime, vectorSignature)
			if tt.change != nil {
				tt.change(h)
			}
			body := vectorBody
			if tt.body != "" {
				body = tt.body
			}
			err := payloads.Verify(h, []byte(body), time.Unix(vectorTime, 0).Add(tt.skew), secret)
			if problem(err) != tt.want || (err == nil) != (tt.want == "") {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestVerifySecrets(t *testing.T) {
	secret, at := parse(t, vectorSecret), time.Unix(vectorTime, 0)
	h := signed(vectorID, vectorTime, vectorSignature)
	tests := []struct {
		what    string
		secrets []payloads.Secret
		want    payloads.Problem
	}{
		{"none", nil, payloads.NoSecret},
		{"a zero one", []payloads.Secret{{}}, payloads.NoSecret},
		{"the wrong one", []payloads.Secret{payloads.NewSecret()}, payloads.NoMatch},
		{"the right one first", []payloads.Secret{secret, payloads.NewSecret()}, ""},
		{"the right one last", []payloads.Secret{{}, payloads.NewSecret(), secret}, ""},
	}
	for _, tt := range tests {
		if err := payloads.Verify(h, []byte(vectorBody), at, tt.secrets...); problem(err) != tt.want || (err == nil) != (tt.want == "") {
			t.Errorf("%s: %v, want %q", tt.what, err, tt.want)
		}
	}
}

// With a dot in the id, one signature could stand for two requests.
func TestSignaturesCannotBeMovedBetweenRequests(t *testing.T) {
	secret := parse(t, vectorSecret)
	genuine, err := payloads.Sign("msg_1", time.Unix(1, 0), []byte("5.x"), secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := payloads.Verify(signed("msg_1.1", 5, genuine), []byte("x"), time.Unix(5, 0), secret); problem(err) != payloads.BadID {
		t.Errorf("got %v, want %s", err, payloads.BadID)
	}
}

func TestVerifyMessagesSayWhatToDo(t *testing.T) {
	secret := parse(t, vectorSecret)
	h := signed(vectorID, vectorTime, vectorSignature)
	for skew, words := range map[time.Duration]string{
		7 * time.Minute:                 "7 min old (at most 5 min)",
		-7 * time.Minute:                "7 min ahead of this machine's clock",
		6*time.Minute + 30*time.Second:  "6m30s old",
		3 * time.Hour:                   "3 h old",
		72*time.Hour + 29*time.Minute:   "3 days old",
		-(90*time.Minute + time.Second): "90 min ahead",
	} {
		err := payloads.Verify(h, []byte(vectorBody), time.Unix(vectorTime, 0).Add(skew), secret)
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("skew %s: %v\nwant %q in it", skew, err, words)
		}
	}
	err := payloads.Verify(h, []byte("x"), time.Unix(vectorTime, 0), secret)
	if strings.Contains(err.Error(), secret.Reveal()[6:]) || strings.Contains(err.Error(), vectorSignature[3:]) {
		t.Errorf("the message gives away the secret or a signature: %v", err)
	}
}

func TestDiagnoseFindsARewrittenBody(t *testing.T) {
	secret, at := parse(t, vectorSecret), time.Unix(vectorTime, 0)
	tests := []struct{ what, sent, received, words string }{
		{"a line break added", `{"a":1}`, "{\"a\":1}\n", "without the line break"},
		{"a line break lost", "{\"a\":1}\n", `{"a":1}`, "with a line break"},
		{"pretty-printed", `{"b":1,"a":"é"}`, "{\n  \"b\": 1,\n  \"a\": \"é\"\n}", "compact JSON"},
		{"reordered", `{"a":1.0,"b":"<"}`, `{"b":"<","a":1.0}`, "members sorted"},
		{"line breaks to Unix", "{\r\n}", "{\n}", `\r\n`},
		{"line breaks to DOS", "{\n}", "{\r\n}", `\n for its`},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			signature, err := payloads.Sign(vectorID, at, []byte(tt.sent), secret)
			if err != nil {
				t.Fatal(err)
			}
			h := signed(vectorID, vectorTime, signature)
			if err := payloads.Diagnose(h, []byte(tt.sent), at, secret); err != nil {
				t.Errorf("unchanged: %v", err)
			}
			if err := payloads.Verify(h, []byte(tt.received), at, secret); problem(err) != payloads.NoMatch {
				t.Errorf("Verify: %v", err)
			}
			err = payloads.Diagnose(h, []byte(tt.received), at, secret)
			if problem(err) != payloads.BodyChanged || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("Diagnose: %v, want %q in it", err, tt.words)
			}
		})
	}
	h := signed(vectorID, vectorTime, vectorSignature)
	if err := payloads.Diagnose(h, []byte("quite another"), at, secret); problem(err) != payloads.NoMatch {
		t.Errorf("another body: %v", err)
	}
	if err := payloads.Diagnose(h, []byte(vectorBody), at.Add(time.Hour), secret); problem(err) != payloads.TooOld {
		t.Errorf("an old request: %v", err)
	}
	if err := payloads.Diagnose(http.Header{}, nil, at, secret); problem(err) != payloads.MissingHeader {
		t.Errorf("no headers: %v", err)
	}
}

func TestParseSecret(t *testing.T) {
	encode := func(n int) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xfb}, n)) }
	tests := []struct{ what, s, words string }{
		{"24 bytes", "whsec_" + encode(24), ""},
		{"25 bytes, padded", "whsec_" + encode(25), ""},
		{"64 bytes", "whsec_" + encode(64), ""},
		{"23 bytes", "whsec_" + encode(23), "24 to 64 bytes, this one 23"},
		{"65 bytes", "whsec_" + encode(65), "24 to 64 bytes, this one 65"},
		{"one byte", "whsec_" + encode(1), "24 to 64"},
		{"nothing", "", "begins with whsec_"},
		{"the prefix alone", "whsec_", "this one 0"},
		{"no prefix", encode(32), "begins with whsec_"},
		{"a redacted one", "whsec_***", "not base64"},
		{"no padding", "whsec_" + strings.TrimRight(encode(25), "="), "not base64"},
		{"URL alphabet", "whsec_" + base64.URLEncoding.EncodeToString(bytes.Repeat([]byte{0xfb}, 24)), "not base64"},
		{"a line break after", "whsec_" + encode(24) + "\n", "ends in a space or line break"},
		{"a space after", "whsec_" + encode(24) + " ", "ends in a space or line break"},
		{"a line break inside", "whsec_" + encode(24)[:8] + "\n" + encode(24)[8:], "not base64"},
		{"loose bits at the end", "whsec_" + strings.Replace(encode(25), "+w==", "+x==", 1), "not base64"},
		{"an asymmetric private key", "whsk_" + encode(32), "v1a"},
		{"an asymmetric public key", "whpk_" + encode(32), "v1a"},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			secret, err := payloads.ParseSecret(tt.s)
			if tt.words == "" {
				if err != nil || secret.Reveal() != tt.s {
					t.Fatalf("%v", err)
				}
				return
			}
			if err == nil || !secret.IsZero() || !strings.Contains(err.Error(), tt.words) {
				t.Fatalf("accepted or the wrong words: %v", err)
			}
			if _, key, ok := strings.Cut(tt.s, "_"); ok && len(key) > 3 && strings.Contains(err.Error(), strings.TrimSpace(key)) {
				t.Errorf("the error repeats the secret: %v", err)
			}
		})
	}
}

func TestNewSecret(t *testing.T) {
	a, b := payloads.NewSecret(), payloads.NewSecret()
	if a.Equal(b) || a.IsZero() {
		t.Error("two new secrets are the same, or none")
	}
	if again := parse(t, a.Reveal()); !again.Equal(a) || len(a.Reveal()) != len("whsec_")+44 {
		t.Error("a new secret does not survive Reveal and ParseSecret")
	}
	var zero payloads.Secret
	if !zero.IsZero() || zero.Reveal() != "" || zero.Equal(a) || a.Equal(zero) || !zero.Equal(payloads.Secret{}) {
		t.Error("the zero secret")
	}
}

func TestSecretNeverShowsItself(t *testing.T) {
	secret := parse(t, vectorSecret)
	inside := struct{ hidden payloads.Secret }{secret}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%T", "%p", "%20s", "%t"} {
		fmt.Fprintf(&out, verb+"\n", secret)
		fmt.Fprintf(&out, verb+"\n", &secret)
		fmt.Fprintf(&out, verb+"\n", inside)
		fmt.Fprintf(&out, verb+"\n", &inside)
		fmt.Fprintf(&out, verb+"\n", []payloads.Secret{secret})
	}
	fmt.Fprintln(&out, secret, errors.New(secret.String()))
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).InfoContext(t.Context(), "x", "secret", secret, "pointer", &secret, "inside", inside, "list", []payloads.Secret{secret})
	}
	encoded, err := json.Marshal(map[string]any{"secret": secret, "list": []*payloads.Secret{&secret}})
	if err != nil || !strings.Contains(string(encoded), `"whsec_***"`) {
		t.Errorf("JSON %s, error %v", encoded, err)
	}
	out.Write(encoded)

	key, _ := base64.StdEncoding.DecodeString(vectorSecret[6:])
	for what, form := range map[string]string{
		"base64": vectorSecret[6:], "raw": string(key), "hex": fmt.Sprintf("%x", key), "HEX": fmt.Sprintf("%X", key),
		"bytes": strings.Trim(fmt.Sprintf("%v", key), "[]"), "literal": strings.Trim(fmt.Sprintf("%#v", key), "[]byte{}"),
	} {
		if strings.Contains(out.String(), form) {
			t.Errorf("the secret shows, as %s", what)
		}
	}
}

func ExampleSign() {
	secret, err := payloads.ParseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		fmt.Println(err)
		return
	}
	signature, err := payloads.Sign("dlv_1", time.Unix(1731234567, 0), []byte(`{"status": "OK"}`), secret)
	fmt.Println(signature, err)
	// Output: v1,+yfUKqEtNR7SWVD9VbrPDZisg3RtBnHUvsMkbn2AA4Q= <nil>
}

func ExampleVerify() {
	secret := payloads.NewSecret() // the callback's, as registration answered it
	body := []byte(`{"status": "OK"}`)
	now := time.Now()

	signature, _ := payloads.Sign("dlv_1", now, body, secret)
	h := http.Header{}
	h.Set(payloads.HeaderID, "dlv_1")
	h.Set(payloads.HeaderTimestamp, strconv.FormatInt(now.Unix(), 10))
	h.Set(payloads.HeaderSignature, signature)

	fmt.Println(payloads.Verify(h, body, now, secret))
	fmt.Println(payloads.Verify(h, body, now.Add(7*time.Minute).Truncate(time.Second), secret) != nil)
	// Output:
	// <nil>
	// true
}

func ExampleDiagnose() {
	secret := payloads.NewSecret()
	at := time.Unix(1731234567, 0)
	signature, _ := payloads.Sign("dlv_1", at, []byte(`{"status":"OK"}`), secret)
	h := http.Header{}
	h.Set(payloads.HeaderID, "dlv_1")
	h.Set(payloads.HeaderTimestamp, "1731234567")
	h.Set(payloads.HeaderSignature, signature)

	rewritten := []byte("{\n  \"status\": \"OK\"\n}")
	fmt.Println(payloads.Diagnose(h, rewritten, at, secret))
	// Output: the body was changed before it was verified: it would match as compact JSON (something pretty-printed it); verify the bytes as they arrived, before any parser or middleware
}

func ExampleSecret() {
	secret, _ := payloads.ParseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	fmt.Println(secret)
	fmt.Println(secret.Reveal())
	// Output:
	// whsec_***
	// whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw
}
