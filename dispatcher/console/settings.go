package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/ringback/ringback/dispatcher/client"
)

// A setting is a field of a callback's form, with the member of a registration that it stands for.
type setting struct {
	name     string
	id       string // of its element
	label    string
	hint     string // may have `code`; empty: the label says enough
	sample   string // what stands in it while it is empty
	options  []option
	path     []string // of the member; nil: the match
	kind     kind
	drop     bool   // if it is emptied, all that its path begins with goes
	head     string // the setting without which this one says nothing; empty: there is none
	requests bool   // it says something of requests: where none are made, the form does not have it
	atFirst  bool   // only the form of a new callback has it
	required bool
}

// An option is a value of a setting that takes one of several, and what it is called.
type option struct{ value, label string }

// A kind says how a setting's text is read, and what its field is.
type kind string

// The kinds of settings. What is emptied has its default.
const (
	ofText   kind = "text"
	ofURL    kind = "url"
	ofLines  kind = "lines"
	ofSecret kind = "password" // it is on no page again
	ofNumber kind = "decimal"
	ofJSON   kind = "json"
	ofOne    kind = "one"  // of its options, the first of which may be empty
	ofFlag   kind = "flag" // yes, or nothing
	ofPart   kind = "part" // yes: its member is there, as an object with what the settings say whose head it is
)

// yes is the text of a setting that is on.
const yes = "yes"

// A part of the form holds settings.
type part struct {
	summary  string // what it is folded under; empty: it is always in sight
	settings []setting
}

