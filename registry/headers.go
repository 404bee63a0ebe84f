package registry

import (
	"fmt"
	"maps"
	"net/textproto"
	"slices"
	"strings"
)

const (
	maxHeaders     = 20
	maxHeaderBytes = 4 << 10 // names and values together, with ": " and the line's end
)

// ownHeaders are the header names that a callback may not set, each with the reason.
var ownHeaders = map[string]string{
	"Host":              "it comes from destination.url",
	"Content-Type":      "use destination.content_type",
	"User-Agent":        "Ringback names itself there",
	"Content-Length":    "it belongs to the connection",
	"Transfer-Encoding": "it belongs to the connection",
	"Connection":        "it belongs to the connection",
	"Keep-Alive":        "it belongs to the connection",
	"Te":                "it belongs to the connection",
	"Trailer":           "it belongs to the connection",
	"Upgrade":           "it belongs to the connection",
	"Expect":            "it belongs to the connection",
	"Cookie":            "use another header, or auth",
	"Traceparent":       "use trace",
	"Tracestate":        "use trace",
	// net/http repeats a request with one of these by itself when a connection
	// breaks, and the partner would hear of it twice.
	"Idempotency-Key":   "webhook-id is the same on every attempt and serves the purpose",
	"X-Idempotency-Key": "webhook-id is the same on every attempt and serves the purpose",
	// The names that follow would make a request seem to be another than it is, to a
	// proxy before the partner. If a URL ever leads inside, they would do so there.
	"Forwarded":                 forProxies,
	"X-Forwarded":               forProxies,
	"X-Real-Ip":                 forProxies,
	"X-Client-Ip":               forProxies,
	"True-Client-Ip":            forProxies,
	"X-Http-Method":             otherRequest,
	"X-Http-Method-Override":    otherRequest,
	"X-Method-Override":         otherRequest,
	"X-Original-Url":            otherRequest,
	"X-Rewrite-Url":             otherRequest,
	"Metadata":                  forMetadata,
	"Metadata-Flavor":           forMetadata,
	"X-Google-Metadata-Request": forMetadata,
	"Svix-Id":                   forSignature,
	"Svix-Timestamp":            forSignature,
	"Svix-Signature":            forSignature,
	"X-Hub-Signature-256":       forSignature,
	"X-Github-Delivery":         forSignature,
	"X-Github-Event":            forSignature,
	"Stripe-Signature":          forSignature,
}

const (
	forProxies   = "proxies say there who called"
	otherRequest = "it changes the request; use destination.url and destination.method"
	forMetadata  = "it opens the metadata services of clouds"
	forSignature = "it is where a signature travels; use header_style"
)

// ownPrefixes are the beginnings of names a callback may not set.
var ownPrefixes = []string{"Proxy-", "Webhook-", "Ringback-", "X-Forwarded-", "X-Aws-Ec2-Metadata-Token"}

// headers reads the callback's own headers. Values are secret: no error has one.
func (d *decoder) headers(o object, cb *Callback) {
	const location = "body.headers"
	given, ok := d.member(o, "headers")
	if !ok {
		return
	}
	seen := map[string]string{}
	size := 0
	headers := make(map[string]string, len(given))
	for _, name := range slices.Sorted(maps.Keys(given)) {
		value, ok := d.str(given, location, name)
		if !ok {
			continue
		}
		where := at(location, name)
		prev, hasPrev := d.prevHeader(name)
		if why := refuseHeader(name, cb.Auth != nil); why != "" && (!hasPrev || takenHeader(name) == "") { // what was registered once stays
			d.fail(where, why, nil)
			continue
		}
		if d.twice(seen[sameName(name)], name) {
			d.fail(where, "stands twice, in different spellings (letter case, or _ for -): give it once", nil)
		}
		seen[sameName(name)] = name
		value = d.unmask(value, where, prev, hasPrev)
		if !validHeaderValue(value) {
			d.fail(where, "must hold visible ASCII characters, with spaces or tabs only between them", nil)
		}
		headers[name] = value
		size += len(name) + len(value) + len(": \r\n")
	}
	if len(headers) > maxHeaders {
		d.fail(location, fmt.Sprintf("must be at most %d", maxHeaders), nil)
	}
	if size > maxHeaderBytes {
		d.fail(location, fmt.Sprintf("must have at most %d bytes together", maxHeaderBytes), nil)
	}
	if len(headers) > 0 {
		cb.Headers = headers
	}
}

// twice reports whether a receiver may take both names for one. Two that differ by
// _ for - and were registered once may stay.
func (d *decoder) twice(first, name string) bool {
	if first == "" {
		return false
	}
	_, before := d.prevHeader(first)
	_, both := d.prevHeader(name)
	return strings.EqualFold(first, name) || !before || !both
}

// refuseHeader says why a callback may not set the header. If it may, it says nothing.
func refuseHeader(name string, hasAuth bool) string {
	if !isHeaderName(name) {
		return "must be a header name: letters, digits and !#$%&'*+-.^_`|~"
	}
	if textproto.CanonicalMIMEHeaderKey(name) == "Authorization" && hasAuth {
		return "is set by auth already: drop one of the two"
	}
	return takenHeader(name)
}

// sameName is one spelling for all names that a receiver may take for one. Many
// receivers tell neither upper from lower case nor _ from -, as CGI does.
func sameName(name string) string {
	return textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(name, "_", "-"))
}

// takenHeader says why no callback may set the header: another part of the request
// sets it, or it does something that a callback may not. If one may, it says nothing.
func takenHeader(name string) string {
	canonical := sameName(name)
	if why, ok := ownHeaders[canonical]; ok {
		return "may not be set: " + why
	}
	for _, prefix := range ownPrefixes {
		if strings.HasPrefix(canonical, prefix) {
			return "may not be set: names that begin with " + strings.ToLower(prefix) + " are taken"
		}
	}
	return ""
}

// TakenHeaders are the names among the callback's own headers that could be
// registered once and no longer can, sorted. They are sent as ever.
func (cb *Callback) TakenHeaders() []string {
	var names []string
	for name := range cb.Headers {
		if takenHeader(name) != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// isHeaderName reports whether name is a token (RFC 9110, 5.6.2).
func isHeaderName(name string) bool {
	for _, c := range []byte(name) {
		alphanumeric := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alphanumeric && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return name != ""
}

func validHeaderValue(value string) bool {
	for _, c := range []byte(value) {
		if c < ' ' && c != '\t' || c > '~' {
			return false
		}
	}
	return value == strings.Trim(value, " \t")
}

// prevHeader is the value that "***" stands for. The name's letter case does not matter.
func (d *decoder) prevHeader(name string) (string, bool) {
	if d.prev == nil {
		return "", false
	}
	for n, value := range d.prev.Headers {
		if strings.EqualFold(n, name) {
			return value, true
		}
	}
	return "", false
}
