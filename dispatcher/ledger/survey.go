package ledger

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/lua"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/registry"
)

var surveyScript, whyScript = lua.Script("survey"), lua.Script("why")

const (
	// surveyPage is how many callbacks of a company one run looks at: a millisecond of Redis's time.
	surveyPage = 200
	// surveyTogether is how many companies are looked at in one round trip: Redis is anybody else's again after a millisecond or two.
	surveyTogether = 25
	// whyPage is how many entries of a book one run reads at most, and whyTogether how many runs go in one round trip.
	whyPage, whyTogether = 100, 10
)

// A Survey is how a company stands.
type Survey struct {
	Err       error     // it cannot be read, or not whole
	Callbacks int64     // how many it has
	Enabled   int64     // of them
	Dead      int64     // entries in its book
	Due       time.Time // the earliest time to worry; zero: there is none
	Standings []Standing

	known map[int64]bool // callbacks that stand in it: one that is changed meanwhile comes twice
}

// A Standing is how a callback stands of which there is anything to say.
type Standing struct {
	Callback      int64
	Gate          *registry.Gate // nil: open
	InLanes       int64          // pending or active
	Retrying      int64
	Held          int64
	OldestWaiting time.Time // when its event was accepted; zero: nothing waits
	Dead          int64
	Failures      int64 // in a row
	Breaker       Breaker
	LastFailure   *Failure
	TokenFailure  *Failure
	LastSuccess   time.Time
}

// Waiting is how many of the callback's deliveries are unfinished.
func (s *Standing) Waiting() int64 { return s.InLanes + s.Retrying + s.Held }

// SurveyAll looks into companies, a few together, and into their callbacks page by page. A company that cannot be read has its own error. err says that time
// was up.
func (l *Ledger) SurveyAll(ctx context.Context, companies []string) ([]Survey, error) {
	all, places := make([]Survey, len(companies)), make([]int64, len(companies))
	todo := make([]int, len(companies))
	for i := range todo {
		todo[i] = i
	}
	for len(todo) > 0 {
		page := todo[:min(len(todo), surveyTogether)]
		todo = todo[len(page):]
		names := make([]string, len(page))
		for i, of := range page {
			names[i] = companies[of]
		}
		cmds, failed := l.runAll(ctx, surveyScript, names, func(i int) []any { return []any{surveyPage, places[page[i]]} })
		if failed != nil && ctx.Err() != nil {
			return nil, failed
		}
		for i, of := range page {
			rows, err := cmds[i].Slice()
			var there int64
			if err == nil {
				there, err = all[of].read(companies[of], rows)
			}
			if err != nil {
				all[of].Err = err
				continue
			}
			if places[of] += surveyPage; places[of] < there {
				todo = append(todo, of)
			}
		}
	}
	return all, nil
}

// read adds what a run of the script answered, and returns how many places there are.
func (s *Survey) read(company string, rows []any) (places int64, err error) {
	if len(rows) < 5 {
		return 0, ErrBadRecord
	}
	a := &answer{left: Strings(rows[:5])}
	s.Callbacks, s.Dead, s.Due, places = a.number(), a.number(), a.at(), a.number()
	s.Enabled += a.number()
	if s.known == nil {
		s.known = make(map[int64]bool)
	}
	for _, row := range rows[5:] {
		b := &answer{left: Strings(row)}
		st := Standing{Callback: b.number()}
		if text := b.text(); text != "" {
			gate, err := registry.ParseGate(text)
			if err != nil {
				return 0, err
			}
			st.Gate = &gate
		}
		st.InLanes, st.Retrying, st.Held, st.OldestWaiting, st.Dead, st.Failures = b.number(), b.number(), b.number(), b.at(), b.number(), b.number()
		st.Breaker = breakerOf(b.yes(), st.Failures)
		st.LastFailure, st.TokenFailure, st.LastSuccess = b.failure(company), b.failure(company), b.at()
		if b.err != nil {
			return 0, b.err
		}
		if s.known[st.Callback] {
			continue
		}
		s.known[st.Callback] = true
		s.Standings = append(s.Standings, st)
	}
	return places, a.err
}

// A Cause is how many of a callback's dead deliveries have a reason, as operators may read it.
type Cause struct {
	Company  string
	Callback int64
	Reason   verdict.Reason
	Dead     int64
}

// WhyAll reads why the newest entries of companies' dead-letter books are dead: of each company so many as most says.
func (l *Ledger) WhyAll(ctx context.Context, companies []string, most []int64) ([]Cause, error) {
	type page struct {
		company  string
		from, to int64
	}
	var pages []page
	for i, company := range companies {
		for from := int64(0); from < most[i]; from += whyPage {
			pages = append(pages, page{company, from, min(from+whyPage, most[i]) - 1})
		}
	}
	var all []Cause
	for some := range slices.Chunk(pages, whyTogether) {
		names := make([]string, len(some))
		for i, p := range some {
			names[i] = p.company
		}
		cmds, err := l.runAll(ctx, whyScript, names, func(i int) []any { return []any{some[i].from, some[i].to} })
		if err != nil {
			return nil, err
		}
		for i, cmd := range cmds {
			causes, err := readCauses(some[i].company, cmd)
			if err != nil {
				return nil, err
			}
			all = append(all, causes...)
		}
	}
	return all, nil
}

func readCauses(company string, cmd *redis.Cmd) (causes []Cause, err error) {
	v, err := cmd.Result()
	if err != nil {
		return nil, err
	}
	a := &answer{left: Strings(v)}
	for a.more() {
		callback, e := a.number(), Entry{Reason: verdict.Reason(a.text())}
		if reason, inside := strings.CutSuffix(string(e.Reason), "!"); inside {
			e = Entry{Reason: verdict.Reason(reason), Inside: true}.Unmasked()
		}
		causes = append(causes, Cause{company, callback, e.Reason, a.number()})
	}
	return causes, a.err
}
