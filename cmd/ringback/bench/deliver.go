package bench

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// settle is how long Ringback may take after the last arrival, to write down how it ended.
	settle = 250 * time.Millisecond
	// warmUps is how many deliveries go before those that count: connections are opened, and scripts loaded.
	warmUps = 100
)

// deliver sends a load and waits for its arrivals. beside, if not nil, runs at the same time, and its deliveries count towards what each costs.
func (s *site) deliver(ctx context.Context, l load, beside func(context.Context) (deliveries int, err error)) (Figures, error) {
	before, err := s.readFirst(ctx)
	if err != nil {
		return nil, err
	}
	bad := s.receiver.badSignatures.Load()
	others, group := 0, errgroup.Group{}
	if beside != nil {
		group.Go(func() (err error) {
			others, err = beside(ctx)
			return err
		})
	}
	sent, err := s.sendLoad(ctx, l)
	if err == nil {
		sent.book.await(ctx)
	}
	if other := group.Wait(); err == nil {
		err = other
	}
	if err != nil {
		return nil, err
	}
	f := sent.figures()
	f[BadSignatures] = float64(s.receiver.badSignatures.Load() - bad)
	return f, s.costs(ctx, before, int(f[Deliveries])+others, f)
}

// costs adds what was used since before, by so many deliveries.
func (s *site) costs(ctx context.Context, before reading, deliveries int, f Figures) error {
	if s.redis == nil {
		return nil
	}
	select {
	case <-ctx.Done():
	case <-time.After(settle):
	}
	after, err := s.readLast(ctx)
	if err != nil {
		return err
	}
	after.since(before, deliveries, f)
	for _, c := range s.serves {
		if resident := residentMiB(c.pid()); resident > 0 {
			f[RingbackRSS] += resident
		}
	}
	return nil
}

// warmUp sends a few events of a load's kind. Meanwhile it learns which commands only clients send to Redis.
func (s *site) warmUp(ctx context.Context, l load) error {
	l.letter, l.events, l.pace = 'w', max(1, warmUps/l.fan, len(l.companies)), 0
	do := func() error {
		sent, err := s.sendLoad(ctx, l)
		if err != nil {
			return err
		}
		sent.book.await(ctx)
		select { // what idle workers ask belongs to it
		case <-ctx.Done():
		case <-time.After(settle):
		}
		return nil
	}
	if s.redis == nil {
		return do()
	}
	var err error
	s.fromClients, err = watch(ctx, s.redis.addr, do)
	return err
}
