package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher/lua"
	"github.com/ringback/ringback/registry"
)

var acceptScript = lua.Script("accept")

// An Offer is an event that is to be accepted, matched already.
type Offer struct {
	Company string
	ID      string
	Version int64 // of the registry that its callbacks were matched by
	Meta    Meta
	Payload []byte
	First   []First   // the deliveries that are written at once
	Later   [][]int64 // the callbacks of those that are written later, in pages
}

// A First is a delivery that is written as its event is accepted. If it has a token, its first attempt begins in the same step.
type First struct {
	Callback int64
	Token    string
	Lease    time.Duration // from when on the attempt counts as lost
	Key      string        // of the line that it comes into; empty: it has no order
}

// callbacks is how many the event goes to.
func (o *Offer) callbacks() int {
	n := len(o.First)
	for _, page := range o.Later {
		n += len(page)
	}
	return n
}

// call is the accepting step. The last page comes first, since expand.lua begins with the last that it has. packs: long payloads are compressed.
func (o *Offer) call(packs bool) *Call {
	m, _ := json.Marshal(o.Meta) // strings and numbers always encode
	pages := make([]string, 0, len(o.Later))
	for _, page := range slices.Backward(o.Later) {
		ids := make([]string, len(page))
		for i, id := range page {
			ids[i] = strconv.FormatInt(id, 10)
		}
		pages = append(pages, strings.Join(ids, ","))
	}
	body, length := o.Payload, ""
	if packs {
		if packed, n := pack(o.Payload); n > 0 {
			body, length = packed, strconv.Itoa(n)
		}
	}
	args := make([]any, 0, 7+3*len(o.First))
	args = append(args, o.ID, o.Version, m, body, length, o.callbacks(), strings.Join(pages, ";"))
	for _, f := range o.First {
		begin := ""
		if f.Token != "" {
			begin = f.Token + " " + strconv.FormatInt(f.Lease.Milliseconds(), 10)
		}
		args = append(args, f.Callback, begin, f.Key)
	}
	return &Call{Script: acceptScript, Key: Key(o.Company, "due"), Deliveries: len(o.First), Args: args}
}

// An Acceptance is an accepting step that was asked for.
type Acceptance struct {
	offer *Offer
	call  *Call
}

// Accept asks for the accepting steps of events, each for itself, and returns without waiting for them. It compresses long payloads first, if that may be
// ([Ledger.Raised]).
func (l *Ledger) Accept(ctx context.Context, offers ...*Offer) []*Acceptance {
	all, calls := make([]*Acceptance, len(offers)), make([]*Call, len(offers))
	packs := slices.ContainsFunc(offers, func(o *Offer) bool { return packable(o.Payload) }) && l.Raised(ctx)
	for i, o := range offers {
		calls[i] = o.call(packs)
		all[i] = &Acceptance{o, calls[i]}
	}
	l.accepts.Do(ctx, calls...)
	return all
}

// Answer waits for the step's answer, or for the end of its caller: then the event may be accepted or not.
func (a *Acceptance) Answer() (Accepted, error) {
	texts, err := a.call.Answer()
	if err != nil {
		return Accepted{}, err
	}
	return readAccepted(a.offer.Company, texts)
}

// End waits for the step even beyond the end of its caller. sent is false if the step was never sent. If too few replicas have the
// event, Answer fails, and End has the answer all the same.
func (a *Acceptance) End() (accepted Accepted, sent bool, err error) {
	texts, sent := a.call.End()
	if !sent {
		return Accepted{}, false, nil
	}
	accepted, err = readAccepted(a.offer.Company, texts)
	return accepted, true, err
}

// An AcceptOutcome is how an accepting step ended.
type AcceptOutcome int

const (
	// Taken means that the event is accepted, with all its deliveries.
	Taken AcceptOutcome = iota + 1
	// Known means that an event of that id was accepted before; nothing changed.
	Known
	// Outdated means that the registry is at another version than the match; nothing changed.
	Outdated
	// OverQuota means that more of the company's payload waits than its quota allows; nothing changed.
	OverQuota
)

// An Accepted is the answer to an [Offer].
type Accepted struct {
	Outcome AcceptOutcome

	LogID string  // Taken, Known: the event's place in the log
	Held  []int64 // Taken, Known: the callbacks whose deliveries were held at first
	Slow  []int64 // Taken: those whose delivery goes to the slow lane
	Begun []int64 // Taken: those whose first attempt has begun
	Pumps []Pump  // Taken: callbacks whose rooms are to be pumped, since what waits there goes in batches
	// Numbers are Taken's deliveries with an order: the number that each has among those of its callback and key.
	Numbers map[int64]int64

	Meta      Meta              // Known: what the event is
	Expanding bool              // Known: deliveries are still to be written
	Written   []WrittenDelivery // Known: those that are

	Version int64 // Outdated: the registry's
	Refused error // OverQuota: a *registry.QuotaError
}

// A WrittenDelivery is a delivery as it stands.
type WrittenDelivery struct {
	Callback int64
	Record
}

// BegunUnder is the log id of the event if the delivery to a callback has begun under a token that its [Offer] had, in this step or in an earlier run
// of it, whose answer was lost. Else it is empty.
func (a Accepted) BegunUnder(callback int64, token string) (logID string) {
	if slices.Contains(a.Begun, callback) {
		return a.LogID
	}
	for _, w := range a.Written {
		if w.Callback == callback && w.State == 'A' && w.Token == token {
			return a.LogID
		}
	}
	return ""
}

func readAccepted(company string, texts []string) (Accepted, error) {
	a := &answer{left: texts}
	var out Accepted
	switch word := a.text(); word {
	case "accepted":
		out = Accepted{Outcome: Taken, LogID: a.text(), Held: a.ids(), Slow: a.ids(), Begun: a.ids()}
		if a.more() {
			out.Pumps, out.Numbers = a.pumps(), a.numbers()
		}
	case "exists":
		out = Accepted{Outcome: Known, Meta: a.meta(), LogID: a.text(), Held: a.ids(), Expanding: a.yes()}
		for a.more() {
			out.Written = append(out.Written, WrittenDelivery{a.number(), a.record()})
		}
	case "version":
		out = Accepted{Outcome: Outdated, Version: a.number()}
	case "quota":
		out = Accepted{Outcome: OverQuota, Refused: registry.ReadQuota(registry.QuotaWaitingBytes, company, texts)}
	default:
		a.err = ErrBadRecord
	}
	if a.err != nil {
		return Accepted{}, fmt.Errorf("accepting: %w", a.err)
	}
	return out, nil
}
