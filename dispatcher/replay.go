package dispatcher

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/payloads"
)

// A ReplayQuery selects deliveries of one callback that are to be sent again.
type ReplayQuery struct {
	States    []State   // Dead, Delivered or Cancelled; empty: Dead
	Since     time.Time // accepted then or later; zero: ever
	Until     time.Time // accepted before; zero: the call itself
	EventType string    // empty: any
	Reason    Reason    // of the last attempt; empty: any
	DryRun    bool      // count, and send nothing
}

// A ReplayState says how far a [Replay] is.
type ReplayState string

// The states of a replay.
const (
	ReplayRunning   ReplayState = "running"
	ReplayDone      ReplayState = "done"
	ReplayCancelled ReplayState = "cancelled" // by hand, or its callback was deleted
	ReplayDryRun    ReplayState = "dry_run"   // counted only
)

// A Replay is the work of sending many deliveries again: the workers go through it page by page, oldest first, and go on with it after
// a crash. Each delivery is replayed as [Client.Replay] does it.
type Replay struct {
	ReplayID   string      `json:"replay_id"`
	CallbackID int64       `json:"callback_id"`
	State      ReplayState `json:"state"`
	Matched    int64       `json:"matched"`  // counted when it was asked for
	Replayed   int64       `json:"replayed"` // so far; what left the states meanwhile is never counted
	States     []State     `json:"states"`
	Since      time.Time   `json:"since,omitzero"`
	Until      time.Time   `json:"until"`
	EventType  string      `json:"event_type,omitempty"`
	Reason     Reason      `json:"reason,omitempty"`
	CreatedAt  time.Time   `json:"created_at"`
	FinishedAt time.Time   `json:"finished_at,omitzero"`
}

const (
	// replayKept is how long a replay is shown after its end.
	replayKept = 7 * 24 * time.Hour
	// sweepPage is how many of the log's entries one script run looks at: a few milliseconds of Redis's time if all of them match.
	sweepPage = 200
	// sweepFor bounds a replay's share of a reconciler's round.
	sweepFor = time.Second
)

// replayable are the states that a replay may start from, as records have them.
var replayable = map[State]string{Dead: "X", Delivered: "D", Cancelled: "C"}

func replayKey(company, id string) string { return keyOf(company, "replay:"+id) }

// ReplayCallback counts the deliveries of a callback that q selects and, unless it is a dry run, has the workers send them again.
//
// Errors: registry.ErrNotFound, *payloads.InvalidError for a state that cannot be replayed, [ErrUnavailable].
func (c *Client) ReplayCallback(ctx context.Context, company string, callbackID int64, q ReplayQuery) (*Replay, error) {
	if len(q.States) == 0 {
		q.States = []State{Dead}
	}
	for i, s := range q.States {
		if replayable[s] == "" {
			return nil, &payloads.InvalidError{Fields: []payloads.FieldError{{
				Location: fmt.Sprintf("body.states[%d]", i), Message: "must be dead, delivered or cancelled: others go out by themselves", Value: clip(string(s), 32),
			}}}
		}
	}
	if _, err := c.registry.Get(ctx, company, callbackID); err != nil {
		return nil, err
	}
	now, err := c.rdb.Time(ctx).Result()
	if err != nil {
		return nil, unavailable(ctx, c, "reading the clock", err)
	}
	r := &Replay{
		ReplayID: "rpl_" + strings.ToLower(rand.Text()[:16]), CallbackID: callbackID, State: ReplayRunning,
		States: slices.Compact(slices.Sorted(slices.Values(q.States))), Since: q.Since, Until: q.Until, EventType: q.EventType, Reason: q.Reason,
		CreatedAt: now.UTC().Truncate(time.Millisecond),
	}
	if r.Until.IsZero() || r.Until.After(r.CreatedAt) {
		r.Until = r.CreatedAt.Add(time.Millisecond) // what is accepted within this millisecond is included
	}
	if r.Matched, err = c.countMatches(ctx, company, r); err != nil {
		return nil, err
	}
	if q.DryRun {
		r.State, r.FinishedAt = ReplayDryRun, r.CreatedAt
	}
	if err := c.storeReplay(ctx, company, r); err != nil {
		return nil, err
	}
	return r, nil
}

// window is r's part of the log: from where, and to which millisecond.
func (r *Replay) window() (from, to string) {
	return (&Query{Since: r.Since, Until: r.Until}).bounds()
}

func (r *Replay) letters() string {
	var b strings.Builder
	for _, s := range r.States {
		b.WriteString(replayable[s])
	}
	return b.String()
}

func (c *Client) countMatches(ctx context.Context, company string, r *Replay) (int64, error) {
	var matched int64
	from, to := r.window()
	for {
		v, err := sweepScript.Run(ctx, c.rdb, []string{keyOf(company, "due")},
			"count", r.CallbackID, r.letters(), r.EventType, string(r.Reason), to, 5*sweepPage, c.window, from).Result()
		if err != nil {
			return 0, unavailable(ctx, c, "counting what matches", err)
		}
		answer := strs(v)
		n, err := strconv.ParseInt(answer[1], 10, 64)
		if err != nil {
			return 0, unavailable(ctx, c, "counting what matches", err)
		}
		matched += n
		if from = answer[0]; from == "" {
			return matched, nil
		}
	}
}

