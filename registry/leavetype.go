package registry

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/payloads"
)

// ErrNoType says that there is no such callback type.
var ErrNoType = errors.New("registry: there is no such callback type")

// TypesTurnOver is how long after a change of the types no process goes on with those of before: a second, what it may wait for Redis then, and what a request
// may take that looked them up at the end.
const TypesTurnOver = typesFor + renewWithin + 750*time.Millisecond

// A Leaving is a callback type that is being deleted.
type Leaving struct {
	types      *Types
	name       string
	text       string // in goneTypesKey
	definition string // in typesKey
}

// leaveType notes that type ARGV[1], which is ARGV[4], is being deleted, as ARGV[2] has it. It counts the change under ARGV[3]. If ARGV[5] that were deleted are
// known, the one is forgotten that was deleted first.
var leaveType = redis.NewScript(`
local types, gone, name = KEYS[1], KEYS[2], ARGV[1]
local old = redis.call('HGET', types, name)
if not old then return 'none' end
if old ~= ARGV[4] then return 'raced' end
if redis.call('HGET', gone, name) == ARGV[2] then return 'leaves' end -- an earlier run's answer was lost
if redis.call('HEXISTS', gone, name) == 0 and redis.call('HLEN', gone) >= tonumber(ARGV[5]) then
	local first, at
	local all = redis.call('HGETALL', gone)
	for i = 1, #all, 2 do
		local readable, g = pcall(cjson.decode, all[i + 1])
		local when = readable and tonumber(g.at) or 0
		if not at or when < at then first, at = all[i], when end
	end
	redis.call('HDEL', gone, first)
end
redis.call('HSET', gone, name, ARGV[2])
redis.call('HINCRBY', types, ARGV[3], 1)
return 'leaves'`)

// Leave begins to delete a callback type that was added. From then on no new event or registration may be of it in a process that looks: within
// [TypesTurnOver], in none. Events that were accepted are sent as before. Either [Leaving.End] ends that, or [Leaving.Stay]. If neither comes within a minute,
// the type stays. If it was being deleted already, that deletion is given up for this one.
//
// Errors: [ErrBuiltin]. [ErrNoType]. [ErrOvertaken] if a condition does not hold. While a process is alive that would go on with it, an *OldProcessError. Others are Redis's.
func (r *Registry) Leave(ctx context.Context, name string, conditions ...Condition) (*Leaving, error) {
	t := r.types
	if t.Builtin(name) {
		return nil, ErrBuiltin
	}
	if err := r.KnownEverywhere(ctx, "deleting a callback type", goneTypesLevel); err != nil {
		return nil, err
	}
	now, err := timeBy(ctx, t.redis, t.clock)
	if err != nil {
		return nil, fmt.Errorf("registry: delete callback type %s: %w", name, err)
	}
	for range tries {
		l := &Leaving{types: t, name: name}
		if l.definition, err = t.definition(ctx, name); err != nil {
			return nil, err
		}
		if err := hold(conditions, storedTypeETag(name, l.definition)); err != nil {
			return nil, err
		}
		var typ payloads.Type
		_ = json.Unmarshal([]byte(l.definition), &typ) // one that cannot be read says nothing of how it is sent
		text, err := json.Marshal(goneType{
			Token: rand.Text(), At: now.UnixMilli(), By: Actor(ctx), Type: payloads.Type{Match: typ.Match, Success: typ.Success, Stamp: typ.Stamp},
		})
		if err != nil {
			return nil, fmt.Errorf("registry: delete callback type %s: %w", name, err)
		}
		l.text = string(text)
		switch answer, err := leaveType.Run(ctx, t.redis, []string{typesKey, goneTypesKey}, name, l.text, versionField, l.definition, goneTypesKept).Text(); {
		case err != nil:
			return nil, fmt.Errorf("registry: delete callback type %s: %w", name, err)
		case answer == "none":
			return nil, ErrNoType
		case answer == "leaves":
			return l, nil
		}
	}
	return nil, fmt.Errorf("%w: callback type %s", ErrBusy, name)
}

// Stored returns ErrNoType if operators added no type of that name, or deleted it since.
func (t *Types) Stored(ctx context.Context, name string) error {
	_, err := t.definition(ctx, name)
	return err
}

// definition is the text of a type in Redis, or ErrNoType.
func (t *Types) definition(ctx context.Context, name string) (string, error) {
	if !payloads.ValidTypeName(name) {
		return "", ErrNoType
	}
	text, err := t.redis.HGet(ctx, typesKey, name).Result()
	if errors.Is(err, redis.Nil) {
		return "", ErrNoType
	}
	if err != nil {
		return "", fmt.Errorf("registry: read callback type %s: %w", name, err)
	}
	return text, nil
}

// Stay ends the deletion: the type is again as it was.
func (l *Leaving) Stay(ctx context.Context) error {
	return typeStays(ctx, l.types.redis, l.name, l.text)
}

// removeType takes type ARGV[1] away, if its deletion still is ARGV[2], counts the change under ARGV[3] and writes line ARGV[4] of the audit trail.
var removeType = redis.NewScript(AuditLua + `
if redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[2] then return 0 end
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 1 end -- an earlier run's answer was lost
redis.call('HINCRBY', KEYS[1], ARGV[3], 1)
audit(KEYS[3], ARGV[4])
return 1`)

// End takes the type away. If it was put again meanwhile, or the deletion was given up, the error is ErrBusy, and the type stays.
func (l *Leaving) End(ctx context.Context) error {
	t := l.types
	line := AuditLine(ctx, "", "type.delete", "callback-types/"+l.name, diff(typeFields(l.definition), typeFields(""))...)
	switch removed, err := removeType.Run(ctx, t.redis, []string{typesKey, goneTypesKey, auditTypesKey}, l.name, l.text, versionField, line).Int(); {
	case err != nil:
		return fmt.Errorf("registry: delete callback type %s: %w", l.name, err)
	case removed == 0:
		return fmt.Errorf("%w: callback type %s was put again, or its deletion took too long", ErrBusy, l.name)
	}
	t.log.InfoContext(ctx, "callback type deleted", "type", l.name)
	return nil
}

// Accepted is Lookup for an event that was accepted. A type that was deleted since still says how payloads are stamped and judged, and what they are matched
// by.
func (t *Types) Accepted(ctx context.Context, name string) (*payloads.Type, bool, error) {
	typ, ok, err := t.Lookup(ctx, name)
	if ok || err != nil {
		return typ, ok, err
	}
	typ = t.current.Load().gone[name].Type
	return typ, typ != nil, nil
}

// Deleted says in words when a type was deleted, or that it is being deleted. Empty: neither, or it is not known.
func (t *Types) Deleted(ctx context.Context, name string) (words string, err error) {
	if _, ok, err := t.Lookup(ctx, name); ok || err != nil {
		return "", err
	}
	f, ok := t.current.Load().gone[name]
	switch {
	case !ok:
		return "", nil
	case f.Leaving:
		return "is being deleted", nil
	}
	return "was deleted at " + f.At.Format(time.RFC3339), nil
}
