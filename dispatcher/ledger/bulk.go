package ledger

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/lua"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/registry"
)

var (
	startBulkScript  = lua.Acting("bulk_start", `reply[1] == 'ok'`)
	partBulkScript   = lua.Script("bulk_part")
	endBulkScript    = lua.Script("bulk_end")
	forgetBulkScript = lua.Script("bulk_forget")
	tidyBulkScript   = lua.Script("bulk_tidy")
)

// bulks stands in the keys of bulk replays where a company's name does in others. No company has it: a name has no colon.
const bulks = "ringback:replays"

// keptBulks is how many bulk replays are kept, but for those that run.
const keptBulks = 1000

// keptOfScope is how many of them are kept of a company, or of the installation: as many as are listed.
const keptOfScope = 100

// A Bulk is a replay over callbacks and companies, as it is stored. Its parts are sweeps: one for each callback, under an id that follows from its own. What it
// is to replay does not change.
type Bulk struct {
	ID        string
	Company   string   // whose it is; empty: the installation's
	By        string   // who asked for it, or cancelled it
	State     string   // running, done, cancelled, dry_run
	Companies []string // it goes over; nil: all that there are
	Callbacks []int64  // of one company; nil: all
	States    []State
	Span      Span
	EventType string // empty: any
	Reason    verdict.Reason
	Pace      int64     // of each callback's sweep
	Matched   int64     // counted before it began
	Bodiless  int64     // the same: those that would match, if their events still had bodies
	Estimate  bool      // there may be more: not all was counted
	After     string    // the last company that was looked into, in the order of names
	Created   time.Time // from here on as a Sweep has it
	Finished  time.Time
}

// SweepID is the id of the sweep of a callback.
func (b *Bulk) SweepID(callback int64) string {
	return b.ID + "c" + strconv.FormatInt(callback, 10)
}

// A Part is what a bulk replay does in a company.
type Part struct {
	Company string
	Ended   Tally   // what the sweeps did that have ended
	Running Tally   // what the others did so far
	Left    []int64 // the callbacks of those others, in the order in which they begin
}

// A Tally counts a sweep's deliveries, or those of several.
type Tally struct{ Matched, Bodiless, Replayed int64 }

// Add adds another's.
func (t *Tally) Add(other Tally) {
	t.Matched, t.Bodiless, t.Replayed = t.Matched+other.Matched, t.Bodiless+other.Bodiless, t.Replayed+other.Replayed
}

// Tally is what a sweep did so far.
func (s *Sweep) Tally() Tally { return Tally{s.Matched, s.Bodiless, s.Replayed} }

// String is the part as it is stored, without its company.
func (p *Part) String() string {
	return fmt.Sprintf("%d %d %d %d %d %d %s", p.Ended.Matched, p.Ended.Bodiless, p.Ended.Replayed, p.Running.Matched, p.Running.Bodiless, p.Running.Replayed, joinIDs(p.Left))
}

func readPart(company, text string) (p Part, err error) {
	words := strings.Split(text, " ")
	if len(words) != 7 {
		return p, ErrBadRecord
	}
	a := &answer{left: words}
	p = Part{
		Company: company, Ended: Tally{a.number(), a.number(), a.number()}, Running: Tally{a.number(), a.number(), a.number()}, Left: a.ids(),
	}
	return p, a.err
}

func joinIDs(ids []int64) string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = strconv.FormatInt(id, 10)
	}
	return strings.Join(texts, ",")
}

