package ledger

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/lua"
	"github.com/ringback/ringback/registry"
)

var glanceScript, rouseScript, sleepScript = lua.Script("glance"), lua.Script("rouse"), lua.Script("sleep")

// A Glance is what a round finds to do for a company.
type Glance struct {
	Err error // nothing is known

	Work    bool // there is some, now or later; the rest is what there is now
	Rooms   bool
	Notices bool
	Overdue bool
	Replays bool
	Holds   bool   // there is anything else: what grows old, or is counted
	Awake   bool   // the company is
	Version string // without work: of the company
	Newest  string // without work: log id of the last event
}

// GlanceAll looks into companies, in one round trip or two. err is that of the round trip; then nothing is known of any.
func (l *Ledger) GlanceAll(ctx context.Context, companies []string) ([]Glance, error) {
	cmds, err := l.runAll(ctx, glanceScript, companies, nil)
	if err != nil {
		return nil, err
	}
	all := make([]Glance, len(companies))
	for i, cmd := range cmds {
		v, err := cmd.Result()
		a := &answer{left: Strings(v)}
		if err != nil {
			all[i] = Glance{Err: err}
			continue
		}
		all[i] = Glance{
			Work: a.yes(), Awake: a.yes(), Rooms: a.yes(), Notices: a.yes(), Overdue: a.yes(), Replays: a.yes(), Holds: a.yes(), Version: a.text(), Newest: a.text(),
		}
		all[i].Err = a.err
	}
	return all, nil
}

// A Sleeper is a company that is to be put to sleep, at an epoch of the index, if it still has that version, and no work.
type Sleeper struct {
	Company string
	Epoch   int64
	Version string
}

// Sleep puts companies to sleep, and returns those that are.
func (l *Ledger) Sleep(ctx context.Context, all []Sleeper) ([]Sleeper, error) {
	names := make([]string, len(all))
	for i, s := range all {
		names[i] = s.Company
	}
	cmds, err := l.runAll(ctx, sleepScript, names, func(i int) []any { return []any{all[i].Epoch, all[i].Version} })
	if err != nil {
		return nil, err
	}
	var asleep []Sleeper
	var failed []error
	for i, cmd := range cmds {
		switch n, err := cmd.Int(); {
		case err != nil:
			failed = append(failed, fmt.Errorf("company %s: %w", all[i].Company, err))
		case n == 1:
			asleep = append(asleep, all[i])
		}
	}
	return asleep, errors.Join(failed...)
}

// Rouse puts a company that has work into the index, and wakes it.
func (l *Ledger) Rouse(ctx context.Context, company string) error {
	if _, err := registry.Enlist(ctx, l.rdb, company); err != nil {
		return err
	}
	_, err := l.ask(ctx, rouseScript, company)
	return err
}

// runAll runs a script for each company, in one round trip, or two if Redis does not know it. Each company has its own answer or error. If err is not nil,
// the round trip failed, on a cluster perhaps for some of them only.
func (l *Ledger) runAll(ctx context.Context, script *redis.Script, companies []string, args func(i int) []any) ([]*redis.Cmd, error) {
	return l.runEach(ctx, script, companies, func(due string) []string { return []string{due} }, args)
}

// runEach is runAll with the keys that the script declares of a company, by the first.
func (l *Ledger) runEach(ctx context.Context, script *redis.Script, companies []string, keys func(due string) []string, args func(i int) []any) ([]*redis.Cmd, error) {
	cmds := make([]*redis.Cmd, len(companies))
	todo := make([]int, len(companies))
	for i := range todo {
		todo[i] = i
	}
	for _, how := range []eval{(*redis.Script).EvalSha, (*redis.Script).Eval} {
		_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, i := range todo {
				key := Key(companies[i], "due")
				own := []any{l.settings(ctx, key)}
				if args != nil {
					own = append(own, args(i)...)
				}
				cmds[i] = how(script, ctx, p, keys(key), own...)
			}
			return nil
		})
		if _, refused := errors.AsType[redis.Error](err); err != nil && !refused {
			return cmds, err
		}
		var unknown []int
		for _, i := range todo {
			if redis.HasErrorPrefix(cmds[i].Err(), "NOSCRIPT") {
				unknown = append(unknown, i)
			}
		}
		if todo = unknown; len(todo) == 0 {
			break
		}
	}
	return cmds, nil
}
