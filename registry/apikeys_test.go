package registry_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/redistest"
)

func TestKeyLifeCycle(t *testing.T) {
	client := redistest.Start(t).Client()
	keys := registry.NewKeys(client)
	ctx := t.Context()

	secret, k, err := keys.Create(ctx, registry.Producer, "acme")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(secret, "rbk_") || len(secret) != len("rbk_")+43 || k.ID != secret[:12] || k.Company != "acme" {
		t.Errorf("key of %d bytes, %+v", len(secret), k)
	}
	stored := client.HGetAll(ctx, "ringback:keys").Val()
	digest := sha256.Sum256([]byte(secret))
	if text, ok := stored[hex.EncodeToString(digest[:])]; !ok || strings.Contains(text, secret) {
		t.Errorf("stored as %v", stored)
	}
	if got, err := registry.NewKeys(client).Authenticate(ctx, secret); err != nil || !cmp.Equal(got, k) {
		t.Errorf("authenticated as %+v, %v", got, err)
	}
	for _, wrong := range []string{"", "x", k.ID, secret[:len(secret)-1], secret + "x", strings.ToUpper(secret), strings.Repeat("a", 1<<20)} {
		if _, err := keys.Authenticate(ctx, wrong); !errors.Is(err, registry.ErrUnauthorized) {
			t.Errorf("%.20q: %v", wrong, err)
		}
	}

	if err := keys.Put(ctx, "dev", registry.Key{Role: registry.Operator}); err != nil {
		t.Fatal(err)
	}
	dev, err := keys.Authenticate(ctx, "dev")
	if err != nil || dev.Role != registry.Operator || dev.Company != "*" || len(dev.ID) != 12 || strings.Contains(dev.ID, "dev") {
		t.Errorf("%+v, %v", dev, err)
	}
	list, err := keys.List(ctx)
	if err != nil || len(list) != 2 || list[0].ID != k.ID || list[1].ID != dev.ID {
		t.Errorf("%v, %v", list, err)
	}
	if err := keys.Revoke(ctx, k.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Authenticate(ctx, secret); !errors.Is(err, registry.ErrUnauthorized) {
		t.Errorf("a revoked key: %v", err)
	}
	if err := keys.Revoke(ctx, k.ID); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("revoked twice: %v", err)
	}
}

func TestKeysAreChecked(t *testing.T) {
	keys := registry.NewKeys(redistest.Start(t).Client())
	for _, tt := range []struct {
		role    registry.Role
		company string
		want    string // company of the key, or empty for an error
	}{
		{registry.Operator, "", "*"},
		{registry.Viewer, "", "*"},
		{registry.Viewer, "acme", "acme"},
		{registry.Producer, "*", "*"},
		{registry.Producer, "acme", "acme"},
		{registry.Producer, "", ""},
		{registry.Partner, "acme", "acme"},
		{registry.Partner, "*", ""},
		{registry.Partner, "", ""},
		{"root", "acme", ""},
		{"", "acme", ""},
		{registry.Viewer, "a b", ""},
		{registry.Producer, "**", ""},
	} {
		_, k, err := keys.Create(t.Context(), tt.role, tt.company)
		if _, invalid := errors.AsType[*payloads.InvalidError](err); invalid != (tt.want == "") || k.Company != tt.want {
			t.Errorf("%s %q: %+v, %v", tt.role, tt.company, k, err)
		}
	}
	for _, secret := range []string{"", strings.Repeat("x", 257)} {
		if err := keys.Put(t.Context(), secret, registry.Key{Role: registry.Operator}); err == nil {
			t.Errorf("a key of %d bytes was taken", len(secret))
		}
	}
}

func TestCovers(t *testing.T) {
	for _, tt := range []struct {
		of, company string
		want        bool
	}{
		{"*", "acme", true}, {"acme", "acme", true}, {"acme", "acme2", false}, {"acme", "Acme", false}, {"acme", "*", false}, {"", "", false}, {"", "acme", false},
	} {
		if got := (registry.Key{Company: tt.of}).Covers(tt.company); got != tt.want {
			t.Errorf("key of %q covers %q: %v", tt.of, tt.company, got)
		}
	}
}

