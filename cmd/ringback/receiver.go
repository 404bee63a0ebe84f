package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/payloads"
)

// maxReceived bounds a request's body: well over the 1 MiB that a server accepts by default.
const maxReceived = 16 << 20

// receiver is a partner's end of a callback. It is safe for concurrent use; lines never mix.
type receiver struct {
	secrets []payloads.Secret
	style   payloads.HeaderStyle // empty: as the headers of each request say
	forward *url.URL             // nil: answers by itself
	client  *http.Client
	strict  bool // answers 401 itself where the signature does not verify
	quiet   bool
	colour  bool

	mu      sync.Mutex // guards what follows and the output
	out     printer
	respond []int // the answers to come; the last one stays
}

func newReceiver(c *cli.Context) (*receiver, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // it is one
	transport.DisableCompression = true                          // it would add a header
	r := &receiver{
		out: newPrinter(c), quiet: c.Bool("quiet"), colour: isTerminal(c.App.Writer),
		client: &http.Client{
			Transport:     transport,
			Timeout:       55 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	var err error
	if r.style, err = styleOf(c); err != nil {
		return nil, err
	}
	if r.secrets, err = signingSecrets(r.style, c.StringSlice("secret")); err != nil {
		return nil, err
	}
	for _, s := range atCommas(c.StringSlice("respond")) {
		status, err := strconv.Atoi(s)
		if err != nil || status < 200 || status > 599 {
			return nil, usagef("--respond takes HTTP statuses from 200 to 599, such as 204 or 503,503,204")
		}
		r.respond = append(r.respond, status)
	}
	if to := c.String("forward-to"); to != "" {
		u, err := url.Parse(to)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return nil, usagef("--forward-to must be a URL such as http://127.0.0.1:3000/webhooks")
		}
		if c.IsSet("respond") {
			return nil, usagef("--respond and --forward-to exclude each other: with --forward-to, the answer is what that URL answers")
		}
		r.forward = u
	}
	r.strict = r.forward == nil && !c.IsSet("respond")
	return r, nil
}

// announce says what is to be seen here, before anything is.
func (r *receiver) announce(c *cli.Context, format string, a ...any) {
	to := c.App.Writer
	if r.out.json {
		to = c.App.ErrWriter // stdout is for requests
	}
	_, _ = fmt.Fprintf(to, format, a...)
	if len(r.secrets) == 0 {
		_, _ = fmt.Fprintln(to, "No secret given, so signatures are not verified: --secret whsec_… takes the one shown when the callback was created.")
	}
}

// answer is what a partner's server says.
type answer struct {
	status      int
	contentType string
	body        []byte
}

// received is one request and what was made of it.
type received struct {
	Time       time.Time       `json:"time"`
	Method     string          `json:"method"`
	Path       string          `json:"path"`
	EventType  string          `json:"event_type,omitempty"`
	EventID    string          `json:"event_id,omitempty"`
	Attempt    string          `json:"attempt,omitempty"`
	Replay     bool            `json:"replay,omitempty"` // it was replayed before
	DeliveryID string          `json:"delivery_id,omitempty"`
	Signature  string          `json:"signature,omitempty"` // "verified", "not_verified" or "no_secret"; empty: there is no request to verify
	Problem    string          `json:"problem,omitempty"`   // why it is not verified
	Bytes      int             `json:"bytes"`
	Status     int             `json:"status"`
	TookMS     float64         `json:"took_ms"`
	CallbackID int64           `json:"callback_id,omitempty"` // of one that was followed
	Missing    string          `json:"missing,omitempty"`     // why one that was followed was not passed on, or is not shown
	Body       json.RawMessage `json:"body,omitempty"`
	Form       json.RawMessage `json:"form,omitempty"` // what a body that is a form means
	body       []byte
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	start := time.Now()
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxReceived))
	if err != nil {
		http.Error(w, "the request's body could not be read", http.StatusBadRequest)
		return
	}
	signature, problem := r.verify(req.Header, body, start)
	said := answer{http.StatusUnauthorized, "text/plain; charset=utf-8", []byte("the signature does not verify: " + problem + "\n")}
	origin := req.Header.Get("WebHook-Request-Origin")
	if token := challenge(req.Header, body); token != nil && r.forward == nil {
		said = answer{http.StatusOK, "application/json", token}
	} else if req.Method == http.MethodOptions && origin != "" && r.forward == nil { // the handshake, which has no signature
		w.Header().Set("WebHook-Allowed-Origin", origin)
		said = answer{status: http.StatusOK}
	} else if !r.strict || signature != "not_verified" {
		said = r.answer(req, body)
	}
	if said.contentType != "" {
		w.Header().Set("Content-Type", said.contentType)
	}
	w.WriteHeader(said.status)
	_, _ = w.Write(said.body)

	got := received{
		Time: start, Method: req.Method, Path: req.URL.RequestURI(),
		EventType: req.Header.Get("Ringback-Event-Type"), EventID: req.Header.Get("Ringback-Event-Id"),
		Attempt: req.Header.Get("Ringback-Attempt"), Replay: req.Header.Get("Ringback-Replay") != "", DeliveryID: req.Header.Get(payloads.HeaderID),
		Signature: signature, Problem: problem, Bytes: len(body), Status: said.status, Form: readForm(req.Header, body), body: body,
	}
	got.TookMS = float64(time.Since(start).Microseconds()) / 1000
	r.print(got)
}

// challenge is the answer to a challenge, nil if the request is none. Nobody here knows a callback's secret before it is registered, so the
// signature does not matter.
func challenge(h http.Header, body []byte) []byte {
	if h.Get("Ringback-Event-Type") != "callback.challenge" {
		return nil
	}
	if form := readForm(h, body); form != nil {
		body = form
	}
	var said struct {
		Challenge string `json:"challenge"`
	}
	if json.Unmarshal(body, &said) != nil || said.Challenge == "" {
		return nil
	}
	token, err := json.Marshal(said)
	if err != nil {
		return nil
	}
	return token
}

