package httpapi

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/ringback/ringback/payloads/npmtest"
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

// A migrant is a receiver that is there already: it has a library and a secret.
type migrant struct{ path, style, library, secret, next string }

// TestReceiversGoOn: a receiver that was built with the library of another sender, and has that sender's secret, verifies the first delivery
// unchanged, also while its secret is rotated, and refuses another body.
func TestReceiversGoOn(t *testing.T) {
	const base64Secret, stripeSecret, githubSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_5WbX5kEWLlfzsGNjH64I8lOOqUB6e8FH-old", "It's a Secret to Everybody"
	migrants := []migrant{
		{"/standard", "standard", "standardwebhooks", base64Secret, ""},
		{"/bare", "standard", "standardwebhooks", strings.TrimPrefix(base64Secret, "whsec_"), ""},
		{"/svix", "svix", "svix", base64Secret, ""},
		{"/svix-rotated", "svix", "svix", base64Secret, "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"},
		{"/stripe", "stripe", "stripe", stripeSecret, ""},
		{"/stripe-rotated", "stripe", "stripe", stripeSecret, "another text that is a secret"},
		{"/github", "github", "octokit", githubSecret, ""},
	}
	h := newHouse(t)
	type arrived struct {
		path   string
		header http.Header
		body   string
	}
	got := make(chan arrived, 100)
	partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- arrived{r.URL.Path, r.Header.Clone(), string(body)}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer partner.Close()
	for _, m := range migrants { // before there is a worker, which announces itself nowhere and would pass for one of a version before
		registration, err := json.Marshal(map[string]any{"callback_type": "payment_proof", "destination": map[string]string{"url": partner.URL + m.path}, "header_style": m.style, "secret": m.secret})
		h.must(err)
		at := h.call("partner", "POST", "/companies/acme/config/callbacks", string(registration)).want(http.StatusCreated).header.Get("Location")
		if m.next != "" {
			h.call("partner", "POST", at+"/secret", `{"secret":"`+m.next+`","overlap":"1h"}`).want(http.StatusOK)
		}
	}
	h.work()
	h.call("producer", "POST", "/companies/acme/events", `{"event_type":"payment_proof","event_id":"proof-1","payload":{ "requestId":"Nómina 😀 <&>", "status":"OK" }}`).want(http.StatusAccepted)

	var cases []map[string]any
	for range migrants {
		a := <-got
		m := migrants[slices.IndexFunc(migrants, func(m migrant) bool { return m.path == a.path })]
		headers := map[string]string{}
		for name := range a.header {
			headers[strings.ToLower(name)] = a.header.Get(name)
		}
		if id := headers["webhook-id"]; id == "" || headers["ringback-event-id"] != "proof-1" || headers["ringback-event-type"] != "payment_proof" || headers["ringback-attempt"] != "1" ||
			m.style == "github" && (headers["x-github-delivery"] != id || headers["x-github-event"] != "payment_proof") {
			t.Errorf("%s: the headers are %v", m.path, headers)
		}
		if (headers["webhook-signature"] != "") != (m.style == "standard") {
			t.Errorf("%s: Webhook-Signature is %q", m.path, headers["webhook-signature"])
		}
		secrets := []string{m.secret}
		if m.next != "" {
			secrets = append(secrets, m.next)
		}
		for _, secret := range secrets {
			cases = append(cases, map[string]any{"library": m.library, "secret": secret, "headers": headers, "body": a.body})
		}
	}
	var said []struct {
		AsSent  string `json:"as_sent"`
		Changed string `json:"changed"`
	}
	h.must(json.Unmarshal(npmtest.Run(t, "verifiers.mjs", cases, "svix@1.99.1", "standardwebhooks@1.1.1", "stripe@23.1.0", "@octokit/webhooks-methods@6.0.0"), &said))
	for i, s := range said {
		if s.AsSent != "" || s.Changed == "" {
			t.Errorf("%s with %v: as sent %q, with another body %q", cases[i]["library"], cases[i]["headers"], s.AsSent, s.Changed)
		}
	}
	if len(said) != len(cases) {
		t.Errorf("%d of %d were judged", len(said), len(cases))
	}
}
