package registry

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ringback/ringback/payloads"
)

// Limits on what a registration may hold. They are ours alone: the API's document
// gives the others where they are checked.
const (
	maxDescriptionLen = 1024 // bytes; room for a paragraph
	maxMatchValueLen  = 256  // bytes; campaign tokens have 6
	maxInterval       = 30 * 24 * time.Hour
)

// decode reads body, a whole registration, into a Callback that lacks what is
// not the client's to say. checkURL is [Config.CheckURL]. prev is the callback
// that it replaces, or nil.
func decode(types *payloads.Catalogue, checkURL func(string) error, body []byte, prev *Callback) (*Callback, error) {
	d := &decoder{catalogue: types, checkURL: checkURL, prev: prev}
	if err := checkJSON(body); err != nil {
		return nil, err
	}
	cb := d.registration(body)
	if len(d.fields) > 0 {
		slices.SortStableFunc(d.fields, func(a, b payloads.FieldError) int { return cmp.Compare(a.Location, b.Location) })
		return nil, &payloads.InvalidError{Fields: d.fields}
	}
	return cb, nil
}

func (d *decoder) registration(body []byte) *Callback {
	o, ok := d.object(body, "body")
	if !ok {
		return nil
	}
	cb := &Callback{}
	d.callbackType(o, cb)
	d.matchBlock(o, cb)
	d.destination(o, cb)
	cb.Description = d.text(o, "description", maxDescriptionLen)
	cb.StartDate, cb.StartDateGiven = d.time(o, "start_date")
	d.auth(o, cb)
	d.tls(o, cb)     // after destination, which has to be https
	d.headers(o, cb) // after auth, which owns a header
	d.signature(o, cb)
	d.success(o, cb)
	cb.Trace = d.flag(o, "trace")
	cb.Timeout, _ = d.duration(o, "body", "timeout", time.Second, time.Minute, DefaultTimeout)
	d.retry(o, cb)
	d.rateLimit(o, cb)
	d.signing(o, cb) // after headers, some of which it owns
	d.narrow(o, cb)
	d.batch(o, cb)
	d.ordering(o, cb)
	d.wire(o, cb) // after all that it has to go with
	d.rest(o, cb)
	return cb
}

// callbackType reads callback_type and its deprecated alias.
func (d *decoder) callbackType(o object, cb *Callback) {
	name, given := d.str(o, "body", "callback_type")
	alias, aliasGiven := d.str(o, "body", "event_type")
	location := "body.callback_type"
	switch {
	case !given && !aliasGiven:
		if !d.failedAt(location) && !d.failedAt("body.event_type") {
			d.fail(location, "is missing: name a callback type, or several with a glob such as customer.*; GET /callback-types lists those there are", nil)
		}
		return
	case !given:
		name, location = alias, "body.event_type"
	case aliasGiven && alias != name:
		d.fail("body.event_type", "is the deprecated alias of callback_type: it must be equal to it, or left out", short(alias))
	}
	cb.Type = name
	switch {
	case payloads.IsGlob(name):
		if !payloads.ValidTypeName(strings.ReplaceAll(name, "*", "-")) {
			d.fail(location, "must be a glob of 1 to 64 of A-Z a-z 0-9 _ . - and *, such as customer.*", short(name))
		}
	case !payloads.ValidTypeName(name):
		d.fail(location, "must be 1 to 64 of A-Z a-z 0-9 _ . - and not . or .. (a glob has a * as well)", short(name))
	default:
		if _, ok := d.catalogue.Lookup(name); !ok {
			d.fail(location, d.catalogue.NoSuchType(name), short(name))
		}
	}
}

// matchBlock reads the block that is named after a type and narrows the match.
func (d *decoder) matchBlock(o object, cb *Callback) {
	t, ok := d.catalogue.Lookup(cb.Type)
	if !ok {
		return // a glob, or a fault that is reported already
	}
	for _, name := range blockNames(t) {
		raw, ok := o.take(name)
		if !ok {
			continue
		}
		location := at("body", name)
		if cb.MatchBlock != "" {
			d.fail(location, "comes on top of "+cb.MatchBlock+": give one block only", nil)
			continue
		}
		if block, ok := d.object(raw, location); ok {
			cb.MatchBlock = name
			cb.Match = d.attributes(block, location, t)
		}
	}
}

// blockNames are the names under which a registration for t may send its block.
func blockNames(t *payloads.Type) []string {
	if t.MatchBlocks == nil {
		return []string{t.Name}
	}
	return t.MatchBlocks
}

