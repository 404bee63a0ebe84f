package dispatcher

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/lua"
)

// The ledger's scripts, for tests that break one, or run one by itself.
var (
	acceptScript      = lua.Script("accept")
	beginScript       = lua.Script("begin")
	finishScript      = lua.Script("finish")
	splitScript       = lua.Script("split")
	expandScript      = lua.Script("expand")
	overdueScript     = lua.Script("overdue")
	reviveScript      = lua.Script("revive")
	pumpScript        = lua.Script("pump")
	purgeScript       = lua.Script("purge")
	easeScript        = lua.Script("ease")
	replayScript      = lua.Script("replay")
	pageScript        = lua.Script("page")
	trimScript        = lua.Script("trim")
	sweepScript       = lua.Script("sweep")
	pruneScript       = lua.Script("prune")
	eraseScript       = lua.Script("erase")
	erasedScript      = lua.Script("erased")
	challengeScript   = lua.Script("challenge")
	startReplayScript = lua.Script("replay_start")
)

// script runs one on a company's keys, under the rules of the house.
func (h *house) script(ctx context.Context, script *redis.Script, company string, args ...any) *redis.Cmd {
	return script.Run(ctx, h.rdb, []string{ledger.Key(company, "due")}, append([]any{h.cfg.rules().String()}, args...)...)
}

// steps takes steps together to the house's Redis.
func (h *house) steps() *ledger.Committer {
	return ledger.NewCommitter(h.rdb, func(context.Context, string) string { return h.cfg.rules().String() }, 0, func(_ context.Context, do func() error) error { return do() })
}

// step makes one.
func (h *house) step(ctx context.Context, script *redis.Script, company string, args ...any) ([]string, error) {
	call := &ledger.Call{Script: script, Key: ledger.Key(company, "due"), Deliveries: 1, Args: args}
	h.steps().Do(ctx, call)
	return call.Answer()
}
