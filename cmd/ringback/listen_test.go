package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/payloads"
)

// request makes a delivery as Ringback sends it, signed by secrets where there are any.
func request(t *testing.T, url, body string, at time.Time, secrets ...payloads.Secret) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Ringback-Event-Type": "payment_proof", "Ringback-Event-Id": "evt_1", "Ringback-Attempt": "2", payloads.HeaderID: "dlv_1",
	} {
		req.Header.Set(name, value)
	}
	if len(secrets) > 0 {
		signature, err := payloads.Sign("dlv_1", at, []byte(body), secrets...)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(payloads.HeaderTimestamp, epoch(at))
		req.Header.Set(payloads.HeaderSignature, signature)
	}
	return req
}

func epoch(at time.Time) string {
	doc, _ := json.Marshal(at.Unix())
	return string(doc)
}

// send answers the status, content type and body that came back.
func send(t *testing.T, req *http.Request) (status int, contentType, body string) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), string(answer)
}

func TestListenSaysWhetherTheSignatureVerifies(t *testing.T) {
	t.Parallel()
	ours, other := payloads.NewSecret(), payloads.NewSecret()
	p := startPlain(t, nil, "listen", "--listen", "127.0.0.1:0", "--secret", other.Reveal(), "--secret", ours.Reveal())
	url := p.await(`Listening on (http://\S+):`)[1] + "/hook?x=1"
	now := time.Now()

	if status, _, _ := send(t, request(t, url, `{"ok":"Nómina"}`, now, ours)); status != http.StatusNoContent {
		t.Errorf("answered %d, want 204", status)
	}
	p.await(`\d\d:\d\d:\d\d  POST /hook\?x=1  payment_proof  attempt 2  dlv_1  verified  16 bytes  answered 204 in \S+\n    \{\n      "ok": "Nómina"\n    \}\n`)

	// A wrong --secret shows at the sender, too.
	if status, _, body := send(t, request(t, url, `{"n":1}`, now, payloads.NewSecret())); status != http.StatusUnauthorized || !strings.Contains(body, "signature") {
		t.Errorf("another's signature: answered %d %q, want 401 and why", status, body)
	}
	p.await(`dlv_1  NOT verified: [^\n]+  7 bytes  answered 401`)
	send(t, request(t, url, `{"n":22}`, now.Add(-time.Hour), ours))
	p.await(`dlv_1  NOT verified: [^\n]+  8 bytes`)
	send(t, request(t, url, `{"n":333}`, now))
	p.await(`dlv_1  NOT verified: [^\n]+  9 bytes`)

	if code := p.end(syscall.SIGTERM); code != exitOK {
		t.Errorf("SIGTERM: exit %d, want 0", code)
	}
	if strings.Contains(p.said.String(), "\x1b[") {
		t.Error("colours went to something that is no terminal")
	}
}

// TestListenAnswersChallenges: also where it is told to fail, and where the signature is by a secret that nobody here can know yet.
func TestListenAnswersChallenges(t *testing.T) {
	t.Parallel()
	url := "http://" + startPlain(t, []string{"RINGBACK_SECRET=" + payloads.NewSecret().Reveal()}, "listen", "--listen", "127.0.0.1:0", "--respond", "503,204").await(`http://(\S+):`)[1]
	for kind, body := range map[string]string{"application/json": `{"challenge":"4711"}`, "application/x-www-form-urlencoded": "challenge=4711"} {
		req := request(t, url, body, time.Now(), payloads.NewSecret())
		req.Header.Set("Ringback-Event-Type", "callback.challenge")
		req.Header.Set("Content-Type", kind)
		if status, contentType, said := send(t, req); status != 200 || contentType != "application/json" || said != `{"challenge":"4711"}` {
			t.Errorf("%s: answered %d %s: %s", kind, status, contentType, said)
		}
	}
	req := request(t, url, "", time.Now())
	req.Method = http.MethodOptions
	req.Header = http.Header{"Webhook-Request-Origin": {"events.example.com"}}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != 200 || resp.Header.Get("WebHook-Allowed-Origin") != "events.example.com" {
		t.Errorf("a handshake is answered %d, %v", resp.StatusCode, resp.Header)
	}
	if status, _, _ := send(t, request(t, url, `{"challenge":"4711"}`, time.Now())); status != 503 {
		t.Errorf("a delivery that looks like one is answered %d", status)
	}
}

