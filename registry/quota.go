package registry

import (
	"errors"
	"fmt"
	"strconv"
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

// The quotas where an operator set none. There is none on waiting bytes: the Redis that holds them decides how many may wait.
const (
	// DefaultCallbacks is far more than one company has use for.
	DefaultCallbacks = 1000
	// DefaultReplays is how many replays get on at a useful speed beside what is accepted meanwhile.
	DefaultReplays = 10
	// DefaultTypes is more than a catalogue that people read has, and still quick to load.
	DefaultTypes = 1000
)

// quotaRange is what an operator may choose for each quota, and the fallback if none did; -1: no limit.
var quotaRange = map[string]struct{ least, most, fallback int64 }{
	QuotaCallbacks:    {0, 1_000_000, DefaultCallbacks},
	QuotaReplays:      {0, 1000, DefaultReplays},
	QuotaWaitingBytes: {1, 1 << 50, -1},
	QuotaWeight:       {1, 100, 1},
	QuotaTypes:        {0, 100_000, DefaultTypes},
}

// companyQuotas are the quotas of a company. installationQuotas are those of all companies together.
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

// Error names the quota, its value, and the way to raise it.
func (e *QuotaError) Error() string {
	a := quotaAdvice[e.Quota]
	who, at := "the company "+e.Company, e.Company
	if e.Company == "" {
		who, at = "the installation", "'*'"
	}
	return fmt.Sprintf("the quota %s of %s is %d, and it has %d %s: %s, or ask the operator to raise it (`ringback companies quotas %s %s N`)",
		e.Quota, who, e.Limit, e.Used, a.counts, a.remedy, at, a.flag)
}

// quotasOf is the key and the names of a company's quotas. If company is empty, they are the installation's.
func quotasOf(company string) (key string, names []string, err error) {
	if company == "" {
		return installationQuotaKey, installationQuotas, nil
	}
	return QuotaKey(company), companyQuotas, checkCompany(company)
}

// DefaultQuotas are the quotas of a company that has none of its own. If company is empty, they are the installation's. -1 is no limit.
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