// A change by one process is noticed by the others within a second. A new key works at once, wherever it was tried before.
func TestChangesOfKeysAreSeenWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		client := bubbleClient(t)
		here, there := registry.NewKeys(client), registry.NewKeys(client) // two processes
		refused := func(secret string) bool {
			t.Helper()
			_, err := there.Authenticate(ctx, secret)
			if err != nil && !errors.Is(err, registry.ErrUnauthorized) {
				t.Fatal(err)
			}
			return err != nil
		}
		if !refused("k") {
			t.Error("a key that does not exist was taken")
		}
		if err := here.Put(ctx, "k", registry.Key{ID: "rbk_k", Role: registry.Operator}); err != nil {
			t.Fatal(err)
		}
		if refused("k") {
			t.Error("the refusal was remembered")
		}
		time.Sleep(time.Second / 2)
		if err := here.Revoke(ctx, "rbk_k"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second / 2)
		if !refused("k") {
			t.Error("a revoked key works after a second")
		}
	})
}

// A key costs Redis one command a second, however often it is used and by how many at once; one that hangs up does not take the answer along.
func TestAKeyIsAskedForOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		client := bubbleClient(t)
		keys := registry.NewKeys(client)
		if err := keys.Put(ctx, "k", registry.Key{Role: registry.Operator}); err != nil {
			t.Fatal(err)
		}
		f := &fault{}
		client.AddHook(f)
		const seconds = 10
		for range seconds {
			before := f.countdown.Load()
			var wg sync.WaitGroup
			for i := range 50 {
				wg.Go(func() {
					ctx, cancel := context.WithCancel(ctx)
					defer cancel()
					if i == 0 {
						cancel()
					}
					if _, err := keys.Authenticate(ctx, "k"); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if n := before - f.countdown.Load(); n > 2 { // the script is not there the first time
				t.Errorf("50 uses asked %d things of Redis", n)
			}
			time.Sleep(time.Second)
		}
		if n := -f.countdown.Load(); n > seconds+1 {
			t.Errorf("%d s of use asked %d things of Redis", seconds, n)
		}
	})
}

func TestKeysExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		client := bubbleClient(t)
		keys := registry.NewKeys(client)
		secret, k, err := keys.CreateBound(ctx, registry.Producer, "acme", registry.Terms{ExpiresIn: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		if left := time.Until(k.ExpiresAt); left < time.Hour-time.Second || left > time.Hour {
			t.Errorf("expires in %s", left)
		}
		time.Sleep(time.Until(k.ExpiresAt) - time.Millisecond)
		if _, err := keys.Authenticate(ctx, secret); err != nil {
			t.Errorf("a moment before: %v", err)
		}
		time.Sleep(time.Millisecond)
		if _, err := keys.Authenticate(ctx, secret); !errors.Is(err, registry.ErrExpired) || !errors.Is(err, registry.ErrUnauthorized) {
			t.Errorf("a moment after: %v", err)
		}
		if list, err := keys.List(ctx); err != nil || len(list) != 1 {
			t.Errorf("%v, %v", list, err)
		}
		time.Sleep(8 * 24 * time.Hour)
		if _, _, err := keys.CreateBound(ctx, registry.Producer, "acme", registry.Terms{ExpiresIn: time.Hour}); err != nil {
			t.Fatal(err)
		}
		if list, err := keys.List(ctx); err != nil || len(list) != 1 || list[0].ID == k.ID {
			t.Errorf("the expired one is still there: %v, %v", list, err)
		}
	})
}

