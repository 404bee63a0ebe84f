package registry

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ringback/ringback/payloads"
)

// signing reads how requests are signed: header_style and secret. If no secret is given,
// those from before stay. If there are none, the callback has none yet.
func (d *decoder) signing(o object, cb *Callback) {
	d.headerStyle(o, cb)
	given, ok := d.str(o, "body", "secret")
	if ok {
		given = d.unmask(given, "body.secret", Masked, d.prev != nil)
	}
	if ok && given != Masked {
		secret, err := cb.HeaderStyle.ParseSecret(given)
		if err != nil {
			d.fail("body.secret", badSecret+err.Error(), nil)
			return
		}
		if d.prev != nil && len(d.prev.Secrets) > 0 && d.prev.Secrets[0].Secret.Equal(secret) {
			cb.Secrets = d.prev.Secrets
		} else {
			cb.Secrets = []SigningSecret{{Secret: secret}}
		}
	} else if d.prev != nil {
		cb.Secrets = d.prev.Secrets
	}
	if d.prev != nil && d.prev.HeaderStyle != cb.HeaderStyle {
		d.newStyle(cb)
	}
}

const badSecret = "cannot sign: "

// headerStyle reads header_style. Names that it sets may not be among the callback's own headers.
func (d *decoder) headerStyle(o object, cb *Callback) {
	const location = "body.header_style"
	given, ok := d.str(o, "body", "header_style")
	if !ok {
		return
	}
	style := payloads.HeaderStyle(given)
	if !slices.Contains(payloads.HeaderStyles(), style) {
		var names []string
		for _, s := range payloads.HeaderStyles() {
			names = append(names, string(s))
		}
		d.fail(location, "must be "+strings.Join(names[:len(names)-1], ", ")+" or "+names[len(names)-1], short(given))
		return
	}
	if style == payloads.StyleStandard {
		return
	}
	cb.HeaderStyle = style
	for _, name := range slices.Sorted(maps.Keys(cb.Headers)) { // some were registered before their names were taken
		if slices.Contains(style.Headers(), sameName(name)) {
			d.fail(location, fmt.Sprintf("(%s) sets the header %s, which is among the callback's own headers: drop one of the two", style, name), nil)
		}
	}
}

// newStyle checks that the secrets suit another style than before, and lets go of those that sign no more.
func (d *decoder) newStyle(cb *Callback) {
	const location = "body.header_style"
	at := now()
	cb.Secrets = slices.DeleteFunc(slices.Clone(cb.Secrets), func(s SigningSecret) bool { return s.ended(at) })
	if most := cb.HeaderStyle.Signatures(); most > 0 && len(cb.Secrets) > most {
		d.fail(location, fmt.Sprintf("(%s) carries one signature, and an earlier secret signs until %s: wait until then, or end it by a rotation with \"overlap\": \"0s\"",
			cb.HeaderStyle, cb.overlapUntil(at).Format(time.RFC3339)), nil)
	}
	for _, s := range cb.Secrets {
		if !cb.HeaderStyle.Usable(s.Secret) {
			d.fail(location, "takes secrets that are whsec_ and base64, and a secret of the callback is another text: give such a secret along with it", nil)
			return
		}
	}
}
