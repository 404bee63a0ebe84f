package registry

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry/once"
)

// read returns callback ARGV[1]: sealed, version, gate, the seal's anchor.
var read = redis.NewScript(`
return {redis.call('HGET', KEYS[1], ARGV[1]), redis.call('ZSCORE', KEYS[2], ARGV[1]), redis.call('GET', KEYS[3]), redis.call('HGET', KEYS[6], ARGV[1])}`)

// Get returns a callback as it is in Redis, with its status, or ErrNotFound.
func (r *Registry) Get(ctx context.Context, company string, id int64) (*Callback, error) {
	if err := checkCompany(company); err != nil {
		return nil, err
	}
	return r.one(ctx, company, id, "read", read.Run(ctx, r.redis, oneKeys(company, id), id))
}

// runOnOne runs a script that changes one callback, and returns it as read does.
func (r *Registry) runOnOne(ctx context.Context, script once.Runner, company string, id int64, verb string, args ...any) (*Callback, error) {
	if err := checkCompany(company); err != nil {
		return nil, err
	}
	return r.one(ctx, company, id, verb, r.whileAwake(ctx, script, company, oneKeys(company, id), append([]any{id}, args...)...))
}

// oneKeys are the keys of read.
func oneKeys(company string, id int64) []string {
	return []string{callbacksKey(company), changesKey(company), GateKey(company, id), RoomsKey(company), AuditKey(company), anchorsKey(company)}
}

// one reads what read returned.
func (r *Registry) one(ctx context.Context, company string, id int64, verb string, cmd *redis.Cmd) (*Callback, error) {
	row, err := cmd.Slice()
	if err != nil {
		return nil, fmt.Errorf("registry: %s callback %d of company %s: %w", verb, id, company, err)
	}
	sealed, _ := row[0].(string)
	version, _ := row[1].(string)
	gate, _ := row[2].(string)
	anchor, _ := row[3].(string)
	if sealed == "" {
		return nil, ErrNotFound
	}
	cb, err := r.keyset.openCallback(company, id, []byte(sealed), anchor, version)
	if err != nil {
		return nil, err
	}
	if err := cb.setGate(gate); err != nil {
		return nil, err
	}
	if done, ok := map[string]string{"pause": "paused", "resume": "resumed", "verify": "challenged"}[verb]; ok {
		r.log.InfoContext(ctx, "callback "+done, "callback", cb, "status", cb.Status)
	}
	return cb, nil
}
