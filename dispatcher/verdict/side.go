package verdict

// A Side is whose end a failure is to be mended at.
type Side string

// The sides.
const (
	Theirs  Side = "theirs"  // the partner's endpoint, its token server, or how the callback is registered
	Ours    Side = "ours"    // our own network, processes or settings
	Unclear Side = "unclear" // it cannot be told from the reason alone
)

// SideOf says at whose end deliveries that ended, or failed, with a reason are to be mended. What could not be reached counts as the partner's: whether most
// others can be reached is for the caller to know.
func SideOf(reason Reason) Side {
	switch reason {
	case "", ReasonHoldExpired, ReasonHoldFull:
		return Unclear
	case ReasonNameNotAllowed:
		return Ours
	}
	switch (Judgement{Verdict: Dead, Reason: reason}).Blame() {
	case BlameWayOut, BlameUnknown:
		return Ours
	}
	return Theirs
}
