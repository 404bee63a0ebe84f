package console

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/payloads"
)

const (
	secretsPlace = "whsec_…"
	// snippetLines is how long a snippet may be, without what it imports.
	snippetLines = 30
)

// runs are the programs that snippets need, and how they are run on a port.
var runs = map[string]struct {
	program string
	args    func(t *testing.T, file, port string) []string
	quick   bool // it starts in no time
}{
	"Go": {program: "go", args: func(t *testing.T, file, _ string) []string {
		t.Helper()
		binary := filepath.Join(filepath.Dir(file), "receiver")
		if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, file).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return []string{binary}
	}},
	"Node":   {"node", func(_ *testing.T, file, _ string) []string { return []string{"node", file} }, true},
	"Python": {"python3", func(_ *testing.T, file, _ string) []string { return []string{"python3", file} }, true},
	"PHP": {"php", func(_ *testing.T, file, port string) []string {
		return []string{"php", "-S", "127.0.0.1:" + port, file}
	}, true},
	"Ruby": {"ruby", func(t *testing.T, file, port string) []string {
		t.Helper()
		host, err := filepath.Abs("testdata/rack.rb")
		if err != nil {
			t.Fatal(err)
		}
		return []string{"ruby", host, file, port}
	}, true},
	"Java": {program: "java", args: func(_ *testing.T, file, _ string) []string {
		return []string{"java", "-Dfile.encoding=UTF-8", "-XX:TieredStopAtLevel=1", file}
	}},
}

// TestSnippetsVerify runs each as it would be pasted, but for the secret and the port.
func TestSnippetsVerify(t *testing.T) {
	t.Parallel()
	old, secret := payloads.NewSecret(), payloads.NewSecret()
	for _, s := range snippets() {
		t.Run(s.Language, func(t *testing.T) {
			t.Parallel()
			r := receive(t, s, secret.Reveal())
			for _, x := range signedRequests(t, old, secret) {
				if got := r.send(x.header, x.body); got != x.want {
					t.Errorf("%s: answered %d, want %d", x.name, got, x.want)
				}
			}
		})
	}
}

// A signedRequest is one that a snippet has to judge.
type signedRequest struct {
	name   string
	header map[string]string
	body   string
	want   int
}

func signedRequests(t *testing.T, old, secret payloads.Secret) []signedRequest {
	t.Helper()
	const body = "{\"total\": 1.0,\n \"name\":\"N\u00f3mina \U0001f514\"}"
	now := time.Now()
	sign := func(at time.Time, secrets ...payloads.Secret) map[string]string {
		signature, err := payloads.Sign("dlv_1", at, []byte(body), secrets...)
		if err != nil {
			t.Fatal(err)
		}
		return map[string]string{payloads.HeaderID: "dlv_1", payloads.HeaderTimestamp: strconv.FormatInt(at.Unix(), 10), payloads.HeaderSignature: signature}
	}
	with := func(name, value string) map[string]string {
		h := sign(now, secret)
		if h[name] = value; value == "" {
			delete(h, name)
		}
		return h
	}
	good := sign(now, secret)[payloads.HeaderSignature]
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret.Reveal(), "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	const yes, no = http.StatusNoContent, http.StatusUnauthorized
	return []signedRequest{
		{"as it was signed", sign(now, secret), body, yes},
		{"four minutes old", sign(now.Add(-4*time.Minute), secret), body, yes},
		{"four minutes ahead", sign(now.Add(4*time.Minute), secret), body, yes},
		{"the second of two signatures", sign(now, old, secret), body, yes},
		{"the first of two signatures", sign(now, secret, old), body, yes},
		{"another version's signature before it", with(payloads.HeaderSignature, "v1a,AAAA "+good), body, yes},
		{"another secret", sign(now, old), body, no},
		{"a body written anew", sign(now, secret), "{\"total\":1.0,\"name\":\"N\u00f3mina \U0001f514\"}", no},
		{"no body", sign(now, secret), "", no},
		{"six minutes old", sign(now.Add(-6*time.Minute), secret), body, no},
		{"six minutes ahead", sign(now.Add(6*time.Minute), secret), body, no},
		{"another id", with(payloads.HeaderID, "dlv_2"), body, no},
		{"another time", with(payloads.HeaderTimestamp, strconv.FormatInt(now.Add(time.Second).Unix(), 10)), body, no},
		{"no number for a time", signedWith(key, "soon", body), body, no},
		{"the beginning of a signature", with(payloads.HeaderSignature, good[:20]), body, no},
		{"a signature without its version", with(payloads.HeaderSignature, strings.TrimPrefix(good, "v1,")), body, no},
		{"no id", with(payloads.HeaderID, ""), body, no},
		{"no time", with(payloads.HeaderTimestamp, ""), body, no},
		{"no signature", with(payloads.HeaderSignature, ""), body, no},
	}
}

