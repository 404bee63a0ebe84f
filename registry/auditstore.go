package registry

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

var writeLine = redis.NewScript(AuditLua + `return audit(KEYS[1], ARGV[1])`)

// WriteAudit writes a line by itself. It is for changes that cannot share a script with it.
func WriteAudit(ctx context.Context, rdb redis.UniversalClient, stream, line string) error {
	if err := writeLine.Run(ctx, rdb, []string{stream}, line).Err(); err != nil {
		return fmt.Errorf("registry: write a line of the audit trail: %w", err)
	}
	return nil
}

// TrimAudit removes what is older than [AuditKept] from the trails of these companies and of the installation. at is Redis's time.
func (r *Registry) TrimAudit(ctx context.Context, companies []string, at time.Time) error {
	streams := slices.Clone(auditOfAll)
	for _, company := range companies {
		streams = append(streams, AuditKey(company))
	}
	oldest := strconv.FormatInt(at.Add(-AuditKept).UnixMilli(), 10)
	for part := range slices.Chunk(streams, trailPipe) {
		if _, err := r.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, stream := range part {
				p.XTrimMinID(ctx, stream, oldest)
			}
			return nil
		}); err != nil {
			return fmt.Errorf("registry: trim the audit trail: %w", err)
		}
	}
	return nil
}

// dropLines removes the lines about company ARGV[1] from stream KEYS[1], of a page of ARGV[2] lines from ARGV[3] on, but for those of its
// erasure. It returns where to go on, or an empty text.
var dropLines = redis.NewScript(`
local page = redis.call('XRANGE', KEYS[1], ARGV[3], '+', 'COUNT', ARGV[2])
for _, entry in ipairs(page) do
	local ok, line = pcall(cjson.decode, entry[2][2])
	if ok and line.c == ARGV[1] and line['do'] ~= '` + ActionEraseCompany + `' then redis.call('XDEL', KEYS[1], entry[1]) end
end
if #page < tonumber(ARGV[2]) then return '' end
return '(' .. page[#page][1]`)

// eraseTrail removes the lines about a company that are not in its own stream, but for those of erasures.
func (r *Registry) eraseTrail(ctx context.Context, company string) error {
	for _, stream := range auditOfAll {
		for from := "-"; from != ""; {
			var err error
			if from, err = dropLines.Run(ctx, r.redis, []string{stream}, company, trailPage, from).Text(); err != nil {
				return fmt.Errorf("registry: erase the audit trail of company %s: %w", company, err)
			}
		}
	}
	return nil
}
