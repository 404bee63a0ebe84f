package receive

import (
	"context"
	"sync"
)

// Once has each delivery handled once. [Memory] is one that forgets with its process. One that does not keeps the ids where the work is kept, and
// records an id in the transaction of what the delivery changes:
//
//	func (i Inbox) Do(ctx context.Context, id string, handle func(context.Context) error) error {
//		tx, err := i.db.BeginTx(ctx, nil)
//		if err != nil {
//			return err
//		}
//		defer tx.Rollback()
//		row, err := tx.ExecContext(ctx, "INSERT INTO inbox (webhook_id) VALUES ($1) ON CONFLICT DO NOTHING", id)
//		if err != nil {
//			return err
//		}
//		if n, err := row.RowsAffected(); err != nil || n == 0 {
//			return err // nil: it was handled before
//		}
//		if err := handle(context.WithValue(ctx, txKey{}, tx)); err != nil {
//			return err
//		}
//		return tx.Commit()
//	}
//
// The second of two that insert the same id waits there until the first commits, which makes it a duplicate, or rolls back, which leaves it to the
// second.
type Once interface {
	// Do calls handle unless the delivery with that id (its Delivery.ID) was handled before, and returns what handle returned. The delivery counts as
	// handled once handle returned nil and Do does, too. If the delivery was handled before, Do returns nil. If it is being handled, Do waits until that
	// ends.
	Do(ctx context.Context, id string, handle func(context.Context) error) error
}

// Memory is a [Once] that knows the last deliveries that one process handled. It forgets them with the process: what comes again after a restart is
// handled again, and so is what another process handled. The zero Memory is not usable: see NewMemory.
type Memory struct {
	size int

	mu      sync.Mutex
	handled map[string]bool
	order   []string // a ring of handled's ids, the oldest at next
	next    int
	running map[string]chan struct{} // closed when that ends
}

// NewMemory is a Memory of the last size deliveries, of 40 bytes of id each and about as much again; one at least.
func NewMemory(size int) *Memory {
	return &Memory{size: max(size, 1), handled: map[string]bool{}, running: map[string]chan struct{}{}}
}

// Do implements [Once].
func (m *Memory) Do(ctx context.Context, id string, handle func(context.Context) error) error {
	for {
		mine, others := m.claim(id)
		switch {
		case mine != nil:
			return m.run(ctx, id, mine, handle)
		case others == nil:
			return nil
		}
		select {
		case <-others:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// claim returns the end of a run that the caller has to make, or that of one under way; neither if the delivery was handled.
func (m *Memory) claim(id string) (mine, others chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.handled[id] {
		return nil, nil
	}
	if end, ok := m.running[id]; ok {
		return nil, end
	}
	end := make(chan struct{})
	m.running[id] = end
	return end, nil
}

// run handles a delivery that was claimed. One whose handling fails, or panics, is free for the next.
func (m *Memory) run(ctx context.Context, id string, end chan struct{}, handle func(context.Context) error) error {
	succeeded := false
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.running, id)
		if succeeded {
			m.remember(id)
		}
		close(end)
	}()
	err := handle(ctx)
	succeeded = err == nil
	return err
}

func (m *Memory) remember(id string) {
	m.handled[id] = true
	if len(m.order) < m.size {
		m.order = append(m.order, id)
		return
	}
	delete(m.handled, m.order[m.next])
	m.order[m.next] = id
	m.next = (m.next + 1) % m.size
}
