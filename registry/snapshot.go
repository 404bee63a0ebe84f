package registry

import (
	"cmp"
	"maps"
	"slices"

	"github.com/ringback/ringback/payloads"
)

// snapshot is a company's callbacks as they were at one version: it holds every
// change up to that version and none after. It never changes.
type snapshot struct {
	version  int64
	versions map[int64]int64 // of each id's last change, deleted ones included
	byID     map[int64]*Callback
	byType   map[string]*bucket
	globs    []*Callback // in no order
}

// bucket holds the callbacks of one type. Those that take any event of it are wide.
// Those that are narrowed stand under the first of the attributes they ask for.
type bucket struct {
	wide     []*Callback
	narrowed map[attribute][]*Callback
}

type attribute struct{ name, value string }

func newSnapshot(version int64, versions map[int64]int64, byID map[int64]*Callback) *snapshot {
	s := &snapshot{version: version, versions: versions, byID: byID, byType: map[string]*bucket{}}
	for _, cb := range byID {
		if payloads.IsGlob(cb.Type) {
			s.globs = append(s.globs, cb)
			continue
		}
		b := s.byType[cb.Type]
		if b == nil {
			b = &bucket{narrowed: map[attribute][]*Callback{}}
			s.byType[cb.Type] = b
		}
		if len(cb.Match) == 0 {
			b.wide = append(b.wide, cb)
			continue
		}
		name := slices.Min(slices.Collect(maps.Keys(cb.Match)))
		key := attribute{name, cb.Match[name]}
		b.narrowed[key] = append(b.narrowed[key], cb)
	}
	return s
}

// candidates are all callbacks that may match, and some that do not.
func (s *snapshot) candidates(typ string, attrs map[string]string) []*Callback {
	lists := [][]*Callback{s.globs}
	if b := s.byType[typ]; b != nil {
		lists = append(lists, b.wide)
		for name, value := range attrs {
			lists = append(lists, b.narrowed[attribute{name, value}])
		}
	}
	return slices.Concat(lists...)
}

// after returns the callbacks with ids above id, of one type if it is not empty.
func (s *snapshot) after(id int64, typ string) []*Callback {
	var found []*Callback
	for _, cb := range s.byID {
		if cb.ID > id && (typ == "" || cb.Type == typ) {
			found = append(found, cb)
		}
	}
	sortByID(found)
	return found
}

func sortByID(cbs []*Callback) {
	slices.SortFunc(cbs, func(a, b *Callback) int { return cmp.Compare(a.ID, b.ID) })
}

// lastUpTo is the highest of the versions that are not above limit.
func lastUpTo(limit int64, versions map[int64]int64) (last int64) {
	for _, v := range versions {
		if v <= limit {
			last = max(last, v)
		}
	}
	return last
}
