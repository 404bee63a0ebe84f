package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/registry/steady"
)

// driftSamples is how often Redis is asked for its time: the answer that came fastest says most.
const driftSamples = 5

// checkRedis makes sure that the Redis behind rdb can be trusted with events, and says what to do if it cannot. A worker warns
// by itself of a clock that is a little off, as long as it runs. `ringback doctor` looks further.
func checkRedis(ctx context.Context, rdb redis.UniversalClient, log *slog.Logger) error {
	if err := pingRedis(ctx, rdb); err != nil {
		return err
	}
	text, err := rdb.Info(ctx).Result()
	if err != nil {
		return fmt.Errorf("asking Redis about itself (INFO): %w", err)
	}
	info := parseInfo(text)
	for _, f := range []finding{judgeVersion(info), judgeEviction(info)} {
		if f.Level == levelFault {
			return misconfigured(errors.New(f.Found + ": " + f.Cure))
		}
	}
	clock, err := measureDrift(ctx, rdb)
	switch {
	case err != nil:
		return err
	case clock.Level == levelFault && !keepsTime(ctx, rdb):
		return errors.New(clock.Found + ": " + clock.Cure)
	case clock.Level == levelFault:
		log.WarnContext(ctx, clock.Found+", but by what the installation's processes have written down it is Redis's clock that stepped: "+clock.Cure)
	}
	for _, f := range []finding{judgeStore(info), judgePersistence(info)} {
		if f.Level != levelOK {
			log.WarnContext(ctx, f.Found+": "+f.Cure)
		}
	}
	return checkModel(ctx, rdb)
}

// pingRedis returns an error that a person can act on, if Redis does not answer.
func pingRedis(ctx context.Context, rdb redis.UniversalClient) error {
	err := rdb.Ping(ctx).Err()
	if err == nil {
		return nil
	}
	refused := slices.ContainsFunc([]string{"WRONGPASS", "NOAUTH", "NOPERM"}, func(prefix string) bool { return redis.HasErrorPrefix(err, prefix) })
	err = fmt.Errorf("cannot talk to Redis: is it running where --redis says, and are its user and password right? (%w)", err)
	if refused {
		return misconfigured(err)
	}
	return err
}

// measureDrift compares this machine's clock with Redis's. It assumes that Redis answered halfway between question and answer. That may be wrong
// by half of the time between them, and Redis is given the benefit of the doubt.
func measureDrift(ctx context.Context, node redis.UniversalClient) (finding, error) {
	var drift time.Duration // this machine is ahead by so much
	best := time.Duration(-1)
	for range driftSamples {
		asked := time.Now()
		theirs, err := node.Time(ctx).Result()
		if err != nil {
			return finding{}, fmt.Errorf("asking Redis for its time: %w", err)
		}
		if way := time.Since(asked); best < 0 || way < best {
			best, drift = way, asked.Add(way/2).Sub(theirs)
		}
	}
	return judgeDrift(drift, best/2), nil
}

// keepsTime reports whether this machine's clock is right by what the installation's processes have written down, whatever Redis's says.
func keepsTime(ctx context.Context, rdb redis.UniversalClient) bool {
	at, _, err := steady.Expect(ctx, rdb)
	return err == nil && time.Until(at).Abs() <= driftFault
}

// checkModel makes sure that this program knows the data model that Redis is written in.
func checkModel(ctx context.Context, rdb redis.UniversalClient) error {
	err := ledger.Enter(ctx, rdb)
	if newer, ok := errors.AsType[*ledger.NewerModelError](err); ok {
		return misconfigured(fmt.Errorf("%w: %s", newer, cureNewer))
	}
	return err
}

const cureNewer = "start that version instead"

// judgeModel reads which data model Redis is written in.
func judgeModel(ctx context.Context, rdb redis.UniversalClient) (finding, error) {
	f := finding{Check: "data model", Level: levelOK}
	switch got, err := ledger.Written(ctx, rdb); {
	case err != nil:
		return f, fmt.Errorf("reading the data model's number from %s: %w", ledger.ModelKey, err)
	case got == 0:
		f.Found = "no Ringback has written to this Redis yet"
	case got > ledger.Model:
		f.Level, f.Found, f.Cure = levelFault, (&ledger.NewerModelError{Found: got}).Error(), cureNewer
	default:
		f.Found = fmt.Sprintf("data model %d, and this program knows %d", got, ledger.Model)
	}
	return f, nil
}
