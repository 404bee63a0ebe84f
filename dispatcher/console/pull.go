package console

import (
	"time"

	"github.com/ringback/ringback/dispatcher/client"
)

// fetchLate is how long deliveries may wait for their partner to fetch them before its page says so.
const fetchLate = time.Hour

// goesTo says where a callback's deliveries go.
func goesTo(d client.Destination) string {
	if d.Pull {
		return "fetched by the partner"
	}
	return d.URL
}

// unfetched reports whether a callback's partner has not fetched for long what waits.
func unfetched(cb *client.Callback, at time.Time) bool {
	return cb.Destination.Pull && cb.Status == "enabled" && !cb.OldestWaitingAt.IsZero() && at.Sub(cb.OldestWaitingAt) > fetchLate
}
