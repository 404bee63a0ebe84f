package registry

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// read returns callback ARGV[1]: sealed, version, gate, the seal's anchor.
var read = redis.NewScript(`
return {redis.call('HGET', KEYS[1], ARGV[1]), redis.call('ZSCORE', KEYS[2], ARGV[1]), redis.call('GET', KEYS[3]), redis.call('HGET', KEYS[6], ARGV[1])}`)

// Get returns a callback as it is in Redis, with its status, or ErrNotFound.
func (r *Registry) Get(ctx context.Context, company string, id int64) (*Callback, error) {
	return r.runOnOne(ctx, read, company, id, "read")
}

// runOnOne runs a script that returns one callback as read does.
func (r *Registry) runOnOne(ctx context.Context, script *redis.Script, company string, id int64, verb string, args ...any) (*Callback, error) {
	if err := checkCompany(company); err != nil {
		return nil, err
	}
	keys := []string{callbacksKey(company), changesKey(company), GateKey(company, id), RoomsKey(company), AuditKey(company), anchorsKey(company)}
	row, err := script.Run(ctx, r.redis, keys, append([]any{id}, args...)...).Slice()
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
