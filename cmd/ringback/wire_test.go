package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ringback/ringback/payloads"
)

// wired is a request as it stood on the wire.
type wired struct {
	line   string
	header map[string]string // names in lower case
	body   string
}

// wiretap takes requests off its sockets byte by byte, so that no HTTP server tidies them up, and answers 204.
type wiretap struct {
	net.Listener
	got chan wired
}

func newWiretap(t *testing.T) *wiretap {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tap := &wiretap{ln, make(chan wired, 100)}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { tap.serve(conn) })
		}
	})
	t.Cleanup(func() { // registered before the program starts, so that its connections are gone by now
		_ = ln.Close()
		wg.Wait()
	})
	return tap
}

func (tap *wiretap) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	for r := bufio.NewReader(conn); ; {
		w := wired{header: map[string]string{}}
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			line = strings.TrimSuffix(line, "\r\n")
			if line == "" {
				break
			}
			if w.line == "" {
				w.line = line
				continue
			}
			name, value, _ := strings.Cut(line, ": ")
			w.header[strings.ToLower(name)] = value
		}
		var length int64
		if _, err := fmt.Sscan(w.header["content-length"], &length); err != nil {
			return
		}
		body, err := io.ReadAll(io.LimitReader(r, length))
		if err != nil {
			return
		}
		w.body = string(body)
		tap.got <- w
		if _, err := io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n"); err != nil {
			return
		}
	}
}

