package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// An Erasure tells one erasure of a company from all others. It leaves one line, however often it comes to [Registry.Forget].
type Erasure struct {
	ID    string    // in no other line of the audit trail
	Began time.Time // by Redis's clock
}

// mark is the text that stands in the line of an erasure and in no other.
func (e Erasure) mark() string { return `"k":"` + e.ID + `"` }

// since is the first id that its line may have: Redis's clock may step back.
func (e Erasure) since() string {
	return strconv.FormatInt(max(0, e.Began.Add(-time.Hour).UnixMilli()), 10)
}

// forget takes company ARGV[1] out of the set. If it was in it, line ARGV[2] of the audit trail is written. If a line since ARGV[4] has ARGV[3]
// in it, it is of the same erasure, and goes.
var forget = redis.NewScript(AuditLua + `
if redis.call('SREM', KEYS[1], ARGV[1]) == 0 then return end
for _, entry in ipairs(redis.call('XRANGE', KEYS[2], ARGV[4], '+')) do
	if string.find(entry[2][2], ARGV[3], 1, true) then redis.call('XDEL', KEYS[2], entry[1]) end
end
audit(KEYS[2], ARGV[2])`)

// Forget takes the company's name out of [Registry.Companies]. Call it after all of the company was erased. If the company is used again, it is
// named again. All that is left of the company's audit trail is the line of this erasure, with these changes.
func (r *Registry) Forget(ctx context.Context, name string, e Erasure, changes ...AuditChange) error {
	if err := checkCompany(name); err != nil {
		return err
	}
	if err := r.eraseTrail(ctx, name); err != nil {
		return err
	}
	if err := r.unfileAll(ctx, name); err != nil {
		return err
	}
	if err := r.note(ctx, name); err != nil { // so that the script can tell its own earlier run
		return err
	}
	line := storedLine{Company: name, Actor: Actor(ctx), Action: ActionEraseCompany, Object: "companies/" + name, Changes: changes, Unique: e.ID}
	err := forget.Run(ctx, r.redis, []string{companiesKey, auditCompaniesKey}, name, line.String(), e.mark(), e.since()).Err()
	r.company(name).unname() // whatever came of it: it may have happened
	if err != nil && !errors.Is(err, redis.Nil) {
		return fmt.Errorf("registry: forget company %s: %w", name, err)
	}
	return nil
}

// Forgotten reports whether an erasure came to [Registry.Forget].
func (r *Registry) Forgotten(ctx context.Context, e Erasure) (bool, error) {
	lines, err := r.redis.XRange(ctx, auditCompaniesKey, e.since(), "+").Result()
	if err != nil {
		return false, fmt.Errorf("registry: look for the end of an erasure: %w", err)
	}
	return slices.ContainsFunc(lines, func(line redis.XMessage) bool {
		text, _ := line.Values["l"].(string)
		return strings.Contains(text, e.mark())
	}), nil
}
