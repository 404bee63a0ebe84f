package verdict

import "github.com/ringback/ringback/dispatcher/egress"

// A Blame says whose doing an attempt's end is. Its methods say what each counter of the dispatcher learns from the attempt.
type Blame string

// Whose doing it is.
const (
	BlameNobody       Blame = "nobody"       // it delivered
	BlamePartner      Blame = "partner"      // the partner answered, and not well
	BlameElements     Blame = "elements"     // of a batch the partner took some, and others not
	BlameLoad         Blame = "load"         // the partner answered that it wants fewer requests (429, 503)
	BlameSilence      Blame = "silence"      // the partner was asked, and no answer came
	BlameTokenServer  Blame = "token server" // no access token came, so the partner was not asked
	BlameRegistration Blame = "registration" // this callback can never be sent this, as it is registered
	BlameWayOut       Blame = "way out"      // our own egress proxy, so the partner was not asked
	BlameGate         Blame = "gate"         // the callback may not be called for now, so nothing was sent
	BlameUnknown      Blame = "unknown"      // our own end of the attempt broke off, so nobody knows what the partner said
)

// Blame says whose doing the attempt's end is. It is the only list of reasons by blame.
func (j Judgement) Blame() Blame {
	if j.Verdict == Delivered {
		return BlameNobody
	}
	switch j.Reason {
	case ReasonOAuthToken:
		return BlameTokenServer
	case ReasonBlockedAddress, ReasonEncodeFailed:
		return BlameRegistration
	case ReasonEgressProxy:
		return BlameWayOut
	case ReasonNameNotAllowed, ReasonUnverified:
		return BlameGate
	case ReasonUnknown:
		return BlameUnknown
	case ReasonSomeFailed:
		return BlameElements
	}
	switch {
	case asksForFewer(j.Status):
		return BlameLoad
	case j.Status != 0, j.Reason == Reason(egress.BadResponse): // something answered that port, if not in HTTP
		return BlamePartner
	}
	return BlameSilence
}

// A lesson is what follows from a blame. Each field belongs to the method of its name.
type lesson struct {
	health, breaker, host string
	counts, spends, sight bool
}

var lessons = map[Blame]lesson{
	// health, breaker, host, counts, spends, sight
	BlameNobody:       {"", "", "up", false, true, true},
	BlamePartner:      {"bad", "bad", "up", true, true, true},
	BlameElements:     {"bad", "", "up", false, true, true},
	BlameLoad:         {"bad", "bad", "down", true, true, true},
	BlameSilence:      {"bad", "down", "down", true, true, true},
	BlameTokenServer:  {"token", "", "", false, true, true},
	BlameRegistration: {"bad", "", "", false, true, false},
	BlameWayOut:       {"", "", "", false, false, true},
	BlameGate:         {"", "", "", false, false, false},
	BlameUnknown:      {"", "", "", false, false, false},
}

// Health is the field of the callback's health that notes the failure: "bad" or "token". It is empty if the failure is not the callback's.
func (b Blame) Health() string { return lessons[b].health }

// Breaker is what the callback's breaker learns: "down" if nobody answered, "bad" if somebody answered and not well. It is empty if there is
// nothing to learn. A success is not learned this way.
func (b Blame) Breaker() string { return lessons[b].breaker }

// Host is what the breaker of the callback's host learns: "down" if nobody is there or nobody may come now, "up" if anything else was
// answered. It is empty if there is nothing to learn. How one path answers says nothing about the others of its host.
func (b Blame) Host() string { return lessons[b].host }

// Counts reports whether the attempt counts in the run of failures that ends with the callback disabled.
func (b Blame) Counts() bool { return lessons[b].counts }

// Spends reports whether the attempt spends one of the callback's max_attempts.
func (b Blame) Spends() bool { return lessons[b].spends }

// Sight reports whether the attempt tells if its destination can be reached from here. If it does, [Judgement.Unconnected] is the answer.
func (b Blame) Sight() bool { return lessons[b].sight }
