package ledger

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// Model is the number of the newest data model that this program reads and writes: every key's type and every record's format. It grows with any
// change of these; testdata/model2.txt of package dispatcher is what 2 stands for. A key or a field that a program of before leaves alone is no change:
// testdata/model1-additions.txt has those of 1.
const Model = 2

// leastModel is the number of the oldest data model that this program works on. What a later one has, it reads always, and writes once [Ledger.Raised] says
// so: until then, programs of this number run beside it, and after it.
const leastModel = 1

// ModelKey holds the number of the data model that a Redis is written in.
const ModelKey = "ringback:model"

// migrations bring what a Redis holds from the model of their number to the next one. A migration may be run several times, by several processes
// at once, and be cut off anywhere: it goes on where it was. Programs of its number may still run beside it, and after it: it ends only once
// what they write is read well. After it, none of them starts any more.
var migrations = map[int]func(context.Context, redis.UniversalClient) error{}

// A NewerModelError says that a Redis is written in a model that this program does not know.
type NewerModelError struct {
	Found int // the number that was found
}

func (e *NewerModelError) Error() string {
	return fmt.Sprintf("a newer Ringback has written this Redis (data model %d, this program knows %d)", e.Found, Model)
}

// Enter makes sure that this program may work on a Redis: it marks an empty one with the oldest data model that it works on, and brings an older one to
// that. It leaves a later number as it is.
//
// Errors: a *[NewerModelError] if a newer program has written there, or what Redis said; then nothing is written.
func Enter(ctx context.Context, rdb redis.UniversalClient) error {
	return enter(ctx, rdb, leastModel, Model, migrations)
}

func enter(ctx context.Context, rdb redis.UniversalClient, least, newest int, migrations map[int]func(context.Context, redis.UniversalClient) error) error {
	for {
		found, err := raise.Run(ctx, rdb, []string{ModelKey}, 0, least).Int()
		switch {
		case err != nil:
			return fmt.Errorf("reading the data model's number from %s: %w", ModelKey, err)
		case found > newest:
			return &NewerModelError{found}
		case found >= least:
			return nil
		}
		migrate, ok := migrations[found]
		if !ok {
			return fmt.Errorf("%s is %d, and there is no way from there to data model %d: start a version between them first", ModelKey, found, least)
		}
		if err := migrate(ctx, rdb); err != nil {
			return fmt.Errorf("bringing Redis from data model %d to %d: %w", found, found+1, err)
		}
		if err := raise.Run(ctx, rdb, []string{ModelKey}, found, found+1).Err(); err != nil {
			return fmt.Errorf("raising the data model's number in %s: %w", ModelKey, err)
		}
	}
}

// raise writes the number ARGV[2] if it is ARGV[1] (0: there is none), and returns what it is then. So the number never sinks, even if a process is late.
var raise = redis.NewScript(`
local found = redis.call('GET', KEYS[1]) or '0'
if found ~= ARGV[1] then return found end
redis.call('SET', KEYS[1], ARGV[2])
return ARGV[2]`)

// Written returns the number of the data model that a Redis is written in; 0 if no Ringback has written there.
func Written(ctx context.Context, rdb redis.UniversalClient) (int, error) {
	text, err := rdb.Get(ctx, ModelKey).Result()
	if errors.Is(err, redis.Nil) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}
