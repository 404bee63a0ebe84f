package console

import (
	"slices"
	"strings"

	"github.com/ringback/ringback/dispatcher/client"
)

// A field is a setting as a page shows it.
type field struct {
	ID, Name, Label, Hint, Sample string
	Kind                          string // see kind
	Value                         string
	Options                       []choice
	Required                      bool
	Faults                        []string // what is wrong with it
	Changed                       *changed // what somebody changed of it meanwhile; nil: nothing
	Again                         bool     // a secret was typed here before, which no page gives back
	Focus                         bool     // it has the focus when the page comes
}

// A choice is one value of a field that takes one.
type choice struct {
	Name, Value, Label string
	Checked            bool
}

// A fieldset is a part of a form as a page shows it.
type fieldset struct {
	Summary string
	Open    bool
	Fields  []field
}

// field is the setting with what it is filled in with. What is secret is not given back.
func (s setting) field(value string) field {
	f := field{ID: s.id, Name: s.name, Label: s.label, Hint: s.hint, Sample: s.sample, Kind: string(s.kind), Value: value, Required: s.required}
	if s.kind == ofSecret {
		f.Value = ""
	}
	for _, o := range s.options {
		f.Options = append(f.Options, choice{s.name, o.value, o.label, o.value == value})
	}
	if s.options != nil && !slices.ContainsFunc(s.options, func(o option) bool { return o.value == value }) { // of a version to come
		f.Options = append(f.Options, choice{s.name, value, value, true})
	}
	return f
}

// again is what stands behind a secret's name in that of the hidden field which says that the secret was typed before.
const again = "_again"

// tries reports whether the form is sent to be tried, and not to count.
func (v *visit) tries() bool { return v.r.PostForm.Get("do") == "try" }

// forgotten is the error of a form that comes without the secret that was typed in it before. It is returned once: the next one may come without.
func (v *visit) forgotten(s setting) error {
	if v.tries() || !v.r.PostForm.Has(s.name+again) || sentText(v.r.PostForm.Get(s.name)) != "" {
		return nil
	}
	return misread(s.fault("is empty, and a secret was typed here before: type it again, or leave it empty once more to have one made"))
}

// retyped has the field of a secret say that it has to be typed again, if it was typed before. told reports whether the error was forgotten.
func (v *visit) retyped(s setting, f field, told bool) field {
	if typed := sentText(v.r.PostForm.Get(s.name)) != ""; s.kind != ofSecret || told || !typed && !v.r.PostForm.Has(s.name+again) {
		return f
	}
	f.Again, f.Faults = true, append(f.Faults, "type it again: no page gives back a secret that was typed")
	return f
}

// focused has the first field that is wrong take the focus, and reports whether there is one.
func focused(fields []field) bool {
	for i := range fields {
		if fields[i].Faults != nil {
			fields[i].Focus = true
			return true
		}
	}
	return false
}

// Describes are the ids of what is said of the field; empty: nothing is.
func (f field) Describes() string {
	var ids []string
	if f.Hint != "" {
		ids = append(ids, f.ID+"-hint")
	}
	if f.Changed != nil {
		ids = append(ids, f.ID+"-changed")
	}
	if f.Faults != nil {
		ids = append(ids, f.ID+"-fault")
	}
	return strings.Join(ids, " ")
}

// Wide reports whether the field takes the form's whole width.
func (f field) Wide() bool { return f.Area() || f.Kind == string(ofPart) }

// Area reports whether the field has several lines.
func (f field) Area() bool { return f.Kind == string(ofLines) || f.Kind == string(ofJSON) }

// Box reports whether the field is a box to tick.
func (f field) Box() bool { return f.Kind == string(ofFlag) || f.Kind == string(ofPart) }

// Rows are how many lines of the field are in sight.
func (f field) Rows() int {
	if f.Kind == string(ofLines) {
		return 2
	}
	return min(max(3, 1+strings.Count(f.Value, "\n")), 16)
}

// Prose reports whether the field is for sentences.
func (f field) Prose() bool { return f.Name == "description" }

// marked are the indexes of the settings that faults are of, with the faults' messages. block is the name that the match has in a registration.
func marked(of []setting, faults []client.FieldErr, block string) map[int][]string {
	marks := map[int][]string{}
	for _, fault := range faults {
		at, best := -1, 0
		for i, s := range of {
			if near := s.near(fault.Location, block); near > best {
				at, best = i, near
			}
		}
		if at >= 0 {
			marks[at] = append(marks[at], of[at].told(fault))
		}
	}
	return marks
}

// told is what a fault is, beside the setting's field. It names the place within what the field holds, or the value that does not go with another.
func (s setting) told(fault client.FieldErr) string {
	if value, rest, ok := strings.Cut(fault.Message, ") "); ok && strings.HasPrefix(value, "(") {
		return "`" + value[1:] + "` " + rest
	}
	place, deeper := strings.CutPrefix(fault.Location, "body.")
	if deeper && s.path != nil && place != strings.Join(s.path, ".") && strings.HasPrefix(place, strings.Join(s.path, ".")) {
		return "`" + place + "` " + fault.Message
	}
	return fault.Message
}

// near is how close a setting is to what a fault is of: how many steps lead to both. 0: it is another's.
func (s setting) near(location, block string) int {
	if s.path == nil {
		if location == "match" || block != "" && strings.HasPrefix(location+".", "body."+block+".") {
			return 1
		}
		return 0
	}
	steps := strings.FieldsFunc(strings.TrimPrefix(location, "body."), func(c rune) bool { return c == '.' || c == '[' })
	same := 0
	for same < min(len(steps), len(s.path)) && steps[same] == s.path[same] {
		same++
	}
	if same == len(steps) || same == len(s.path) {
		return same
	}
	return 0
}
