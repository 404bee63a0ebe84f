package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
)

// pumpRooms serves the company's rooms whose time has come. One that fails keeps no other from its turn.
func (w *Worker) pumpRooms(ctx context.Context, company string, now time.Time) error {
	c := w.client
	ids, err := c.ledger.DueRooms(ctx, company, now)
	if err != nil {
		return err
	}
	rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] }) //nolint:gosec // so that those that always fail do not always come first
	var failed []error
	for _, text := range ids {
		if ctx.Err() != nil {
			break
		}
		if err := c.contain(ctx, placeReconciler, func() error { return w.pumpRoom(ctx, company, text) }); err != nil {
			failed = append(failed, fmt.Errorf("room %q: %w", text, err))
		}
		if len(failed) == failedRooms { // it is not the rooms
			break
		}
	}
	return errors.Join(failed...)
}

func (w *Worker) pumpRoom(ctx context.Context, company, room string) error {
	id, err := strconv.ParseInt(room, 10, 64)
	if err != nil {
		return ledger.ErrBadRecord
	}
	wait, err := w.client.pump(ctx, company, id)
	if err == nil {
		w.client.pumps.after(ctx, callbackKey{company, id}, wait)
	}
	return err
}

// failedRooms is after how many that failed a round leaves a company's other rooms for the next.
const failedRooms = 20
