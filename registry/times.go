package registry

import (
	"fmt"
	"strings"
	"time"
)

// timeGrain is how exact the times are that a callback or an API key holds.
const timeGrain = time.Millisecond

func now() time.Time { return time.Now().UTC().Truncate(timeGrain) }

// formatDuration writes d the way people do: 90s, 12h, 1h30m. time.ParseDuration
// reads it back exactly.
func formatDuration(d time.Duration) string {
	if d < 2*time.Minute && d%time.Second == 0 {
		return fmt.Sprintf("%ds", d/time.Second)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
