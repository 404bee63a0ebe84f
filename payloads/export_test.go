package payloads

// HoldExplanations takes the turn to say where a large payload does not fit, until it is given back.
func HoldExplanations() (giveBack func()) {
	explaining <- struct{}{}
	return func() { <-explaining }
}
