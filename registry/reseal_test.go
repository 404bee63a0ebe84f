package registry_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry"
)

func untold(registry.Resealed) {}

// rotated is the keyset of h with a key added and promoted, and the ids of the old and the new one.
func rotated(t *testing.T, h *house) (both, promoted *registry.Keyset, older, newer string) {
	t.Helper()
	both, newer, err := h.keyset.WithKey()
	if err != nil {
		t.Fatal(err)
	}
	if promoted, err = both.WithPrimary(newer); err != nil {
		t.Fatal(err)
	}
	return both, promoted, h.keyset.PrimaryID(), newer
}

func (h *house) check() {
	h.t.Helper()
	if err := h.CheckKeyset(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) seals() map[string]registry.Seals {
	h.t.Helper()
	seals, err := h.Seals(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return seals
}

// The whole rotation, with processes that change callbacks meanwhile: no change is lost, no version moves but by a change, and in the end
// the keyset without the old key opens all there is.
func TestWholeRotation(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	h.check()
	const n = 150 // more than are resealed at a time
	for range n {
		h.create("acme", plain)
	}
	h.create("other", plain)
	both, promoted, older, newer := rotated(t, h)
	lagging, leading := openHouse(t, h.server, both), openHouse(t, h.server, promoted)

	if _, err := leading.Reseal(ctx, untold); err == nil || !strings.Contains(err.Error(), "no process has started") {
		t.Errorf("resealing before a process has the key: %v", err)
	}
	lagging.check()
	leading.check()
	still, ok := errors.AsType[*registry.StillSealedError](leading.ForgetKey(ctx, older))
	if !ok || still.Callbacks != n+1 || still.ID != older {
		t.Errorf("retiring before resealing: %+v", still)
	}

	quiet, err := h.Get(ctx, "other", 1)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, who := range []*house{lagging, leading} {
		for id := int64(1); id <= n; id += 30 {
			wg.Go(func() {
				for i := range 5 {
					if _, err := who.Patch(ctx, "acme", id, fmt.Appendf(nil, `{"headers":{"X-%s-%d":"v"}}`, who.keyset.PrimaryID(), i)); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	heard := 0
	if _, err := leading.Reseal(ctx, func(registry.Resealed) { heard++ }); err != nil || heard != 2 {
		t.Errorf("resealing: %v, told %d times", err, heard)
	}
	wg.Wait()
	// The lagging process sealed with the old key after that. So retiring looks, and resealing may be repeated.
	done, err := leading.Reseal(ctx, untold)
	if err != nil || done.Callbacks+done.Already != n+1 || done.Companies != 2 || done.Of != 2 {
		t.Errorf("resealing again: %+v, %v", done, err)
	}
	if seals := h.seals(); seals[older].Callbacks != 0 || seals[newer].Callbacks != n+1 || seals[older].AuditLines < n+1 {
		t.Errorf("sealed by the old key %+v, by the new one %+v", seals[older], seals[newer])
	}
	for id := int64(1); id <= n; id += 30 {
		cb, err := leading.Get(ctx, "acme", id)
		if err != nil || len(cb.Headers) != 10 {
			t.Errorf("callback %d has lost changes: %v, %v", id, cb.Headers, err)
		}
	}
	if cb, err := leading.Get(ctx, "other", 1); err != nil || cb.Version != quiet.Version || !cb.UpdatedAt.Equal(quiet.UpdatedAt) {
		t.Errorf("resealing shows: version %d was %d, updated %v was %v, %v", cb.Version, quiet.Version, cb.UpdatedAt, quiet.UpdatedAt, err)
	}

	still, ok = errors.AsType[*registry.StillSealedError](leading.ForgetKey(ctx, older))
	if !ok || still.Callbacks != 0 || still.AuditLines < n+1 || time.Until(still.Until()) < registry.AuditKept-time.Hour {
		t.Errorf("retiring while the audit trail needs the key: %+v", still)
	}
	h.redis.Del(ctx, registry.AuditKey("acme"), registry.AuditKey("other")) // 90 days on
	if err := leading.ForgetKey(ctx, newer); err == nil || !strings.Contains(err.Error(), "primary") {
		t.Errorf("retiring the primary key: %v", err)
	}
	if err := leading.ForgetKey(ctx, older); err != nil {
		t.Fatal(err)
	}
	last, err := promoted.Without(older)
	if err != nil {
		t.Fatal(err)
	}
	alone := openHouse(t, h.server, last)
	alone.check()
	if page, _, err := alone.List(ctx, "acme", registry.Filter{Limit: registry.MaxLimit}); err != nil || len(page) != n {
		t.Errorf("the new key alone opens %d callbacks: %v", len(page), err)
	}
	entries, _, err := alone.Audit(ctx, registry.AuditQuery{})
	if err != nil || len(entries) == 0 || entries[0].Action != "keyset.retire" || entries[0].Object != "keyset/"+older {
		t.Errorf("the audit trail says %+v, %v", entries, err)
	}
}

// While a live process lacks the new primary key, nothing is sealed anew and no key retired: it could not read its callbacks any more.
func TestResealingWaitsForKeys(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	h.check()
	h.create("acme", plain)
	both, promoted, older, _ := rotated(t, h)
	leading := openHouse(t, h.server, promoted)
	leading.check()
	lagging := registry.Self("v2", "api")
	lagging.Host, lagging.Keys = "web-7", h.keyset.KeyIDs()
	stop := h.announce(lagging)
	if done, err := leading.Reseal(ctx, untold); err == nil || !strings.Contains(err.Error(), "host web-7") || done.Callbacks != 0 {
		t.Errorf("resealing beside a process without the key: %+v, %v", done, err)
	}
	if err := leading.ForgetKey(ctx, older); err == nil || !strings.Contains(err.Error(), "host web-7") {
		t.Errorf("retiring beside it: %v", err)
	}
	stop()
	lagging.Keys = both.KeyIDs() // not primary, but it opens
	defer h.announce(lagging)()
	if done, err := leading.Reseal(ctx, untold); err != nil || done.Callbacks != 1 {
		t.Errorf("resealing once all have it: %+v, %v", done, err)
	}
}

// A change that comes between reading a row and replacing it wins, and the row is sealed anew after it.
func TestResealingLosesNoChange(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	h.check()
	cb := h.create("acme", plain)
	both, promoted, older, _ := rotated(t, h)
	lagging, leading := openHouse(t, h.server, both), openHouse(t, h.server, promoted)
	leading.check()
	leading.redis.AddHook(&between{change: func() {
		if _, err := lagging.Patch(ctx, "acme", cb.ID, []byte(`{"description":"changed meanwhile"}`)); err != nil {
			t.Error(err)
		}
	}})
	if done, err := leading.Reseal(ctx, untold); err != nil || done.Callbacks != 1 {
		t.Errorf("%+v, %v", done, err)
	}
	if got, err := leading.Get(ctx, "acme", cb.ID); err != nil || got.Description != "changed meanwhile" || h.seals()[older].Callbacks != 0 {
		t.Errorf("description %q, %+v, %v", got.Description, h.seals(), err)
	}
}

// between changes something once, after rows were read.
type between struct {
	change func()
	once   sync.Once
}

func (*between) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*between) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (b *between) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if len(cmds) > 1 && cmds[1].Name() == "hmget" { // after the transaction's beginning
			b.once.Do(b.change)
		}
		return err
	}
}

// A resealing that ends in the middle leaves callbacks that open, and the next one does the rest. A callback that does not open is told, and stops nothing.
func TestResealingGoesOn(t *testing.T) {
	h := newHouse(t)
	h.check()
	for _, company := range []string{"a", "b", "c"} {
		h.create(company, plain)
	}
	_, promoted, older, newer := rotated(t, h)
	leading := openHouse(t, h.server, promoted)
	leading.check()
	ctx, stop := context.WithCancel(t.Context())
	if done, err := leading.Reseal(ctx, func(registry.Resealed) { stop() }); !errors.Is(err, context.Canceled) || done.Companies != 1 {
		t.Errorf("stopped after the first company: %+v, %v", done, err)
	}
	if seals := h.seals(); seals[older].Callbacks != 2 || seals[newer].Callbacks != 1 {
		t.Errorf("half done: %+v", seals)
	}
	row := h.redis.HGet(t.Context(), "{b}:cb", "1").Val()
	h.redis.HSet(t.Context(), "{b}:cb", "1", row[:len(row)-1]+"\x00\x01")
	done, err := leading.Reseal(t.Context(), untold)
	if !errors.Is(err, registry.ErrSealed) || !strings.Contains(err.Error(), "callback 1 of company b") || done != (registry.Resealed{Companies: 3, Of: 3, Callbacks: 1, Already: 1, Broken: 1}) {
		t.Errorf("%+v, %v", done, err)
	}
	h.redis.HSet(t.Context(), "{b}:cb", "1", row)
	if done, err := leading.Reseal(t.Context(), untold); err != nil || done.Callbacks != 1 || done.Already != 2 {
		t.Errorf("%+v, %v", done, err)
	}
}

func TestKeysOfAKeyset(t *testing.T) {
	k := newKeyset(t)
	for _, change := range []func(string) (*registry.Keyset, error){k.WithPrimary, k.Without} {
		if _, err := change("12"); !errors.Is(err, registry.ErrNotFound) {
			t.Errorf("an id that is not there: %v", err)
		}
	}
	if _, err := k.Without(k.PrimaryID()); err == nil {
		t.Error("the primary key went")
	}
	next, id, err := k.WithKey()
	if err != nil || next.PrimaryID() != k.PrimaryID() || len(next.KeyIDs()) != 2 || next.KeyIDs()[1] != id || len(k.KeyIDs()) != 1 {
		t.Errorf("added %s: %v, was %v: %v", id, next.KeyIDs(), k.KeyIDs(), err)
	}
}

// Updates of a keyset's file that race lose nothing, and the file keeps its mode.
func TestUpdateKeyset(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keyset.json")
	if _, _, err := registry.LoadOrCreateKeyset(path); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	const n = 8
	for range n {
		wg.Go(func() {
			if err := registry.UpdateKeyset(path, func(k *registry.Keyset) (*registry.Keyset, error) {
				next, _, err := k.WithKey()
				return next, err
			}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	refusal := errors.New("no")
	if err := registry.UpdateKeyset(path, func(*registry.Keyset) (*registry.Keyset, error) { return nil, refusal }); !errors.Is(err, refusal) {
		t.Error(err)
	}
	k, created, err := registry.LoadOrCreateKeyset(path)
	if err != nil || created || len(k.KeyIDs()) != n+1 {
		t.Errorf("%d keys, %v", len(k.KeyIDs()), err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}
