package ledger

import (
	"strconv"
	"strings"
	"time"
)

// batchMark begins the name that a batch has where a delivery has its event's id. No event's id has it.
const batchMark = "~"

// IsBatch reports whether it names a batch: deliveries to one callback that travel in one request. To a lane, and to the steps of an attempt, a batch is a
// delivery like any other.
func (r Ref) IsBatch() bool { return strings.HasPrefix(r.Event, batchMark) }

// A Batch is what the owner of an attempt of one is told beside what all owners are.
type Batch struct {
	// WebhookID is what the receiver knows it by. It is the same for each attempt with the same members, and for no others.
	WebhookID string
	// Element says how its elements are written, as the callback had it when its members were chosen.
	Element string
	Members []BatchMember
	// RoomWait is in how long the room that they came from is to be pumped; 0: that is not known, or nothing waits there.
	RoomWait time.Duration
}

// A BatchMember is a delivery that travels in a batch.
type BatchMember struct {
	Ref
	Meta     Meta
	Payload  []byte
	Replayed bool      // it was replayed before
	Accepted time.Time // its event
}

// A Pump says in how long a callback's room is to be pumped.
type Pump struct {
	Callback int64
	Wait     time.Duration
}

// pumps reads what accept.lua says of rooms, as callback:ms, separated by commas.
func (a *answer) pumps() (all []Pump) {
	text := a.text()
	if text == "" {
		return nil
	}
	for word := range strings.SplitSeq(text, ",") {
		id, ms, _ := strings.Cut(word, ":")
		callback, err := strconv.ParseInt(id, 10, 64)
		wait, err2 := strconv.ParseInt(ms, 10, 64)
		if err != nil || err2 != nil {
			a.err = ErrBadRecord
			return nil
		}
		all = append(all, Pump{callback, time.Duration(wait) * time.Millisecond})
	}
	return all
}
