package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry/once"
)

// AuditKept is how long a line of the audit trail is kept.
const AuditKept = 90 * 24 * time.Hour

// ActionEraseCompany is the action of the one line that an erased company leaves.
const ActionEraseCompany = "company.erase"

// AuditLua defines the function that writes a line of the audit trail, for the scripts that make the changes: audit(stream, line, more).
// [AuditLine] made line. more is a list of further changes {field =, old =, new =} that only the script knows, or nil.
var AuditLua = fmt.Sprintf(`
local function audit(stream, line, more)
  local t = redis.call('TIME')
  local oldest = math.max(0, tonumber(t[1]) * 1000 - %d)
  return redis.call('XADD', stream, 'MINID', '~', string.format('%%.0f', oldest), '*', 'l', line, 'x', more and cjson.encode(more) or '')
end
`, AuditKept.Milliseconds())

// An AuditChange is the change of one field. Secrets are [Masked], and URLs are without their query.
type AuditChange struct {
	Field string `json:"field"`
	Old   any    `json:"old,omitempty"` // nil: there was none
	New   any    `json:"new,omitempty"` // nil: there is none
}

// storedLine is an [AuditEntry] as a script gets it. Id and time are the stream's.
type storedLine struct {
	Company string        `json:"c,omitempty"`
	Actor   string        `json:"by"`
	Action  string        `json:"do"`
	Object  string        `json:"of"`
	Changes []AuditChange `json:"ch,omitempty"`
	Sealed  []byte        `json:"s,omitempty"` // changes that are not to be read in Redis
	Unique  string        `json:"k,omitempty"`
}

// AuditLine is a line for [AuditLua]: the [Actor] of ctx takes the action on the object. An empty company is all of them.
func AuditLine(ctx context.Context, company, action, object string, changes ...AuditChange) string {
	return storedLine{Company: company, Actor: Actor(ctx), Action: action, Object: object, Changes: changes}.String()
}

// UniqueAuditLine is an AuditLine that is like no other but that of a repeat of the same request, for scripts that tell by it whether they ran before.
func UniqueAuditLine(ctx context.Context, company, action, object string) string {
	return storedLine{Company: company, Actor: Actor(ctx), Action: action, Object: object, Unique: once.Unique(ctx)}.String()
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
