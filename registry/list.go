package registry

import (
	"context"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/payloads"
)

// gateChunk is how many gates are read at once.
const gateChunk = 2 * MaxLimit

// Filter says which callbacks List returns.
type Filter struct {
	Type   string  // exactly this callback_type; empty: any
	Status Status  // empty: any
	Limit  int     // at most this many, 1 to MaxLimit; 0: DefaultLimit
	Cursor string  // from the page before; empty: from the start
	Within []int64 // only those of these ids; nil: any
}

// check fills in the defaults and returns the id that the cursor stands for.
func (f *Filter) check() (after int64, err error) {
	var fields []payloads.FieldError
	if f.Limit == 0 {
		f.Limit = DefaultLimit
	}
	if f.Limit < 1 || f.Limit > MaxLimit {
		fields = append(fields, payloads.FieldError{Location: "query.limit", Message: fmt.Sprintf("must be from 1 to %d", MaxLimit), Value: f.Limit})
	}
	if f.Status != "" && f.Status != Enabled && f.Status != Paused && f.Status != Disabled && f.Status != Unverified {
		fields = append(fields, payloads.FieldError{Location: "query.status", Message: "must be enabled, paused, disabled or unverified", Value: short(string(f.Status))})
	}
	if after, err = decodeCursor(f.Cursor); err != nil {
		fields = append(fields, payloads.FieldError{Location: "query.cursor", Message: "must be the next_cursor of the page before"})
	}
	if len(fields) > 0 {
		return 0, &payloads.InvalidError{Fields: fields}
	}
	return after, nil
}

// List returns the callbacks of a company that f asks for, with their status, by
// ascending id. next is the cursor of the page that follows, empty on the last.
// List includes every registration that had returned before the call.
func (r *Registry) List(ctx context.Context, company string, f Filter) (page []*Callback, next string, err error) {
	if err := checkCompany(company); err != nil {
		return nil, "", err
	}
	after, err := f.check()
	if err != nil {
		return nil, "", err
	}
	snap, err := r.fresh(ctx, company, nil)
	if err != nil {
		return nil, "", err
	}
	candidates := snap.after(after, f.Type)
	if f.Within != nil {
		candidates = slices.DeleteFunc(slices.Clone(candidates), func(cb *Callback) bool { return !slices.Contains(f.Within, cb.ID) })
	}
	for chunk := range slices.Chunk(candidates, gateChunk) {
		keys := make([]string, len(chunk))
		for i, cb := range chunk {
			keys[i] = GateKey(company, cb.ID)
		}
		gates, err := r.gates(ctx, company, keys)
		if err != nil {
			return nil, "", err
		}
		for i, cb := range chunk {
			shown := *cb // the snapshot's own has no status
			if err := shown.setGate(gates[i]); err != nil {
				return nil, "", err
			}
			if f.Status != "" && f.Status != shown.Status {
				continue
			}
			if len(page) == f.Limit {
				return page, encodeCursor(page[len(page)-1].ID), nil
			}
			page = append(page, &shown)
		}
	}
	return page, "", nil
}

// All returns all of a company's callbacks by ascending id, as they are now. Their status is not read, and is empty. The
// result is not to be written to.
func (r *Registry) All(ctx context.Context, company string) ([]*Callback, error) {
	if err := checkCompany(company); err != nil {
		return nil, err
	}
	snap, err := r.fresh(ctx, company, nil)
	if err != nil {
		return nil, err
	}
	return snap.after(0, ""), nil
}

// OfType returns the ids of those of a company's callbacks that are registered for a type by its name, ascending. A glob is for no type by its name.
func (r *Registry) OfType(ctx context.Context, company, typ string) (ids []int64, err error) {
	if err := checkCompany(company); err != nil {
		return nil, err
	}
	snap, err := r.fresh(ctx, company, nil)
	if err != nil {
		return nil, err
	}
	for _, cb := range snap.after(0, typ) {
		ids = append(ids, cb.ID)
	}
	return ids, nil
}

// CountStatuses returns how many callbacks each of the companies has, by status. It reads no more than their numbers and gates.
func (r *Registry) CountStatuses(ctx context.Context, companies []string) ([]map[Status]int64, error) {
	ids := make([]*redis.StringSliceCmd, len(companies))
	if _, err := r.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, company := range companies {
			ids[i] = p.HKeys(ctx, callbacksKey(company))
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("registry: count the callbacks of companies: %w", err)
	}
	counts := make([]map[Status]int64, len(companies))
	for i, company := range companies {
		counts[i] = make(map[Status]int64)
		for chunk := range slices.Chunk(ids[i].Val(), gateChunk) {
			if err := r.countGates(ctx, company, chunk, counts[i]); err != nil {
				return nil, err
			}
		}
	}
	return counts, nil
}

// countGates adds a company's callbacks to counts.
func (r *Registry) countGates(ctx context.Context, company string, ids []string, counts map[Status]int64) error {
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = gatePrefix(company) + id
	}
	gates, err := r.gates(ctx, company, keys)
	if err != nil {
		return err
	}
	for _, stored := range gates {
		gate, err := ParseGate(stored)
		if err != nil {
			return err
		}
		if gate.Status != Deleted { // just now
			counts[gate.Shown()]++
		}
	}
	return nil
}

// gates reads gates as they are stored.
func (r *Registry) gates(ctx context.Context, company string, keys []string) ([]string, error) {
	values, err := r.redis.MGet(ctx, keys...).Result()
	if err != nil {
		return nil, fmt.Errorf("registry: read the gates of company %s: %w", company, err)
	}
	gates := make([]string, len(values))
	for i, v := range values {
		gates[i], _ = v.(string)
	}
	return gates, nil
}
