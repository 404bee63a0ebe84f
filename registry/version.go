package registry

import (
	"fmt"
	"strconv"
)

// nextVersion, at the end of a script that changed callback ARGV[1], takes the
// company's next version and files the change under it. KEYS[1] and KEYS[2] are
// ver and cbver. See the package's comment for why it looks at the clock.
const nextVersion = raiseVersion + `
redis.call('ZADD', KEYS[2], v, ARGV[1])
`

// raiseVersion is nextVersion of a change that concerns no callback alone.
const raiseVersion = `
local t = redis.call('TIME')
local ms = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local v = string.format('%.0f', math.max(tonumber(redis.call('GET', KEYS[1]) or '0') + 1, ms))
redis.call('SET', KEYS[1], v)
`

// parseVersion reads a version or score. Scores are doubles, exact for the next
// 280,000 years of milliseconds, and may be written with an exponent.
func parseVersion(s string) (int64, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0, fmt.Errorf("registry: a version is no number: %w", err)
	}
	return int64(f), nil
}
