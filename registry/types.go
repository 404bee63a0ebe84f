package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry/steady"
)

// ErrBuiltin says that a callback type comes with Ringback and cannot be changed.
var ErrBuiltin = errors.New("registry: this callback type is built in")

// typesFor is how long a process goes on with the types it knows before it asks whether any has changed.
const typesFor = time.Second

// putType stores type ARGV[1] as ARGV[2], if it still is ARGV[5], and counts the change under ARGV[3]. An empty ARGV[5] is no type. ARGV[4] is how
// many types there may be if no quota is set. ARGV[6] is the line of the audit trail. A deletion of the type that is under way ends, and so does what is left
// of one that is over.
var putType = redis.NewScript(AuditLua + `
local old = redis.call('HGET', KEYS[1], ARGV[1])
if old == ARGV[2] then
	if redis.call('HDEL', KEYS[4], ARGV[1]) == 1 then redis.call('HINCRBY', KEYS[1], ARGV[3], 1) end
	return {ARGV[5] == '' and 'created' or 'changed'}
end
if (old or '') ~= ARGV[5] then return {'raced'} end
if not old then
	local most = tonumber(redis.call('HGET', KEYS[2], 'callback_types') or ARGV[4])
	local there = redis.call('HLEN', KEYS[1]) - redis.call('HEXISTS', KEYS[1], ARGV[3])
	if there >= most then return {'quota', string.format('%.0f', most), tostring(there)} end
end
redis.call('HINCRBY', KEYS[1], ARGV[3], 1)
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('HDEL', KEYS[4], ARGV[1])
audit(KEYS[3], ARGV[6])
return {old and 'changed' or 'created'}`)

// Types are the callback types that all processes share: those Ringback comes
// with, and those operators added. Safe for concurrent use.
//
// A type that was added is known everywhere at once. A change of one takes effect
// within a second. One that is deleted is unknown to what is new, and what was accepted
// of it is still sent as it had it; see [Types.Leave].
type Types struct {
	redis   redis.UniversalClient
	clock   *steady.Clock // may be nil
	builtin *payloads.Catalogue
	log     *slog.Logger

	current atomic.Pointer[typesRead]
	again   renewal

	reading  sync.Mutex
	compiled map[string]compiledType // of those in Redis, by name; a large one takes a tenth of a second
}

// compiledType is a type, and the text in Redis that it was made of.
type compiledType struct {
	text string
	*payloads.Type
}

// typesRead is the catalogue as it was read.
type typesRead struct {
	catalogue *payloads.Catalogue
	version   string
	at        time.Time // when Redis last said that this is the version
	gone      map[string]formerType
	leaving   map[string]string // of those gone that can still come back: their text in Redis, by name
}

func newTypes(rdb redis.UniversalClient, clock *steady.Clock, builtin *payloads.Catalogue, log *slog.Logger) *Types {
	t := &Types{redis: rdb, clock: clock, builtin: builtin, log: log, compiled: map[string]compiledType{}}
	t.current.Store(&typesRead{catalogue: builtin})
	return t
}

// Builtin reports whether Ringback comes with the type of that name.
func (t *Types) Builtin(name string) bool {
	_, ok := t.builtin.Lookup(name)
	return ok
}

// Put adds a callback type, or changes one that was added before; created says
// which. Events that were accepted stay as they are.
//
// A type that is not sound, or a new one with the name of a registration's member,
// gives an *payloads.InvalidError. One that Ringback comes with gives [ErrBuiltin]. A
// new one past the installation's quota gives a *QuotaError. If a condition does not
// hold, the error is [ErrOvertaken].
func (t *Types) Put(ctx context.Context, typ payloads.Type, conditions ...Condition) (created bool, err error) {
	if t.Builtin(typ.Name) {
		return false, ErrBuiltin
	}
	c, err := t.builtin.With(typ)
	if err != nil {
		return false, err
	}
	compiled, _ := c.Lookup(typ.Name)
	text, err := json.Marshal(compiled)
	if err != nil {
		return false, fmt.Errorf("registry: write down callback type %s: %w", typ.Name, err)
	}
	if created, err = t.store(ctx, typ.Name, string(text), conditions); err != nil {
		return false, err
	}
	t.reading.Lock()
	t.compiled[typ.Name] = compiledType{string(text), compiled}
	t.reading.Unlock()
	t.log.InfoContext(ctx, "callback type stored", "type", typ.Name, "created", created, "validation", string(compiled.Validation))
	return created, nil
}

// store writes a type down, with a line of the audit trail that tells it from the one before. A new type with the name of a member gives an
// *payloads.InvalidError.
func (t *Types) store(ctx context.Context, name, text string, conditions []Condition) (created bool, err error) {
	for range tries {
		old, err := t.redis.HGet(ctx, typesKey, name).Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return false, fmt.Errorf("registry: read callback type %s: %w", name, err)
		}
		if err := hold(conditions, storedTypeETag(name, old)); err != nil {
			return false, err
		}
		action := "type.update"
		if old == "" {
			if slices.Contains(memberNames(), name) {
				return false, invalid("path.name", "is a member of every registration, where a block of this name could not be told from it: choose another", short(name))
			}
			action = "type.create"
		}
		line := AuditLine(ctx, "", action, "callback-types/"+name, diff(typeFields(old), typeFields(text))...)
		answer, err := putType.Run(ctx, t.redis, []string{typesKey, installationQuotaKey, auditTypesKey, goneTypesKey}, name, text, versionField, DefaultTypes, old, line).StringSlice()
		switch {
		case err != nil:
			return false, fmt.Errorf("registry: store callback type %s: %w", name, err)
		case answer[0] == "quota":
			return false, ReadQuota(QuotaTypes, "", answer)
		case answer[0] != "raced":
			return answer[0] == "created", nil
		}
	}
	return false, fmt.Errorf("%w: callback type %s", ErrBusy, name)
}

