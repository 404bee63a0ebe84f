package registry

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// setQuotas takes a line of the audit trail, then names and values in turn. An empty value is the default. It returns all quotas that are set.
// KEYS[3] is what a company's waiting bytes are counted under: if there is no quota on them, nobody counts, and it goes.
var setQuotas = redis.NewScript(AuditLua + `
local changes = {}
for i = 2, #ARGV, 2 do
	local name, new = ARGV[i], ARGV[i + 1]
	local old = redis.call('HGET', KEYS[1], name) or ''
	if new ~= old then
		if new == '' then redis.call('HDEL', KEYS[1], name) else redis.call('HSET', KEYS[1], name, new) end
		changes[#changes + 1] = {field = name, old = tonumber(old), new = tonumber(new)}
	end
end
if #changes > 0 then audit(KEYS[2], ARGV[1], changes) end
if KEYS[3] and redis.call('HEXISTS', KEYS[1], 'waiting_bytes') == 0 then redis.call('DEL', KEYS[3]) end
return redis.call('HGETALL', KEYS[1])`)

// Quotas are a company's quotas by name. If company is empty, they are the installation's. -1 is no limit.
func (r *Registry) Quotas(ctx context.Context, company string) (map[string]int64, error) {
	key, names, err := quotasOf(company)
	if err != nil {
		return nil, err
	}
	set, err := r.redis.HGetAll(ctx, key).Result()
	if err != nil {
		return nil, fmt.Errorf("registry: read quotas: %w", err)
	}
	return withDefaults(set, names), nil
}

// SetQuotas changes the quotas that are named, nil to the default, and returns all of them. All that is there already stays, even if it is more:
// only additions are refused. A quota that there is not, or a value out of its range, gives an *payloads.InvalidError. A process of level 1 would
// not keep a value: while one is alive, a value gives an *OldProcessError.
func (r *Registry) SetQuotas(ctx context.Context, company string, change map[string]*int64) (map[string]int64, error) {
	key, names, err := quotasOf(company)
	if err != nil {
		return nil, err
	}
	args := []any{AuditLine(ctx, company, "quotas.update", "quotas")}
	for _, name := range slices.Sorted(maps.Keys(change)) {
		if !slices.Contains(names, name) {
			return nil, invalid("body."+name, "is no quota here", nil)
		}
		value := ""
		if n := change[name]; n != nil {
			if limits := quotaRange[name]; *n < limits.least || *n > limits.most {
				return nil, invalid("body."+name, fmt.Sprintf("must be from %d to %d, or null for the default", limits.least, limits.most), *n)
			}
			value = strconv.FormatInt(*n, 10)
		}
		args = append(args, name, value)
	}
	sets := slices.ContainsFunc(slices.Collect(maps.Values(change)), func(n *int64) bool { return n != nil })
	if sets {
		if err := r.KnownEverywhere(ctx, "a quota", announcedLevel); err != nil {
			return nil, err
		}
	}
	keys := []string{key, auditTypesKey}
	if company != "" {
		keys = []string{key, AuditKey(company), waitingKey(company)}
		if err := r.nameForQuotas(ctx, company, sets, key); err != nil {
			return nil, err
		}
	}
	flat, err := setQuotas.Run(ctx, r.redis, keys, args...).StringSlice()
	if err != nil {
		return nil, fmt.Errorf("registry: store quotas: %w", err)
	}
	set := map[string]string{}
	for pair := range slices.Chunk(flat, 2) {
		set[pair[0]] = pair[1]
	}
	r.log.InfoContext(ctx, "quotas changed", "company", company, "set", set)
	return withDefaults(set, names), nil
}

// nameForQuotas names a company whose quotas are to change, so that whoever erases the company finds them, and the line about them. A change that sets none
// takes back those under key. If there are none, nothing is written, and a company of that name need not be.
func (r *Registry) nameForQuotas(ctx context.Context, company string, sets bool, key string) error {
	if !sets {
		switch there, err := r.redis.Exists(ctx, key).Result(); {
		case err != nil:
			return fmt.Errorf("registry: read quotas: %w", err)
		case there == 0:
			return nil
		}
	}
	return r.note(ctx, company)
}
