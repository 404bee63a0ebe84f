package registry_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
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

func TestAuthenticateRemembersForFiveSeconds(t *testing.T) {
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
		if !refused("k") {
			t.Error("the refusal was not remembered")
		}
		time.Sleep(5 * time.Second)
		if refused("k") {
			t.Error("the refusal was remembered for more than five seconds")
		}
		if err := here.Revoke(ctx, "rbk_k"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if !refused("k") {
			t.Error("a revoked key works for more than five seconds")
		}
	})
}

// bubbleClient is a client of an in-memory Redis within the test's bubble.
func bubbleClient(t *testing.T) *redis.Client {
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
	return client
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
	_, _ = keys.Authenticate(ctx, "unknown")
	server.Kill()
	if k, err := keys.Authenticate(ctx, "k"); err != nil || k.Role != registry.Operator {
		t.Errorf("%+v, %v", k, err)
	}
	if _, err := keys.Authenticate(ctx, "unknown"); !errors.Is(err, registry.ErrUnauthorized) {
		t.Error(err)
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
	if known, refused := keys.Cached(); known != 1 || refused > 4096 {
		t.Errorf("%d known and %d refused keys in memory", known, refused)
	}
}