// typeFields are the members of a stored type. A schema and an example are shown by their beginning.
func typeFields(text string) map[string]auditField {
	fields := map[string]auditField{}
	var members map[string]json.RawMessage
	_ = json.Unmarshal([]byte(text), &members) // none: there was no such type
	for name, value := range members {
		if text, ok := parseAny(value).(string); ok {
			flatten(fields, name, text)
		} else {
			flatten(fields, name, string(value))
		}
	}
	return fields
}

// Added counts the types that operators added.
func (t *Types) Added(ctx context.Context) (int64, error) {
	names, err := t.redis.HKeys(ctx, typesKey).Result()
	if err != nil {
		return 0, fmt.Errorf("registry: count the callback types: %w", err)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name == versionField })
	return int64(len(names)), nil
}

// Lookup finds a type by its name. It asks Redis only if what it knows is a second
// old or lacks the type. If Redis does not answer, it goes on with what it knows.
func (t *Types) Lookup(ctx context.Context, name string) (*payloads.Type, bool, error) {
	known := t.current.Load()
	typ, ok := known.catalogue.Lookup(name)
	if ok && (time.Since(known.at) < typesFor || t.Builtin(name)) {
		return typ, true, nil
	}
	var c *payloads.Catalogue
	fresh := func(ctx context.Context) (err error) {
		c, err = t.Fresh(ctx)
		return err
	}
	if ok {
		if !t.again.do(ctx, fresh) {
			return typ, true, nil
		}
	} else if err := fresh(ctx); err != nil {
		return nil, false, err
	}
	typ, ok = c.Lookup(name)
	return typ, ok, nil
}

// Fresh is the catalogue with every change that was stored before the call.
func (t *Types) Fresh(ctx context.Context) (*payloads.Catalogue, error) {
	asked := time.Now()
	answer, err := t.redis.HMGet(ctx, typesKey, versionField).Result()
	if err != nil {
		return nil, fmt.Errorf("registry: read the version of the callback types: %w", err)
	}
	version, _ := answer[0].(string) // none: none was ever added
	t.reading.Lock()
	defer t.reading.Unlock()
	known := t.current.Load()
	if known.version != version {
		if known, err = t.read(ctx, asked); err != nil {
			return nil, err
		}
	}
	if stays, err := t.giveUp(ctx, known.leaving); err != nil {
		return nil, err
	} else if stays {
		if known, err = t.read(ctx, asked); err != nil {
			return nil, err
		}
	}
	now := *known
	now.at = asked
	t.current.Store(&now)
	return now.catalogue, nil
}

// giveUp ends the deletions that nobody has gone on with for too long: their types stay.
func (t *Types) giveUp(ctx context.Context, leaving map[string]string) (stays bool, err error) {
	if len(leaving) == 0 {
		return false, nil
	}
	now, err := timeBy(ctx, t.redis, t.clock)
	if err != nil {
		return false, fmt.Errorf("registry: look after types that are being deleted: %w", err)
	}
	for name, text := range leaving {
		if readGoneType(text).overdue(now) {
			if err := typeStays(ctx, t.redis, name, text); err != nil {
				return false, err
			}
			t.log.WarnContext(ctx, "callback type was being deleted, and nobody went on with that: it stays", "type", name)
			stays = true
		}
	}
	return stays, nil
}

// Current is the catalogue as this process knows it.
func (t *Types) Current() *payloads.Catalogue { return t.current.Load().catalogue }

// read reads the catalogue anew, and keeps it. The caller holds t.reading.
func (t *Types) read(ctx context.Context, asked time.Time) (*typesRead, error) {
	stored, gone, err := readTypes(ctx, t.redis)
	if err != nil {
		return nil, err
	}
	compiled := make(map[string]compiledType, len(stored))
	read := &typesRead{version: stored[versionField], at: asked, gone: make(map[string]formerType, len(gone)), leaving: map[string]string{}}
	for name, text := range gone {
		if _, back := t.builtin.Lookup(name); !back { // this version of Ringback comes with it
			read.gone[name] = readGoneType(text).former(name)
		}
	}
	var types []*payloads.Type
	for name, text := range stored {
		if name == versionField {
			continue
		}
		if t.Builtin(name) { // this version of Ringback comes with it
			t.log.WarnContext(ctx, "callback type in redis is built in by now, which counts; the one in redis is passed over", "type", name)
			continue
		}
		typ, err := t.compile(name, text)
		if err != nil { // one that cannot be read must not take the others along
			t.log.ErrorContext(ctx, "callback type in redis cannot be used; put it again", "type", name, "error", err)
			continue
		}
		compiled[name] = compiledType{text, typ}
		if f, leaves := read.gone[name]; leaves {
			f.Type, f.Leaving = typ, true
			read.gone[name], read.leaving[name] = f, gone[name]
			continue
		}
		types = append(types, typ)
	}
	t.compiled = compiled
	read.catalogue = t.builtin.And(types...)
	t.current.Store(read)
	return read, nil
}

// compile makes the type of that name out of its text, unless it has already. The
// caller holds t.reading.
func (t *Types) compile(name, text string) (*payloads.Type, error) {
	if known, ok := t.compiled[name]; ok && known.text == text {
		return known.Type, nil
	}
	typ := payloads.Type{Name: name}
	if err := json.Unmarshal([]byte(text), &typ); err != nil {
		return nil, err
	}
	return payloads.Keep(typ)
}
