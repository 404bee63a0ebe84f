package main

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/payloads"
)

func verifyCommand() *cli.Command {
	return &cli.Command{
		Name:  "verify",
		Usage: "say whether a captured request is signed with a secret, and if not, why",
		Description: "Takes a request as it was captured, byte for byte: request line, headers, an empty line, the body.\n" +
			"Or its parts: --id, --timestamp, --signature and --body. Talks to nobody, and never shows a secret.\n" +
			"Its headers say which header style it has. In parts, --style github and stripe are --signature and --body alone.\n" +
			"Exit code 0: it verifies; 1: it does not.\n\n" +
			examples(
				"ringback verify --secret whsec_… --request request.http --at 2026-11-22T09:39:00Z",
				"ringback verify --id dlv_… --timestamp 1795340314 --signature 'v1,…' --body body.json",
			),
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "secret", Usage: "signing `SECRET` of the callback, whsec_… (repeatable: one that matches is enough)", EnvVars: []string{"RINGBACK_SECRET"}},
			&cli.StringFlag{Name: "request", Usage: "the whole request from `FILE` (- is stdin)"},
			&cli.StringFlag{Name: "id", Usage: "value of the header " + payloads.HeaderID},
			&cli.StringFlag{Name: "timestamp", Usage: "value of the header " + payloads.HeaderTimestamp},
			&cli.StringFlag{Name: "signature", Usage: "value of the header " + payloads.HeaderSignature + ", or of the style's own"},
			styleFlag("header `STYLE` of the callback: standard, svix, github or stripe; default: what the request's headers say, else standard"),
			&cli.StringFlag{Name: "body", Usage: "the body from `FILE` (- is stdin)"},
			&cli.StringFlag{Name: "at", Usage: "when the request arrived, `TIME` as in 2026-11-21T09:30:00Z, by the receiver's clock; default: now"},
		},
		Action: verify,
	}
}

// verification is the command's answer.
type verification struct {
	Verified bool   `json:"verified"`
	Reason   string `json:"reason,omitempty"` // a payloads.Problem; absent if it verifies
	Detail   string `json:"detail"`           // a sentence: what was found, and what to do
}

func verify(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	if err := wantSecret(c.StringSlice("secret")); err != nil {
		return err
	}
	now := time.Now()
	if at := c.String("at"); at != "" {
		var err error
		if now, err = time.Parse(time.RFC3339, at); err != nil {
			return usagef("--at takes a time such as 2026-11-21T09:30:00Z, not %q", at)
		}
	}
	captured, err := readCapture(c)
	if err != nil {
		return err
	}
	secrets, err := signingSecrets(captured.style, c.StringSlice("secret"))
	if err != nil {
		return err
	}
	v := captured.verify(now, secrets)
	out := newPrinter(c)
	if out.json {
		if err := out.value(v); err != nil {
			return err
		}
	}
	switch {
	case !v.Verified:
		return errors.New("not verified: " + v.Detail)
	case !out.json:
		return out.line("verified: %s", v.Detail)
	}
	return nil
}

// capture is a request as somebody kept it.
type capture struct {
	style  payloads.HeaderStyle
	header http.Header
	body   []byte
	length int // what Content-Length says of the body; -1 if it says nothing
}

// readCapture reads the request that the flags name, whole or in parts.
func readCapture(c *cli.Context) (capture, error) {
	style, err := styleOf(c)
	if err != nil {
		return capture{}, err
	}
	parts := partsOf(style)
	var given, missing []string
	for _, name := range parts {
		if c.IsSet(name) {
			given = append(given, "--"+name)
		} else {
			missing = append(missing, "--"+name)
		}
	}
	switch {
	case c.String("request") != "" && len(given) > 0:
		return capture{}, usagef("--request holds the whole request, and %s a part of it: give one or the other", given[0])
	case c.String("request") != "":
		text, err := readInput(c, c.String("request"))
		if err != nil {
			return capture{}, err
		}
		return parseCapture(text, style)
	case len(missing) == len(parts):
		return capture{}, usagef("which request? give --request FILE, or %s", flagsInWords(parts))
	case len(missing) > 0:
		return capture{}, usagef("%s is missing: a request in parts is %s", strings.Join(missing, " and "), flagsInWords(parts))
	}
	body, err := readInput(c, c.String("body"))
	if err != nil {
		return capture{}, err
	}
	return capture{style, headerOf(c, style), body, -1}, nil
}

