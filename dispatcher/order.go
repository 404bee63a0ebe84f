package dispatcher

import (
	"cmp"
	"slices"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// lineUp finds the lines that an event's deliveries come into, by callback; nil: none has an order. If there are more than fit into a page, those with an order
// come into the first, as long as they fit there.
func lineUp(matched []*registry.Callback, document func() payloads.Document, page int) (keys map[int64]string) {
	for _, cb := range matched {
		if cb.Ordering == nil {
			continue
		}
		if key := cb.Ordering.Key.Of(document()); key != "" {
			if keys == nil {
				keys = make(map[int64]string)
			}
			keys[cb.ID] = key
		}
	}
	if keys == nil || len(matched) <= page {
		return keys
	}
	byID := func(a, b *registry.Callback) int { return cmp.Compare(a.ID, b.ID) }
	slices.SortStableFunc(matched, func(a, b *registry.Callback) int {
		return cmp.Compare(min(len(keys[b.ID]), 1), min(len(keys[a.ID]), 1))
	})
	slices.SortFunc(matched[:page], byID)
	slices.SortFunc(matched[page:], byID)
	return keys
}