// readForm is the payload that was sent as a form, nil if the body is none that Ringback sends.
func readForm(h http.Header, body []byte) json.RawMessage {
	mediaType, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || mediaType != payloads.ContentTypeForm {
		return nil
	}
	payload, err := payloads.DecodeForm(body)
	if err != nil {
		return nil // it is shown as it came
	}
	return payload
}

func (r *receiver) verify(h http.Header, body []byte, now time.Time) (verdict, why string) {
	if len(r.secrets) == 0 {
		return "no_secret", ""
	}
	if err := cmp.Or(r.style, payloads.StyleOf(h)).Verify(h, body, now, r.secrets...); err != nil {
		return "not_verified", err.Error()
	}
	return "verified", ""
}

func (r *receiver) answer(req *http.Request, body []byte) answer {
	if r.forward != nil {
		return r.handOn(req, body)
	}
	r.mu.Lock()
	status := r.respond[0]
	if len(r.respond) > 1 {
		r.respond = r.respond[1:]
	}
	r.mu.Unlock()
	if status == http.StatusOK {
		return answer{status, "application/json", []byte(`{"success":true}`)}
	}
	return answer{status: status}
}

// hopHeaders belong to one connection and are not handed on (RFC 9110, section 7.6.1).
var hopHeaders = []string{"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// unanswered is what is said where there is no answer to bring back.
const unanswered = "the URL of --forward-to did not answer"

// handOn hands a request on, and brings back its answer; 502 if there is none.
func (r *receiver) handOn(req *http.Request, body []byte) answer {
	said, err := r.pass(req.Context(), req.Method, req.Header, body)
	if err != nil {
		return answer{http.StatusBadGateway, "text/plain; charset=utf-8", []byte(unanswered + "\n")}
	}
	return said
}

// pass sends a request to the forward URL, byte for byte, and brings back its answer.
func (r *receiver) pass(ctx context.Context, method string, header http.Header, body []byte) (answer, error) {
	out, err := http.NewRequestWithContext(ctx, method, r.forward.String(), bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	out.Header = header.Clone()
	for _, name := range hopHeaders {
		out.Header.Del(name)
	}
	resp, err := r.client.Do(out) //nolint:gosec // the URL is that of --forward-to, the user's own
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	reply, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return answer{resp.StatusCode, resp.Header.Get("Content-Type"), reply}, nil
}

func (r *receiver) print(got received) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.out.json {
		_, _ = r.out.w.Write(got.jsonLine())
		return
	}
	_, _ = io.WriteString(r.out.w, got.line(r.colour))
	if !r.quiet && len(got.body) > 0 {
		_, _ = io.WriteString(r.out.w, got.shown())
	}
}

// jsonLine is the request as one line of JSON; a body that is not JSON is put as a string.
func (got received) jsonLine() []byte {
	var compact bytes.Buffer
	if json.Compact(&compact, got.body) == nil {
		got.Body = compact.Bytes()
	} else if text, err := json.Marshal(string(got.body)); err == nil && len(got.body) > 0 {
		got.Body = text
	}
	line, err := json.Marshal(got)
	if err != nil {
		return nil
	}
	return append(line, '\n')
}

// line is the request in one line of text.
func (got received) line(colour bool) string {
	parts := []string{got.Time.Format("15:04:05")}
	if got.Method != "" {
		parts = append(parts, got.Method+" "+got.Path)
	}
	if got.EventType != "" {
		parts = append(parts, got.EventType)
	}
	if got.Attempt != "" {
		parts = append(parts, "attempt "+got.Attempt)
		if got.Replay {
			parts = append(parts, "replay")
		}
	}
	if got.DeliveryID != "" {
		parts = append(parts, got.DeliveryID)
	}
	for i := range parts {
		parts[i] = printable(parts[i])
	}
	if got.Signature != "" {
		parts = append(parts, got.verdict(colour), fmt.Sprintf("%d bytes", got.Bytes))
	}
	return strings.Join(append(parts, got.outcome(colour)), "  ") + "\n"
}

// verdict says whether the signature verifies.
func (got received) verdict(colour bool) string {
	switch got.Signature {
	case "not_verified":
		return shaded(printable("NOT verified: "+got.Problem), red, colour)
	case "no_secret":
		return shaded("no secret given", yellow, colour)
	}
	return shaded("verified", green, colour)
}

// outcome says what was answered, or why there is no answer.
func (got received) outcome(colour bool) string {
	took := time.Duration(got.TookMS * float64(time.Millisecond)).Round(10 * time.Microsecond)
	switch {
	case got.Missing != "":
		return shaded(printable(got.Missing), red, colour)
	case got.Status == 0:
		return fmt.Sprintf("no answer in %s", took)
	}
	return fmt.Sprintf("answered %d in %s", got.Status, took)
}

func shaded(text, shade string, colour bool) string {
	if !colour {
		return text
	}
	return shade + text + noColour
}

// shown is the body under its line: JSON and forms pretty-printed, anything else as it is.
func (got received) shown() string {
	if got.Form != nil {
		return indented(got.Form)
	}
	return indented(got.body)
}

func indented(body []byte) string {
	const margin = "    "
	text := string(body)
	var b bytes.Buffer
	if json.Indent(&b, body, "", "  ") == nil {
		text = b.String()
	}
	text = strings.TrimRight(printableText(text), "\n")
	return margin + strings.ReplaceAll(text, "\n", "\n"+margin) + "\n"
}