// A key that is bound to something stands where processes that would ignore it do not look: they take the plain digest for the field.
func TestBoundKeysAreHiddenFromOlderProcesses(t *testing.T) {
	client := redistest.Start(t).Client()
	keys := registry.NewKeys(client)
	ctx := t.Context()
	plainField := func(secret string) bool {
		digest := sha256.Sum256([]byte(secret))
		return client.HExists(ctx, "ringback:keys", hex.EncodeToString(digest[:])).Val()
	}
	for name, terms := range map[string]registry.Terms{"expiry": {ExpiresIn: time.Hour}, "limit": {RateLimit: new(5.0)}, "nothing": {}} {
		secret, _, err := keys.CreateBound(ctx, registry.Producer, "acme", terms)
		if err != nil {
			t.Fatal(err)
		}
		if got := plainField(secret); got != (name == "nothing") {
			t.Errorf("%s: an older process takes the key: %v", name, got)
		}
		if _, err := keys.Authenticate(ctx, secret); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A process of the version before would take an expired or limited key for a good one. While one lives, there is none.
func TestBoundKeysWaitForOlderProcesses(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client()
	keys := registry.NewKeys(client)
	ctx := t.Context()
	_, plain, err := keys.Create(ctx, registry.Producer, "acme")
	if err != nil {
		t.Fatal(err)
	}
	old := redis.NewClient(&redis.Options{Network: "unix", Addr: server.Socket(), ClientName: "ringback"})
	if err := old.Ping(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	before := client.HGetAll(ctx, "ringback:keys").Val()
	for name, do := range map[string]func() error{
		"expiry": func() error {
			_, _, err := keys.CreateBound(ctx, registry.Producer, "acme", registry.Terms{ExpiresIn: time.Hour})
			return err
		},
		"limit": func() error {
			_, _, err := keys.CreateBound(ctx, registry.Producer, "acme", registry.Terms{RateLimit: new(5.0)})
			return err
		},
		"rotation": func() error { _, _, err := keys.Rotate(ctx, plain.ID, time.Hour); return err },
	} {
		if _, ok := errors.AsType[*registry.OldProcessError](do()); !ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if diff := cmp.Diff(before, client.HGetAll(ctx, "ringback:keys").Val()); diff != "" {
		t.Errorf("refused, and written all the same: %s", diff)
	}
	if _, _, err := keys.Create(ctx, registry.Producer, "acme"); err != nil { // binds it to nothing
		t.Error(err)
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	for range 1000 { // until Redis has noticed that it is gone
		_, _, err = keys.Rotate(ctx, plain.ID, time.Hour)
		if _, ok := errors.AsType[*registry.OldProcessError](err); !ok {
			break
		}
	}
	if err != nil {
		t.Error(err)
	}
}

func TestRotationOfKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		client := bubbleClient(t)
		keys := registry.NewKeys(client)
		works := func(want bool, secrets ...string) {
			t.Helper()
			for i, secret := range secrets {
				if k, err := registry.NewKeys(client).Authenticate(ctx, secret); (err == nil) != want || want && (k.Role != registry.Partner || k.Company != "acme") {
					t.Errorf("secret %d: %+v, %v", i, k, err)
				}
			}
		}
		first, k, err := keys.Create(ctx, registry.Partner, "acme")
		if err != nil {
			t.Fatal(err)
		}
		second, rotated, err := keys.Rotate(ctx, k.ID, 24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if rotated.ID != k.ID || !strings.HasPrefix(second, k.ID) || len(second) != len(first) || second == first {
			t.Errorf("%+v with a secret of %d bytes", rotated, len(second))
		}
		works(true, first, second)
		_, _, err = keys.Rotate(ctx, k.ID, time.Hour)
		if two, ok := errors.AsType[*registry.TwoSecretsError](err); !ok || time.Until(two.Until) < 23*time.Hour {
			t.Errorf("a third live secret: %v", err)
		}
		if list, err := keys.List(ctx); err != nil || len(list) != 2 || !list[0].Replaced || list[1].Replaced || !list[1].ExpiresAt.IsZero() {
			t.Errorf("%+v, %v", list, err)
		}
		time.Sleep(24*time.Hour + time.Millisecond)
		works(false, first)
		works(true, second)
		third, _, err := keys.Rotate(ctx, k.ID, 24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		fourth, _, err := keys.Rotate(ctx, k.ID, 0) // it leaked
		if err != nil {
			t.Fatal(err)
		}
		works(false, first, second, third)
		works(true, fourth)
		if err := keys.Revoke(ctx, k.ID); err != nil {
			t.Fatal(err)
		}
		works(false, fourth)
		if _, _, err := keys.Rotate(ctx, k.ID, 0); !errors.Is(err, registry.ErrNotFound) {
			t.Errorf("a revoked key is rotated: %v", err)
		}
		for _, overlap := range []time.Duration{-1, registry.MaxOverlap + 1} {
			if _, _, err := keys.Rotate(ctx, k.ID, overlap); err == nil {
				t.Errorf("an overlap of %s", overlap)
			}
		}

		// A key that expires lives anew.
		_, k, err = keys.CreateBound(ctx, registry.Producer, "acme", registry.Terms{ExpiresIn: time.Hour, RateLimit: new(3.0)})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Minute)
		_, rotated, err = keys.Rotate(ctx, k.ID, 24*time.Hour)
		if err != nil || rotated.ExpiresAt.Sub(k.ExpiresAt) != 30*time.Minute || rotated.Limit() != 3 {
			t.Errorf("%+v, %v", rotated, err)
		}
		list, err := keys.List(ctx)
		if err != nil || !list[0].ExpiresAt.Equal(k.ExpiresAt) {
			t.Errorf("the old secret lives longer by the overlap: %+v, %v", list, err)
		}
	})
}

func TestLastUseIsNotedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		client := bubbleClient(t)
		keys := registry.NewKeys(client)
		secret, k, err := keys.CreateBound(ctx, registry.Producer, "acme", registry.Terms{RateLimit: new(0.5)})
		if err != nil {
			t.Fatal(err)
		}
		var noted []int64
		for range 130 {
			if _, err := keys.Authenticate(ctx, secret); err != nil {
				t.Fatal(err)
			}
			list, err := keys.List(ctx)
			if err != nil {
				t.Fatal(err)
			}
			at := list[0].LastUsed
			if len(noted) == 0 || noted[len(noted)-1] != at {
				noted = append(noted, at)
			}
			list[0].LastUsed = 0
			if diff := cmp.Diff(k, list[0]); diff != "" {
				t.Fatalf("noting it changed the key: %s", diff)
			}
			time.Sleep(time.Second)
		}
		if len(noted) != 3 || noted[0] == 0 || noted[1]-noted[0] != 60 || noted[2]-noted[1] != 60 {
			t.Errorf("noted at %d", noted)
		}
	})
}

