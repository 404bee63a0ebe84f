package dispatcher

import "time"

const (
	// reconcilePages bounds one company's share of a round.
	reconcilePages = 100
	// glancePage is how many keys or entries are looked at in one run, or one command, if little is done about each.
	glancePage = 500
	// trimEvery is how often the companies' logs and dead-letter books lose what is older than it may be.
	trimEvery = time.Minute
)
