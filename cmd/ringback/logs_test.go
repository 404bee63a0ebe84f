package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestTellingLittle is about what libraries say to the log, and about how much of it comes through.
func TestTellingLittle(t *testing.T) {
	for said, want := range map[string]string{
		"Unsolicited response received on idle HTTP channel starting with \"HTTP/1.1 200 OK\\r\\nX: POST /?token=\\\"canary\\\" \"; err=<nil>": `Unsolicited response received on idle HTTP channel starting with "…"; err=<nil>`,
		"http2: Transport encoding header \"authorization\" = \"Bearer canary\"":                                                               `http2: Transport encoding header "…" = "…"`,
		"cut off in the middle \"of canary":           `cut off in the middle "…"`,
		"`canary` between other marks, and 'canary'":  "`…` between other marks, and '…'",
		"a URL http://u:canary@x.example/p?canary=1,": "a URL …,",
		"two\nlines\r\n":                "two lines",
		"\x1b[31mred\u202e\u0085 \x9b ": "\uFFFD[31mred\uFFFD \uFFFD",
		"it's the client's":             "it's the client's",
		strings.Repeat("x", 3000):       strings.Repeat("x", maxSaid) + "…",
	} {
		if got := telling(said); got != want {
			t.Errorf("%q\ncomes through as %q\nwant            %q", said, got, want)
		}
	}
}

// TestNoLibraryLogsOnItsOwn: after openLogs, what net/http, asynqmon and others hand to package log comes out of slog.
func TestNoLibraryLogsOnItsOwn(t *testing.T) {
	flags, writer := log.Flags(), log.Writer()
	defer func() { log.SetFlags(flags); log.SetOutput(writer) }()
	var said bytes.Buffer
	routeLogs(slog.New(slog.NewJSONHandler(&said, nil)))
	log.Printf("starting with %q", "canary")
	if got := said.String(); !strings.Contains(got, `"level":"WARN","msg":"library: starting with \"…\"","left_out":0}`) {
		t.Errorf("the log is %s", got)
	}
}

// TestADoubleAnswerLeavesNothingInTheLog: a partner that answers twice, and echoes the request in its second answer, has net/http log that.
func TestADoubleAnswerLeavesNothingInTheLog(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				r, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
				echo := fmt.Sprintf("%s %s %v", r.Method, r.URL, r.Header)
				_, _ = fmt.Fprintf(conn, "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nX: %s\r\n\r\n%s", echo, echo)
				time.Sleep(time.Second)
			}()
		}
	}()
	p := start(t, nil, "dev", "--listen", "127.0.0.1:0")
	server := p.await(`API +(http://\S+)`)[1]
	post(t, server+"/companies/acme/config/callbacks", `{"callback_type": "payment_proof", "destination": {"url": "http://`+l.Addr().String()+`/hook?token=canary"},
			"auth": {"type": "bearer", "token": "canary"}, "headers": {"X-Own": "canary"}}`)
	post(t, server+"/companies/acme/events", `{"event_type": "payment_proof", "payload": {"requestId": "r", "status": "OK"}}`)
	p.await("Unsolicited response received")
	if said := p.said.String(); strings.Contains(said, "canary") {
		t.Errorf("the log holds a secret:\n%s", said)
	}
}

// post makes a request as the operator of ringback dev.
func post(t *testing.T, url, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer dev")
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if answer, _ := io.ReadAll(resp.Body); resp.StatusCode > 299 {
		t.Fatalf("%s answers %d %s", url, resp.StatusCode, answer)
	}
}
