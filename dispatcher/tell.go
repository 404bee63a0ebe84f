package dispatcher

import (
	"regexp"
	"strings"

	"github.com/ringback/ringback/dispatcher/verdict"
)

// MaxTold bounds what [Telling] tells, in bytes: a panic's first frames fit.
const MaxTold = 2000

// quoted is what a library quotes, to its end or to the text's; and a URL, quoted or not.
var quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*(?:"|\\?$)` + "|`[^`]*`?" + `|(?:^|[ (=:\[])'[^']*'|[a-zA-Z][a-zA-Z0-9+.-]*://[^\s"',;)]*`)

// Telling is what a log may tell of a library's message, or of a panic's: its own words. Its quotations come from elsewhere, maybe from
// a partner who echoes secrets, and is left out. It is one printable line of MaxTold bytes at most.
func Telling(said string) string {
	said = quoted.ReplaceAllStringFunc(said[:min(len(said), 4*MaxTold)], func(q string) string {
		switch {
		case strings.HasPrefix(q, `"`):
			return `"…"`
		case strings.HasPrefix(q, "`"):
			return "`…`"
		case strings.HasSuffix(q, "'"):
			return q[:strings.IndexByte(q, '\'')] + "'…'"
		}
		return "…"
	})
	return verdict.Clip(verdict.Printable(strings.Join(strings.Fields(said), " ")), MaxTold)
}
