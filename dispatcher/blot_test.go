package dispatcher

import (
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"strings"
	"testing"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/registry"
)

func TestSecretsOfACallbackAreBlottedOut(t *testing.T) {
	secrets := secretsOf(&registry.Callback{
		Destination: registry.Destination{URL: "https://partner.example/hook?mode=on&token=canary%2Fquery"},
		Headers:     map[string]string{"X-Key": "canary-header"},
		Auth:        &registry.Auth{Type: registry.AuthBasic, Username: "user", Password: "canary-password"},
	}, "")
	said := "canary-header canary-password dXNlcjpjYW5hcnktcGFzc3dvcmQ= mode=on&token=canary%2Fquery canary%2Fquery canary/query"
	if got := secrets.Replace(said); got != "*** *** *** *** *** ***" {
		t.Errorf("kept: %s", got)
	}
}

// TestSecretsAreBlottedOutHoweverTheyAreWritten: endpoints echo in JSON of many makes, in HTML, and in URLs.
func TestSecretsAreBlottedOutHoweverTheyAreWritten(t *testing.T) {
	const secret = `ab/+&"<'>\\=% é€😀z`
	quoted, _ := json.Marshal(secret)
	twice, _ := json.Marshal(string(quoted))
	quotedTwice, _ := json.Marshal(string(twice))
	for _, said := range []string{
		secret, string(quoted), string(twice), string(quotedTwice), strings.ReplaceAll(string(quoted), "/", `\/`), html.EscapeString(secret), url.QueryEscape(secret), url.PathEscape(secret),
		strings.ToLower(url.QueryEscape(secret)), url.QueryEscape(url.QueryEscape(secret)[:1]) + url.QueryEscape(secret)[1:],
		`"ab/\u002B\u0026\u0022\u003C\u0027\u003E\\=% \u00E9\u20AC\uD83D\uDE00z"`, `ab&#x2F;+&amp;&quot;&lt;&#x27;&gt;\\=% é€😀z`,
	} {
		got := blotter{secret}.Replace("before " + said + " after")
		if bare := strings.NewReplacer(`"`, "", `\`, "").Replace(got); bare != "before *** after" {
			t.Errorf("%s is kept as %s", said, got)
		}
	}
	for _, said := range []string{"", "a", `\`, `\u`, `\u00`, `\ud83d`, `\ud83d\u`, "%", "%2", "%zz", "&", "&amp", "&;", "ab", `a\`, "a%", "a&", "ab/+&\"<'>=% é€😀z"} {
		if got := (blotter{secret}).Replace(said); got != said {
			t.Errorf("%q becomes %q", said, got)
		}
	}
}

// TestTheBeginningOfASecretIsBlottedOut where the answer was cut off in it.
func TestTheBeginningOfASecretIsBlottedOut(t *testing.T) {
	secrets := secretsOf(&registry.Callback{Auth: &registry.Auth{
		Type: registry.AuthOAuth2, ClientID: "me", ClientSecret: "canary/secret",
	}}, "canary-access-token")
	for said, want := range map[string]string{
		"Bearer canary-access-token, Bearer canary-access-tok":       "Bearer ***, Bearer ***",
		"canary%2Fsecret canary/secret bWU6Y2FuYXJ5JTJGc2VjcmV0 can": "*** *** *** can",
		`{"got": "canary\/sec`: `{"got": "***`,
		`{"got": "canary\u00`:  `{"got": "***`,
		"canary%2":             "***",
		"no secret":            "no secret",
	} {
		if _, body := keepAnswer(&egress.Response{Body: []byte(said), Truncated: true}, secrets, DefaultKeepAnswerBytes); body != want {
			t.Errorf("%q is kept as %q", said, body)
		}
	}
	if _, body := keepAnswer(&egress.Response{Body: []byte("the canary")}, secrets, DefaultKeepAnswerBytes); body != "the canary" {
		t.Errorf("kept: %q", body)
	}
}

// TestADecisionKeepsItsForm: what a program reads is JSON before and after, and only strings with a long secret in them change.
func TestADecisionKeepsItsForm(t *testing.T) {
	b := blotter{"true", "hamburg", "12345678", `canary/"x`}
	for said, want := range map[string]string{
		`{"accepted": true, "shop" : "hamburg", "n": 12345678, "e": "\u00e9\/"}`: `{"accepted": true, "shop" : "hamburg", "n": 12345678, "e": "\u00e9\/"}`,
		`["canary\/\"x", {"canary/\u0022x": "a 12345678"}]`:                      `["***", {"***": "a ***"}]`,
		`"\\"`: `"\\"`, `""`: `""`, `null`: `null`, ` 1 `: ` 1 `,
	} {
		if got := string(b.ReplaceJSON([]byte(said))); got != want || !json.Valid([]byte(got)) {
			t.Errorf("%s becomes %s", said, got)
		}
	}
}

// TestBlottingIsBounded: however many secrets a callback has, looking for them takes no more than the length of the text allows. What was not
// looked at is blotted out.
func TestBlottingIsBounded(t *testing.T) {
	var many blotter
	for i := range 180 {
		many = append(many, fmt.Sprintf("aaaaaaa%d", i))
	}
	text := strings.Repeat("a", 16<<10)
	if got := many.Replace(text); len(got) > len(text)/10 || !strings.HasSuffix(got, "***") {
		t.Errorf("%d bytes of %d were looked at", len(got), len(text))
	}
	others := strings.Repeat("b", 16<<10)
	if got := many[:60].Replace(others); got != others {
		t.Errorf("of a text without secrets are left %d bytes", len(got))
	}
}

// TestBlottingEnds, also where a partner made its secret and its answer such that they could match in very many ways: what was not looked at is
// blotted out.
func TestBlottingEnds(t *testing.T) {
	for secret, said := range map[string]string{
		strings.Repeat("%25", 1000) + "x": "before " + strings.Repeat("%25", 20_000), strings.Repeat(`\`, 3000) + "x": "before " + strings.Repeat(`\`, 60_000),
		strings.Repeat("&amp;", 800) + "x": "before " + strings.Repeat("&amp;", 12_000), strings.Repeat("a", 4000) + "x": "before " + strings.Repeat("a", 60_000),
	} {
		steps := 1000
		if n := written(said[len("before "):], secret, secret, false, &steps); n != 0 || steps < -len(secret) {
			t.Errorf("%.20s: %d bytes, %d steps", secret, n, steps)
		}
		got := blotter{secret}.Replace(said)
		if !strings.HasPrefix(got, "before ") || !strings.HasSuffix(got, "***") || len(got) > len(said)/2 {
			t.Errorf("%.20s becomes %.20s", said, got)
		}
	}
}
