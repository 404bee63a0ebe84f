package registry_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/redistest"
)

// A session is found by its token at its place, and nowhere else. Redis does not hold the token.
func TestASessionIsFoundByItsToken(t *testing.T) {
	client := redistest.Start(t).Client()
	keys := registry.NewKeys(client)
	sessions := registry.NewSessions(keys)
	ctx := t.Context()
	secret, k, err := keys.Create(ctx, registry.Partner, "acme")
	if err != nil {
		t.Fatal(err)
	}
	token, s, err := sessions.Begin(ctx, secret, registry.PlaceConsole)
	if err != nil {
		t.Fatal(err)
	}
	got, err := sessions.Get(ctx, token, registry.PlaceConsole)
	if err != nil || got.Key.ID != k.ID || got.Key.Company != "acme" || got.CSRF != s.CSRF || !got.ExpiresAt.Equal(s.ExpiresAt) {
		t.Errorf("%+v, %v; want %+v", got, err, s)
	}
	if s.CSRF == "" || strings.Contains(token, s.CSRF) || got.ExpiresAt.Sub(got.BeganAt) != registry.SessionLife {
		t.Errorf("%+v", s)
	}
	digest := sha256.Sum256([]byte(token))
	for what, other := range map[string]string{
		"": "", "a key": secret, "another token": "rbs_" + strings.Repeat("x", 43) + "." + k.ID, "of another key": strings.Replace(token, k.ID, "rbk_00000000", 1),
		"cut": token[:40], "long": token + strings.Repeat("x", 400), "the token's digest": hex.EncodeToString(digest[:]),
	} {
		if _, err := sessions.Get(ctx, other, registry.PlaceConsole); !errors.Is(err, registry.ErrUnauthorized) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := sessions.Get(ctx, token, registry.PlaceMonitoring); !errors.Is(err, registry.ErrUnauthorized) {
		t.Errorf("at another place: %v", err)
	}
	for field, value := range client.HGetAll(ctx, "ringback:sessions:"+k.ID).Val() {
		if strings.Contains(field+value, token[4:40]) || strings.Contains(field+value, secret) || strings.Contains(field+value, "acme") {
			t.Errorf("Redis has %s: %s", field, value)
		}
	}
	holds := sessions.Caller(got, token).Holds
	if err := holds(ctx); err != nil {
		t.Error(err)
	}
	if err := sessions.End(ctx, token); err != nil {
		t.Fatal(err)
	}
	if err := holds(ctx); !errors.Is(err, registry.ErrUnauthorized) {
		t.Errorf("after the end: %v", err)
	}
	if _, _, err := sessions.Begin(ctx, "wrong", registry.PlaceConsole); !errors.Is(err, registry.ErrUnauthorized) {
		t.Errorf("with a wrong key: %v", err)
	}
}

// A session ends with the secret that began it, whoever ends that, and within a second on every process. What is left of it in Redis goes with the key,
// unless an older process ended that.
func TestASessionEndsWithItsKey(t *testing.T) {
	for _, how := range []string{"revoked", "rotated", "company erased", "by an older process"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { endedByKey(t, how) })
		})
	}
}

func endedByKey(t *testing.T, how string) {
	ctx := t.Context()
	client := bubbleClient(t)
	keys := registry.NewKeys(client)
	here, there := registry.NewSessions(keys), registry.NewSessions(registry.NewKeys(client)) // two processes
	secret, k, err := keys.Create(ctx, registry.Operator, "acme")
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := here.Begin(ctx, secret, registry.PlaceConsole)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := there.Get(ctx, token, registry.PlaceConsole); err != nil || s.Key.ID != k.ID {
		t.Fatalf("%+v, %v", s, err)
	}
	switch how {
	case "revoked":
		err = keys.Revoke(ctx, k.ID)
	case "rotated":
		_, _, err = keys.Rotate(ctx, k.ID, 0)
	case "company erased":
		_, err = keys.RevokeCompany(ctx, "acme")
	default:
		err = client.Del(ctx, "ringback:keys").Err()
	}
	if err != nil {
		t.Fatal(err)
	}
	older := how == "by an older process"
	if _, err := here.Get(ctx, token, registry.PlaceConsole); !errors.Is(err, registry.ErrUnauthorized) && !older {
		t.Errorf("where its key was ended: %v", err)
	}
	time.Sleep(time.Second)
	if _, err := there.Get(ctx, token, registry.PlaceConsole); !errors.Is(err, registry.ErrUnauthorized) {
		t.Errorf("elsewhere, a second later: %v", err)
	}
	if left := client.Exists(ctx, "ringback:sessions:"+k.ID).Val() == 1; left != (older || how == "rotated") {
		t.Errorf("Redis still has its sessions: %t", left)
	}
}

