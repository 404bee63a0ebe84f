package lanes

import (
	"context"
	"errors"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry"
)

// Set changes how many lanes there are, for all processes; line is for the audit trail, given how many there were. Processes learn of it at once, or within
// seconds. The lanes above the number are looked into until they are empty: see Retire.
func (l *Lanes) Set(ctx context.Context, count int, line func(before int) string) error {
	for {
		if err := l.numbers.read(ctx); err != nil {
			return err
		}
		n := l.numbers.known()
		if n.count == count {
			return nil
		}
		high := max(count, n.high)
		if err := l.name(ctx, names(high)); err != nil {
			return err
		}
		said := line(n.count)
		if _, ok := l.rdb.(*redis.ClusterClient); ok {
			if err := registry.WriteAudit(ctx, l.rdb, registry.AuditKeyOfAll, said); err != nil {
				return err
			}
			said = ""
		}
		done, err := l.ledger.Spread(ctx, numberKey, count, high, n.epoch, said)
		if err != nil {
			return err
		}
		if done {
			l.spread(ctx)
			return nil
		}
	}
}

// spread has all processes learn of a change. Whoever does not hear of it finds out.
func (l *Lanes) spread(ctx context.Context) {
	if err := errors.Join(l.numbers.read(ctx), l.bell.News(ctx)); err != nil {
		l.log.DebugContext(ctx, "nobody is told of the lanes", "error", err)
	}
}

// Retire gives up lanes above the number once they have been empty for some minutes, the highest first. It is for the rounds: most often it does nothing.
func (l *Lanes) Retire(ctx context.Context) error {
	n := l.numbers.known()
	if n.high == n.count || !l.leaving.due() {
		return nil
	}
	above := all[n.count:n.high]
	empty, err := l.empty(ctx, above)
	if err != nil {
		return err
	}
	high := l.leaving.saw(n, empty)
	if high == n.high {
		return nil
	}
	done, err := l.ledger.Spread(ctx, numberKey, n.count, high, n.epoch, "")
	if err != nil || !done { // somebody else was first
		return err
	}
	l.spread(ctx)
	for _, lane := range all[high:n.high] {
		if err := l.inspector.DeleteQueue(lane, false); err != nil && !isGone(err) && !errors.Is(err, asynq.ErrQueueNotEmpty) {
			l.log.DebugContext(ctx, "an old lane stays in asynq's list", "lane", lane, "error", err)
		}
	}
	return nil
}

// empty reports which of the lanes have nothing that waits, is under way or is to come back, and are not paused.
func (l *Lanes) empty(ctx context.Context, lanes []string) ([]bool, error) {
	held := make([][]*redis.IntCmd, len(lanes))
	if _, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, lane := range lanes {
			key := "asynq:{" + lane + "}:"
			held[i] = []*redis.IntCmd{
				p.LLen(ctx, key+"pending"), p.LLen(ctx, key+"active"), p.ZCard(ctx, key+"scheduled"), p.ZCard(ctx, key+"retry"), p.Exists(ctx, pausedKey(lane)),
			}
		}
		return nil
	}); err != nil {
		return nil, err
	}
	all := make([]bool, len(lanes))
	for i := range lanes {
		n := int64(0)
		for _, cmd := range held[i] {
			n += cmd.Val()
		}
		all[i] = n == 0
	}
	return all, nil
}

// A Layout is which lanes there are.
type Layout struct {
	Count  int // deliveries are spread over so many, by callback
	Depths []Depth
	Nodes  map[string]string // on a Redis Cluster, the masters' addresses by lane, as far as they are known
}

// Leaving are the lanes that are looked into until they are empty.
func (l Layout) Leaving() []string {
	lanes := []string{}
	for _, d := range l.Depths[min(l.Count, len(l.Depths)):] {
		if d.Lane != Slow {
			lanes = append(lanes, d.Lane)
		}
	}
	return lanes
}

// Layout asks Redis for it.
func (l *Lanes) Layout(ctx context.Context) (Layout, error) {
	if err := l.numbers.read(ctx); err != nil {
		return Layout{}, err
	}
	if err := l.Register(ctx); err != nil {
		return Layout{}, err
	}
	layout := Layout{Count: l.Count()}
	var err error
	if layout.Depths, err = l.Depths(); err != nil {
		return Layout{}, err
	}
	if cluster, ok := l.rdb.(*redis.ClusterClient); ok {
		layout.Nodes = make(map[string]string)
		for _, d := range layout.Depths {
			if node, err := masterOf(ctx, cluster, d.Lane); err == nil {
				layout.Nodes[d.Lane] = node
			}
		}
	}
	return layout, nil
}

// masterOf is the address of the master that a lane lies on.
func masterOf(ctx context.Context, cluster *redis.ClusterClient, lane string) (string, error) {
	node, err := cluster.MasterForKey(ctx, pausedKey(lane))
	if err != nil {
		return "", err
	}
	return node.Options().Addr, nil
}

// Masters are the addresses of the masters that the lanes lie on, by their number, also of those that there may be; and how many lanes there are.
func Masters(ctx context.Context, cluster *redis.ClusterClient) (count int, masters []string, err error) {
	n, err := readNumber(ctx, cluster)()
	if err != nil {
		return 0, nil, err
	}
	for _, lane := range all[:MostLanes] {
		master, err := masterOf(ctx, cluster, lane)
		if err != nil {
			return 0, nil, err
		}
		masters = append(masters, master)
	}
	return n.count, masters, nil
}
