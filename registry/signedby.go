package registry

import (
	"slices"
	"time"

	"github.com/ringback/ringback/payloads"
)

// Signers are what the callback's requests are signed with at a time: with secrets and
// standard by the schemes of Standard Webhooks, and with messages by RFC 9421. The
// secrets sign as long as none of the keys does yet, so that there is always a
// signature.
func (cb *Callback) Signers(at time.Time) (secrets []payloads.Secret, standard, messages []payloads.SigningKey) {
	s := cb.Signature
	if s == nil {
		return cb.LiveSecrets(at), nil, nil
	}
	var live []payloads.SigningKey
	for _, k := range s.Keys {
		if k.Stage(at) == KeySigns {
			live = append(live, k.Key)
		}
	}
	if s.HMAC || cb.StandsIn(at) {
		secrets = cb.LiveSecrets(at)
	}
	if s.Ed25519 {
		standard = live
	}
	if s.RFC9421 {
		messages = live
	}
	return secrets, standard, messages
}

// StandsIn reports whether the secrets sign at a time although the callback's signature
// is to be by keys alone, for none of them signs yet.
func (cb *Callback) StandsIn(at time.Time) bool {
	s := cb.Signature
	return s != nil && !s.HMAC && !slices.ContainsFunc(s.Keys, func(k SigningKey) bool { return k.Stage(at) == KeySigns })
}

// PublishedKeys are the keys of the callback that are published at a time, the newest first.
func (cb *Callback) PublishedKeys(at time.Time) []SigningKey {
	if cb.Signature == nil {
		return nil
	}
	return published(cb.Signature.Keys, at)
}

// adoptKeys takes over the keys of prev, which is nil for a new callback, and makes the
// first one if the callback's signature wants it. If it wants none, all are given up:
// they neither sign nor are published any more.
//
// remembered says whether receivers may have the company's keys, or the callback's
// signature, in memory. Then the first key signs only once they have seen it.
func (cb *Callback) adoptKeys(prev *Callback, at time.Time, remembered bool) {
	if !cb.Signature.wantsKeys() {
		cb.Signature = nil
		return
	}
	var keys []SigningKey
	if prev != nil {
		keys = prev.PublishedKeys(at)
	}
	if !slices.ContainsFunc(keys, func(k SigningKey) bool { return k.SignsUntil.IsZero() }) {
		first := SigningKey{Key: payloads.NewSigningKey(), AnnouncedAt: at, SignsFrom: at}
		if remembered {
			first.SignsFrom = at.Add(KeyLead)
		}
		keys = slices.Insert(keys, 0, first)
	}
	cb.Signature.Keys = keys
}

// signature reads the member of that name. Who has the secrets alone has none.
func (d *decoder) signature(o object, cb *Callback) {
	const location = "body.signature"
	m, ok := d.member(o, "signature")
	if !ok {
		return
	}
	s := &Signature{HMAC: true}
	for _, flag := range []struct {
		name string
		into *bool
	}{{"hmac", &s.HMAC}, {"ed25519", &s.Ed25519}, {"rfc9421", &s.RFC9421}} {
		if given, ok := d.flagIn(m, location, flag.name); ok {
			*flag.into = given
		}
	}
	if _, ok := m["keys"]; ok {
		d.fail(location+".keys", "is set by Ringback, leave it out: it makes the keys, and anew by the callback's /signing-key", nil)
		delete(m, "keys")
	}
	d.unknown(m, location, "hmac", "ed25519", "rfc9421")
	if !s.HMAC && !s.Ed25519 && !s.RFC9421 && !d.failedAt(location) {
		d.fail(location, "must have one of hmac, ed25519 and rfc9421 true at least: requests are always signed", nil)
	}
	if s.RFC9421 {
		for name := range cb.Headers {
			if slices.Contains([]string{payloads.HeaderMessageSignature, payloads.HeaderSignatureInput, payloads.HeaderContentDigest}, sameName(name)) {
				d.fail(at("body.headers", name), "may not be set along with signature.rfc9421, which sets it: drop one of the two", nil)
			}
		}
	}
	if s.wantsKeys() {
		cb.Signature = s
	}
}

// flagIn reads an optional boolean of an object within a registration.
func (d *decoder) flagIn(o object, location, name string) (b, given bool) {
	raw, ok := o.take(name)
	if ok && string(raw) != "true" && string(raw) != "false" {
		d.fail(at(location, name), "must be true or false, but is "+kind(raw), nil)
		return false, false
	}
	return string(raw) == "true", ok
}

// dropShownKeys takes what is shown of keys out of a patch: clients send back what they got.
func dropShownKeys(patch map[string]any) {
	if s, ok := patch["signature"].(map[string]any); ok {
		delete(s, "keys")
	}
}
