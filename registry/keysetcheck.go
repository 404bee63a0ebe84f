package registry

import (
	"context"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"
)

// keysetProof is sealed with each primary key that a process started with.
const keysetProof = "opened with the keyset this Redis was written with"

// claimKeyset remembers the first keyset and returns what is remembered.
var claimKeyset = redis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 0 then
	redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
return redis.call('HGETALL', KEYS[1])`)

// Sealed reports whether this Redis was written with a keyset.
func Sealed(ctx context.Context, rdb redis.UniversalClient) (bool, error) {
	n, err := rdb.HLen(ctx, keysetKey).Result()
	if err != nil {
		return false, fmt.Errorf("registry: look for the keyset: %w", err)
	}
	return n > 0, nil
}

// CheckKeyset makes sure that the keyset opens what this Redis holds. Call it
// before the first use. Redis remembers the first keyset that it meets, and every
// later primary key. If the keyset lacks a remembered key, the error is ErrSealed
// and says what to do.
func (r *Registry) CheckKeyset(ctx context.Context) error {
	primary := r.keyset.PrimaryID()
	proof, err := r.keyset.seal([]byte(keysetProof), keysetKey+"/"+primary)
	if err != nil {
		return err
	}
	flat, err := claimKeyset.Run(ctx, r.redis, []string{keysetKey}, primary, proof).StringSlice()
	if err != nil {
		return fmt.Errorf("registry: check the keyset: %w", err)
	}
	var missing []string
	for pair := range slices.Chunk(flat, 2) {
		if plain, err := r.keyset.open([]byte(pair[1]), keysetKey+"/"+pair[0]); err != nil || string(plain) != keysetProof {
			missing = append(missing, pair[0])
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return fmt.Errorf("%w: this Redis holds registrations sealed with key %v, and the keyset given has %v as its primary key and cannot open them; "+
			"start with the keyset of the processes that wrote them, or with one to which the missing key was added "+
			"(if nothing sealed with a key is left, remove its field from the hash %s)", ErrSealed, missing, primary, keysetKey)
	}
	if err := r.redis.HSetNX(ctx, keysetKey, primary, proof).Err(); err != nil {
		return fmt.Errorf("registry: remember the keyset: %w", err)
	}
	return nil
}

// inUse refuses a primary key that no process has started with, or that a live process lacks.
func (r *Registry) inUse(ctx context.Context) error {
	primary := r.keyset.PrimaryID()
	known, err := r.redis.HExists(ctx, keysetKey, primary).Result()
	switch {
	case err != nil:
		return fmt.Errorf("registry: check the keyset: %w", err)
	case !known:
		return fmt.Errorf("registry: no process has started with key %s as its primary key yet: give all processes this keyset, restart them, and try again", primary)
	}
	announced, _, err := readAnnounced(ctx, r.redis, r.clock)
	if err != nil {
		return err
	}
	for _, p := range announced {
		if p.Keys != nil && !slices.Contains(p.Keys, primary) {
			return fmt.Errorf("registry: a process does not have key %s and could not read what is sealed with it: %s; give it this keyset, restart it, and try again", primary, p)
		}
	}
	return nil
}

// keysetObject is what the audit trail calls a key of the keyset.
func keysetObject(id string) string { return "keyset/" + id }
