package registry

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ringback/ringback/payloads"
)

// decoder reads one registration and collects everything that is wrong with it.
type decoder struct {
	catalogue *payloads.Catalogue
	checkURL  func(string) error
	prev      *Callback // masked secrets come from it; nil: the callback is new
	fields    []payloads.FieldError
}

// object is a JSON object on its way through the decoder: members are taken out
// as they are read, so that what is left is unknown.
type object map[string]json.RawMessage

// take removes a member and returns it. null counts as absent.
func (o object) take(name string) (json.RawMessage, bool) {
	raw, ok := o[name]
	delete(o, name)
	return raw, ok && string(raw) != "null"
}

// member reads an optional object of the registration.
func (d *decoder) member(o object, name string) (object, bool) {
	raw, ok := o.take(name)
	if !ok {
		return nil, false
	}
	return d.object(raw, at("body", name))
}

func (d *decoder) object(raw json.RawMessage, location string) (object, bool) {
	var o object
	if err := json.Unmarshal(raw, &o); err != nil || o == nil {
		d.fail(location, "must be an object, but is "+kind(raw), nil)
		return nil, false
	}
	return o, true
}

// unknown reports what is left of an object within a registration.
func (d *decoder) unknown(o object, location string, known ...string) {
	for _, name := range slices.Sorted(maps.Keys(o)) {
		d.fail(at(location, name), "is not known here: "+list("there are", known, "")+" (in a patch, null removes a member)", nil)
	}
}

// str reads an optional string. A member of another kind is reported.
func (d *decoder) str(o object, location, name string) (string, bool) {
	raw, ok := o.take(name)
	if !ok {
		return "", false
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		d.fail(at(location, name), "must be a string, but is "+kind(raw), nil)
		return "", false
	}
	return s, true
}

func (d *decoder) text(o object, name string, maxLen int) string {
	s, _ := d.str(o, "body", name)
	if len(s) > maxLen {
		d.fail(at("body", name), fmt.Sprintf("must have at most %d bytes", maxLen), nil)
	}
	return s
}

// secret reads a secret string. "***" stands for prev, if there is one.
func (d *decoder) secret(o object, location, name, prev string, hasPrev bool) string {
	s, _ := d.str(o, location, name)
	return d.unmask(s, at(location, name), prev, hasPrev)
}

// unmask returns prev for "***", which is never a secret itself.
func (d *decoder) unmask(s, location, prev string, hasPrev bool) string {
	if s != Masked {
		return s
	}
	if !hasPrev {
		d.fail(location, `must be the secret itself: "***" stands for one that is hidden, and there is none yet`, nil)
	}
	return prev
}

func (d *decoder) choice(o object, location, name, def string, allowed ...string) string {
	s, ok := d.str(o, location, name)
	if !ok {
		return def
	}
	if !slices.Contains(allowed, s) {
		d.fail(at(location, name), "must be "+strings.Join(allowed, " or "), short(s))
	}
	return s
}

func (d *decoder) flag(o object, name string) (b bool) {
	raw, ok := o.take(name)
	if ok && json.Unmarshal(raw, &b) != nil {
		d.fail(at("body", name), "must be true or false, but is "+kind(raw), nil)
	}
	return b
}

func (d *decoder) time(o object, name string) (t time.Time, given bool) {
	s, ok := d.str(o, "body", name)
	if !ok {
		return time.Time{}, false
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.UTC().Year() < 1 || t.UTC().Year() > 9999 {
		d.fail(at("body", name), "must be a time as RFC 3339 writes it, such as 2026-01-31T12:00:00Z", short(s))
		return time.Time{}, false
	}
	return t.UTC(), true
}

func (d *decoder) duration(o object, location, name string, lowest, highest, def time.Duration) (dur time.Duration, given bool) {
	s, ok := d.str(o, location, name)
	if !ok {
		return def, false
	}
	dur, err := time.ParseDuration(s)
	if err != nil || dur < lowest || dur > highest {
		d.fail(at(location, name), fmt.Sprintf("must be a duration such as \"90s\" or \"12h\", from %s to %s", formatDuration(lowest), formatDuration(highest)), short(s))
		return def, false
	}
	return dur, true
}

func (d *decoder) fail(location, message string, value any) {
	d.fields = append(d.fields, payloads.FieldError{Location: location, Message: message, Value: value})
}

func (d *decoder) failedAt(location string) bool {
	return slices.ContainsFunc(d.fields, func(f payloads.FieldError) bool { return f.Location == location })
}