func TestListenWorksWithoutASecret(t *testing.T) {
	t.Parallel()
	p := startPlain(t, nil, "listen", "--listen", "127.0.0.1:0", "--quiet")
	p.await(`--secret whsec_`)
	url := p.await(`Listening on (http://\S+):`)[1]
	send(t, request(t, url, `{"n":1}`, time.Now()))
	p.await(`dlv_1  no secret given  7 bytes  answered 204`)
	if strings.Contains(p.said.String(), `"n"`) {
		t.Error("--quiet still prints bodies")
	}
}

func TestListenAnswersInTurn(t *testing.T) {
	t.Parallel()
	p := startPlain(t, nil, "listen", "--listen", "127.0.0.1:0", "--respond", "503,410,200")
	url := p.await(`Listening on (http://\S+):`)[1]
	var got []int
	for range 4 {
		status, contentType, body := send(t, request(t, url, `{}`, time.Now()))
		got = append(got, status)
		if status == http.StatusOK && (contentType != "application/json" || body != `{"success":true}`) {
			t.Errorf("200 came with %s %s", contentType, body)
		}
	}
	if diff := cmp.Diff([]int{503, 410, 200, 200}, got); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
}

// TestListenAnswersAsItIsTold: an explicit --respond is for whoever wants that answer, verified or not.
func TestListenAnswersAsItIsTold(t *testing.T) {
	t.Parallel()
	p := startPlain(t, nil, "listen", "--listen", "127.0.0.1:0", "--secret", payloads.NewSecret().Reveal(), "--respond", "204")
	url := p.await(`Listening on (http://\S+):`)[1]
	if status, _, _ := send(t, request(t, url, `{}`, time.Now(), payloads.NewSecret())); status != http.StatusNoContent {
		t.Errorf("answered %d, want 204", status)
	}
	p.await(`NOT verified: [^\n]+  answered 204`)
}

