package egress

import (
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"
)

// defaultKeepBody is how much of an answer's body is kept: as much as the HTTP API shows.
const defaultKeepBody = 1 << 10

// Request is one request to a stranger.
type Request struct {
	// Method is POST, PUT or PATCH. Empty means POST. OPTIONS may have no body: it asks and changes nothing, and net/http may send it twice.
	// Others are refused: net/http repeats them, too.
	Method string

	// URL is where to send it, exactly as registered. See [Client.CheckURL].
	URL string

	// Header is sent as it is and not changed. Names that frame the message (Host, Content-Length, Connection and the like) are refused.
	// Without a User-Agent none is sent.
	Header http.Header

	// Body is sent as it is. Its bytes must stay unchanged for good: a connection may still be reading them after Do returned.
	Body []byte

	// Timeout bounds everything from lookup to the end of the body. More than [Config.MaxTimeout] is cut to that. Zero: [DefaultTimeout].
	Timeout time.Duration

	// KeepBody is how many bytes of the answer's body are kept, at most 64 KiB: no more is ever read. Zero: 1 KiB.
	KeepBody int

	// Identity is who this side is in the TLS handshake, and whom it trusts. Nil: as [Config.TLS] says.
	Identity *Identity

	// Repeatable allows the request to go out twice. If a kept connection ended before anything of an answer came, the request goes out once more,
	// at once and on a connection that is a second old at most. Repeatable is for receivers that know the request again when they see it twice.
	Repeatable bool
}

// Response is an answer: status and headers arrived.
type Response struct {
	Status int         // 100 to 999; informational answers are skipped, but for 101
	Phrase string      // the words of the status line, if they are not the usual; HTTP/2 has none
	Header http.Header // the names in canonical form, the values as they came

	// Body is the beginning of the body, not decoded: up to [Request.KeepBody] bytes. Nil for a 101.
	Body []byte

	// Truncated is true if Body is not the whole body: it was longer, the time was up, or the connection broke.
	Truncated bool

	Proto  string // "HTTP/1.1", "HTTP/2.0" or "HTTP/1.0"
	Timing Timing
}

// Do sends req once ([Request.Repeatable] apart) and returns the answer, or an error that is always an [*Error]. An answer is an answer from
// its status and headers on. If the body then drips, breaks off or never ends, the response has as much of it as arrived within the timeout and
// the limits.
//
// Do applies the policy of [Client.CheckURL] again, since an operator may have narrowed it since the registration.
func (c *Client) Do(ctx context.Context, req Request) (*Response, error) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, c.timeout(req.Timeout))
	defer cancel()
	resp, stale, err := c.try(ctx, req, start)
	if stale && req.Repeatable && ctx.Err() == nil {
		if resp, _, err = c.try(ctx, req, start); err == nil {
			resp.Timing.Repeated = true
		} else {
			err.Timing.Repeated = true
		}
	}
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// try sends req once. If a kept connection turned out to be of no use, the failure is stale, and the next try gets another connection.
func (c *Client) try(ctx context.Context, req Request, start time.Time) (resp *Response, stale bool, failure *Error) {
	tr := &trace{phase: PhaseConnect, since: start, body: req.Body}
	tr.until, _ = ctx.Deadline()
	out, failure := c.build(tr.attach(ctx), req, tr)
	if failure != nil {
		return nil, false, failure
	}
	answer, cause := c.transport.RoundTrip(out)
	if cause != nil {
		failure = explain(ctx, cause, tr, start)
		stale = tr.stale(failure)
		switch {
		case stale:
			c.hosts.leave(tr.pool, time.Second)
		case tr.suspects(failure):
			c.hosts.leave(tr.pool, math.MaxInt64)
		}
		return nil, stale, failure
	}
	defer func() { _ = answer.Body.Close() }()
	resp = &Response{Status: answer.StatusCode, Phrase: phrase(answer), Header: answer.Header, Proto: answer.Proto}
	readBody(resp, answer, keep(req.KeepBody))
	phase, _, timing := tr.state(start)
	if resp.Status < 100 {
		return nil, false, &Error{Reason: BadResponse, Phase: phase, Detail: "the answer's status is not one of HTTP (100 to 599)", Timing: timing}
	}
	if answer.ProtoMajor == 1 && !answer.Close {
		tr.park(c.hosts, answer.Header)
	}
	resp.Timing = timing
	return resp, false, nil
}

// phrase returns the words of a status line, if they are not the usual for its code.
func phrase(answer *http.Response) string {
	_, words, _ := strings.Cut(answer.Status, " ")
	if words == http.StatusText(answer.StatusCode) {
		return ""
	}
	return words
}

// timeout bounds the timeout that a request wants.
func (c *Client) timeout(wanted time.Duration) time.Duration {
	if wanted <= 0 {
		wanted = DefaultTimeout
	}
	return min(wanted, c.maxTimeout)
}

// keep bounds how much of a body a request wants to keep.
func keep(wanted int) int {
	if wanted <= 0 {
		return defaultKeepBody
	}
	return min(wanted, maxReadBody)
}