// A Redis that is full cannot note anything, and keys are good all the same.
func TestKeysAreGoodWhereRedisIsFull(t *testing.T) {
	client := redistest.Start(t).Client()
	keys := registry.NewKeys(client)
	ctx := t.Context()
	secret, _, err := keys.Create(ctx, registry.Producer, "acme")
	if err != nil {
		t.Fatal(err)
	}
	if err := client.ConfigSet(ctx, "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	if err := client.Set(ctx, "x", "y", 0).Err(); !redis.HasErrorPrefix(err, "OOM") {
		t.Fatalf("it is not full: %v", err)
	}
	if _, err := keys.Authenticate(ctx, secret); err != nil {
		t.Error(err)
	}
}

func TestTermsAreChecked(t *testing.T) {
	keys := registry.NewKeys(redistest.Start(t).Client())
	for name, terms := range map[string]registry.Terms{
		"59 s": {ExpiresIn: 59 * time.Second}, "negative": {ExpiresIn: -time.Hour}, "11 years": {ExpiresIn: 11 * 365 * 24 * time.Hour},
		"negative limit": {RateLimit: new(-1.0)}, "tiny limit": {RateLimit: new(0.001)}, "huge limit": {RateLimit: new(1e9)}, "no number": {RateLimit: new(math.NaN())},
	} {
		if _, _, err := keys.CreateBound(t.Context(), registry.Producer, "acme", terms); err == nil {
			t.Errorf("%s was taken", name)
		} else if _, invalid := errors.AsType[*payloads.InvalidError](err); !invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The limit is the key's, in all processes together, and holds over time. Changes that were charged are paid for before the next.
func TestRateLimitOfAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		client := bubbleClient(t)
		processes := []*registry.Keys{registry.NewKeys(client), registry.NewKeys(client)}
		k := registry.Key{ID: "rbk_a", Role: registry.Producer, RateLimit: new(10.0)}
		let := func(k registry.Key) (n int, wait time.Duration) {
			t.Helper()
			for i := range 100 {
				w, err := processes[i%2].Take(ctx, k)
				if err != nil {
					t.Fatal(err)
				}
				if w == 0 {
					n++
				} else if wait == 0 {
					wait = w
				}
			}
			return n, wait
		}
		if n, wait := let(k); n != 10 || wait <= 0 || wait > 100*time.Millisecond {
			t.Errorf("%d let in at once, the next in %s", n, wait)
		}
		total := 0
		for range 20 {
			time.Sleep(500 * time.Millisecond)
			n, _ := let(k)
			total += n
		}
		if total < 99 || total > 101 {
			t.Errorf("%d in ten seconds, want 100", total)
		}
		time.Sleep(time.Hour)
		if err := processes[0].Charge(ctx, k, 60); err != nil {
			t.Fatal(err)
		}
		if n, wait := let(k); n != 0 || wait < 5*time.Second || wait > 5100*time.Millisecond {
			t.Errorf("%d let in after a batch of 60, the next in %s", n, wait)
		}
		for limit, want := range map[float64]int{0.5: 1, 2.5: 3, 20: 20, 0: 100} {
			if n, _ := let(registry.Key{ID: fmt.Sprintf("rbk_%g", limit), RateLimit: &limit}); n != want {
				t.Errorf("limit %g: %d let in at once, want %d", limit, n, want)
			}
		}
		for role, want := range map[registry.Role]float64{registry.Operator: 0, registry.Producer: 0, registry.Viewer: 0, registry.Partner: 20} {
			if got := (registry.Key{Role: role}).Limit(); got != want {
				t.Errorf("%s: %g a second, want %g", role, got, want)
			}
		}
	})
}

func TestTestsOfAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		client := bubbleClient(t)
		keys, k := registry.NewKeys(client), registry.Key{ID: "rbk_a"}
		begin := func(want bool) (end func()) {
			t.Helper()
			end, ok, err := keys.BeginTest(ctx, k, time.Minute)
			if err != nil || ok != want {
				t.Fatalf("%v, %v", ok, err)
			}
			return end
		}
		end := begin(true)
		begin(true)
		begin(false)
		end()
		begin(true)
		begin(false)
		time.Sleep(time.Minute + time.Millisecond) // whoever began them is gone
		begin(true)
	})
}

// bubbleClient is a client of an in-memory Redis within the test's bubble.
func bubbleClient(t *testing.T) *redis.Client {
	t.Helper()
	client, _ := bubbleRedis(t)
	return client
}

func bubbleRedis(t *testing.T) (*redis.Client, *miniredis.Miniredis) {
	t.Helper()
	m := miniredis.NewMiniRedis()
	client := redis.NewClient(&redis.Options{
		Protocol: 2,
		Dialer:   func(context.Context, string, string) (net.Conn, error) { return m.Dial() },
		// Else it looks up the address's name, outside the bubble.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	t.Cleanup(func() {
		_ = client.Close()
		m.Close()
	})
	return client, m
}

func TestAuthenticateDoesNotAskTwice(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client()
	keys := registry.NewKeys(client)
	ctx := t.Context()
	if err := keys.Put(ctx, "k", registry.Key{Role: registry.Operator}); err != nil {
		t.Fatal(err)
	}
	_, _ = keys.Authenticate(ctx, "k")
	if stored, err := keys.Stored(ctx, "unknown"); stored || err != nil {
		t.Error(stored, err)
	}
	server.Kill()
	if k, err := keys.Authenticate(ctx, "k"); err != nil || k.Role != registry.Operator {
		t.Errorf("%+v, %v", k, err)
	}
	if stored, err := keys.Stored(ctx, "another"); stored || err != nil {
		t.Error(stored, err)
	}
	if _, err := keys.Authenticate(ctx, "another"); err == nil || errors.Is(err, registry.ErrUnauthorized) {
		t.Errorf("with Redis away a key is not known to be wrong: %v", err)
	}
}

func TestGuessedKeysDoNotFillTheMemory(t *testing.T) {
	keys := registry.NewKeys(redistest.Start(t).Client())
	ctx := t.Context()
	if err := keys.Put(ctx, "k", registry.Key{Role: registry.Viewer}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 700 {
				if _, err := keys.Authenticate(ctx, fmt.Sprintf("guess-%d-%d", w, i)); !errors.Is(err, registry.ErrUnauthorized) {
					t.Error(err)
				}
			}
			if _, err := keys.Authenticate(ctx, "k"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if known := keys.Cached(); known != 1 {
		t.Errorf("%d keys in memory", known)
	}
}

// If Redis's clock is set back, a key owes as much as before, and for no longer.
func TestRateLimitOutlivesAClockSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, m := bubbleRedis(t)
		keys, k := registry.NewKeys(client), registry.Key{ID: "rbk_a", Role: registry.Producer, RateLimit: new(10.0)}
		m.SetTime(time.Now())
		if err := keys.Charge(t.Context(), k, 30); err != nil {
			t.Fatal(err)
		}
		m.SetTime(time.Now().Add(-2 * time.Minute))
		if wait, err := keys.Take(t.Context(), k); err != nil || wait < 2*time.Second || wait > 2200*time.Millisecond {
			t.Errorf("waits %s, want as before, %v", wait, err)
		}
		m.SetTime(time.Now().Add(-2*time.Minute + 2200*time.Millisecond))
		if wait, err := keys.Take(t.Context(), k); err != nil || wait > time.Millisecond {
			t.Errorf("paid for, it waits %s, %v", wait, err)
		}
	})
}