// parts are the form's. What of a callback is not here is set elsewhere, and stays as it is.
var parts = []part{
	{"", []setting{
		{name: "callback_type", id: "e-type", label: "Event type", kind: ofText, path: []string{"callback_type"}, required: true, hint: "Which events it is for: one type, or several such as `customer.*`, or `*` for all of them."},
		{name: "url", id: "e-url", label: "URL", kind: ofURL, path: []string{"destination", "url"}, requests: true, required: true, sample: "https://…", hint: "It is called exactly as it stands here."},
		{name: "method", id: "e-method", label: "Method", kind: ofOne, path: []string{"destination", "method"}, requests: true, options: plain("POST", "PUT", "PATCH")},
		{name: "content_type", id: "e-media", label: "Body as", kind: ofOne, path: []string{"destination", "content_type"}, requests: true, options: plain("application/json", "application/x-www-form-urlencoded")},
		{name: "description", id: "e-description", label: "Description (optional)", kind: ofLines, path: []string{"description"}},
	}},
	{"More", []setting{
		{name: "success", id: "e-success", label: "Which answers are good", kind: ofOne, path: []string{"success"}, requests: true, options: []option{
			{"", "as its type says"},
			{"json_200_or_204", "json 200 or 204"},
			{"any_2xx", "any 2xx"},
			{"any_response", "any response"},
		}},
		{name: "timeout", id: "e-timeout", label: "Time that an attempt has", kind: ofText, path: []string{"timeout"}, requests: true, sample: "15s"},
		{name: "max_attempts", id: "e-attempts", label: "Attempts at most", kind: ofNumber, path: []string{"retry", "max_attempts"}, requests: true, sample: "15"},
		{name: "per_second", id: "e-rate", label: "Attempts a second at most", kind: ofNumber, path: []string{"rate_limit", "per_second"}, requests: true, drop: true, sample: "as fast as it goes"},
		{name: "match", id: "e-match", label: "Only events with", kind: ofLines, hint: "A line for each attribute that the type is matched by, such as `campaign_token=r3zhm8`. Empty: all events of the type."},
	}},
	{"Filter and shape", []setting{
		{name: "filter", id: "e-filter", label: "Filter", kind: ofJSON, path: []string{"filter"}, sample: `{"pointer": "/status", "op": "equals", "value": "OK"}`, hint: "Only events whose payload meets it: a clause, or `all`, `any` or `not` with a list of them. Empty: all."},
		{name: "template", id: "e-template", label: "Template", kind: ofJSON, path: []string{"template"}, sample: `{"id": {"$pointer": "/requestId"}}`, hint: "What is sent instead of the payload: `{\"$pointer\": \"/…\"}` stands for what the payload has there. Empty: the payload."},
		{name: "envelope", id: "e-envelope", label: "Envelope", kind: ofOne, path: []string{"envelope"}, options: []option{
			{"", "none"},
			{"cloudevents-structured", "CloudEvents, structured"},
			{"cloudevents-binary", "CloudEvents, binary"},
		}},
		{name: "body", id: "e-body", label: "Body", kind: ofOne, path: []string{"body"}, requests: true, options: []option{
			{"", "the payload"},
			{"thin", "thin: an address where the payload is had"},
		}},
	}},
	{"Signature", []setting{
		{name: "secret", id: "e-secret", label: "Signing secret of your own (optional)", kind: ofSecret, path: []string{"secret"}, requests: true, atFirst: true, hint: "One that your receiver has already. It is on no page again. Empty: one is made, and shown once."},
		{name: "header_style", id: "e-style", label: "Signature as of", kind: ofOne, path: []string{"header_style"}, requests: true, hint: "Receivers that verify requests of one of these verify ours. As of GitHub there is one signature: a new secret replaces the one before at once.", options: []option{
			{"", "Standard Webhooks"},
			{"svix", "Svix"},
			{"github", "GitHub"},
			{"stripe", "Stripe"},
		}},
		{name: "hmac", id: "e-hmac", label: "Sign by the secret (HMAC)", kind: ofFlag, path: []string{"signature", "hmac"}, requests: true},
		{name: "ed25519", id: "e-ed25519", label: "Sign by a key of the callback’s own, as Standard Webhooks has it (Ed25519)", kind: ofFlag, path: []string{"signature", "ed25519"}, requests: true},
		{name: "rfc9421", id: "e-rfc9421", label: "Sign by that key as HTTP Message Signatures have it (RFC 9421)", kind: ofFlag, path: []string{"signature", "rfc9421"}, requests: true},
	}},
	{"Together", []setting{
		{name: "batch", id: "e-batch", label: "Send deliveries together, as a JSON array in one request", kind: ofPart, path: []string{"batch"}, requests: true, drop: true},
		{name: "max_events", id: "e-batch-events", label: "Events in a request at most", kind: ofNumber, path: []string{"batch", "max_events"}, requests: true, head: "batch", sample: "100"},
		{name: "max_bytes", id: "e-batch-bytes", label: "Bytes of payloads at most", kind: ofNumber, path: []string{"batch", "max_bytes"}, requests: true, head: "batch", sample: "262144"},
		{name: "max_wait", id: "e-batch-wait", label: "The first waits at most", kind: ofText, path: []string{"batch", "max_wait"}, requests: true, head: "batch", sample: "5s"},
		{name: "element", id: "e-batch-element", label: "Each event as", kind: ofOne, path: []string{"batch", "element"}, requests: true, head: "batch", options: []option{
			{"", "its payload"},
			{"envelope", "an object with id, type and payload"},
		}},
		{name: "batch_rate", id: "e-batch-rate", label: "A rate limit counts", kind: ofOne, path: []string{"batch", "rate_limit"}, requests: true, head: "batch", options: []option{
			{"", "requests"},
			{"events", "events"},
		}},
		{name: "results", id: "e-batch-results", label: "The answer may speak of each event", kind: ofFlag, path: []string{"batch", "results"}, requests: true, head: "batch"},
	}},
	{"In order", []setting{
		{name: "ordering_key", id: "e-order-key", label: "In order by", kind: ofText, path: []string{"ordering", "key"}, requests: true, drop: true, sample: "/customerId", hint: "The place in the payload: of events with the same value there, the next goes out after the one before. Empty: no order."},
		{name: "skip_after", id: "e-order-skip", label: "The next waits at most", kind: ofText, path: []string{"ordering", "skip_after"}, requests: true, head: "ordering_key", sample: "until the one before has ended"},
	}},
}

