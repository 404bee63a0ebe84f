package console

import (
	"net/http"
	"time"
)

// A confirmation is a page that says what something would do, and asks whether to do it.
type confirmation struct {
	Says    []string
	Facts   []fact   // of what it is about; nil: the page says enough
	Choices []choice // of one thing; empty: there is nothing to choose
	Legend  string   // of the choices
	Fields  []field  // what else it takes
	Hidden  [][2]string
	Act     *act
	Back    string
	Trouble *trouble // why it was not done
}

// again shows the question once more with why it was not done, if that is for whoever asked to mend.
func (v *visit) again(c confirmation, s sheet, cause error) error {
	if cause != nil {
		t := troubleOf(cause)
		if t.Status != http.StatusUnprocessableEntity && t.Status != http.StatusConflict && t.Status != http.StatusPreconditionFailed {
			return cause
		}
		if len(v.embed) == 0 {
			t.Focus = t.Status == http.StatusPreconditionFailed || !focused(c.Fields)
		}
		c.Trouble, s.status = &t, t.Status
	}
	s.template, s.main = "confirm", c
	return v.show(s)
}

// asVersion has a question's form say which version the question is about.
func (c confirmation) asVersion(version string) confirmation {
	c.Hidden = append(c.Hidden, [2]string{versionField, version})
	return c
}

// chosen checks what the form had checked.
func (v *visit) chosen(choices []choice) []choice {
	for i, c := range choices {
		if v.r.PostForm.Has(c.Name) {
			choices[i].Checked = v.r.PostForm.Get(c.Name) == c.Value
		}
	}
	return choices
}

// A fact is a name and its value. If there is an address, the value leads there. A time is one in RFC 3339.
type fact struct{ Name, Value, Href string }

// factAt is a fact that is a time.
func factAt(name string, t time.Time) fact { return fact{name, t.UTC().Format(time.RFC3339), ""} }

// Time is the time that the value is; zero: it is none.
func (f fact) Time() time.Time {
	t, err := time.Parse(time.RFC3339, f.Value)
	if err != nil {
		return time.Time{}
	}
	return t
}

// Long reports whether the value takes a line of its own.
func (f fact) Long() bool { return len(f.Value) > 40 }