// StoreBulk writes a new bulk replay down, and line to the audit trail; if it runs, a worker goes on with it. Errors: a *registry.QuotaError if as many of
// its scope run as may.
func (l *Ledger) StoreBulk(ctx context.Context, b *Bulk, most int64, line string) error {
	companies, callbacks := "", "" // all; none is a comma
	if b.Companies != nil {
		companies = "," + strings.Join(b.Companies, ",") + ","
	}
	if b.Callbacks != nil {
		callbacks = "," + joinIDs(b.Callbacks)
	}
	args := []any{
		b.ID, countKept.Milliseconds(), most, line, keptOfScope, "company", b.Company, "by", b.By, "state", b.State, "companies", companies, "callbacks", callbacks,
		"states", replayLetters(b.States), "since", toMS(b.Span.Since), "until", toMS(b.Span.Until), "type", b.EventType, "reason", string(b.Reason), "pace", b.Pace,
		"matched", b.Matched, "bodiless", b.Bodiless, "estimate", b.Estimate, "created", toMS(b.Created), "finished", toMS(b.Finished),
	}
	a, err := l.ask(ctx, startBulkScript, bulks, args...)
	if err != nil {
		return err
	}
	if len(a.left) > 0 && a.left[0] == "quota" {
		return registry.ReadQuota(registry.QuotaReplays, b.Company, a.left)
	}
	return nil
}

// Bulk reads one, nil if there is none.
func (l *Ledger) Bulk(ctx context.Context, id string) (*Bulk, error) {
	fields, err := l.rdb.HGetAll(ctx, replayKey(bulks, id)).Result()
	if err != nil || len(fields) == 0 {
		return nil, err
	}
	return readBulk(id, fields)
}

func readBulk(id string, fields map[string]string) (*Bulk, error) {
	number := func(name string) int64 {
		n, _ := strconv.ParseInt(fields[name], 10, 64)
		return n
	}
	var callbacks []int64
	if text, some := strings.CutPrefix(fields["callbacks"], ","); some {
		ids, err := readIDs(text)
		if err != nil {
			return nil, err
		}
		callbacks = append([]int64{}, ids...)
	}
	b := &Bulk{
		ID: id, Company: fields["company"], By: fields["by"], State: fields["state"], Callbacks: callbacks, States: replayStates(fields["states"]),
		Span: Span{FromMS(number("since")), FromMS(number("until"))}, EventType: fields["type"], Reason: verdict.Reason(fields["reason"]), Pace: number("pace"),
		Matched: number("matched"), Bodiless: number("bodiless"), Estimate: fields["estimate"] == "1", After: fields["after"],
		Created: FromMS(number("created")), Finished: FromMS(number("finished")),
	}
	if fields["companies"] != "" {
		b.Companies = slices.DeleteFunc(strings.Split(fields["companies"], ","), func(name string) bool { return name == "" })
	}
	return b, nil
}

// Bulks are those of a company, or the installation's if that is empty, newest first, so many at most.
func (l *Ledger) Bulks(ctx context.Context, company string, limit int) ([]*Bulk, error) {
	ids, err := l.rdb.ZRevRange(ctx, Key(bulks, "replays"), 0, -1).Result()
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	reads := make([]*redis.MapStringStringCmd, len(ids))
	p := l.rdb.Pipeline()
	for i, id := range ids {
		reads[i] = p.HGetAll(ctx, replayKey(bulks, id))
	}
	if err := execute(ctx, p); err != nil {
		return nil, err
	}
	var all []*Bulk
	for i, read := range reads {
		if fields := read.Val(); len(fields) > 0 && fields["company"] == company && len(all) < limit {
			b, err := readBulk(ids[i], fields)
			if err != nil {
				return nil, err
			}
			all = append(all, b)
		}
	}
	return all, nil
}

