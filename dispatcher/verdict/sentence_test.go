package verdict

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/payloads"
)

// answered is what a delivery's sentence says of an answer, judged by the default rule.
func answered(a Account, status int, contentType, body string) string {
	h := http.Header{}
	if contentType != "" {
		h.Set("Content-Type", contentType)
	}
	a.Judgement = Judge(payloads.JSON200Or204, Outcome{Status: status, Header: h}, time.Time{})
	a.Looks = LookOf(status, h, []byte(body), true)
	return a.Sentence()
}

const (
	verifies = "most likely it verifies with another signing secret, or a rewritten body (`ringback verify` tells which)"
	must     = ": a 200 must carry application/json; "
	widen    = "register the callback with `success: any_2xx`"
	nginx    = "<html>\r\n<head><title>NNN</title></head>\r\n<body>\r\n<center><h1>NNN</h1></center>\r\n<hr><center>nginx/1.27.0</center>\r\n</body>\r\n</html>"
)

// TestSentencesOfBatches do not speak of one event.
func TestSentencesOfBatches(t *testing.T) {
	for status := 100; status < 600; status++ {
		said := answered(Account{Batch: true}, status, "", "")
		if strings.Contains(said, "this event") {
			t.Errorf("%s", said)
		}
		if alone := answered(Account{}, status, "", ""); (said != alone) != (batchAdvice[status] != "") {
			t.Errorf("%s, and of one event: %s", said, alone)
		}
	}
	const want = "answered 413 Request Entity Too Large: the endpoint's limit on bodies is too small for this batch; raise it, or if it held more than one event, lower the callback's batch.max_bytes"
	if got := answered(Account{Batch: true}, http.StatusRequestEntityTooLarge, "", ""); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestSentencesNameCauseAndRemedy: for what endpoints answer most, the sentence names the likely cause and what to do about it, and nothing that does not fit.
func TestSentencesNameCauseAndRemedy(t *testing.T) {
	for name, tc := range map[string]struct {
		auth        string
		status      int
		contentType string
		body        string
		want        string
	}{
		"401":                {"", 401, "", "", "answered 401 Unauthorized: the endpoint refuses the request; " + verifies + ", or wants credentials, and the callback has no auth"},
		"401, bearer":        {"bearer", 401, "", "", "answered 401 Unauthorized: the endpoint refuses the request; " + verifies + ", or does not take the callback's auth (a bearer token)"},
		"401, basic":         {"basic", 401, "", "", "answered 401 Unauthorized: the endpoint refuses the request; " + verifies + ", or does not take the callback's auth (a user name and a password)"},
		"401, oauth2":        {"oauth2", 401, "", "", "answered 401 Unauthorized: the endpoint refuses the request; " + verifies + ", or does not take the callback's auth (an access token)"},
		"401, headers":       {"headers", 401, "", "", "answered 401 Unauthorized: the endpoint refuses the request; " + verifies + ", or does not take what the callback's headers hold"},
		"401, JSON":          {"", 401, "application/json", `{"error":"bad signature"}`, "answered 401 Unauthorized: the endpoint refuses the request; " + verifies + ", or wants credentials, and the callback has no auth"},
		"401, nginx":         {"", 401, "text/html", nginx, "answered 401 Unauthorized: nginx refused the request before it came to the endpoint; check its rules for this path"},
		"403":                {"", 403, "", "", "answered 403 Forbidden: the endpoint refuses the request; " + verifies + ", or a firewall before it refuses this sender"},
		"403, bearer":        {"bearer", 403, "", "", "answered 403 Forbidden: the endpoint refuses the request; " + verifies + ", or does not take the callback's auth (a bearer token), or a firewall before it refuses this sender"},
		"403, Cloudflare":    {"", 403, "text/html", "<title>Attention Required! | Cloudflare</title>", "answered 403 Forbidden: Cloudflare refused the request before it came to the endpoint; check its rules for this path"},
		"201":                {"", 201, "application/json", `{}`, "answered 201 Created: only 204, or 200 with application/json, counts as received; answer so, or " + widen},
		"202":                {"", 202, "", "", "answered 202 Accepted: only 204, or 200 with application/json, counts as received; answer so, or " + widen},
		"206":                {"", 206, "", "", "answered 206 Partial Content: only 204, or 200 with application/json, counts as received; answer so, or " + widen},
		"302":                {"", 302, "", "", "answered 302 Found: redirects are not followed; register the final URL"},
		"Express's OK":       {"", 200, "text/html; charset=utf-8", "OK", "answered 200 with text/html" + must + "add Content-Type: application/json and a JSON body, or answer 204, or " + widen},
		"Express's status":   {"", 200, "text/plain; charset=utf-8", "OK", "answered 200 with text/plain" + must + "add Content-Type: application/json and a JSON body, or answer 204, or " + widen},
		"PHP's nothing":      {"", 200, "text/html; charset=UTF-8", "", "answered 200 with text/html" + must + "there is no body, so answer 204, or " + widen},
		"no type":            {"", 200, "", "ok", "answered 200 without a Content-Type" + must + "add Content-Type: application/json and a JSON body, or answer 204, or " + widen},
		"no type, no body":   {"", 200, "", "", "answered 200 without a Content-Type" + must + "there is no body, so answer 204, or " + widen},
		"JSON as text":       {"", 200, "text/plain", `{"ok":true}`, "answered 200 with text/plain" + must + "the body is JSON already, so add Content-Type: application/json, or " + widen},
		"text/json":          {"", 200, "text/json", `{"ok":true}`, "answered 200 with text/json" + must + "the body is JSON already, so add Content-Type: application/json, or " + widen},
		"XML":                {"", 200, "application/xml", `<ok/>`, "answered 200 with application/xml" + must + "add Content-Type: application/json and a JSON body, or answer 204, or " + widen},
		"bytes":              {"", 200, "image/png", "\x89PNG\x00", "answered 200 with image/png" + must + "add Content-Type: application/json and a JSON body, or answer 204"},
		"a login page":       {"", 200, "text/html", `<!DOCTYPE html><title>Sign in</title>`, "answered 200 with text/html" + must + "this looks like a login page or a proxy"},
		"a login form":       {"", 200, "text/html", `<form><input type=password></form>`, "answered 200 with text/html" + must + "this looks like a login page or a proxy"},
		"a page":             {"", 200, "text/html", `<html><body><h1>It works!</h1></body></html>`, "answered 200 with text/html" + must + "this is a web page, such as a login page or a proxy's: check the callback's URL"},
		"a page as text":     {"", 200, "text/plain", `<html><body><h1>It works!</h1></body></html>`, "answered 200 with text/plain" + must + "this is a web page, such as a login page or a proxy's: check the callback's URL"},
		"nginx's page":       {"", 200, "text/html", nginx, "answered 200 with text/html" + must + "this page is nginx's own, and not the endpoint's answer: check the callback's URL"},
		"502 of nginx":       {"", 502, "text/html", nginx, "answered 502 Bad Gateway: a proxy before the endpoint cannot reach it; this page is nginx's own, and not the endpoint's answer"},
		"404 of Apache":      {"", 404, "text/html", "<html><address>Apache/2.4 Server</address></html>", "answered 404 Not Found: nothing answers at this path; check the callback's URL; this page is Apache's own, and not the endpoint's answer"},
		"404 of the service": {"", 404, "text/html", "<html>Cannot POST /</html>", "answered 404 Not Found: nothing answers at this path; check the callback's URL"},
		"400":                {"", 400, "", "", "answered 400 Bad Request: the endpoint refused the request as malformed; check what it expects, or, if it answers so to a wrong signature, why with `ringback verify`"},
	} {
		if got := answered(Account{Auth: tc.auth}, tc.status, tc.contentType, tc.body); got != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, tc.want)
		}
	}
}

