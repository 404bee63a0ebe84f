package httpapi

import (
	"strings"
	"testing"
)

// TestSecretsOfYourOwn: an answer shows a secret that was made, once, and never one that was brought. What does not fit the style is 422 with a remedy.
func TestSecretsOfYourOwn(t *testing.T) {
	h := newHouse(t)
	const dest = `"callback_type":"*","destination":{"url":"http://127.0.0.1:9/"}`
	const own, next = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	create := func(more string) (string, answer) {
		a := h.call("partner", "POST", "/companies/acme/config/callbacks", "{"+dest+more+"}").want(201)
		return a.header.Get("Location"), a
	}
	path, created := create(`,"secret":"` + own + `"`)
	made, _ := create("")
	github, _ := create(`,"header_style":"github","secret":"It's a Secret to Everybody"`)
	for what, a := range map[string]answer{
		"created":              created,
		"a look":               h.call("partner", "GET", path, "").want(200),
		"a list":               h.call("partner", "GET", "/companies/acme/config/callbacks", "").want(200),
		"rotated":              h.call("partner", "POST", path+"/secret", `{"secret":"`+next+`","overlap":"1h"}`).want(200),
		"patched":              h.call("partner", "PATCH", path, `{"secret":"`+own+`"}`).want(200),
		"rotated at github":    h.call("partner", "POST", github+"/secret", `{"secret":"another Secret to Everybody","overlap":"0s"}`).want(200),
		"the trail":            h.call("operator", "GET", "/audit?company=acme", "").want(200),
		"without a secret":     h.call("partner", "PATCH", path, `{"secret":null}`).want(422),
		"an empty one":         h.call("partner", "POST", path+"/secret", `{"secret":""}`).want(422),
		"a text at standard":   h.call("partner", "POST", path+"/secret", `{"secret":"It's a Secret to Everybody"}`).want(422),
		"an overlap at github": h.call("partner", "POST", github+"/secret", `{"secret":"It's a Secret to Everybody"}`).want(422),
	} {
		for _, secret := range []string{own[6:], next[6:], "to Everybody"} {
			if strings.Contains(string(a.body), secret) {
				t.Errorf("%s: the answer shows a secret: %s", what, a.body)
			}
		}
		if says := map[string]string{"an overlap at github": `must be \"0s\"`, "a text at standard": "base64 of 24 to 64 bytes", "without a secret": "/secret make one"}[what]; !strings.Contains(string(a.body), says) {
			t.Errorf("%s: %s", what, a.body)
		}
	}
	for _, body := range []string{"", `{"secret":null}`} {
		if shown, _ := h.call("partner", "POST", made+"/secret", body).want(200).json()["secret"].(string); !strings.HasPrefix(shown, "whsec_") {
			t.Errorf("the secret that was made is not shown: %q", shown)
		}
	}
}
