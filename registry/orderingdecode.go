package registry

import "github.com/ringback/ringback/payloads"

// ordering reads by what deliveries are kept in order. The schemas of the types that the callback is for have their say when the key is given.
func (d *decoder) ordering(o object, cb *Callback) {
	const location = "body.ordering"
	m, ok := d.member(o, "ordering")
	if !ok {
		return
	}
	cb.Ordering = &Ordering{}
	cb.Ordering.SkipAfter, _ = d.duration(m, location, "skip_after", minSkipAfter, maxSkipAfter, 0)
	pointer, given := d.str(m, location, "key")
	if !given && !d.failedAt(location+".key") {
		d.fail(location+".key", "is missing: give the place in the payload whose value is to be kept in order, such as /customerId", nil)
	}
	if given {
		key, err := payloads.ParseKey(pointer, location+".key")
		d.failAll(err)
		cb.Ordering.Key = key
		if same := d.prev != nil && d.prev.Type == cb.Type && d.prev.Ordering != nil && d.prev.Ordering.Key.String() == pointer; key != nil && !same {
			d.fields = append(d.fields, key.Check(d.catalogue.Matching(cb.Type), location+".key")...)
		}
	}
	d.unknown(m, location, "key", "skip_after")
}