// readInput reads a file, or stdin for "-", of at most maxReceived bytes.
func readInput(c *cli.Context, name string) ([]byte, error) {
	in := c.App.Reader
	if name != "-" {
		file, err := os.Open(name) //nolint:gosec // the user's own choice of a file
		if err != nil {
			return nil, fmt.Errorf("reading the request: %w", err)
		}
		defer func() { _ = file.Close() }()
		in = file
	}
	text, err := io.ReadAll(io.LimitReader(in, maxReceived+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the request: %w", err)
	case len(text) > maxReceived:
		return nil, fmt.Errorf("the request is larger than %d MiB, and no delivery of Ringback is", maxReceived>>20)
	}
	return text, nil
}

// requestLine is the first line of a captured request; a capture without one begins with its headers.
var requestLine = regexp.MustCompile(`^[A-Z]+ \S+( HTTP/[0-9.]+)?\r?\n`)

// parseCapture takes a captured request apart and leaves the body as it is, but for a chunked one, whose framing is no part of it.
// If style is empty, its headers say which it has.
func parseCapture(text []byte, style payloads.HeaderStyle) (capture, error) {
	text = text[len(requestLine.Find(text)):]
	end, blank := bytes.Index(text, []byte("\n\r\n")), 3
	if lf := bytes.Index(text, []byte("\n\n")); lf >= 0 && (end < 0 || lf < end) {
		end, blank = lf, 2
	}
	if end < 0 {
		return capture{}, errors.New("the request has no empty line between its headers and its body: give it whole, as it was captured")
	}
	header, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(text[:end+blank]))).ReadMIMEHeader()
	if err != nil {
		return capture{}, errors.New("the request's headers are not readable: give it as it was captured, with one NAME: VALUE on each line")
	}
	r := capture{cmp.Or(style, payloads.StyleOf(http.Header(header))), http.Header(header), text[end+blank:], -1}
	if n, err := strconv.Atoi(r.header.Get("Content-Length")); err == nil && n >= 0 {
		r.length = n
		if n < len(r.body) && len(bytes.Trim(r.body[n:], "\r\n")) == 0 { // the end of the file's last line, and no part of the body
			r.body = r.body[:n]
		}
	}
	if strings.EqualFold(r.header.Get("Transfer-Encoding"), "chunked") {
		if whole, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(r.body))); err == nil {
			r.body = whole
		}
	}
	return r, nil
}

// verify judges the request as a receiver would have at now.
func (r capture) verify(now time.Time, secrets []payloads.Secret) verification {
	err := r.style.Diagnose(r.header, r.body, now, secrets...)
	sent, timed := r.style.SentAt(r.header)
	switch problem := problemOf(err); problem {
	case "":
		if !timed {
			return verification{Verified: true, Detail: fmt.Sprintf("the signature is right; no time is signed with the header style %s, so know a replayed request by its %s", r.style, payloads.HeaderID)}
		}
		return verification{Verified: true, Detail: fmt.Sprintf("the signature is right, and %s", apart(now.Sub(sent)))}
	case payloads.TooOld:
		return verification{false, string(problem), fmt.Sprintf("the signature is right, but the clock is off by %s: the request was signed at %s, and a receiver refuses what is older than %s; "+
			"set the receiver's clock, or if you look at the request later than it came, say when that was with --at", now.Sub(sent).Round(time.Second), clockUTC(sent), payloads.Tolerance)}
	case payloads.TooNew:
		return verification{false, string(problem), fmt.Sprintf("the signature is right, but the clock is off by %s: the request was signed at %s, which is still to come by a clock that says %s; set that clock",
			sent.Sub(now).Round(time.Second), clockUTC(sent), clockUTC(now))}
	case payloads.NoMatch:
		if r.length >= 0 && r.length != len(r.body) {
			return verification{false, string(payloads.BodyChanged), fmt.Sprintf("no signature matches, and the body is not what arrived: it has %d bytes here, and Content-Length says %d; capture it byte for byte", len(r.body), r.length)}
		}
		return verification{false, string(problem), err.Error()}
	default:
		return verification{false, string(problem), err.Error()}
	}
}

// problemOf is what payloads says is wrong; "" for nothing.
func problemOf(err error) payloads.Problem {
	if e, ok := errors.AsType[*payloads.VerifyError](err); ok {
		return e.Problem
	}
	return ""
}

// apart says how far the request's time lies from the clock.
func apart(d time.Duration) string {
	if d < 0 {
		return fmt.Sprintf("its timestamp is %s ahead of the clock", (-d).Round(time.Second))
	}
	return fmt.Sprintf("its timestamp is %s old", d.Round(time.Second))
}

func clockUTC(t time.Time) string { return t.UTC().Format(time.RFC3339) }
