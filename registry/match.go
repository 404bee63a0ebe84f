package registry

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
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
func (r *Registry) Match(ctx context.Context, company, typ string, attrs map[string]string, acceptedAt time.Time) (ver int64, matched []*Callback, err error) {
	snap, err := r.remembered(ctx, company)
	if err != nil {
		return 0, nil, err
	}
	for _, cb := range snap.candidates(typ, attrs) {
		if judge(cb, typ, attrs, acceptedAt).reason == fits {
			matched = append(matched, cb)
		}
	}
	sortByID(matched)
	return snap.version, matched, nil
}

// Decide says whether an event matches a callback, and why or why not, as a
// sentence for the callback's owner. Match follows the same rule.
func (r *Registry) Decide(cb *Callback, typ string, attrs map[string]string, acceptedAt time.Time) (matched bool, why string) {
	j := judge(cb, typ, attrs, acceptedAt)
	return j.reason == fits, j.sentence(cb, typ, attrs, acceptedAt)
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
)

// judge is the rule: the type or glob fits, the event has every attribute that
// the callback asks for, and it was not accepted before an explicit start date.
func judge(cb *Callback, typ string, attrs map[string]string, acceptedAt time.Time) judgement {
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
	case fits:
	}
	if len(cb.Match) == 0 {
		return fmt.Sprintf("The callback is for %s and takes every event of type %s.", cb.Type, typ)
	}
	asked := make([]string, 0, len(cb.Match))
	for _, name := range slices.Sorted(maps.Keys(cb.Match)) {
		asked = append(asked, fmt.Sprintf("%s %q", name, cb.Match[name]))
	}
	return fmt.Sprintf("The callback is for %s with %s, and the event has that.", cb.Type, strings.Join(asked, " and "))
}
