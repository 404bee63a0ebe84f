package dispatcher

import (
	"fmt"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
)

// A lineKey names a line of a company.
type lineKey struct {
	callback int64
	key      string
}

// waitsInLine says of a delivery that is held in its line that it is, where it is not known whom it waits for.
const waitsInLine = "It waits for its turn: an earlier delivery of the same key to this callback has not ended."

// behindHead says whom a delivery waits for that is held in its line: its head, as that stands now.
func behindHead(head ledger.Ref, first ledger.Record, now time.Time) string {
	at := ledger.FromMS(first.At)
	does := "whose next attempt is due now"
	switch ledger.StateOf[first.State] {
	case ledger.Pending:
	case ledger.Active:
		does = fmt.Sprintf("whose attempt %d is under way since %s", first.Number, at.Format(time.RFC3339))
	case ledger.Retrying:
		does = fmt.Sprintf("attempt %d at %s", first.Number+1, at.Format(time.RFC3339))
		if wait := at.Sub(now); wait > 0 {
			does += ", in " + verdict.InWords(max(time.Second, wait.Round(time.Second)))
		}
	case ledger.Held:
		does = "which is held itself"
	default: // it has ended
		return waitsInLine
	}
	return fmt.Sprintf("It waits for delivery %s of the same key, %s.", head.DeliveryID(), does)
}
