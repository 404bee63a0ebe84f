package dispatcher

import (
	"bytes"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"testing"
)

// TestTellingLittle is about what libraries say to the log, and about how much of it comes through.
func TestTellingLittle(t *testing.T) {
	for said, want := range map[string]string{
		"Unsolicited response received on idle HTTP channel starting with \"HTTP/1.1 200 OK\\r\\nX: POST /?token=\\\"canary\\\" \"; err=<nil>": `Unsolicited response received on idle HTTP channel starting with "…"; err=nil`,
		"http2: Transport encoding header \"authorization\" = \"Bearer canary\"":                                                               `http2: Transport encoding header "…" = "…"`,
		"cut off in the middle \"of canary":           `cut off in the middle "…"`,
		"`canary` between other marks, and 'canary'":  "`…` between other marks, and '…'",
		"a URL http://u:canary@x.example/p?canary=1,": "a URL …,",
		"two\nlines\r\n":                "two lines",
		"\x1b[31mred\u202e\u0085 \x9b ": "[31mred ",
		"it's the client's":             "it's the client's",
		strings.Repeat("x", 3000):       strings.Repeat("x", MaxTold) + "…",
	} {
		if got := Telling(said); got != want {
			t.Errorf("%q\ncomes through as %q\nwant            %q", said, got, want)
		}
	}
}

// TestPanicsTellLittle: what a panic is about may hold what a stranger chose, or a partner's URL.
func TestPanicsTellLittle(t *testing.T) {
	var log bytes.Buffer
	inBubble(t, func(h *house) {
		func() {
			defer func() { h.client.Panicked(t.Context(), placeAttempt, recover()) }()
			panic(&url.Error{Op: "Post", URL: "https://partner.example/?token=s3cret", Err: errors.New("malformed \"s3cret\"")})
		}()
	}, func(c *Config) { c.Logger = slog.New(slog.NewJSONHandler(&log, nil)) })
	if said := log.String(); strings.Contains(said, "s3cret") || !strings.Contains(said, `"panic":"Post \"…\": malformed \"…\""`) || !strings.Contains(said, "TestPanicsTellLittle") {
		t.Errorf("the log is %s", said)
	}
}