// Parts are a bulk replay's, by company.
func (l *Ledger) Parts(ctx context.Context, id string) ([]Part, error) {
	fields, err := l.rdb.HGetAll(ctx, Key(bulks, "parts:"+id)).Result()
	if err != nil {
		return nil, err
	}
	parts := make([]Part, 0, len(fields))
	for company, text := range fields {
		p, err := readPart(company, text)
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	slices.SortFunc(parts, func(a, b Part) int { return strings.Compare(a.Company, b.Company) })
	return parts, nil
}

// RunningBulks are the ids of those that run, or were cancelled and may have parts that run.
func (l *Ledger) RunningBulks(ctx context.Context) ([]string, error) {
	return l.rdb.SMembers(ctx, Key(bulks, "replaying")).Result()
}

// NamePart notes in After that companies were looked into up to one, and what a bulk replay does there: nil is nothing. Nothing of it is written in the
// company before. ok is false if the bulk replay was cancelled, or somebody else looked into companies meanwhile.
func (l *Ledger) NamePart(ctx context.Context, b *Bulk, company string, p *Part) (ok bool, err error) {
	text := ""
	if p != nil {
		text = p.String()
	}
	ok, err = l.run(ctx, partBulkScript, bulks, b.ID, "name", b.After, company, text).Bool()
	if ok {
		b.After = company
	}
	return ok, err
}

// NotePart notes how far a part is, unless its company was erased.
func (l *Ledger) NotePart(ctx context.Context, id string, p *Part) error {
	return l.run(ctx, partBulkScript, bulks, id, "note", p.Company, p.String()).Err()
}

// CancelBulk ends a bulk replay, if it runs, and writes line to the audit trail. Its parts are for a worker to stop, in the name of who cancelled it, and then
// to end it with EndBulk. ok is false if there is none.
func (l *Ledger) CancelBulk(ctx context.Context, id, by, line string) (ok bool, err error) {
	return l.run(ctx, endBulkScript, bulks, id, "cancel", by, line).Bool()
}

// EndBulk ends one of which nothing runs any more.
func (l *Ledger) EndBulk(ctx context.Context, id string) error {
	return l.run(ctx, endBulkScript, bulks, id, "over", replayKept.Milliseconds()).Err()
}

// ForgetInBulks takes a company that is erased out of all bulk replays, and returns how many were its own.
func (l *Ledger) ForgetInBulks(ctx context.Context, company string) (int64, error) {
	return l.run(ctx, forgetBulkScript, bulks, company).Int64()
}

// TidyBulks removes those that have had their time.
func (l *Ledger) TidyBulks(ctx context.Context) error {
	return l.run(ctx, tidyBulkScript, bulks, keptBulks).Err()
}

// MayHold reports of companies whether they can hold deliveries in one of these states. It looks at what tells so at once.
func (l *Ledger) MayHold(ctx context.Context, companies []string, states []State) ([]bool, error) {
	counts := make([]*redis.IntCmd, len(companies))
	p := l.rdb.Pipeline()
	for i, company := range companies {
		var tells []string
		for _, state := range states {
			switch state {
			case Dead:
				tells = append(tells, Key(company, "dead"))
			case Retrying:
				tells = append(tells, Key(company, "due"))
			default:
				tells = append(tells, Key(company, "log"))
			}
		}
		counts[i] = p.Exists(ctx, tells...)
	}
	if err := execute(ctx, p); err != nil {
		return nil, err
	}
	may := make([]bool, len(companies))
	for i, count := range counts {
		may[i] = count.Val() > 0
	}
	return may, nil
}

// A Stock is how many deliveries of a callback are in the states that have books.
type Stock struct{ Dead, Retrying int64 }

// Stocks are those of callbacks, in their order.
func (l *Ledger) Stocks(ctx context.Context, company string, callbacks []int64) ([]Stock, error) {
	dead, retrying := make([]*redis.StringCmd, len(callbacks)), make([]*redis.IntCmd, len(callbacks))
	p := l.rdb.Pipeline()
	for i, cb := range callbacks {
		dead[i] = p.HGet(ctx, registry.HealthKey(company, cb), "dead")
		retrying[i] = p.ZCard(ctx, Key(company, "retry:"+strconv.FormatInt(cb, 10)))
	}
	if len(callbacks) == 0 {
		return nil, nil
	}
	if err := execute(ctx, p); err != nil {
		return nil, err
	}
	stocks := make([]Stock, len(callbacks))
	for i := range callbacks {
		n, _ := strconv.ParseInt(dead[i].Val(), 10, 64) // none: nothing is dead
		stocks[i] = Stock{n, retrying[i].Val()}
	}
	return stocks, nil
}