// TestSentencesOfTestsAndChallenges: who fails at the desk is told of the trap in a test's JSON; and at a challenge, that it may be answered blindly.
func TestSentencesOfTestsAndChallenges(t *testing.T) {
	for status, hinted := range map[int]bool{400: true, 401: true, 403: true, 404: false, 500: false, 204: false} {
		if got := answered(Account{Test: true}, status, "", ""); strings.HasSuffix(got, testHint) != hinted {
			t.Errorf("test, %d: %s", status, got)
		}
		challenge := Account{Challenge: true, Judgement: JudgeChallenge(status, nil, "t")}
		if got := challenge.Sentence(); strings.HasSuffix(got, challengeHint) != hinted {
			t.Errorf("challenge, %d: %s", status, got)
		}
	}
	if got := answered(Account{Test: true}, 403, "text/html", nginx); strings.Contains(got, testHint) {
		t.Errorf("nginx knows no JSON: %s", got)
	}
}

// TestSentencesOfOlderRecords: a record without a look is told of as before.
func TestSentencesOfOlderRecords(t *testing.T) {
	for contentType, want := range map[string]string{
		"text/html":  "answered 200 with text/html" + must + "this looks like a login page or a proxy",
		"text/plain": "answered 200 with text/plain" + must + "add Content-Type: application/json and a JSON body, or answer 204",
	} {
		a := Account{Judgement: Judgement{Verdict: Retry, Reason: ReasonWrongContentType, Status: 200, ContentType: contentType}}
		if got := a.Sentence(); got != want {
			t.Errorf("%s: %s", contentType, got)
		}
	}
}