func (d *decoder) attributes(block object, location string, t *payloads.Type) map[string]string {
	match := make(map[string]string, len(block))
	for _, name := range slices.Sorted(maps.Keys(block)) {
		if _, ok := t.Match[name]; !ok {
			d.fail(at(location, name), "is not an attribute that "+t.Name+" is matched by: "+list("these are", slices.Sorted(maps.Keys(t.Match)), "there are none"), nil)
			continue
		}
		absent := string(block[name]) == "null" // a variable that was never set must not mean "all"
		value, ok := d.str(block, location, name)
		if !ok && !absent {
			continue
		}
		if value == "" || len(value) > maxMatchValueLen {
			d.fail(at(location, name), fmt.Sprintf("must have 1 to %d bytes; leave it out to match any value", maxMatchValueLen), nil)
			continue
		}
		match[name] = value
	}
	return match
}

func (d *decoder) success(o object, cb *Callback) {
	rule, ok := d.str(o, "body", "success")
	if !ok {
		return
	}
	cb.Success = payloads.SuccessRule(rule)
	if !cb.Success.Valid() {
		d.fail("body.success", fmt.Sprintf("must be %s, %s or %s", payloads.JSON200Or204, payloads.Any2xx, payloads.AnyResponse), short(rule))
	}
}

func (d *decoder) retry(o object, cb *Callback) {
	const location = "body.retry"
	cb.Retry = Retry{DefaultInitialInterval, DefaultMultiplier, DefaultMaxInterval, DefaultMaxAttempts}
	m, ok := d.member(o, "retry")
	if !ok {
		return
	}
	r := &cb.Retry
	var initialGiven, maxGiven bool
	r.InitialInterval, initialGiven = d.duration(m, location, "initial_interval", time.Second, maxInterval, DefaultInitialInterval)
	r.MaxInterval, maxGiven = d.duration(m, location, "max_interval", time.Second, maxInterval, DefaultMaxInterval)
	switch {
	case initialGiven && maxGiven && r.MaxInterval < r.InitialInterval:
		d.fail(location+".max_interval", "must not be less than initial_interval", nil)
	case maxGiven:
		r.InitialInterval = min(r.InitialInterval, r.MaxInterval)
	default:
		r.MaxInterval = max(r.InitialInterval, r.MaxInterval)
	}
	if raw, ok := m.take("multiplier"); ok {
		if err := json.Unmarshal(raw, &r.Multiplier); err != nil || r.Multiplier < 1 || r.Multiplier > 10 {
			d.fail(location+".multiplier", "must be a number from 1 to 10", nil)
		}
	}
	if raw, ok := m.take("max_attempts"); ok {
		if err := json.Unmarshal(raw, &r.MaxAttempts); err != nil || r.MaxAttempts < 1 || r.MaxAttempts > 100 {
			d.fail(location+".max_attempts", "must be a whole number from 1 to 100", nil)
		}
	}
	d.unknown(m, location, "initial_interval", "multiplier", "max_interval", "max_attempts")
}

func (d *decoder) rateLimit(o object, cb *Callback) {
	const location = "body.rate_limit"
	m, ok := d.member(o, "rate_limit")
	if !ok {
		return
	}
	limit := &RateLimit{}
	if raw, ok := m.take("per_second"); !ok {
		d.fail(location+".per_second", fmt.Sprintf("is missing: give a number from %g to %d", minPerSecond, maxPerSecond), nil)
	} else if err := json.Unmarshal(raw, &limit.PerSecond); err != nil || limit.PerSecond < minPerSecond || limit.PerSecond > maxPerSecond {
		d.fail(location+".per_second", fmt.Sprintf("must be a number from %g to %d", minPerSecond, maxPerSecond), nil)
	}
	if raw, ok := m.take("burst"); !ok {
		limit.Burst = int(math.Ceil(limit.PerSecond))
	} else if err := json.Unmarshal(raw, &limit.Burst); err != nil || limit.Burst < 1 || limit.Burst > maxBurst {
		d.fail(location+".burst", fmt.Sprintf("must be a whole number from 1 to %d", maxBurst), nil)
	}
	d.unknown(m, location, "per_second", "burst")
	cb.RateLimit = limit
}

// rest reports what is left of a registration, each member with its remedy.
func (d *decoder) rest(o object, cb *Callback) {
	for _, name := range slices.Sorted(maps.Keys(o)) {
		location := at("body", name)
		_, isType := d.catalogue.Lookup(name)
		t, exact := d.catalogue.Lookup(cb.Type)
		switch remedy, ok := readOnly[name]; {
		case ok:
			d.fail(location, "is set by Ringback, leave it out"+remedy, nil)
		case slices.Contains(health, name):
			d.fail(location, "is set by Ringback, leave it out", nil)
		case payloads.IsGlob(cb.Type) && (isType || name == cb.Type):
			d.fail(location, "narrows the match for one type, and "+cb.Type+" is a glob over several: leave the block out, or register the types one by one", nil)
		case isType && exact:
			d.fail(location, "does not go with callback_type "+cb.Type+", which takes "+list("a block named", blockNames(t), "no block")+" (in a patch, null removes a block)", nil)
		case isType || name == cb.Type:
			// The type itself is the fault, and is reported.
		default:
			d.fail(location, "is not known: a registration has "+settableInWords(), nil)
		}
	}
}
