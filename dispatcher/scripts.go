package dispatcher

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/lua"
)

// The scripts: each is one atomic step of the crash story in the package documentation.
var (
	acceptScript  = lua.Script("accept")
	expandScript  = lua.Script("expand")
	beginScript   = lua.Script("begin")
	unbeginScript = lua.Script("unbegin")
	finishScript  = lua.Script("finish")
	overdueScript = lua.Script("overdue")
	reviveScript  = lua.Script("revive")
	pumpScript    = lua.Script("pump")
	purgeScript   = lua.Script("purge")
	easeScript    = lua.Script("ease")
	cancelScript  = lua.Script("cancel")
	replayScript  = lua.Script("replay")
	pageScript    = lua.Script("page")
	trimScript    = lua.Script("trim")
	healthScript  = lua.Script("health")
	sweepScript   = lua.Script("sweep")
	pruneScript   = lua.Script("prune")
	eraseScript   = lua.Script("erase")
	erasedScript  = lua.Script("erased")
	countScript   = lua.Script("count")

	askScript         = lua.Script("ask")
	answerScript      = lua.Script("answer")
	startReplayScript = lua.Script("replay_start")
	stopReplayScript  = lua.Script("replay_stop")

	haltScript = lua.Script("halt")
)

// run runs a script on a company's keys. Each takes the installation's settings before its own arguments.
func (c *Client) run(ctx context.Context, script *redis.Script, company string, args ...any) *redis.Cmd {
	return script.Run(ctx, c.rdb, []string{keyOf(company, "due")}, append([]any{c.settings}, args...)...)
}

// answer runs a script whose answer is a flat list of so many strings at least. One that is shorter is an error: no script of ours gave it.
func (c *Client) answer(ctx context.Context, least int, script *redis.Script, company string, args ...any) ([]string, error) {
	v, err := c.run(ctx, script, company, args...).Result()
	if err != nil {
		return nil, err
	}
	return atLeast(least, ledger.Strings(v))
}

// step runs a script that takes calls together, for one delivery, and waits for its answer.
func (c *Client) step(ctx context.Context, script *redis.Script, company string, args ...any) ([]string, error) {
	call := &ledger.Call{Script: script, Key: keyOf(company, "due"), Deliveries: 1, Args: args}
	c.steps.Do(ctx, call)
	return call.Answer()
}

// atLeast is an answer that is long enough to be read.
func atLeast(least int, answer []string) ([]string, error) {
	if len(answer) < least {
		return nil, fmt.Errorf("a script answered %d strings of %d: %w", len(answer), least, errBadRecord)
	}
	return answer, nil
}

// execute sends a pipeline. Its error is the first command's that has one; that something is not there is none.
func execute(ctx context.Context, p redis.Pipeliner) error {
	cmds, err := p.Exec(ctx)
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
	}
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}
