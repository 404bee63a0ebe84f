package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry/once"
)

// On a Redis Cluster the index of companies with work lies on one master. While that does not answer, a company that is asleep on another one need not wait
// for it. It is owed to the index instead: it stands in [owedKey], which lies far from the index, so most likely on another master. There it has
// an epoch too, one above that of its sleep, at which it may wake.
//
// So a company that is awake stands in the index, or is owed to it. Each round of a worker pays what is owed:
//
//	pay  1  the payer reads that a company is owed at an epoch
//	     2  [Registry.Pay] files it in the index under a new epoch, which is not below that one
//	     3  [Registry.Paid] takes it out of what is owed, unless somebody owes it at a later epoch since
//
// A script that has leave to wake the company at the epoch owed, and comes after 3, finds it awake, or put to sleep at an epoch that is not below: then it is
// refused. So nobody wakes a company that is in neither.

// indexAnswers is how long the index is waited for on a cluster.
const indexAnswers = 500 * time.Millisecond

// Wake puts a company that a script found asleep into the index. What it returns is the script's leave to wake it. If the index of a cluster does not
// answer within half a second, the company is owed to it ([Owe]).
func Wake(ctx context.Context, rdb redis.UniversalClient, company string, n Nap) (may string, err error) {
	soon, cancel := ctx, context.CancelFunc(func() {})
	if isCluster(rdb) {
		soon, cancel = context.WithTimeout(ctx, indexAnswers)
	}
	defer cancel()
	epoch, err := listed(soon, rdb, company, n.epoch)
	switch {
	case err == nil:
		return epoch + " " + n.version, nil
	case !isCluster(rdb):
		return "", err
	}
	may, other := Owe(ctx, rdb, company, n)
	if other != nil {
		return "", errors.Join(err, other)
	}
	return may, nil
}

// Owe notes a company that a script found asleep as one that is to come into the index. What it returns is the script's leave to wake it.
func Owe(ctx context.Context, rdb redis.UniversalClient, company string, n Nap) (may string, err error) {
	slept, err := parseVersion(n.epoch)
	if err != nil {
		return "", err
	}
	epoch := slept + 1
	if err := rdb.ZAddArgs(ctx, owedKey, redis.ZAddArgs{GT: true, Members: []redis.Z{{Score: float64(epoch), Member: company}}}).Err(); err != nil {
		return "", fmt.Errorf("registry: note that company %s is to be listed as one with work: %w", company, err)
	}
	return strconv.FormatInt(epoch, 10) + " " + n.version, nil
}

// Owed are the companies that are owed to the index, with their epochs. Without a cluster there are none.
func (r *Registry) Owed(ctx context.Context) (map[string]int64, error) {
	if !isCluster(r.redis) {
		return nil, nil
	}
	return scored(ctx, r.redis, owedKey)
}

// Pay files a company in the index that is owed to it at an epoch.
func (r *Registry) Pay(ctx context.Context, company string, epoch int64) error {
	_, err := listed(ctx, r.redis, company, strconv.FormatInt(epoch-1, 10))
	return err
}

// paid takes company ARGV[1] out of what is owed, if it is owed at ARGV[2].
var paid = redis.NewScript(`
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '0') == tonumber(ARGV[2]) then return redis.call('ZREM', KEYS[1], ARGV[1]) end
return 0`)

// Paid notes that a company is no longer owed at an epoch.
func (r *Registry) Paid(ctx context.Context, company string, epoch int64) error {
	if err := paid.Run(ctx, r.redis, []string{owedKey}, company, epoch).Err(); err != nil {
		return fmt.Errorf("registry: note that company %s is listed as one with work: %w", company, err)
	}
	return nil
}

// PayAll pays what is owed. It goes on with the next if one cannot be paid.
func (r *Registry) PayAll(ctx context.Context) error {
	owed, err := r.Owed(ctx)
	failed := []error{err}
	for company, epoch := range owed {
		if err := r.Pay(ctx, company, epoch); err != nil {
			failed = append(failed, err)
			continue
		}
		failed = append(failed, r.Paid(ctx, company, epoch))
	}
	return errors.Join(failed...)
}

func isCluster(rdb redis.UniversalClient) bool {
	_, ok := rdb.(*redis.ClusterClient)
	return ok
}

// whileAwake runs a script of a company's that may only change it while it is awake. Behind the script's own keys stand the company's AwakeKey and
// VersionKey, and behind its arguments the leave to wake the company.
func (r *Registry) whileAwake(ctx context.Context, script once.Runner, company string, keys []string, args ...any) *redis.Cmd {
	keys = append(keys, AwakeKey(company), VersionKey(company))
	may := ""
	for range WakeTries {
		cmd := script.Run(ctx, r.redis, keys, append(slices.Clone(args), may)...)
		answer, _ := cmd.StringSlice() // what is no list of texts is no nap
		nap, found := ReadNap(answer)
		if cmd.Err() != nil || !found {
			return cmd
		}
		var err error
		if may, err = Wake(ctx, r.redis, company, nap); err != nil {
			cmd.SetErr(err)
			return cmd
		}
	}
	cmd := redis.NewCmd(ctx)
	cmd.SetErr(ErrRestless)
	return cmd
}