// plain are options that are called as they are written.
func plain(values ...string) (all []option) {
	for _, value := range values {
		all = append(all, option{value, value})
	}
	return all
}

// settings are those of all parts.
var settings = func() (all []setting) {
	for _, p := range parts {
		all = append(all, p.settings...)
	}
	return all
}()

// settingOf is the setting of a name.
func settingOf(name string) setting {
	return settings[slices.IndexFunc(settings, func(s setting) bool { return s.name == name })]
}

// unset are the settings of a callback of which nothing was said. What is not among them is empty.
var unset = map[string]string{"method": http.MethodPost, "content_type": "application/json", "hmac": yes}

// settingsOf are a callback's, as the form has them.
func settingsOf(cb *client.Callback) map[string]string {
	of := map[string]string{
		"callback_type": cb.CallbackType, "url": cb.Destination.URL, "method": cb.Destination.Method, "content_type": cb.Destination.ContentType,
		"description": cb.Description, "success": cb.Success, "timeout": cb.Timeout.String(), "max_attempts": strconv.Itoa(cb.Retry.MaxAttempts), "match": matchText(cb.Match),
		"template": indented(cb.Template), "envelope": cb.Envelope, "body": cb.Body, "header_style": cb.HeaderStyle, "hmac": yes,
	}
	if cb.RateLimit != nil {
		of["per_second"] = strconv.FormatFloat(cb.RateLimit.PerSecond, 'g', -1, 64)
	}
	if cb.Filter != nil {
		text, _ := asJSON(cb.Filter) // it came as JSON
		of["filter"] = indented(json.RawMessage(text))
	}
	if s := cb.Signature; s != nil {
		of["hmac"], of["ed25519"], of["rfc9421"] = flagText(s.HMAC), flagText(s.Ed25519), flagText(s.RFC9421)
	}
	if o := cb.Ordering; o != nil {
		of["ordering_key"] = o.Key
		if o.SkipAfter != 0 {
			of["skip_after"] = o.SkipAfter.String()
		}
	}
	if cb.Batch != nil {
		maps.Copy(of, batchOf(cb.Batch))
	}
	return of
}

// batchOf are the settings of a batch.
func batchOf(b *client.Batch) map[string]string {
	of := map[string]string{
		"batch": yes, "max_events": strconv.Itoa(b.MaxEvents), "max_bytes": strconv.Itoa(b.MaxBytes), "max_wait": b.MaxWait.String(), "results": flagText(b.Results),
		"element": b.Element, "batch_rate": b.RateLimit,
	}
	if b.Element == "payload" {
		of["element"] = ""
	}
	if b.RateLimit == "requests" {
		of["batch_rate"] = ""
	}
	return of
}

// signsByKey reports whether a callback's requests are signed by keys of its own.
func signsByKey(cb *client.Callback) bool {
	return cb.Signature != nil && (cb.Signature.Ed25519 || cb.Signature.RFC9421)
}

func flagText(on bool) string {
	if on {
		return yes
	}
	return ""
}

// matchText is what narrows a match, a line for each attribute.
func matchText(match map[string]string) string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(match)) {
		lines = append(lines, name+"="+match[name])
	}
	return strings.Join(lines, "\n")
}

// matchIn reads such lines.
func matchIn(text string) (map[string]any, error) {
	match := map[string]any{}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			return nil, misread(client.FieldErr{Location: "match", Message: "must have a line for each attribute, such as campaign_token=r3zhm8"})
		}
		match[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	return match, nil
}

// misread is the error of a form that cannot be made a call of the API's of.
func misread(faults ...client.FieldErr) error {
	return &client.APIError{Status: http.StatusUnprocessableEntity, Detail: "the form cannot be read", Errors: faults}
}