// signedWith are the headers of a request that the signer would not sign like this.
func signedWith(key []byte, timestamp, body string) map[string]string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("dlv_1." + timestamp + "." + body))
	return map[string]string{
		payloads.HeaderID: "dlv_1", payloads.HeaderTimestamp: timestamp, payloads.HeaderSignature: "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)),
	}
}

// TestSnippetsWithoutASecret let nobody in: a decoder that passes over what is no Base64 finds an empty key in the place of the secret, and everybody can
// sign with that.
func TestSnippetsWithoutASecret(t *testing.T) {
	t.Parallel()
	const body = `{"total": 1}`
	header := signedWith(nil, strconv.FormatInt(time.Now().Unix(), 10), body)
	for _, s := range snippets() {
		if !runs[s.Language].quick {
			continue // its decoder is strict, and it takes its time to say so
		}
		t.Run(s.Language, func(t *testing.T) {
			t.Parallel()
			if got := receive(t, s, secretsPlace).send(header, body); got == http.StatusNoContent {
				t.Error("it takes what anybody signs")
			}
		})
	}
}

// A reception is a snippet that runs.
type reception struct {
	t    *testing.T
	addr string
}

// receive runs a snippet until the test ends.
func receive(t *testing.T, s snippet, secret string) *reception {
	t.Helper()
	run := runs[s.Language]
	if _, err := exec.LookPath(run.program); err != nil {
		if os.Getenv("RINGBACK_EVERY_LANGUAGE") != "" {
			t.Fatalf("%s is not installed", run.program)
		}
		t.Skipf("%s is not installed: make test-door installs it", run.program)
	}
	port := strconv.Itoa(12_000 + rand.IntN(8_000)) // below those that the system gives out
	text := strings.NewReplacer(secretsPlace, secret, "9000", port).Replace(s.Text)
	file := filepath.Join(t.TempDir(), s.Name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	args := run.args(t, file, port)
	said := &bytes.Buffer{}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("%s", said)
		}
	})
	r := &reception{t, "127.0.0.1:" + port}
	for deadline := time.After(time.Minute); ; {
		if conn, err := net.Dial("tcp", r.addr); err == nil {
			_ = conn.Close()
			return r
		}
		select {
		case <-ended:
			t.Fatal("it ended")
		case <-deadline:
			t.Fatal("it does not listen")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// send answers the status; 0 if there was no answer.
func (r *reception) send(header map[string]string, body string) int {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, "http://"+r.addr+"/hook", strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	req.Header.Set("Content-Type", "application/json")
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		r.t.Log(err)
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// TestSnippetsAreThePartnersPages: there is one text, and it is short, has one place for the secret, and imports nothing that has to be installed, which
// running it shows.
func TestSnippetsAreThePartnersPages(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../deploy/PARTNERS.md")
	if err != nil {
		t.Fatal(err)
	}
	fences := map[string]string{"Go": "go", "Node": "js", "Python": "python", "PHP": "php", "Ruby": "ruby", "Java": "java"}
	for _, s := range snippets() {
		block := fmt.Sprintf("\n```%s file=%s\n%s```\n", fences[s.Language], s.Name, s.Text)
		if !strings.Contains(string(page), block) {
			t.Errorf("deploy/PARTNERS.md has another text for %s, or none; it should be:%s", s.Language, block)
		}
		if n := strings.Count(s.Text, secretsPlace); n != 1 {
			t.Errorf("%s has %d places for a secret", s.Name, n)
		}
		_, code, _ := strings.Cut(s.Text, secretsPlace)
		if n := strings.Count(code, "\n"); n > snippetLines {
			t.Errorf("%s has %d lines from its secret on, and at most %d are for reading", s.Name, n, snippetLines)
		}
	}
}