// Nobody fills Redis with sessions: the oldest of a key makes room, and what has ended goes first. A run whose answer was lost changes nothing twice.
func TestSessionsOfAKeyAreBounded(t *testing.T) {
	client := redistest.Start(t).Client()
	keys := registry.NewKeys(client)
	sessions := registry.NewSessions(keys)
	ctx := t.Context()
	secret, k, err := keys.Create(ctx, registry.Viewer, "")
	if err != nil {
		t.Fatal(err)
	}
	stored := "ringback:sessions:" + k.ID
	begin := func() {
		t.Helper()
		if _, _, err := sessions.Begin(ctx, secret, registry.PlaceConsole); err != nil {
			t.Fatal(err)
		}
	}
	ends := time.Now().Add(time.Hour).UnixMilli()
	for i := range registry.MaxSessions {
		client.HSet(ctx, stored, fmt.Sprintf("s%d", i), fmt.Sprintf(`{"began":%d,"ends":%d}`, 1000+i, ends))
	}
	begin()
	if left := client.HGetAll(ctx, stored).Val(); len(left) != registry.MaxSessions || left["s0"] != "" || left["s1"] == "" {
		t.Errorf("%d sessions, the oldest %q, the next %q", len(left), left["s0"], left["s1"])
	}
	if ttl := client.TTL(ctx, stored).Val(); ttl < 29*24*time.Hour {
		t.Errorf("Redis forgets them in %s", ttl)
	}
	client.HSet(ctx, stored, "ended", `{"began":5000,"ends":6000}`, "unreadable", "x") // it began after others that last
	begin()
	if left := client.HGetAll(ctx, stored).Val(); len(left) != registry.MaxSessions || left["ended"]+left["unreadable"] != "" || left["s1"] != "" || left["s2"] == "" {
		t.Errorf("%d sessions, %q %q, the oldest %q, the next %q", len(left), left["ended"], left["unreadable"], left["s1"], left["s2"])
	}
}

// A session ends at its time, or with its key if that ends before, whatever Redis's clock does.
func TestSessionsOutliveAStep(t *testing.T) {
	eachStep(t, func(t *testing.T, r *tower, by time.Duration) {
		ctx := t.Context()
		keys := registry.NewKeys(r).Follow(r.clock())
		sessions := registry.NewSessions(keys)
		begin := func(terms registry.Terms) string {
			t.Helper()
			secret, _, err := keys.CreateBound(ctx, registry.Viewer, "", terms)
			if err != nil {
				t.Fatal(err)
			}
			token, s, err := sessions.Begin(ctx, secret, registry.PlaceConsole)
			if err != nil {
				t.Fatal(err)
			}
			if life := s.ExpiresAt.Sub(s.BeganAt); terms.ExpiresIn > 0 && (life > terms.ExpiresIn || life < terms.ExpiresIn-2*time.Second) {
				t.Errorf("it lasts %s", life)
			}
			return token
		}
		want := func(what, token string, good bool) {
			t.Helper()
			if _, err := sessions.Get(ctx, token, registry.PlaceConsole); (err == nil) != good || !good && !errors.Is(err, registry.ErrExpired) {
				t.Errorf("%s: %v", what, err)
			}
		}
		long, short := begin(registry.Terms{}), begin(registry.Terms{ExpiresIn: 10 * time.Minute})
		time.Sleep(3 * time.Second)
		r.step(by)
		want("right after the step", long, true)
		want("right after the step", short, true)
		time.Sleep(9*time.Minute + 50*time.Second)
		want("before its key's end", short, true)
		time.Sleep(10 * time.Second)
		want("after its key's end", short, false)
		want("long", long, true)
		time.Sleep(registry.SessionLife - 11*time.Minute)
		want("before its end", long, true)
		time.Sleep(2 * time.Minute)
		want("after its end", long, false)
	})
}
