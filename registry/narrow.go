package registry

import (
	"encoding/json"
	"fmt"

	"github.com/ringback/ringback/payloads"
)

// A filter and a template are one value each: a patch that gives one replaces the whole. To merge two filters would make a third that nobody wrote, and a merge
// takes nulls away, which a template may send. So they go around the merge, and keep their order of members as well.
//
// Both are held against the schemas of the types that the callback is for when they are given, and when the type changes. One that stays as it is, is not: a type's schema may
// have changed since, and that must not keep anybody from changing the timeout.

// wholes are the members that a patch replaces, and does not merge.
var wholes = []string{"filter", "template"}

// keepWhole gives merged the wholes of a callback as a patch of it leaves them. patch is what mergePatch says.
func keepWhole(cb *Callback, merged any, patch map[string]any, mergePatch []byte) {
	members, ok := merged.(map[string]any)
	if !ok {
		return
	}
	var given map[string]json.RawMessage
	_ = json.Unmarshal(mergePatch, &given) // an object, as patch is one
	for _, name := range wholes {
		if name == cb.MatchBlock { // a block that is older than the member
			continue
		}
		switch value, there := patch[name]; {
		case there && value != nil:
			members[name] = given[name]
		case there:
		case name == "filter" && cb.Filter != nil:
			members[name] = cb.Filter
		case name == "template" && cb.Template != nil:
			members[name] = cb.Template
		}
	}
}

// narrow reads filter and template.
func (d *decoder) narrow(o object, cb *Callback) {
	same := d.prev != nil && d.prev.Type == cb.Type
	types := d.catalogue.Matching(cb.Type)
	if raw, ok := o.take("filter"); ok {
		f, err := payloads.ParseFilter(raw, "body.filter")
		d.failAll(err)
		if cb.Filter = f; f != nil && (!same || d.prev.Filter.String() != f.String()) {
			d.fields = append(d.fields, f.Check(types, "body.filter")...)
		}
	}
	if raw, ok := o.take("template"); ok {
		t, err := payloads.ParseTemplate(raw, "body.template")
		d.failAll(err)
		if cb.Template = t; t != nil && (!same || d.prev.Template.String() != t.String()) {
			d.fields = append(d.fields, t.CheckPointers(types, "body.template")...)
		}
		if t != nil && cb.Destination.ContentType == payloads.ContentTypeForm && !t.MayBeObject() {
			d.fail("body.template", "does not go with destination.content_type "+payloads.ContentTypeForm+": a form is made of an object, and this makes none", nil)
		}
	}
}

// failAll adds the faults of an error.
func (d *decoder) failAll(err error) {
	if e, ok := err.(*payloads.InvalidError); ok { //nolint:errorlint // as payloads returns it
		d.fields = append(d.fields, e.Fields...)
	}
}

// narrowed are a callback's filter and template as they are stored.
type narrowed struct {
	Filter   json.RawMessage `json:"filter,omitempty"`
	Template json.RawMessage `json:"template,omitempty"`
}

func (cb *Callback) narrowed() narrowed {
	return narrowed{Filter: json.RawMessage(cb.Filter.String()), Template: json.RawMessage(cb.Template.String())}
}

// openNarrowed reads what narrowed wrote.
func (cb *Callback) openNarrowed(n narrowed) (err error) {
	if len(n.Filter) > 0 {
		if cb.Filter, err = payloads.ParseFilter(n.Filter, "filter"); err != nil {
			return fmt.Errorf("registry: the filter of callback %d of company %s is not readable", cb.ID, cb.Company)
		}
	}
	if len(n.Template) > 0 {
		if cb.Template, err = payloads.ParseTemplate(n.Template, "template"); err != nil {
			return fmt.Errorf("registry: the template of callback %d of company %s is not readable", cb.ID, cb.Company)
		}
	}
	return nil
}
