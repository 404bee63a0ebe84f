package registry

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/ringback/ringback/payloads"
)

// maxURLLen is the longest URL, in bytes.
const maxURLLen = 2048 // api: registration

func (d *decoder) destination(o object, cb *Callback) {
	const location = "body.destination"
	raw, ok := o.take("destination")
	if !ok {
		d.fail(location, `is missing: it says where to send, as {"url": "https://…"}, or {"pull": true} if the partner fetches`, nil)
		return
	}
	dest, ok := d.object(raw, location)
	if !ok {
		return
	}
	if d.pulls(dest, cb) {
		return
	}
	if target, ok := d.str(dest, location, "url"); ok {
		cb.Destination.URL = target
		before := ""
		if d.prev != nil {
			before = d.prev.Destination.URL
		}
		d.url(target, before, location+".url")
	} else if !d.failedAt(location + ".url") {
		d.fail(location+".url", "is missing: give the https URL that requests go to", nil)
	}
	cb.Destination.Method = d.choice(dest, location, "method", DefaultMethod, "POST", "PUT", "PATCH")
	cb.Destination.ContentType = d.choice(dest, location, "content_type", DefaultContentType, payloads.ContentTypeJSON, payloads.ContentTypeForm)
	d.unknown(dest, location, "url", "method", "content_type", "pull")
}

// url checks the rules for every URL. Config.CheckURL says which hosts are allowed.
// It is not asked about the URL from before: one that was allowed once does not stand
// in the way of other changes. No error repeats the URL: URLs carry secrets.
func (d *decoder) url(target, before, location string) {
	if len(target) > maxURLLen {
		d.fail(location, fmt.Sprintf("must have at most %d bytes", maxURLLen), nil)
		return
	}
	u, err := url.Parse(target)
	_, badEscape := errors.AsType[url.EscapeError](err)
	switch {
	case hasControl(target):
		d.fail(location, "must not hold control characters such as line breaks: remove them, or percent-encode them (%0A)", nil)
	case badEscape:
		d.fail(location, "has a % without two hex digits after it: write %25 for a literal %", nil)
	case err != nil || !strings.EqualFold(u.Scheme, "http") && !strings.EqualFold(u.Scheme, "https") || u.Host == "":
		d.fail(location, "must be an absolute http or https URL", nil)
	case u.User != nil:
		d.fail(location, "must not hold user info: use auth for that", nil)
	case strings.Contains(target, "#"):
		d.fail(location, "must not hold a fragment (#…): it would never be sent", nil)
	case d.checkURL != nil && target != before:
		if err := d.checkURL(target); err != nil {
			d.fail(location, err.Error(), nil)
		}
	}
}

func hasControl(s string) bool {
	return !utf8.ValidString(s) || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f })
}
