package registry

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ringback/ringback/payloads"
)

// Match returns the callbacks of a company that an event goes to, by ascending id,
// and the version of the registry that it looked at. The event is of type typ, has
// the match attributes attrs and was accepted at acceptedAt. Paused and disabled
// callbacks match.
//
// It answers from memory, but for the first time that it meets a company. Its
// answer is current if [VersionKey] still holds ver. If not, call Refresh with
// what stands there and match again.
//
// payload reads the event's payload for filters. It is called only if a callback has one that would match otherwise, and once for all of them. Nil is a payload
// of which nothing is known, that holds nothing.
func (r *Registry) Match(ctx context.Context, company, typ string, attrs map[string]string, acceptedAt time.Time, payload func() payloads.Document) (ver int64, matched []*Callback, err error) {
	snap, err := r.remembered(ctx, company)
	if err != nil {
		return 0, nil, err
	}
	payload = onceRead(payload)
	for _, cb := range snap.candidates(typ, attrs) {
		if judge(cb, typ, attrs, acceptedAt, payload).reason == fits {
			matched = append(matched, cb)
		}
	}
	sortByID(matched)
	return snap.version, matched, nil
}

// Decide says whether an event matches a callback, and why or why not, as a
// sentence for the callback's owner. Match follows the same rule. If a clause of the callback's filter decides, miss says which.
func (r *Registry) Decide(cb *Callback, typ string, attrs map[string]string, acceptedAt time.Time, payload func() payloads.Document) (matched bool, why string, miss *payloads.Miss) {
	payload = onceRead(payload)
	j := judge(cb, typ, attrs, acceptedAt, payload)
	if j.reason == filterMisses {
		miss = cb.Filter.Judge(payload())
		return false, miss.Why, miss
	}
	return j.reason == fits, j.sentence(cb, typ, attrs, acceptedAt), nil
}

// onceRead reads a payload when it is first asked for.
func onceRead(payload func() payloads.Document) func() payloads.Document {
	if payload == nil {
		return func() payloads.Document { return payloads.Document{} }
	}
	return sync.OnceValue(payload)
}

// judgement is why an event matches a callback or does not.
type judgement struct {
	reason    reason
	attribute string // with attributeDiffers, the first by name
}

type reason int

const (
	fits reason = iota
	typeDiffers
	attributeDiffers
	startsLater
	filterMisses
)

// judge is the rule: the type or glob fits, the event has every attribute that
// the callback asks for, it was not accepted before an explicit start date, and its payload
// is one that the filter is for.
func judge(cb *Callback, typ string, attrs map[string]string, acceptedAt time.Time, payload func() payloads.Document) judgement {
	if cb.Type != typ && (!payloads.IsGlob(cb.Type) || !payloads.MatchGlob(cb.Type, typ)) {
		return judgement{reason: typeDiffers}
	}
	var j judgement
	for name, want := range cb.Match {
		got, ok := attrs[name]
		if (!ok || got != want) && (j.reason == fits || name < j.attribute) {
			j = judgement{attributeDiffers, name}
		}
	}
	if j.reason == fits && cb.StartDateGiven && acceptedAt.Before(cb.StartDate) {
		j.reason = startsLater
	}
	if j.reason == fits && cb.Filter != nil && !cb.Filter.Holds(payload()) {
		j.reason = filterMisses
	}
	return j
}

func (j judgement) sentence(cb *Callback, typ string, attrs map[string]string, acceptedAt time.Time) string {
	switch j.reason {
	case typeDiffers:
		return fmt.Sprintf("The callback is for %s, and the event is of type %s.", cb.Type, typ)
	case attributeDiffers:
		if got, ok := attrs[j.attribute]; ok {
			return fmt.Sprintf("The callback asks for %s %q, and the event has %q.", j.attribute, cb.Match[j.attribute], got)
		}
		return fmt.Sprintf("The callback asks for %s %q, and the event has no %s.", j.attribute, cb.Match[j.attribute], j.attribute)
	case startsLater:
		return fmt.Sprintf("The event was accepted at %s, before the callback's start_date %s.",
			acceptedAt.UTC().Format(time.RFC3339), cb.StartDate.UTC().Format(time.RFC3339))
	case fits, filterMisses:
	}
	and := ""
	if cb.Filter != nil {
		and = " Its filter holds."
	}
	if len(cb.Match) == 0 {
		return fmt.Sprintf("The callback is for %s and takes every event of type %s.", cb.Type, typ) + and
	}
	asked := make([]string, 0, len(cb.Match))
	for _, name := range slices.Sorted(maps.Keys(cb.Match)) {
		asked = append(asked, fmt.Sprintf("%s %q", name, cb.Match[name]))
	}
	return fmt.Sprintf("The callback is for %s with %s, and the event has that.", cb.Type, strings.Join(asked, " and ")) + and
}
