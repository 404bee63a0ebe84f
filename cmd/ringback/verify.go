package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
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

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/payloads"
)

func verifyCommand() *cli.Command {
	return &cli.Command{
		Name:  "verify",
		Usage: "say whether a captured request is signed with a secret or a published key, and if not, why",
		Description: "Takes a request as it was captured, byte for byte: request line, headers, an empty line, the body.\n" +
			"Or its parts: --id, --timestamp, --signature and --body. Talks to nobody, unless --jwks is a URL, and never shows a secret.\n" +
			"Its headers say which header style it has. In parts, --style github and stripe are --signature and --body alone.\n" +
			"Exit code 0: it verifies; 1: it does not.\n\n" +
			examples(
				"ringback verify --secret whsec_… --request request.http --at 2026-11-22T09:39:00Z",
				"ringback verify --id dlv_… --timestamp 1795340314 --signature 'v1,…' --body body.json",
				"ringback verify --jwks jwks.json --url https://partner.example/hook --request request.http",
			),
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "secret", Usage: "signing `SECRET` of the callback, whsec_… or its base64 (repeatable: one that matches is enough)", EnvVars: []string{"RINGBACK_SECRET"}},
			&cli.StringFlag{Name: "jwks", Usage: "verify by the public keys in this set instead, from a `URL|FILE` (- is stdin)"},
			&cli.StringFlag{Name: "url", Usage: "with --jwks: the `URL` that the request was sent to, without which a signature by RFC 9421 is not looked at"},
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
	keys, err := keysToVerify(c)
	if err != nil {
		return err
	}
	now := time.Now()
	if at := c.String("at"); at != "" {
		if now, err = time.Parse(time.RFC3339, at); err != nil {
			return usagef("--at takes a time such as 2026-11-21T09:30:00Z, not %q", at)
		}
	}
	captured, err := readCapture(c)
	if err != nil {
		return err
	}
	var v verification
	if keys != nil {
		captured.style = "" // keys do not sign in one
		err := captured.byKeys(now, keys, c.String("url"))
		if v = captured.verify(now, err); v.Verified && captured.hasMessageSignature() && c.String("url") == "" {
			v.Detail += "; its message signature (RFC 9421) was not looked at: to verify that, too, say with --url where the request was sent to"
		}
	} else {
		secrets, err := signingSecrets(captured.style, c.StringSlice("secret"))
		if err != nil {
			return err
		}
		err = captured.style.Diagnose(captured.header, captured.body, now, secrets...)
		if missing := unsigned(err); missing && captured.signedByKeys() {
			err = &payloads.VerifyError{Problem: problemOf(err), Message: "no secret signs this request, a key does: verify it by the company's published keys, with --jwks"}
		}
		v = captured.verify(now, err)
	}
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

// keysToVerify are the public keys to verify by. They are nil if secrets are given instead.
func keysToVerify(c *cli.Context) ([]payloads.PublicKey, error) {
	if !c.IsSet("jwks") {
		if c.IsSet("url") {
			return nil, usagef("--url goes with --jwks: a signature by a secret is not of the URL")
		}
		return nil, wantSecret(c.StringSlice("secret"))
	}
	if given := strings.Join(c.StringSlice("secret"), ","); given != os.Getenv("RINGBACK_SECRET") { // what the environment has is there for other commands, too
		return nil, usagef("--secret and --jwks are two ways to verify: give one of them")
	}
	return publicKeys(c)
}

// capture is a request as somebody kept it.
type capture struct {
	style  payloads.HeaderStyle
	method string // POST, unless the request line says another
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
	return capture{style, http.MethodPost, headerOf(c, style), body, -1}, nil
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
	line := requestLine.Find(text)
	text = text[len(line):]
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
	r := capture{cmp.Or(style, payloads.StyleOf(http.Header(header))), http.MethodPost, http.Header(header), text[end+blank:], -1}
	if method, _, ok := bytes.Cut(line, []byte(" ")); ok {
		r.method = string(method)
	}
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

// verify says in words what a receiver would have found at now. err is the diagnosis.
func (r capture) verify(now time.Time, err error) verification {
	sent, timed := r.sentAt()
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

// signedAt is the time in a signature by RFC 9421.
var signedAt = regexp.MustCompile(`;created=([0-9]{1,12});`)

// sentAt is the time that the request says it was signed at, which was found readable. One without a style is signed by a key.
func (r capture) sentAt() (time.Time, bool) {
	if r.style != "" {
		return r.style.SentAt(r.header)
	}
	text := r.header.Get(payloads.HeaderTimestamp)
	if created := signedAt.FindStringSubmatch(r.header.Get(payloads.HeaderSignatureInput)); created != nil {
		text = created[1]
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	return time.Unix(seconds, 0), err == nil
}

// keySetTimeout is how long a key set is waited for.
const keySetTimeout = 15 * time.Second

// publicKeys reads the key set that --jwks names.
func publicKeys(c *cli.Context) ([]payloads.PublicKey, error) {
	from := c.String("jwks")
	text, err := readKeySet(c, from)
	if err != nil {
		return nil, err
	}
	keys, err := payloads.ParseJWKS(text)
	if err != nil {
		return nil, fmt.Errorf("--jwks: %w", err)
	}
	if len(keys) == 0 {
		return nil, errors.New("--jwks: the set has no Ed25519 key: is it the right company's, and has a callback of it signature.ed25519 or signature.rfc9421?")
	}
	return keys, nil
}

// readKeySet reads a key set from a URL, a file, or stdin for "-".
func readKeySet(c *cli.Context, from string) ([]byte, error) {
	if !strings.HasPrefix(from, "http://") && !strings.HasPrefix(from, "https://") {
		return readInput(c, from)
	}
	ctx, cancel := context.WithTimeout(c.Context, keySetTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, from, http.NoBody)
	if err != nil {
		return nil, usagef("--jwks takes a URL or a file, and this is no URL: %s", printable(from))
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, fmt.Errorf("fetching the key set: %w", err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetching the key set: answered %s", answer.Status)
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxReceived+1))
	if err != nil {
		return nil, fmt.Errorf("fetching the key set: %w", err)
	}
	if len(text) > maxReceived {
		return nil, fmt.Errorf("the key set is larger than %d MiB", maxReceived>>20)
	}
	return text, nil
}

// byKeys diagnoses a request by its Ed25519 signatures: that of Standard Webhooks, and that of RFC 9421, if the URL is given that it was sent to. It has one of them
// at least, and what it has must be right.
func (r capture) byKeys(now time.Time, keys []payloads.PublicKey, url string) error {
	err := payloads.DiagnoseEd25519(r.header, r.body, now, keys...)
	if !r.hasMessageSignature() || err != nil && !unsigned(err) {
		return err
	}
	if url == "" {
		if err == nil {
			return nil
		}
		return &payloads.VerifyError{Problem: payloads.MissingHeader, Message: "the request is signed by RFC 9421, whose signature is of the URL, too: say which one it was sent to with --url"}
	}
	if sent, err := egress.WireURL(url); err == nil {
		url = sent
	}
	return payloads.VerifyMessage(payloads.HTTPMessage{Method: r.method, URL: url, Header: r.header, Body: r.body}, now, keys...)
}

// hasMessageSignature reports whether the request is signed by RFC 9421, or was before something took a part of that away.
func (r capture) hasMessageSignature() bool {
	return r.header.Get(payloads.HeaderSignatureInput) != "" || r.header.Get(payloads.HeaderMessageSignature) != ""
}

// signedByKeys reports whether a key signs the request, in one of the two ways.
func (r capture) signedByKeys() bool {
	return r.hasMessageSignature() || strings.HasPrefix(r.header.Get(payloads.HeaderSignature), "v1a,")
}

// unsigned reports whether a diagnosis found no signature to look at.
func unsigned(err error) bool {
	problem := problemOf(err)
	return problem == payloads.NoSignature || problem == payloads.MissingHeader
}
