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
	newest   int64           // the highest of those
	byID     []*Callback     // ascending
	byType   map[string]*bucket
	globs    []*Callback // in no order
	tls      inheritance // what the callbacks have of the company
}

// bucket holds the callbacks of one type. Those that take any event of it are wide.
// Those that are narrowed stand under the first of the attributes they ask for.
type bucket struct {
	wide     []*Callback
	narrowed map[attribute][]*Callback
}

type attribute struct{ name, value string }

// fewChanges is how many changes a snapshot takes over what it can from the one
// before. With more it is made anew, which costs less then.
const fewChanges = 64

// with is s after the changes up to a version: for each id that changed the
// callback, or nil if it was deleted. versions are those of the result.
func (s *snapshot) with(version int64, versions map[int64]int64, changed map[int64]*Callback) *snapshot {
	next := &snapshot{version: version, versions: versions, newest: lastUpTo(version, versions), globs: slices.Clip(s.globs), byType: maps.Clone(s.byType)}
	few := len(changed) <= fewChanges
	if next.byID = make([]*Callback, 0, len(s.byID)+len(changed)); !few || next.byType == nil {
		next.globs, next.byType = nil, map[string]*bucket{}
	}
	own := map[string]bool{} // the buckets that next does not share with s
	for _, cb := range s.byID {
		_, gone := changed[cb.ID]
		switch {
		case !gone:
			next.byID = append(next.byID, cb)
			if !few {
				next.file(cb, own, few)
			}
		case few:
			next.unfile(cb, own)
		}
	}
	for _, cb := range changed {
		if cb != nil {
			next.byID = append(next.byID, cb)
			next.file(cb, own, few)
		}
	}
	sortByID(next.byID)
	return next
}

// An inheritance is a company's client certificate, as its callbacks have it. The zero value is none.
type inheritance struct {
	sealed string // as it was read
	tls    *TLS
}

// passOn gives the certificate to callbacks that changed since old. If old has another one, the others change with it.
func (in inheritance) passOn(old *snapshot, changed map[int64]*Callback) map[int64]*Callback {
	if in.sealed != old.tls.sealed {
		for _, cb := range old.byID {
			if _, newer := changed[cb.ID]; !newer {
				own := *cb // the old one is others' to read
				changed[cb.ID] = &own
			}
		}
	}
	for _, cb := range changed {
		if cb != nil {
			cb.inherit(in.tls)
		}
	}
	return changed
}

// inherits is s, whose callbacks have that of their company.
func (s *snapshot) inherits(in inheritance) *snapshot {
	s.tls = in
	return s
}

// file puts cb where candidates finds it. few: the lists may be those of the snapshot
// before.
func (s *snapshot) file(cb *Callback, own map[string]bool, few bool) {
	if payloads.IsGlob(cb.Type) {
		s.globs = append(s.globs, cb)
		return
	}
	b := s.bucket(cb.Type, own)
	if len(cb.Match) == 0 {
		b.wide = append(b.wide, cb)
		return
	}
	key := filedUnder(cb)
	list := b.narrowed[key]
	if few {
		list = slices.Clip(list) // the one before may have it, too
	}
	b.narrowed[key] = append(list, cb)
}

func (s *snapshot) unfile(cb *Callback, own map[string]bool) {
	if payloads.IsGlob(cb.Type) {
		s.globs = without(s.globs, cb)
		return
	}
	b := s.bucket(cb.Type, own)
	if len(cb.Match) == 0 {
		b.wide = without(b.wide, cb)
		return
	}
	key := filedUnder(cb)
	if b.narrowed[key] = without(b.narrowed[key], cb); len(b.narrowed[key]) == 0 {
		delete(b.narrowed, key)
	}
}

// bucket is the bucket of a type, as s's own. Its lists of narrowed callbacks may be
// another snapshot's, too.
func (s *snapshot) bucket(typ string, own map[string]bool) *bucket {
	b := s.byType[typ]
	if own[typ] {
		return b
	}
	mine := &bucket{narrowed: map[attribute][]*Callback{}}
	if b != nil {
		mine.wide, mine.narrowed = slices.Clip(b.wide), maps.Clone(b.narrowed)
	}
	s.byType[typ], own[typ] = mine, true
	return mine
}

func filedUnder(cb *Callback) attribute {
	first := ""
	for name := range cb.Match {
		if first == "" || name < first {
			first = name
		}
	}
	return attribute{first, cb.Match[first]}
}

// without is a new list: the old one stays as it is.
func without(list []*Callback, cb *Callback) []*Callback {
	return slices.DeleteFunc(slices.Clone(list), func(other *Callback) bool { return other == cb })
}

// find returns the callback with that id, or nil.
func (s *snapshot) find(id int64) *Callback {
	if i, ok := s.place(id); ok {
		return s.byID[i]
	}
	return nil
}

func (s *snapshot) place(id int64) (int, bool) {
	return slices.BinarySearchFunc(s.byID, id, func(cb *Callback, id int64) int { return cmp.Compare(cb.ID, id) })
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
// The result is not to be written to.
func (s *snapshot) after(id int64, typ string) []*Callback {
	i, found := s.place(id)
	if found {
		i++
	}
	rest := slices.Clip(s.byID[i:])
	if typ == "" {
		return rest
	}
	return slices.DeleteFunc(slices.Clone(rest), func(cb *Callback) bool { return cb.Type != typ })
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
