package ledger

import "time"

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
	Accepted time.Time // its event
}

// A Pump says in how long a callback's room is to be pumped.
type Pump struct {
	Callback int64
	Wait     time.Duration
}

// pumps reads what accept.lua says of rooms, as callback:ms, separated by commas.
func (a *answer) pumps() (all []Pump) {
	for callback, ms := range a.byCallback() {
		all = append(all, Pump{callback, time.Duration(ms) * time.Millisecond})
	}
	return all
}
