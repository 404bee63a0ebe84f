package registry

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// AuditKept is how long a line of the audit trail is kept.
const AuditKept = 90 * 24 * time.Hour

// ActionEraseCompany is the action of the one line that an erased company leaves.
const ActionEraseCompany = "company.erase"

// AuditLua defines the function that writes a line of the audit trail, for the scripts that make the changes: audit(stream, line, more). line
// is what [AuditLine] made, and more a list of further changes {field =, old =, new =} that only the script knows, or nil.
var AuditLua = fmt.Sprintf(`
local function audit(stream, line, more)
  local t = redis.call('TIME')
  local oldest = math.max(0, tonumber(t[1]) * 1000 - %d)
  return redis.call('XADD', stream, 'MINID', '~', string.format('%%.0f', oldest), '*', 'l', line, 'x', more and cjson.encode(more) or '')
end
`, AuditKept.Milliseconds())

// An AuditChange is what became of one field. Secrets are [Masked], URLs are without their query.
type AuditChange struct {
	Field string `json:"field"`
	Old   any    `json:"old,omitempty"` // nil: there was none
	New   any    `json:"new,omitempty"` // nil: there is none
}

// storedLine is an AuditEntry as a script gets it. Id and time are the stream's.
type storedLine struct {
	Company string        `json:"c,omitempty"`
	Actor   string        `json:"by"`
	Action  string        `json:"do"`
	Object  string        `json:"of"`
	Changes []AuditChange `json:"ch,omitempty"`
	Sealed  []byte        `json:"s,omitempty"` // changes that are not to be read in Redis
	Unique  string        `json:"k,omitempty"`
}

// AuditLine is a line for [AuditLua]: who acts with ctx does that to the object. An empty company is all of them.
func AuditLine(ctx context.Context, company, action, object string, changes ...AuditChange) string {
	return storedLine{Company: company, Actor: Actor(ctx), Action: action, Object: object, Changes: changes}.String()
}

// UniqueAuditLine is an AuditLine that is like no other, for scripts that tell by it whether they ran before.
func UniqueAuditLine(ctx context.Context, company, action, object string) string {
	return storedLine{Company: company, Actor: Actor(ctx), Action: action, Object: object, Unique: rand.Text()}.String()
}

func (l storedLine) String() string {
	text, _ := json.Marshal(l) // plain values always encode
	return string(text)
}

func lineOf(m redis.XMessage) (line storedLine) {
	text, _ := m.Values["l"].(string)
	_ = json.Unmarshal([]byte(text), &line)
	return line
}

// CallbackObject is what the audit trail calls a callback.
func CallbackObject(id int64) string { return "callbacks/" + strconv.FormatInt(id, 10) }

var writeLine = redis.NewScript(AuditLua + `return audit(KEYS[1], ARGV[1])`)

// WriteAudit writes a line by itself, where the change cannot share a script with it.
func WriteAudit(ctx context.Context, rdb redis.UniversalClient, stream, line string) error {
	if err := writeLine.Run(ctx, rdb, []string{stream}, line).Err(); err != nil {
		return fmt.Errorf("registry: write a line of the audit trail: %w", err)
	}
	return nil
}