// TestSentencesOfNoAnswer: the remedy is the one for what was seen, and in the hands of who reads it.
func TestSentencesOfNoAnswer(t *testing.T) {
	for _, tc := range []struct {
		reason egress.Reason
		note   string
		ops    bool
		want   string
	}{
		{egress.Timeout, "no answer in time", false, "let the endpoint answer first and work afterwards"},
		{egress.Timeout, "the request was not taken in time", false, "let the endpoint answer first and work afterwards"},
		{egress.Timeout, "no connection came about in time", false, "check that the host is up and lets connections in"},
		{egress.Timeout, "the TLS handshake did not finish in time", false, "check that the host is up and lets connections in"},
		{egress.Timeout, "the host did not answer on the network", false, "check that the host is up and lets connections in"},
		{egress.Network, "this side has too many open connections", false, "this is for the operator to mend"},
		{egress.Network, "the network failed", false, "check the network between here and"},
		{egress.EgressProxy, "the egress proxy does not answer", false, "this is for the operator to mend"},
		{egress.EgressProxy, "the egress proxy does not answer", true, "look at the proxy of --egress-proxy"},
	} {
		a := Account{Judgement: JudgeError(&egress.Error{Reason: tc.reason, Detail: tc.note}), ForOperators: tc.ops}
		if got := a.Sentence(); !strings.HasPrefix(got, tc.note+"; "+tc.want) {
			t.Errorf("%s: %s", tc.reason, got)
		}
	}
}

// TestSentencesStayShort: each is one line that fits a table's cell or a log, whatever was answered.
func TestSentencesStayShort(t *testing.T) {
	bodies := []string{"", "OK", "{}", nginx, "<html>sign in", "\xff\x00"}
	for status := 100; status <= 599; status++ {
		for _, body := range bodies {
			got := answered(Account{Auth: "basic", Repeated: true}, status, "text/plain", body)
			if len(got) > 420 || strings.ContainsAny(got, "\r\n") || strings.Contains(got, ". ") {
				t.Errorf("%d, %q: %d bytes: %s", status, body, len(got), got)
			}
		}
	}
	for reason := range networkAdvice {
		if got := (Account{Judgement: Judgement{Verdict: Retry, Reason: Reason(reason), Note: "said"}}).Sentence(); !strings.Contains(got, "; ") {
			t.Errorf("%s: no remedy: %s", reason, got)
		}
	}
}

func FuzzLookOf(f *testing.F) {
	for _, body := range []string{"", "OK", "{}", "[", nginx, "<html>sign in", "\xff\x00", "<TITLE>Just a moment...</TITLE>"} {
		f.Add(200, body, true)
		f.Add(503, body, false)
	}
	f.Fuzz(func(t *testing.T, status int, body string, whole bool) {
		look := LookOf(status, http.Header{}, []byte(body), whole)
		if look == LookEmpty && (body != "" || !whole) || look == LookJSON && !whole {
			t.Errorf("%d, %q, %t: %s", status, body, whole, look)
		}
		if look != "" && status != 200 && servers[look] == "" {
			t.Errorf("%d: %s is of no use", status, look)
		}
	})
}
