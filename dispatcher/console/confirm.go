package console

import "time"

// A confirmation is a page that says what something would do, and asks whether to do it.
type confirmation struct {
	Says    []string
	Facts   []fact   // of what it is about; nil: the page says enough
	Choices []choice // of one thing; empty: there is nothing to choose
	Legend  string   // of the choices
	Hidden  [][2]string
	Act     *act
	Back    string
	Trouble *trouble // why it was not done
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

// A choice is one value of a field that takes one.
type choice struct {
	Name, Value, Label string
	Checked            bool
}
