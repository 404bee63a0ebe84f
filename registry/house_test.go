package registry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/redistest"
)

// go-redis looks once more, after a second, for a Redis that was away.
func TestMain(m *testing.M) {
	// Package net makes the lock of its resolver in the first lookup. If that is a bubble's, no lookup outside may use it.
	_, _ = net.DefaultResolver.LookupHost(context.Background(), "localhost")
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

const (
	install = "wallet_item_install"
	wallet  = `{"callback_type":"wallet_item_install","wallet_item_install":{"campaign_token":"r3zhm8"},"destination":{"url":"https://partner.example/hook?a=1&b=2"}}`
	plain   = `{"callback_type":"payment_proof","destination":{"url":"https://partner.example/"}}`
)

// house is a registry on a real Redis of its own, and what a test asks of it.
type house struct {
	*registry.Registry
	t      *testing.T
	server *redistest.Server
	redis  *redis.Client
	keyset *registry.Keyset
	log    *bytes.Buffer // read it only when nothing runs
}

func newHouse(t *testing.T) *house {
	t.Helper()
	return openHouse(t, redistest.Start(t), newKeyset(t))
}

// openHouse is another process, as it were, on the same server.
func openHouse(t *testing.T, server *redistest.Server, keyset *registry.Keyset) *house {
	t.Helper()
	h := &house{t: t, server: server, redis: server.Client(), keyset: keyset, log: &bytes.Buffer{}}
	r, err := registry.New(registry.Config{
		Redis: h.redis, Catalogue: payloads.Builtin(), Keyset: keyset,
		Logger: slog.New(slog.NewTextHandler(h.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	h.Registry = r
	return h
}

// beside has a process of a level live beside this one, until end.
func (h *house) beside(level int) (end func(context.Context) error) {
	h.t.Helper()
	end, err := registry.Announce(h.t.Context(), h.redis, nil, registry.Process{ID: "old", Level: level, Host: "web-7"}, slog.New(slog.DiscardHandler))
	if err != nil {
		h.t.Fatal(err)
	}
	return end
}

func (h *house) neighbour() *house { return openHouse(h.t, h.server, h.keyset) }

func newKeyset(t *testing.T) *registry.Keyset {
	t.Helper()
	k, err := registry.NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (h *house) create(company, body string) *registry.Callback {
	h.t.Helper()
	cb, err := h.Create(h.t.Context(), company, []byte(body))
	if err != nil {
		h.t.Fatalf("create: %v", err)
	}
	return cb
}

func (h *house) get(company string, id int64) *registry.Callback {
	h.t.Helper()
	cb, err := h.Get(h.t.Context(), company, id)
	if err != nil {
		h.t.Fatalf("get: %v", err)
	}
	return cb
}

// version is what the script that accepts an event would see.
func (h *house) version(ctx context.Context, company string) int64 {
	text, err := h.redis.Get(ctx, registry.VersionKey(company)).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		h.t.Errorf("version: %v", err)
	}
	v, _ := strconv.ParseInt(text, 10, 64)
	return v
}

// current matches the way acceptance does: at the version that Redis has.
func (h *house) current(ctx context.Context, company, typ string, attrs map[string]string, at time.Time) []int64 {
	h.t.Helper()
	for range 1000 {
		ver, matched, err := h.Match(ctx, company, typ, attrs, at, nil)
		if err != nil {
			h.t.Errorf("match: %v", err)
			return nil
		}
		want := h.version(ctx, company)
		if ver == want {
			return ids(matched)
		}
		if err := h.Refresh(ctx, company, want); err != nil {
			h.t.Errorf("refresh: %v", err)
			return nil
		}
	}
	h.t.Error("matching never caught up with Redis")
	return nil
}

func ids(cbs []*registry.Callback) []int64 {
	out := []int64{}
	for _, cb := range cbs {
		out = append(out, cb.ID)
	}
	return out
}

// document is v's JSON as a map.
func document(t *testing.T, v any) map[string]any {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return doc
}

// dump is everything Redis holds, keys and values.
func (h *house) dump() string {
	h.t.Helper()
	ctx := h.t.Context()
	keys, err := h.redis.Keys(ctx, "*").Result()
	if err != nil {
		h.t.Fatal(err)
	}
	var out strings.Builder
	for _, key := range keys {
		var value any
		switch h.redis.Type(ctx, key).Val() {
		case "string":
			value = h.redis.Get(ctx, key).Val()
		case "hash":
			value = h.redis.HGetAll(ctx, key).Val()
		case "set":
			value = h.redis.SMembers(ctx, key).Val()
		case "zset":
			value = h.redis.ZRangeWithScores(ctx, key, 0, -1).Val()
		case "stream":
			value = h.redis.XRange(ctx, key, "-", "+").Val()
		default:
			h.t.Fatalf("%s is of a kind this test does not know", key)
		}
		fmt.Fprintf(&out, "%s = %v\n", key, value)
	}
	return out.String()
}
