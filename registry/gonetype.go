package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/payloads"
)

// A goneType is what Redis holds of a callback type that was deleted, under its name. While the type itself is there, too, it is being deleted.
type goneType struct {
	Token string `json:"token"` // of the deletion, and of no other
	At    int64  `json:"at"`    // ms, the installation's time
	By    string `json:"by"`

	// Type is what of it events that were accepted need: how their payloads are stamped and judged, and what they are matched by.
	Type payloads.Type `json:"type"`
}

const (
	// deletesWithin is how long a deletion takes at most. One that is not through by then was given up, and the type stays.
	deletesWithin = time.Minute

	// goneTypesKept is for how many deleted types it is known what they were.
	goneTypesKept = 1000
)

// A formerType is a callback type that was deleted, or that is being deleted.
type formerType struct {
	*payloads.Type
	At      time.Time
	By      string
	Leaving bool // it is being deleted
}

// readGoneType reads what is left of a type. What cannot be read is of no deletion, and long over.
func readGoneType(text string) (g goneType) {
	if json.Unmarshal([]byte(text), &g) != nil {
		return goneType{}
	}
	return g
}

// former is the type as far as it is known.
func (g goneType) former(name string) formerType {
	f := formerType{At: time.UnixMilli(g.At).UTC(), By: g.By}
	g.Type.Name = name
	if typ, err := payloads.Keep(g.Type); err == nil {
		f.Type = typ
	}
	return f
}

// overdue reports whether a deletion that is not through was given up.
func (g goneType) overdue(now time.Time) bool {
	return !now.Before(time.UnixMilli(g.At).Add(deletesWithin))
}

// readTypes reads the types that operators added, and what is left of those that were deleted, as they are at one moment.
func readTypes(ctx context.Context, rdb redis.UniversalClient) (stored, gone map[string]string, err error) {
	var types, former *redis.MapStringStringCmd
	if _, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		types, former = p.HGetAll(ctx, typesKey), p.HGetAll(ctx, goneTypesKey)
		return nil
	}); err != nil {
		return nil, nil, fmt.Errorf("registry: read the callback types: %w", err)
	}
	return types.Val(), former.Val(), nil
}

// stayType ends deletion ARGV[2] of type ARGV[1], if the type is there still.
var stayType = redis.NewScript(`
if redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[2] or redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return end
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HINCRBY', KEYS[1], ARGV[3], 1)`)

// typeStays ends a deletion of a type, of which the text is what Redis holds. The type is again as it was, unless the deletion is over.
func typeStays(ctx context.Context, rdb redis.UniversalClient, name, text string) error {
	err := stayType.Run(ctx, rdb, []string{typesKey, goneTypesKey}, name, text, versionField).Err()
	if err != nil && err != redis.Nil { //nolint:errorlint // as go-redis returns it
		return fmt.Errorf("registry: let callback type %s stay: %w", name, err)
	}
	return nil
}