func TestListenPrintsJSONLines(t *testing.T) {
	t.Parallel()
	secret := payloads.NewSecret()
	p := startPlain(t, []string{"RINGBACK_SECRET=" + secret.Reveal()}, "listen", "--listen", "127.0.0.1:0", "-o", "json")
	url := p.await(`Listening on (http://\S+):`)[1]
	send(t, request(t, url, `{"a": [1, "x"]}`, time.Now(), secret))
	line := p.await(`(?m)^\{.*\}$`)[0]
	var got map[string]any
	if err := json.Unmarshal([]byte(line), &got); err != nil {
		t.Fatal(err)
	}
	for _, changing := range []string{"time", "took_ms"} {
		if _, ok := got[changing]; !ok {
			t.Errorf("%s is missing", changing)
		}
		delete(got, changing)
	}
	want := map[string]any{
		"method": "POST", "path": "/", "event_type": "payment_proof", "event_id": "evt_1", "attempt": "2", "delivery_id": "dlv_1",
		"signature": "verified", "bytes": 15.0, "status": 204.0, "body": map[string]any{"a": []any{1.0, "x"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("line (-want +got):\n%s", diff)
	}
}

// TestListenReadsForms: a form is shown as the payload it stands for; a body that only says it is one, as it came.
func TestListenReadsForms(t *testing.T) {
	t.Parallel()
	form, err := payloads.Encode(payloads.ContentTypeForm, json.RawMessage(`{"status": "OK & <more>", "items": [{"sku": 1}, null]}`))
	if err != nil {
		t.Fatal(err)
	}
	secret := payloads.NewSecret()
	text := startPlain(t, nil, "listen", "--listen", "127.0.0.1:0", "--secret", secret.Reveal())
	lines := startPlain(t, nil, "listen", "--listen", "127.0.0.1:0", "--secret", secret.Reveal(), "-o", "json")
	deliver := func(p *process, contentType, body string) {
		req := request(t, p.await(`Listening on (http://\S+):`)[1], body, time.Now(), secret)
		req.Header.Set("Content-Type", contentType)
		if status, _, _ := send(t, req); status != http.StatusNoContent {
			t.Errorf("answered %d", status)
		}
	}
	deliver(text, payloads.ContentTypeForm, string(form))
	text.await(`verified  \d+ bytes  answered 204 in \S+\n    \{\n      "status": "OK & <more>",\n      "items": \[\n        \{\n          "sku": "1"\n        \},\n        ""\n      \]\n    \}\n`)
	deliver(text, payloads.ContentTypeForm+"; charset=utf-8", "a=1&a[b]=2")
	text.await(`answered 204 in \S+\n    a=1&a\[b\]=2\n`)
	deliver(text, "text/plain", "a=1")
	text.await(`answered 204 in \S+\n    a=1\n`)

	deliver(lines, payloads.ContentTypeForm+"; charset=utf-8", string(form))
	var got struct {
		Body string
		Form map[string]any
	}
	if err := json.Unmarshal([]byte(lines.await(`(?m)^\{.*\}$`)[0]), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"status": "OK & <more>", "items": []any{map[string]any{"sku": "1"}, ""}}
	if diff := cmp.Diff(want, got.Form); diff != "" || got.Body != string(form) {
		t.Errorf("body %s, form (-want +got):\n%s", got.Body, diff)
	}
}

func TestListenForwards(t *testing.T) {
	t.Parallel()
	got := make(chan string, 1)
	partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- r.Method + " " + r.URL.RequestURI() + " " + r.Header.Get(payloads.HeaderID) + " " + string(body)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, `{"mine":1}`)
	}))
	defer partner.Close()
	p := startPlain(t, nil, "listen", "--listen", "127.0.0.1:0", "--forward-to", partner.URL+"/in?a=b")
	url := p.await(`Listening on (http://\S+):`)[1]

	status, contentType, body := send(t, request(t, url+"/other", `{"x": 1}`, time.Now()))
	if status != http.StatusAccepted || contentType != "application/json" || body != `{"mine":1}` {
		t.Errorf("answered %d %s %s, want what the partner answered", status, contentType, body)
	}
	if want := `POST /in?a=b dlv_1 {"x": 1}`; <-got != want {
		t.Errorf("the partner did not get %s", want)
	}

	partner.Close()
	if status, _, _ := send(t, request(t, url, `{}`, time.Now())); status != http.StatusBadGateway {
		t.Errorf("with the partner gone: %d, want 502", status)
	}
}

// TestListenShowsNothingTheTerminalObeys: what a request carries is a stranger's.
func TestListenShowsNothingTheTerminalObeys(t *testing.T) {
	t.Parallel()
	got := received{Method: "POST", Path: "/\u009b2J", EventType: "a\x1b[2Jb", Signature: "no_secret", body: []byte("x\x1b]0;evil\x07\r\ty\u202e")}
	text := got.line(false) + indented(got.body)
	if regexp.MustCompile("[\x00-\x08\x0b-\x1f\x7f\u0080-\u009f\u202e]").MatchString(text) {
		t.Errorf("unprintable characters are left in %q", text)
	}
	var line map[string]any
	if err := json.Unmarshal(bytes.TrimSpace(got.jsonLine()), &line); err != nil || line["body"] != "x\x1b]0;evil\a\r\ty\u202e" {
		t.Errorf("a body that is not JSON should be a string: %v, %v", line["body"], err)
	}
}
