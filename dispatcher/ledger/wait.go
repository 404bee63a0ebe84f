package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// confirmWithin is how long replicas may take to confirm what was written.
const confirmWithin = time.Second

// errUnasked says that no WAIT followed a command: its client was not given to [WaitOnNodes].
var errUnasked = errors.New("no replica was asked to confirm")

// WaitOnNodes lets a client of a cluster keep [Config.WaitReplicas]. It is called before the client sends anything.
//
// WAIT counts the replicas that have what its own connection wrote, and names no key. go-redis would send it to any node. So a hook of each node's own
// client sends it, behind the commands that go-redis brings to that node, and again where go-redis is redirected to another.
func WaitOnNodes(cluster *redis.ClusterClient) {
	cluster.OnNewNode(func(node *redis.Client) { node.AddHook(waitHook{}) })
}

// wait is WAIT for so many replicas.
func wait(ctx context.Context, replicas int) *redis.IntCmd {
	return redis.NewIntCmd(ctx, "wait", replicas, confirmWithin.Milliseconds())
}

// confirmed returns nil if so many replicas confirmed.
func confirmed(wait *redis.IntCmd, replicas int) error {
	got, err := wait.Result()
	if err == nil && got < int64(replicas) {
		err = fmt.Errorf("%d of %d replicas confirmed", got, replicas)
	}
	return err
}

// confirmations are what a cluster's nodes say to WAIT behind the commands of a flight.
type confirmations struct {
	replicas int

	mu sync.Mutex
	of map[redis.Cmder]error // the last answer counts: a command may go to one node after the other
}

type confirmationsKey struct{}

// confirming returns a context that has the commands of a pipeline confirmed.
func confirming(ctx context.Context, replicas int) (context.Context, *confirmations) {
	c := &confirmations{replicas: replicas, of: make(map[redis.Cmder]error)}
	return context.WithValue(ctx, confirmationsKey{}, c), c
}

func (c *confirmations) note(cmds []redis.Cmder, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cmd := range cmds {
		c.of[cmd] = err
	}
}

// err is why a command does not count as confirmed; nil if it does.
func (c *confirmations) err(cmd redis.Cmder) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err, asked := c.of[cmd]; asked {
		return err
	}
	return errUnasked
}

// waitHook sends WAIT behind a pipeline, on the same connection, where confirmations are wanted.
type waitHook struct{}

// DialHook changes nothing.
func (waitHook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook changes nothing: what is to be confirmed goes as a pipeline.
func (waitHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook adds WAIT.
func (waitHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c, ok := ctx.Value(confirmationsKey{}).(*confirmations)
		if !ok {
			return next(ctx, cmds)
		}
		last := wait(ctx, c.replicas)
		err := next(ctx, append(slices.Clip(cmds), last))
		c.note(cmds, confirmed(last, c.replicas))
		return err
	}
}
