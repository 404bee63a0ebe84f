package registry_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// The development server runs on an in-memory Redis, and other packages test in
// bubbles: all scripts must run there too.
func TestEverythingRunsInMemoryAndInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		keyset, err := registry.NewKeyset()
		if err != nil {
			t.Fatal(err)
		}
		client := bubbleClient(t)
		r, err := registry.New(registry.Config{Redis: client, Catalogue: payloads.Builtin(), Keyset: keyset})
		if err != nil {
			t.Fatal(err)
		}
		must := func(cb *registry.Callback, err error) *registry.Callback {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			return cb
		}
		for range 2 {
			if err := r.CheckKeyset(ctx); err != nil {
				t.Fatal(err)
			}
		}
		a := must(r.Create(ctx, "acme", []byte(plain)))
		b := must(r.Create(ctx, "acme", []byte(plain)))
		if a.ID != 1 || b.ID != 2 || b.Version <= a.Version {
			t.Errorf("%d at %d, %d at %d", a.ID, a.Version, b.ID, b.Version)
		}
		if got := must(r.Pause(ctx, "acme", 1)); got.Status != registry.Paused {
			t.Errorf("status %s", got.Status)
		}
		if got := must(r.Resume(ctx, "acme", 1)); got.Status != registry.Enabled {
			t.Errorf("status %s", got.Status)
		}
		if score, err := client.ZScore(ctx, registry.RoomsKey("acme"), "1").Result(); err != nil || score > float64(time.Now().UnixMilli()) {
			t.Errorf("room due at %v, %v", score, err)
		}
		patched := must(r.Patch(ctx, "acme", 1, []byte(`{"timeout":"2s"}`)))
		must(r.RotateSecret(ctx, "acme", 1, time.Hour))
		if err := r.Delete(ctx, "acme", 2); err != nil {
			t.Fatal(err)
		}
		page, _, err := r.List(ctx, "acme", registry.Filter{})
		if err != nil || !slices.Equal(ids(page), []int64{1}) {
			t.Errorf("%v, %v", page, err)
		}
		ver, matched, err := r.Match(ctx, "acme", "payment_proof", nil, time.Now(), nil)
		if err != nil || len(matched) != 1 || matched[0].Timeout != 2*time.Second || ver <= patched.Version {
			t.Errorf("%v at %d, %v", matched, ver, err)
		}
		if stands := client.Get(ctx, registry.VersionKey("acme")).Val(); stands != fmt.Sprint(ver) {
			t.Errorf("version %s in Redis, %d in memory", stands, ver)
		}
	})
}

func Example() {
	m := miniredis.NewMiniRedis() // in production: a real Redis
	defer m.Close()
	client := redis.NewClient(&redis.Options{Protocol: 2, Dialer: func(context.Context, string, string) (net.Conn, error) { return m.Dial() }})
	defer func() { _ = client.Close() }()

	keyset, err := registry.NewKeyset() // in production: LoadOrCreateKeyset
	if err != nil {
		fmt.Println(err)
		return
	}
	r, err := registry.New(registry.Config{Redis: client, Catalogue: payloads.Builtin(), Keyset: keyset})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	_, err = r.Create(ctx, "acme", []byte(`{
		"callback_type": "wallet_item_install",
		"wallet_item_install": {"campaign_token": "r3zhm8"},
		"destination": {"url": "https://partner.example/hook"}
	}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	_, matched, err := r.Match(ctx, "acme", "wallet_item_install", map[string]string{"campaign_token": "r3zhm8"}, time.Now(), nil)
	fmt.Println(matched, err)
	_, why, _ := r.Decide(matched[0], "wallet_item_install", map[string]string{"campaign_token": "other"}, time.Now(), nil)
	fmt.Println(why)
	// Output:
	// [callback 1 for wallet_item_install of company acme] <nil>
	// The callback asks for campaign_token "r3zhm8", and the event has "other".
}