// sentText is a text as a form gives it back, whatever it was: browsers end lines with CR LF.
func sentText(text string) string { return strings.TrimSpace(strings.ReplaceAll(text, "\r\n", "\n")) }

// patchOf is the merge patch that leads from what a callback has to what the form says. It names what differs, and nothing else, so that what others change
// meanwhile stays. block is the name of the block that the callback's match has; "": it has none.
func patchOf(had, given map[string]string, block string) (map[string]any, error) {
	patch := map[string]any{}
	var faults []client.FieldErr
	for _, s := range settings {
		if s.path == nil || given[s.name] == sentText(had[s.name]) {
			continue
		}
		if s.head != "" && given[s.head] == "" {
			if given[s.name] != "" {
				faults = append(faults, s.fault("does nothing without “"+settingOf(s.head).label+"”: give that, too, or take this back"))
			}
			continue
		}
		value, err := s.value(given[s.name])
		if err != nil {
			faults = append(faults, s.fault(err.Error()))
		}
		s.put(patch, value)
	}
	if refused, ok := errors.AsType[*client.APIError](patchMatch(patch, had, given, block)); ok {
		faults = append(faults, refused.Errors...)
	}
	if faults != nil {
		return nil, misread(faults...)
	}
	return patch, nil
}

// fault is a fault of the setting's own.
func (s setting) fault(message string) client.FieldErr {
	return client.FieldErr{Location: "body." + strings.Join(s.path, "."), Message: message}
}

// patchMatch has a patch change what narrows the match.
func patchMatch(patch map[string]any, had, given map[string]string, block string) error {
	typed := given["callback_type"]
	if given["match"] == sentText(had["match"]) && typed == had["callback_type"] {
		return nil
	}
	match, err := matchIn(given["match"])
	if err != nil {
		return err
	}
	was, err := matchIn(had["match"])
	if err != nil {
		return err
	}
	if block != "" {
		patch[block] = nil
	}
	if len(match) == 0 {
		return nil
	}
	if typed == had["callback_type"] && block != "" {
		typed = block
	}
	for name := range was {
		if _, stays := match[name]; !stays && typed == block {
			match[name] = nil
		}
	}
	patch[typed] = match
	return nil
}

// value is what a text says of a setting. Nil is the default. The error is a sentence about the field.
func (s setting) value(text string) (any, error) {
	switch s.kind {
	case ofFlag:
		return text != "", nil
	case ofPart:
		if text != "" {
			return map[string]any{}, nil
		}
		return nil, nil //nolint:nilnil // documented
	case ofNumber: // the API has something to say of what is none
		if json.Valid([]byte(text)) {
			return json.RawMessage(text), nil
		}
	case ofJSON:
		if text != "" {
			return json.RawMessage(text), badJSON(text)
		}
	}
	if text == "" {
		return nil, nil //nolint:nilnil // documented
	}
	return text, nil
}

// badJSON says why a text is no JSON, and where; nil: it is JSON.
func badJSON(text string) error {
	var v any
	err := json.Unmarshal([]byte(text), &v)
	if err == nil {
		return nil
	}
	line := 1
	if e, ok := err.(*json.SyntaxError); ok { //nolint:errorlint // as json returns it
		line += strings.Count(text[:min(max(int(e.Offset)-1, 0), len(text))], "\n")
	}
	return fmt.Errorf("is no JSON: %w, in line %d", err, line)
}

// put puts a setting's value into a patch.
func (s setting) put(patch map[string]any, value any) {
	path := s.path
	if value == nil && s.drop {
		path = path[:1]
	}
	for _, name := range path[:len(path)-1] {
		inner, ok := patch[name].(map[string]any)
		if !ok {
			inner = map[string]any{}
			patch[name] = inner
		}
		patch = inner
	}
	patch[path[len(path)-1]] = value
}