// A place that was taken by a run whose answer was lost is the caller's: it is not one more, and the caller gives it back.
func TestATestOfAKeyIsBegunOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		client := bubbleClient(t)
		keys, k := registry.NewKeys(client), registry.Key{ID: "rbk_a"}
		if _, ok, err := keys.BeginTest(ctx, k, time.Minute); err != nil || !ok { // and the script is known
			t.Fatal(ok, err)
		}
		client.AddHook(&onCommand{name: "evalsha", lose: true})
		end, ok, err := keys.BeginTest(ctx, k, time.Minute)
		if err != nil || !ok {
			t.Fatalf("its own place stands in its way: %v, %v", ok, err)
		}
		end()
		if n := client.ZCard(ctx, "ringback:keytests:rbk_a").Val(); n != 1 {
			t.Errorf("%d places taken, want 1", n)
		}
	})
}

// onCommand does something around the first command of a name.
type onCommand struct {
	name          string
	of            string // an argument that the command has to have; empty: any will do
	before, after func()
	lose          bool // the answer
	once          sync.Once
}

func (*onCommand) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*onCommand) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (o *onCommand) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		mine := false
		if cmd.Name() == o.name && (o.of == "" || slices.Contains(cmd.Args(), any(o.of))) {
			o.once.Do(func() { mine = true })
		}
		if mine && o.before != nil {
			o.before()
		}
		err := next(ctx, cmd)
		if mine && o.after != nil {
			o.after()
		}
		if mine && o.lose { // and say it again, as go-redis does
			err = next(ctx, cmd)
		}
		return err
	}
}

// What this process was asking Redis for while it changed a key is neither remembered nor answered with: once the change has returned, it holds here.
func TestChangesOfKeysHoldAtOnceWhereTheyAreMade(t *testing.T) {
	for name, c := range map[string]struct {
		change   func(context.Context, *registry.Keys) error
		accepted bool
	}{
		"revoked":                  {func(ctx context.Context, ks *registry.Keys) error { return ks.Revoke(ctx, "rbk_acme") }, false},
		"revoked with the company": {func(ctx context.Context, ks *registry.Keys) error { return second(ks.RevokeCompany(ctx, "acme")) }, false},
		"rotated": {func(ctx context.Context, ks *registry.Keys) error {
			_, _, err := ks.Rotate(ctx, "rbk_acme", 0)
			return err
		}, false},
		"stored": {func(ctx context.Context, ks *registry.Keys) error {
			return ks.Put(ctx, "k", registry.Key{ID: "rbk_acme", Role: registry.Partner, Company: "acme"})
		}, true},
	} {
		for command, ask := range map[string]func(context.Context, *registry.Keys) (bool, error){
			"evalsha": func(ctx context.Context, ks *registry.Keys) (bool, error) {
				k, err := ks.Authenticate(ctx, "k")
				if errors.Is(err, registry.ErrUnauthorized) {
					err = nil
				}
				return k.ID != "", err
			},
			"hkeys": func(ctx context.Context, ks *registry.Keys) (bool, error) { return ks.Stored(ctx, "k") },
		} {
			t.Run(name+" during "+command, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx := t.Context()
					client := bubbleClient(t)
					elsewhere := registry.NewKeys(client)
					if _, err := elsewhere.Authenticate(ctx, "unknown"); !errors.Is(err, registry.ErrUnauthorized) { // and the script is known
						t.Fatal(err)
					}
					if !c.accepted {
						if err := elsewhere.Put(ctx, "k", registry.Key{ID: "rbk_acme", Role: registry.Partner, Company: "acme"}); err != nil {
							t.Fatal(err)
						}
					}
					slow := redis.NewClient(client.Options())
					t.Cleanup(func() { _ = slow.Close() })
					answered := make(chan struct{})
					slow.AddHook(&onCommand{name: command, after: func() { <-answered }})
					keys := registry.NewKeys(slow)
					var wg sync.WaitGroup
					want := func(when string) {
						t.Helper()
						if got, err := ask(ctx, keys); err != nil || got != c.accepted {
							t.Errorf("%s: %t, %v; want %t", when, got, err, c.accepted)
						}
					}
					wg.Go(func() { want("asked before the change") })
					synctest.Wait()
					if err := c.change(ctx, keys); err != nil {
						t.Error(err)
					}
					wg.Go(func() { want("asked after it") })
					synctest.Wait()
					close(answered)
					wg.Wait()
					want("asked after the answer")
				})
			})
		}
	}
}

