package console

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

// A fact is a name and its value. If there is an address, the value leads there.
type fact struct{ Name, Value, Href string }

// A choice is one value of a field that takes one.
type choice struct {
	Name, Value, Label string
	Checked            bool
}
