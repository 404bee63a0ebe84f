package ledger

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/lua"
	"github.com/ringback/ringback/registry"
)

var watchScript = lua.Script("watch")

// A Place is one in a company's news: behind an entry, of one epoch. What came after it is known for as long as the entry is there. Once nobody has watched
// for a minute, all entries go, and the epoch with them.
type Place struct{ epoch, entry string }

var place = regexp.MustCompile(`^([A-Z2-7]{26})-(\d{1,16}-\d{1,16})$`)

// ParsePlace is the inverse of [Place.String]. An empty text is the zero Place, from now on.
func ParsePlace(text string) (Place, bool) {
	if text == "" {
		return Place{}, true
	}
	m := place.FindStringSubmatch(text)
	if m == nil {
		return Place{}, false
	}
	return Place{m[1], m[2]}, true
}

// String is the place as a text.
func (p Place) String() string {
	if p == (Place{}) {
		return ""
	}
	return p.epoch + "-" + p.entry
}

// A Change is a delivery that came to a state, or stayed in it with one attempt more.
type Change struct {
	Ref
	State State
	After Place // the one behind it
}

// A Look is one into a company's news.
type Look struct {
	Company string
	From    Place // zero: from now on
	Most    int   // changes

	// Begin is the company's version ([Ledger.WatchVersion]) if watching may begin where nobody does yet: the version of a time when the company was known
	// to be there. Else an erased company would have a key again.
	Begin string

	// Narrow says that somebody wants to hear of some changes only: all are told then. Else nothing is told for a while where far more changes than anybody
	// reads, which Flooded says of the look before.
	Narrow, Flooded bool
}

// mode is what the script is told of that.
func (l *Look) mode() string {
	switch {
	case l.Narrow:
		return "all"
	case l.Flooded:
		return "flood"
	default:
		return ""
	}
}

// Seen is what a [Look] saw.
type Seen struct {
	Err     error
	Watched bool // changes are told from now on, for a minute; else nobody watches, and the look did not begin
	// Whole says that Changes are all since Look.From, but for those beyond Look.Most. Else what came after that is not known, and At is where the news go on.
	Whole   bool
	Changes []Change
	At      Place // behind the last of the changes
	Missed  bool  // some changes in between were not told
	Flooded bool  // far more changed than Changes, and nothing is told for a second. At is behind all of it
}

// WatchVersion is a company's version now, for [Look].Begin.
func (l *Ledger) WatchVersion(ctx context.Context, company string) (string, error) {
	version, err := l.rdb.Get(ctx, registry.VersionKey(company)).Result()
	if errors.Is(err, redis.Nil) {
		return "0", nil
	}
	return version, err
}

// Watch looks into the news of companies, in one round trip or two. A company that is looked into is watched for a minute from then on: the steps that change
// its deliveries tell so. err is that of the round trip.
func (l *Ledger) Watch(ctx context.Context, looks []Look) ([]Seen, error) {
	companies := make([]string, len(looks))
	for i, look := range looks {
		companies[i] = look.Company
	}
	epoch := rand.Text()
	cmds, err := l.runEach(ctx, watchScript, companies, func(due string) []string { return declared(l.rdb, due) }, func(i int) []any {
		return []any{looks[i].From.epoch, looks[i].From.entry, looks[i].Most, looks[i].Begin, epoch, looks[i].mode()}
	})
	if err != nil {
		return nil, err
	}
	all := make([]Seen, len(looks))
	for i, cmd := range cmds {
		v, err := cmd.Result()
		if err != nil {
			all[i].Err = err
			continue
		}
		all[i] = readSeen(looks[i].Company, Strings(v))
	}
	return all, nil
}

func readSeen(company string, texts []string) Seen {
	a := &answer{left: texts}
	seen := Seen{At: Place{a.text(), a.text()}}
	if seen.Watched = seen.At != (Place{}); !seen.Watched || !a.more() {
		seen.Err = a.err
		return seen
	}
	kind := a.text()
	seen.Whole, seen.Flooded = true, kind == "2"
	seen.Missed = seen.Flooded
	for at := seen.At; a.more(); {
		at.entry = a.text()
		if !seen.Flooded {
			seen.At = at
		}
		member, letter := a.text(), a.text()
		if member == "" {
			seen.Missed = true
			continue
		}
		ref, ok := ParseMember(company, member)
		if state := StateOf[(letter + " ")[0]]; ok && state != "" { // else it is of a version to come
			seen.Changes = append(seen.Changes, Change{ref, state, at})
		}
	}
	if seen.Err = a.err; a.err != nil {
		seen.Err = fmt.Errorf("the news of company %s: %w", company, a.err)
	}
	return seen
}
