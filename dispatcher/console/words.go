package console

import (
	"fmt"
	"strconv"
	"strings"
)

// A pill is a state in a word, with a shape and a tone, so that no state is told by its colour alone.
type pill struct {
	Word  string
	Shape string // an id of templates/shapes.html
	Tone  string // good, bad, warn, busy or idle
}

// pills are by the states of deliveries, callbacks, replays, breakers and egress, as the API names them.
var pills = map[string]pill{
	"pending":    {"pending", "dot", "busy"},
	"active":     {"active", "play", "busy"},
	"retrying":   {"retrying", "again", "warn"},
	"held":       {"held", "bars", "warn"},
	"delivered":  {"delivered", "tick", "good"},
	"dead":       {"dead", "cross", "bad"},
	"cancelled":  {"cancelled", "slash", "idle"},
	"enabled":    {"enabled", "tick", "good"},
	"paused":     {"paused", "bars", "warn"},
	"disabled":   {"disabled", "cross", "bad"},
	"unverified": {"unverified", "ask", "warn"},
	"running":    {"running", "play", "busy"},
	"done":       {"done", "tick", "good"},
	"dry_run":    {"counted only", "dot", "idle"},
	"closed":     {"closed", "tick", "good"},
	"open":       {"open", "cross", "bad"},
	"half_open":  {"half open", "again", "warn"},
	"retry":      {"failed", "cross", "warn"},
	"gone":       {"gone", "cross", "bad"},
	"matched":    {"matched", "tick", "good"},
	// The word of the API is not_matched.
	"not_matched": {"not matched", "slash", "idle"},
}

// pillOf is the pill for a word of the API. A word that is new here is shown as it is.
func pillOf(word string) pill {
	if p, ok := pills[word]; ok {
		return p
	}
	return pill{strings.ReplaceAll(word, "_", " "), "dot", "idle"}
}

// count is a number with its noun. Digits are set off by threes.
func count[N int | int64](n N, noun string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case strings.HasSuffix(noun, "y"):
		return figure(n) + " " + strings.TrimSuffix(noun, "y") + "ies"
	default:
		return figure(n) + " " + noun + "s"
	}
}

// figure is a number whose digits are set off by threes: 12,345.
func figure[N int | int64](n N) string {
	digits := strconv.FormatInt(int64(n), 10)
	sign := ""
	if n < 0 {
		sign, digits = "−", digits[1:]
	}
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return sign + digits
}

// sentence makes a sentence of what the API said: it begins with a capital letter and ends with a full stop.
func sentence(said string) string {
	said = strings.TrimSpace(said)
	if said == "" {
		return ""
	}
	if !strings.ContainsAny(said[len(said)-1:], ".!?") {
		said += "."
	}
	return strings.ToUpper(said[:1]) + said[1:]
}

// took is how long an attempt took.
func took(ms int64) string {
	if ms < 1000 {
		return strconv.FormatInt(ms, 10) + " ms"
	}
	return fmt.Sprintf("%.1f s", float64(ms)/1000)
}
