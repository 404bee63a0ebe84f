package ledger

// A State says where a delivery stands.
type State string

// The states of a delivery. Pending, active, retrying and held ones are unfinished; the rest are final
// until a replay.
const (
	Pending   State = "pending"   // in a lane, its first (or replayed) attempt is due
	Active    State = "active"    // an attempt is under way
	Retrying  State = "retrying"  // an attempt failed, another is scheduled
	Held      State = "held"      // waits in its callback's room; HeldReason says why
	Delivered State = "delivered" // the partner's answer met the contract
	Dead      State = "dead"      // given up; kept in the dead-letter book
	Cancelled State = "cancelled" // cancelled by hand, or its callback was deleted
)

// States lists every state a delivery can be in.
var States = []State{Pending, Active, Retrying, Held, Delivered, Dead, Cancelled}

// Final reports whether nothing more will happen to a delivery in this state by itself.
func (s State) Final() bool { return s == Delivered || s == Dead || s == Cancelled }

// StateOf are the states by their letters in a record.
var StateOf = map[byte]State{
	'P': Pending, 'A': Active, 'R': Retrying, 'H': Held, 'D': Delivered, 'X': Dead, 'C': Cancelled,
}
