package verdict

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"unicode/utf8"
)

// A Look says in a word what an answer's body looks like. No verdict depends on it: it makes the sentence about a failure a better one. It stands in
// records. Empty: nobody looked, or nothing can be said.
type Look string

// The looks.
const (
	LookEmpty      Look = "empty" // there is no body
	LookJSON       Look = "json"  // whole and valid JSON, an object or an array
	LookText       Look = "text"  // text without markup: "OK"
	LookPage       Look = "page"  // HTML
	LookLogin      Look = "login" // HTML that asks for a login
	LookCloudflare Look = "cloudflare"
	LookNginx      Look = "nginx"
	LookOpenResty  Look = "openresty"
	LookAWS        Look = "aws"
	LookApache     Look = "apache"
	LookHAProxy    Look = "haproxy"

	LookCertificateMissing Look = "certificate_missing" // nginx's page: it asked for a client certificate, and got none
	LookCertificateRefused Look = "certificate_refused" // nginx's page: it did not take the client certificate that it got
)

// wantsCertificate are what nginx says where it is about a client certificate: in the title of its own page of status 400, in lower case, and by
// statuses of its own, where an operator lets them out.
var wantsCertificate = []struct {
	status int
	title  string
	look   Look
}{
	{496, "<title>400 no required ssl certificate was sent</title>", LookCertificateMissing},
	{495, "<title>400 the ssl certificate error</title>", LookCertificateRefused},
}

// servers are those whose own pages are known: what people call them.
var servers = map[Look]string{
	LookCloudflare: "Cloudflare", LookNginx: "nginx", LookOpenResty: "OpenResty", LookAWS: "the AWS load balancer", LookApache: "Apache", LookHAProxy: "HAProxy",
}

// marks are what only these servers' own pages hold, in lower case.
var marks = []struct {
	text string
	look Look
}{
	{"<center>cloudflare</center>", LookCloudflare},
	{"| cloudflare</title>", LookCloudflare},
	{"cf-error-details", LookCloudflare},
	{"/cdn-cgi/challenge-platform/", LookCloudflare},
	{"<center>nginx", LookNginx},
	{"<center>openresty", LookOpenResty},
	{"<center>awselb", LookAWS},
	{"<address>apache", LookApache},
	{"no server is available to handle this request", LookHAProxy},
}

var (
	markup = regexp.MustCompile(`(?i)<(!doctype html|html|head|body|title|meta|script|form|center|h1|div|p)\b`)
	// loginWords stand in pages that ask for a login.
	loginWords = regexp.MustCompile(`(?i)type=["']?password|(sign|log)(ging)?[ -]?(in|on)\b|single sign|password`)
)

// LookOf says what an answer looks like, if the sentence about its status turns on that. body is the answer's beginning, and whole says that it is
// all of it.
func LookOf(status int, h http.Header, body []byte, whole bool) Look {
	for _, w := range wantsCertificate {
		if status == w.status || status == http.StatusBadRequest && strings.Contains(strings.ToLower(string(body)), w.title) {
			return w.look
		}
	}
	look := lookOf(h, body, whole)
	if status == http.StatusOK || status >= http.StatusBadRequest && servers[look] != "" {
		return look
	}
	return ""
}

func lookOf(h http.Header, body []byte, whole bool) Look {
	text := strings.ToLower(string(body))
	if h.Get("Cf-Mitigated") != "" {
		return LookCloudflare
	}
	switch {
	case len(body) == 0 && whole:
		return LookEmpty
	case len(body) == 0:
		return ""
	case markup.MatchString(text):
		for _, m := range marks {
			if strings.Contains(text, m.text) {
				return m.look
			}
		}
		if loginWords.MatchString(text) {
			return LookLogin
		}
		return LookPage
	case whole && strings.ContainsAny(text[:1], "{[") && json.Valid(body):
		return LookJSON
	case utf8.Valid(body) && !strings.ContainsRune(text, 0):
		return LookText
	}
	return ""
}
