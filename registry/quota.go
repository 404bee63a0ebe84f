package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// The quotas, as the API, the command line and the keys in Redis name them.
const (
	// QuotaCallbacks is how many callbacks a company may have.
	QuotaCallbacks = "callbacks"
	// QuotaReplays is how many replays of a company may be under way at a time.
	QuotaReplays = "replays"
	// QuotaWaitingBytes is how many bytes of payload of a company may wait: those of events with an unfinished delivery, each event once.
	QuotaWaitingBytes = "waiting_bytes"
	// QuotaWeight is how much more of what is shared a company gets than one of weight 1, while both have more to send than goes out. Nothing is refused for it.
	QuotaWeight = "weight"
	// QuotaTypes is how many callback types operators may add to the installation.
	QuotaTypes = "callback_types"
)

// The quotas of who has no others. There is none on waiting bytes: how much may wait is a matter of the Redis that holds it.
const (
	// DefaultCallbacks is far more than one company has use for.
	DefaultCallbacks = 1000
	// DefaultReplays is how many replays get on at a useful speed beside what is accepted meanwhile.
	DefaultReplays = 10
	// DefaultTypes is more than a catalogue that people read has, and still quick to load.
	DefaultTypes = 1000
)

// quotaRange is what an operator may choose, and what holds where none did; -1: no limit.
var quotaRange = map[string]struct{ least, most, fallback int64 }{
	QuotaCallbacks:    {0, 1_000_000, DefaultCallbacks},
	QuotaReplays:      {0, 1000, DefaultReplays},
	QuotaWaitingBytes: {1, 1 << 50, -1},
	QuotaWeight:       {1, 100, 1},
	QuotaTypes:        {0, 100_000, DefaultTypes},
}

// companyQuotas are those that a company has, installationQuotas those of all of them together.
var companyQuotas, installationQuotas = []string{QuotaCallbacks, QuotaReplays, QuotaWaitingBytes, QuotaWeight}, []string{QuotaTypes}

// A QuotaError says that a quota leaves no room for what was asked.
type QuotaError struct {
	Quota   string // QuotaCallbacks, …
	Company string // empty: the installation
	Limit   int64
	Used    int64
}

// quotaAdvice is what a quota counts, what to do about it, and the flag that raises it.
var quotaAdvice = map[string]struct{ counts, remedy, flag string }{
	QuotaCallbacks:    {"callbacks", "delete one", "--callbacks"},
	QuotaReplays:      {"replays under way", "wait for one to end, or cancel one", "--replays"},
	QuotaWaitingBytes: {"bytes of payload that wait for delivery", "try again when some are delivered", "--waiting-bytes"},
	QuotaTypes:        {"callback types of its own", "change one that is there", "--callback-types"},
}

// Error names the quota, its value, and who can raise it.
func (e *QuotaError) Error() string {
	a := quotaAdvice[e.Quota]
	who, at := "the company "+e.Company, e.Company
	if e.Company == "" {
		who, at = "the installation", "'*'"
	}
	return fmt.Sprintf("the quota %s of %s is %d, and it has %d %s: %s, or ask the operator to raise it (`ringback companies quotas %s %s N`)",
		e.Quota, who, e.Limit, e.Used, a.counts, a.remedy, at, a.flag)
}

// setQuotas takes a line of the audit trail, then names and values in turn, an empty value for the default. A company's KEYS[3] goes with its
// quota on waiting bytes: without it nobody counts. It returns all that are set.
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

// Quotas are a company's quotas by name, or with an empty company the installation's; -1 is no limit.
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

// SetQuotas changes the quotas that are named, nil to the default, and returns all of them. What is there already stays, even if it is more:
// only what is new is refused. A quota that there is not, or a value out of its range, gives an *payloads.InvalidError; a value while a process of
// level 1 is alive, which would not keep it, an *OldProcessError.
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
	if slices.ContainsFunc(slices.Collect(maps.Values(change)), func(n *int64) bool { return n != nil }) {
		if err := r.KnownEverywhere(ctx, "a quota", announcedLevel); err != nil {
			return nil, err
		}
	}
	keys := []string{key, auditTypesKey}
	if company != "" {
		keys = []string{key, AuditKey(company), waitingKey(company)}
		if err := r.note(ctx, company); err != nil { // so that whoever erases the company finds it
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

func quotasOf(company string) (key string, names []string, err error) {
	if company == "" {
		return installationQuotaKey, installationQuotas, nil
	}
	return QuotaKey(company), companyQuotas, checkCompany(company)
}

// DefaultQuotas are the quotas of a company that has none of its own, or with an empty company the installation's; -1 is no limit.
func DefaultQuotas(company string) map[string]int64 {
	_, names, _ := quotasOf(company)
	return withDefaults(nil, names)
}

func withDefaults(set map[string]string, names []string) map[string]int64 {
	quotas := map[string]int64{}
	for _, name := range names {
		quotas[name] = quotaRange[name].fallback
		if n, err := strconv.ParseInt(set[name], 10, 64); err == nil {
			quotas[name] = n
		}
	}
	return quotas
}

// ReadQuota makes a *QuotaError of a script's answer: {"quota", limit, used}.
func ReadQuota(name, company string, answer []string) error {
	if len(answer) < 3 {
		return errors.New("registry: a script answered something unexpected")
	}
	limit, errLimit := strconv.ParseInt(answer[1], 10, 64)
	used, errUsed := strconv.ParseInt(answer[2], 10, 64)
	if err := errors.Join(errLimit, errUsed); err != nil {
		return fmt.Errorf("registry: quota %s: %w", name, err)
	}
	return &QuotaError{Quota: name, Company: company, Limit: limit, Used: used}
}
