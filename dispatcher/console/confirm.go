package console

// A confirmation is a page that says what something would do, and asks whether to do it.
type confirmation struct {
	Says    []string
	Choices []choice // of one thing; empty: there is nothing to choose
	Legend  string   // of the choices
	Hidden  [][2]string
	Act     *act
	Back    string
	Trouble *trouble // why it was not done
}

// A choice is one value of a field that takes one.
type choice struct {
	Name, Value, Label string
	Checked            bool
}
