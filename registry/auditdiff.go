package registry

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// An auditField is a value, of which real is compared and shown is told.
type auditField struct{ real, shown any }

// diff tells the fields that differ, by name.
func diff(old, next map[string]auditField) []AuditChange {
	names := slices.Collect(maps.Keys(next))
	for name := range old {
		if _, both := next[name]; !both {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var changes []AuditChange
	for _, name := range names {
		if !reflect.DeepEqual(old[name].real, next[name].real) {
			changes = append(changes, AuditChange{name, old[name].shown, next[name].shown})
		}
	}
	return changes
}

// flatten puts the leaves of a JSON value under their paths. Lists are leaves.
func flatten(fields map[string]auditField, path string, v any) {
	members, ok := v.(map[string]any)
	if !ok {
		shown := v
		if text, ok := v.(string); ok && len(text) > maxShown {
			shown = strings.ToValidUTF8(text[:maxShown], "") + "…"
		}
		fields[path] = auditField{v, shown}
		return
	}
	for name, member := range members {
		flatten(fields, strings.TrimPrefix(path+"."+name, "."), member)
	}
}

// maxShown is how much of a text the audit trail keeps, in bytes.
const maxShown = 256