// build returns req as net/http sends it, or an *Error if it may not be sent.
//
// GetBody lets net/http resend a request on another connection after it failed on a kept one. Without GetBody net/http does not resend even if
// nothing was written. With it, and with a method that is not idempotent by itself, net/http resends only if nothing was written (HTTP/1) or the
// server said it did not take the request (HTTP/2).
func (c *Client) build(ctx context.Context, req Request, tr *trace) (*http.Request, *Error) {
	switch req.Method {
	case "":
		req.Method = http.MethodPost
	case http.MethodPost, http.MethodPut, http.MethodPatch:
	case http.MethodOptions:
		if len(req.Body) > 0 {
			return nil, &Error{Reason: BadRequest, Detail: "the method OPTIONS takes no body"}
		}
	default:
		return nil, &Error{Reason: BadRequest, Detail: "the method must be POST, PUT or PATCH, or OPTIONS"}
	}
	t, err := parseTarget(req.URL)
	if err != nil {
		return nil, &Error{Reason: BadRequest, Detail: "the URL " + err.Error()}
	}
	if err := c.guard.checkTarget(t); err != nil {
		reason := BlockedAddress
		if errors.Is(err, ErrNameNotAllowed) {
			reason = NameNotAllowed
		}
		return nil, &Error{Reason: reason, Detail: "the URL " + err.Error()}
	}
	header, detail := outgoing(req.Header)
	if detail != "" {
		return nil, &Error{Reason: BadRequest, Detail: detail}
	}
	if tr.owner, err = c.identities.get(req.Identity); err != nil {
		return nil, &Error{Reason: BadRequest, Detail: err.Error()}
	}
	tr.pool = c.hosts.current(t.host(), t.port, tr.owner.name())
	u := t.url()
	u.Host = tr.pool.pool
	out := &http.Request{
		Method: req.Method, URL: u, Host: t.authority, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: http.NoBody, ContentLength: int64(len(req.Body)),
	}
	if len(req.Body) > 0 {
		out.Body, out.GetBody = newBody(req.Body), tr.getBody
	}
	return out.WithContext(ctx), nil
}

// outgoing returns h as it may be handed to net/http, or says what is wrong with it. Values are not repeated: they may be secret.
//
// Two habits of net/http are switched off, in a copy of h. It would invent a User-Agent. And if a request carries an idempotency key, it would
// resend it although it was written and perhaps taken. It looks for that header under its canonical name only, and names have no case on the wire.
func outgoing(h http.Header) (header http.Header, detail string) {
	for name, values := range h {
		if !httpguts.ValidHeaderFieldName(name) {
			return nil, "a header name holds characters that are not allowed in one"
		}
		if framing(name) {
			return nil, "the header " + http.CanonicalHeaderKey(name) + " belongs to the connection and cannot be set"
		}
		for _, v := range values {
			if !httpguts.ValidHeaderFieldValue(v) {
				return nil, "the value of the header " + http.CanonicalHeaderKey(name) + " holds control characters"
			}
		}
	}
	_, named := h["User-Agent"]
	if named && h["Idempotency-Key"] == nil && h["X-Idempotency-Key"] == nil {
		return h, ""
	}
	h = h.Clone()
	if h == nil {
		h = make(http.Header, 1)
	}
	if !named {
		h["User-Agent"] = []string{""}
	}
	for _, key := range [...]string{"Idempotency-Key", "X-Idempotency-Key"} {
		if values, ok := h[key]; ok {
			delete(h, key)
			h[strings.ToLower(key)] = values
		}
	}
	return h, ""
}

// framing reports whether a header is about the connection or the shape of the message (RFC 9110, 7.6.1 and 8.6), which only the transport decides.
func framing(name string) bool {
	switch len(name) { // most names are none of these: tell by the length before comparing
	case 2, 4, 6, 7, 10, 14, 16, 17:
		for _, f := range [...]string{"Te", "Host", "Expect", "Trailer", "Upgrade", "Keep-Alive", "Connection", "Content-Length", "Transfer-Encoding"} {
			if strings.EqualFold(name, f) {
				return true
			}
		}
	}
	return len(name) > 6 && strings.EqualFold(name[:6], "Proxy-")
}

// readBuffers are the buffers for bodies. Most bodies fit into one read.
var readBuffers = sync.Pool{New: func() any { return new([4 << 10]byte) }}

// readBody reads the body of answer into resp, at most maxReadBody bytes of it. If reading fails, only Truncated says so.
func readBody(resp *Response, answer *http.Response, keep int) {
	if answer.StatusCode == http.StatusSwitchingProtocols {
		return // there is no body but the other protocol: reading would ignore every deadline (golang/go#44988)
	}
	if answer.Body == http.NoBody {
		return
	}
	buf := readBuffers.Get().(*[4 << 10]byte)
	defer readBuffers.Put(buf)
	limit := maxReadBody
	if answer.ContentLength > maxReadBody {
		limit = keep // the rest will not be read to its end anyway
	}
	for read := 0; read < limit; {
		n, err := answer.Body.Read(buf[:min(len(buf), limit-read)])
		read += n
		resp.Body = append(resp.Body, buf[:min(n, keep-len(resp.Body))]...)
		if err != nil {
			resp.Truncated = err != io.EOF || read > len(resp.Body)
			return
		}
	}
	resp.Truncated = true
}