// A key that another process has revoked is not accepted here either, once this one was told to revoke it.
func TestAKeyThatIsGoneIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		client := bubbleClient(t)
		here, there := registry.NewKeys(client), registry.NewKeys(client)
		secret, k, err := here.Create(ctx, registry.Partner, "acme")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := here.Authenticate(ctx, secret); err != nil {
			t.Fatal(err)
		}
		if err := there.Revoke(ctx, k.ID); err != nil {
			t.Fatal(err)
		}
		if err := here.Revoke(ctx, k.ID); !errors.Is(err, registry.ErrNotFound) {
			t.Error(err)
		}
		if _, err := here.Authenticate(ctx, secret); !errors.Is(err, registry.ErrUnauthorized) {
			t.Errorf("still accepted: %v", err)
		}
	})
}

// A rotation moves a key's secrets to other fields. Whichever comes first, after a revocation none of them works.
func TestRevokingWhileAKeyIsRotated(t *testing.T) {
	for _, overlap := range []time.Duration{0, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			client, m := bubbleRedis(t)
			keys := registry.NewKeys(client)
			first, k, err := keys.Create(ctx, registry.Partner, "acme")
			if err != nil {
				t.Fatal(err)
			}
			if err := keys.Revoke(ctx, "rbk_unknown"); !errors.Is(err, registry.ErrNotFound) {
				t.Error(err)
			}
			revoking := redis.NewClient(client.Options())
			t.Cleanup(func() { _ = revoking.Close() })
			var second string
			revoking.AddHook(&onCommand{name: "hgetall", after: func() {
				if second, _, err = keys.Rotate(ctx, k.ID, overlap); err != nil {
					t.Error(err)
				}
			}})
			if err := registry.NewKeys(revoking).Revoke(ctx, k.ID); err != nil {
				t.Fatal(err)
			}
			time.Sleep(1100 * time.Millisecond)
			for _, secret := range []string{first, second} {
				if _, err := keys.Authenticate(ctx, secret); !errors.Is(err, registry.ErrUnauthorized) {
					t.Errorf("overlap %s: a revoked key's secret: %v", overlap, err)
				}
			}
			if fields, _ := m.HKeys("ringback:keys"); len(fields) != 0 {
				t.Errorf("overlap %s: left %v", overlap, fields)
			}
			if trail, err := m.Stream("{ringback:keys}:audit"); err != nil || !strings.Contains(fmt.Sprint(trail), "apikey.revoke") {
				t.Errorf("no line tells of it: %v, %v", trail, err)
			}
		})
	}
}

// An overlap of 0 ends all other secrets at once: with the change itself, for nothing may come after it.
func TestRotationEndsSecretsInOneStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		client := bubbleClient(t)
		keys := registry.NewKeys(client)
		first, k, err := keys.Create(ctx, registry.Partner, "acme")
		if err != nil {
			t.Fatal(err)
		}
		second, _, err := keys.Rotate(ctx, k.ID, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		dying, cancel := context.WithCancel(ctx)
		rotating := redis.NewClient(client.Options())
		t.Cleanup(func() { _ = rotating.Close() })
		rotating.AddHook(&onCommand{name: "evalsha", after: cancel}) // the process is killed after its script
		if _, _, err := registry.NewKeys(client).Rotate(ctx, "rbk_unknown", 0); !errors.Is(err, registry.ErrNotFound) {
			t.Error(err)
		}
		third, _, err := registry.NewKeys(rotating).Rotate(dying, k.ID, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{first, second} {
			if _, err := registry.NewKeys(client).Authenticate(ctx, secret); !errors.Is(err, registry.ErrUnauthorized) {
				t.Errorf("a secret that was ended: %v", err)
			}
		}
		if _, err := registry.NewKeys(client).Authenticate(ctx, third); err != nil {
			t.Error(err)
		}
	})
}