// TestURLsAreCalledAsRegistered registers odd URLs with a whole app, sends one event to all of them, and compares what stood on the wire,
// and what the API shows, with what was registered.
func TestURLsAreCalledAsRegistered(t *testing.T) {
	t.Parallel()
	tap := newWiretap(t)
	_, port, err := net.SplitHostPort(tap.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	dev := start(t, nil, "dev", "--listen", "127.0.0.1:0")
	callbacks := dev.await(`API +(http://\S+)`)[1] + "/companies/acme/config/callbacks"
	dev.await(`msg=ready`)

	type expectation struct{ url, method, contentType, line, host string }
	expected := map[int64]expectation{} // by callback
	register := func(host, rest, target, wantHost string) {
		t.Helper()
		methods, types := []string{"POST", "PUT", "PATCH"}, []string{payloads.ContentTypeJSON, payloads.ContentTypeForm}
		n := len(expected)
		e := expectation{url: "http://" + host + ":" + port + rest, method: methods[n%len(methods)], contentType: types[n%len(types)], host: wantHost + ":" + port}
		e.line = e.method + " " + target + " HTTP/1.1"
		id, status, text := registerAt(t, callbacks, e.url, e.method, e.contentType)
		if status != http.StatusCreated {
			t.Fatalf("%s: %d %s", e.url, status, text)
		}
		expected[id] = e
	}
	for _, rest := range []string{
		"/", "/hook", "//a//b", "//", "///a", "/a/", "/a//", "/%2F", "/%2f", "/a%2Fb%2fc", "//a%2Fb", "/%7e", "/~", "/%7E~", "/%41", "/a/../b", "/./a", "/..", "/a/.", "/%2e%2E/",
		"/a;x=1", "/;x=1", "/?", "/a?", "/a?b?c", "/a??", "/?a=b&a=%20+", "/?a=b;c", "/a?x=%zz", "/?&&=", "/a+b%20c", "/{x}|^`", `/\"<>`, "/@:,$!*'()", "/http://other.example/", "/a?u=http://x/",
		"/%C3%A9?%c3%a9", "/%00%0d%0a", "/" + strings.Repeat("a", 1900),
	} {
		register("127.0.0.1", rest, rest, "127.0.0.1")
	}
	register("127.0.0.1", "", "/", "127.0.0.1")
	register("127.0.0.1", "?", "/?", "127.0.0.1")
	register("127.0.0.1", "?x=1", "/?x=1", "127.0.0.1")
	for _, host := range [][2]string{
		{"LocalHost", "LocalHost"},
		{"[::ffff:127.0.0.1]", "[::ffff:127.0.0.1]"},
		{"ⓛocalhost", "localhost"},
		{"ＬＯＣＡＬ\u00adhost", "localhost"},
		{"１２７.0.0.1", "127.0.0.1"},
	} {
		register(host[0], "//a%2f?b", "//a%2f?b", host[1])
	}

	for _, rest := range []string{"/a b", "/é", "/?é", "/a#b", "/a\tb", "/%zz", "/a\n", "//{x}"} {
		if _, status, text := registerAt(t, callbacks, "http://127.0.0.1:"+port+rest, "POST", payloads.ContentTypeJSON); status != http.StatusUnprocessableEntity || !strings.Contains(text, `"body.destination.url"`) {
			t.Errorf("%q: %d %s, want 422", rest, status, text)
		}
	}

	for id, e := range expected {
		_, text := get(t, fmt.Sprintf("%s/%d", callbacks, id), "dev")
		var shown struct {
			Destination struct{ URL string }
		}
		if err := json.Unmarshal([]byte(text), &shown); err != nil || shown.Destination.URL != e.url {
			t.Errorf("registered %q, shown %q (%v)", e.url, shown.Destination.URL, err)
		}
	}

	deliveries := sendTo(t, strings.Replace(callbacks, "/config/callbacks", "/events", 1))
	if len(deliveries) != len(expected) {
		t.Fatalf("%d deliveries for %d callbacks", len(deliveries), len(expected))
	}
	for range len(expected) { // not over the map: it shrinks on the way
		var w wired
		select {
		case w = <-tap.got:
		case <-time.After(patience):
			t.Fatalf("%d URLs were never called; the program says:\n%s", len(expected), dev.said)
		}
		id := deliveries[w.header["webhook-id"]]
		e, ok := expected[id]
		if !ok {
			t.Fatalf("callback %d was called twice, or never registered: %+v", id, w)
		}
		delete(expected, id)
		if w.line != e.line {
			t.Errorf("%s: the request line is\n%s, want\n%s", e.url, w.line, e.line)
		}
		if w.header["host"] != e.host {
			t.Errorf("%s: Host is %s, want %s", e.url, w.header["host"], e.host)
		}
		want := map[string]string{payloads.ContentTypeJSON: `{"requestId":"r-1","status":"OK","more":[{"a":"é"}]}`, payloads.ContentTypeForm: "requestId=r-1&status=OK&more%5B0%5D%5Ba%5D=%C3%A9"}
		if w.header["content-type"] != e.contentType || w.body != want[e.contentType] {
			t.Errorf("%s: the body is %s: %s, want %s: %s", e.url, w.header["content-type"], w.body, e.contentType, want[e.contentType])
		}
	}
}

// registerAt registers url for payment proofs and returns the callback's id, the status and the answer.
func registerAt(t *testing.T, callbacks, url, method, contentType string) (id int64, status int, text string) {
	t.Helper()
	status, text = postJSON(t, callbacks, map[string]any{
		"callback_type": "payment_proof", "destination": map[string]string{"url": url, "method": method, "content_type": contentType},
	})
	var answer struct {
		ID int64 `json:"callback_id"`
	}
	_ = json.Unmarshal([]byte(text), &answer)
	return answer.ID, status, text
}

// sendTo sends a payment proof and returns which delivery goes to which callback.
func sendTo(t *testing.T, events string) map[string]int64 {
	t.Helper()
	status, text := postJSON(t, events, map[string]any{
		"event_type": "payment_proof", "payload": json.RawMessage(`{"requestId":"r-1","status":"OK","more":[{"a":"é"}]}`),
	})
	var answer struct {
		Deliveries []struct {
			ID       string `json:"delivery_id"`
			Callback int64  `json:"callback_id"`
		}
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil || status != http.StatusAccepted {
		t.Fatalf("%d %s", status, text)
	}
	deliveries := map[string]int64{}
	for _, d := range answer.Deliveries {
		deliveries[d.ID] = d.Callback
	}
	return deliveries
}

func postJSON(t *testing.T, url string, v any) (status int, text string) {
	t.Helper()
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, &body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer dev")
	req.Header.Set("Content-Type", "application/json")
	status, _, text = send(t, req)
	return status, text
}