// storeReplay writes a new replay down, and if it is to run puts it up for the workers: all or nothing.
func (c *Client) storeReplay(ctx context.Context, company string, r *Replay) error {
	from, _ := r.window()
	key := replayKey(company, r.ReplayID)
	_, err := c.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.HSet(ctx, key, "cb", r.CallbackID, "state", string(r.State), "matched", r.Matched, "replayed", 0, "states", r.letters(),
			"since", toMS(r.Since), "until", toMS(r.Until), "type", r.EventType, "reason", string(r.Reason),
			"created", toMS(r.CreatedAt), "finished", toMS(r.FinishedAt), "from", from)
		p.ZAdd(ctx, keyOf(company, "replays"), redis.Z{Score: float64(r.CreatedAt.UnixMilli()), Member: r.ReplayID})
		if r.State == ReplayRunning {
			p.SAdd(ctx, keyOf(company, "replaying"), r.ReplayID)
		} else {
			p.PExpire(ctx, key, replayKept)
		}
		return nil
	})
	if err != nil {
		return unavailable(ctx, c, "storing the replay", err)
	}
	return nil
}

// ReplayProgress reads a replay. Errors: [ErrNotFound], [ErrUnavailable].
func (c *Client) ReplayProgress(ctx context.Context, company, replayID string) (*Replay, error) {
	fields, err := c.rdb.HGetAll(ctx, replayKey(company, replayID)).Result()
	if err != nil {
		return nil, unavailable(ctx, c, "reading the replay", err)
	}
	if len(fields) == 0 {
		return nil, ErrNotFound
	}
	number := func(name string) int64 {
		n, _ := strconv.ParseInt(fields[name], 10, 64)
		return n
	}
	r := &Replay{
		ReplayID: replayID, CallbackID: number("cb"), State: ReplayState(fields["state"]), Matched: number("matched"), Replayed: number("replayed"),
		Since: fromMS(number("since")), Until: fromMS(number("until")), EventType: fields["type"], Reason: Reason(fields["reason"]),
		CreatedAt: fromMS(number("created")), FinishedAt: fromMS(number("finished")),
	}
	for _, s := range States {
		if letter := replayable[s]; letter != "" && strings.Contains(fields["states"], letter) {
			r.States = append(r.States, s)
		}
	}
	return r, nil
}

// maxReplays is how many replays are listed.
const maxReplays = 100

// Replays lists a company's replays, newest first, up to a hundred; those that ended up to seven days ago. Errors: [ErrUnavailable].
func (c *Client) Replays(ctx context.Context, company string) ([]*Replay, error) {
	key := keyOf(company, "replays")
	ids, err := c.rdb.ZRevRange(ctx, key, 0, maxReplays-1).Result()
	if err != nil {
		return nil, unavailable(ctx, c, "listing the replays", err)
	}
	found := []*Replay{}
	for _, id := range ids {
		r, err := c.ReplayProgress(ctx, company, id)
		switch {
		case err == nil:
			found = append(found, r)
		case errors.Is(err, ErrNotFound): // its days are over
			c.rdb.ZRem(ctx, key, id)
		default:
			return nil, err
		}
	}
	return found, nil
}

// CancelReplay stops a replay; what it let out already stays on its way. Errors: [ErrNotFound], [ErrUnavailable].
func (c *Client) CancelReplay(ctx context.Context, company, replayID string) error {
	answer, err := stopReplay.Run(ctx, c.rdb, []string{replayKey(company, replayID), keyOf(company, "replaying")}, replayID, replayKept.Milliseconds()).Int()
	if err != nil {
		return unavailable(ctx, c, "cancelling the replay", err)
	}
	if answer == 0 {
		return ErrNotFound
	}
	return nil
}

// stopReplay ends replay ARGV[1], if it is running; 0 if there is none.
var stopReplay = redis.NewScript(`
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return 0 end
if state == 'running' then
  local t = redis.call('TIME')
  redis.call('HSET', KEYS[1], 'state', 'cancelled', 'finished', string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000)))
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
redis.call('SREM', KEYS[2], ARGV[1])
return 1`)

// sweep goes on with a company's replays.
func (c *Client) sweep(ctx context.Context, company string) error {
	ids, err := c.rdb.SMembers(ctx, keyOf(company, "replaying")).Result()
	if err != nil {
		return err
	}
	for _, id := range ids {
		r, err := c.ReplayProgress(ctx, company, id)
		if errors.Is(err, ErrNotFound) {
			err = c.rdb.SRem(ctx, keyOf(company, "replaying"), id).Err()
		} else if err == nil {
			err = c.sweepOne(ctx, company, r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sweepOne replays page by page until the replay or its share of the round is over.
func (c *Client) sweepOne(ctx context.Context, company string, r *Replay) error {
	_, to := r.window()
	for until := time.Now().Add(sweepFor); time.Now().Before(until) && ctx.Err() == nil; {
		v, err := sweepScript.Run(ctx, c.rdb, []string{keyOf(company, "due")},
			"replay", r.CallbackID, r.letters(), r.EventType, string(r.Reason), to, sweepPage, c.window, r.ReplayID, replayKept.Milliseconds()).Result()
		if err != nil {
			return err
		}
		c.at("swept")
		answer := strs(v)
		c.enqueueReleased(ctx, company, answer[2:])
		if answer[0] == "" {
			return nil
		}
	}
	return nil
}

func toMS(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return ceilMS(t)
}
