package registry_test

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

func orderPlaced() payloads.Type {
	return payloads.Type{
		Name: "order.placed", Description: "An order was placed.",
		Schema:  json.RawMessage(`{"type": "object", "required": ["shop"], "properties": {"shop": {"type": "string"}}}`),
		Example: json.RawMessage(`{"shop": "hamburg"}`),
		Match:   map[string]string{"shop": "/shop"},
		Success: payloads.Any2xx,
	}
}

// another is a second process on the same Redis.
func (h *house) another(t *testing.T) *registry.Registry {
	t.Helper()
	r, err := registry.New(registry.Config{Redis: h.redis, Catalogue: payloads.Builtin(), Keyset: h.keyset})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestPutTypeIsKnownEverywhere: another process takes registrations for it at once, and a new one reads it as it was put.
func TestPutTypeIsKnownEverywhere(t *testing.T) {
	h := newHouse(t)
	other := h.another(t)
	const registration = `{"callback_type": "order.placed", "order.placed": {"shop": "hamburg"}, "destination": {"url": "https://x.example/"}}`
	if _, err := other.Create(t.Context(), "acme", []byte(registration)); err == nil {
		t.Fatal("a callback for a type that does not exist was registered")
	}
	for _, want := range []bool{true, false} {
		if created, err := h.Types().Put(t.Context(), orderPlaced()); err != nil || created != want {
			t.Fatalf("put: created %t, %v; want %t", created, err, want)
		}
	}
	cb, err := other.Create(t.Context(), "acme", []byte(registration))
	if err != nil {
		t.Fatal(err)
	}
	if matches, why, _ := other.Decide(cb, "order.placed", map[string]string{"shop": "hamburg"}, cb.CreatedAt, nil); !matches {
		t.Error(why)
	}
	typ, ok, err := h.another(t).Types().Lookup(t.Context(), "order.placed")
	if err != nil || !ok || typ.Success != payloads.Any2xx || typ.Validation != payloads.Enforce || typ.Description != "An order was placed." {
		t.Errorf("another process finds %+v, %t, %v", typ, ok, err)
	}
	if _, err := typ.Check(json.RawMessage(`{}`)); err == nil {
		t.Error("the schema was lost on the way")
	}
}

// TestChangedTypeTakesEffect in the process that changed it and, for registrations, in every other.
func TestChangedTypeTakesEffect(t *testing.T) {
	h := newHouse(t)
	other := h.another(t)
	put := func(typ payloads.Type) {
		t.Helper()
		if _, err := h.Types().Put(t.Context(), typ); err != nil {
			t.Fatal(err)
		}
	}
	put(orderPlaced())
	changed := orderPlaced()
	changed.Match = map[string]string{"store": "/shop"}
	if _, _, err := other.Types().Lookup(t.Context(), "order.placed"); err != nil {
		t.Fatal(err)
	}
	put(changed)
	c, err := other.Types().Fresh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if typ, _ := c.Lookup("order.placed"); typ.Match["store"] != "/shop" {
		t.Errorf("another process goes on with %v", typ.Match)
	}
	if typ, _ := other.Types().Current().Lookup("order.placed"); typ.Match["store"] != "/shop" {
		t.Error("what was read is not kept")
	}
}

func TestPutTypeRefuses(t *testing.T) {
	h := newHouse(t)
	if _, err := h.Types().Put(t.Context(), payloads.Type{Name: "payment_proof"}); !errors.Is(err, registry.ErrBuiltin) {
		t.Errorf("a built-in type: %v", err)
	}
	unsound := orderPlaced()
	unsound.Example = json.RawMessage(`{}`)
	for location, typ := range map[string]payloads.Type{
		"path.name":       {Name: "destination"},
		"body.schema":     {Name: "x", Schema: json.RawMessage(`{"type": 5}`)},
		"body.validation": {Name: "x", Validation: "maybe"},
		"body.example":    unsound,
		"body.success":    {Name: "x", Success: "often"},
	} {
		_, err := h.Types().Put(t.Context(), typ)
		misfit, ok := errors.AsType[*payloads.InvalidError](err)
		if !ok || !strings.HasPrefix(misfit.Fields[0].Location, location) {
			t.Errorf("%s: got %v", location, err)
		}
	}
	if types := h.Types().Current().Types(); len(types) != len(payloads.Builtin().Types()) {
		t.Errorf("refused types are there: %d types", len(types))
	}
}

// TestTypesAreNotNamedAsAMember: a block of such a name could not be told from the member.
func TestTypesAreNotNamedAsAMember(t *testing.T) {
	h := newHouse(t)
	cb := h.create("acme", `{"callback_type": "payment_proof", "description": "d", "headers": {"X-A": "1"}, "auth": {"type": "bearer", "token": "t"}, "success": "any_2xx",
		"rate_limit": {"per_second": 5}, "destination": {"url": "https://x.example/"}}`)
	names := slices.Collect(maps.Keys(document(t, cb.WithSecret())))
	if !slices.Contains(names, "rate_limit") || !slices.Contains(names, "secret") {
		t.Fatalf("the members are %v", names)
	}
	for _, name := range names {
		_, err := h.Types().Put(t.Context(), payloads.Type{Name: name})
		misfit, ok := errors.AsType[*payloads.InvalidError](err)
		if !ok || misfit.Fields[0].Location != "path.name" {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if types := h.Types().Current().Types(); len(types) != len(payloads.Builtin().Types()) {
		t.Errorf("refused types are there: %d types", len(types))
	}
}

// TestTypesThatWereNamedAsAMember: a type that was stored before its name was refused is used, and may be changed. Its callbacks keep their match.
func TestTypesThatWereNamedAsAMember(t *testing.T) {
	h := newHouse(t)
	text, err := json.Marshal(payloads.Type{Match: map[string]string{"shop": "/shop"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.redis.HSet(t.Context(), "ringback:types", "rate_limit", text, ":version", 1).Err(); err != nil {
		t.Fatal(err)
	}
	wantMatch := func(cb *registry.Callback, err error) {
		t.Helper()
		if err != nil || cb.MatchBlock != "rate_limit" || cb.Match["shop"] != "hamburg" || cb.RateLimit != nil {
			t.Errorf("%+v, %v", cb, err)
		}
	}
	cb := h.create("acme", `{"callback_type": "rate_limit", "rate_limit": {"shop": "hamburg"}, "destination": {"url": "https://x.example/"}}`)
	wantMatch(cb, nil)
	wantMatch(h.Patch(t.Context(), "acme", cb.ID, []byte(`{"description": "d"}`)))
	if shown, ok := document(t, cb)["rate_limit"].(map[string]any); !ok || shown["shop"] != "hamburg" {
		t.Errorf("shown: %v", shown)
	}
	changed := payloads.Type{Name: "rate_limit", Description: "changed", Match: map[string]string{"shop": "/shop"}}
	if created, err := h.Types().Put(t.Context(), changed); created || err != nil {
		t.Errorf("put again: created %t, %v", created, err)
	}
	wantMatch(h.neighbour().Get(t.Context(), "acme", cb.ID))
	limited := h.create("acme", `{"callback_type": "*", "rate_limit": {"per_second": 5}, "destination": {"url": "https://x.example/"}}`)
	if limited.RateLimit.String() != "5 5" {
		t.Errorf("a callback for a glob: %+v", limited)
	}
}

// TestTypesWithoutRedis: known types go on, an unknown one is an error, and one broken type does not take the others along.
func TestTypesWithoutRedis(t *testing.T) {
	h := newHouse(t)
	types := h.Types()
	if _, err := types.Put(t.Context(), orderPlaced()); err != nil {
		t.Fatal(err)
	}
	if err := h.redis.HSet(t.Context(), "ringback:types", "broken", "{").Err(); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := types.Lookup(t.Context(), "order.placed"); !ok || err != nil {
		t.Fatalf("beside a broken one: %t, %v", ok, err)
	}
	h.server.Kill()
	for name, want := range map[string]bool{"order.placed": true, "payment_proof": true, "broken": false} {
		_, ok, err := types.Lookup(t.Context(), name)
		if ok != want || (err == nil) != want {
			t.Errorf("%s without Redis: %t, %v", name, ok, err)
		}
	}
}

// TestBuiltinTypesWinOverStoredOnes: an operator may have added a type before a version of Ringback came with one of that name.
func TestBuiltinTypesWinOverStoredOnes(t *testing.T) {
	h := newHouse(t)
	if err := h.redis.HSet(t.Context(), "ringback:types", ":version", 1, "payment_proof", `{"description":"mine","success":"any_2xx"}`, "mine", `{}`).Err(); err != nil {
		t.Fatal(err)
	}
	types, err := h.Types().Fresh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want, _ := payloads.Builtin().Lookup("payment_proof")
	if got, _ := types.Lookup("payment_proof"); got != want {
		t.Errorf("the stored type counts: %+v", got)
	}
	if _, ok := types.Lookup("mine"); !ok {
		t.Error("the stored type beside it is lost")
	}
}

// TestTypesAreCompiledOnce: a change of one type costs the compilation of that one, in the process that made it and in others.
func TestTypesAreCompiledOnce(t *testing.T) {
	h := newHouse(t)
	other := h.another(t)
	found := func(r *registry.Registry, name string) *payloads.Type {
		t.Helper()
		c, err := r.Types().Fresh(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		typ, _ := c.Lookup(name)
		return typ
	}
	put := func(typ payloads.Type) {
		t.Helper()
		if _, err := h.Types().Put(t.Context(), typ); err != nil {
			t.Fatal(err)
		}
	}
	put(orderPlaced())
	before := []*payloads.Type{found(h.Registry, "order.placed"), found(other, "order.placed")}
	paid := orderPlaced()
	paid.Name = "order.paid"
	put(paid)
	if h.Types().Current() == nil || found(other, "order.paid") == nil {
		t.Fatal("the second type is not known")
	}
	if after := []*payloads.Type{found(h.Registry, "order.placed"), found(other, "order.placed")}; !slices.Equal(before, after) {
		t.Error("a type that did not change was compiled again")
	}
	changed := orderPlaced()
	changed.Description = "changed"
	put(changed)
	if typ := found(other, "order.placed"); typ == before[1] || typ.Description != "changed" {
		t.Errorf("%+v is not the change", typ)
	}
}

// TestTypesThatWereLarger: a type that was stored when schemas might be larger is used, and cannot be put again.
func TestTypesThatWereLarger(t *testing.T) {
	h := newHouse(t)
	large := payloads.Type{Name: "large", Schema: json.RawMessage(`{"enum": ["x"` + strings.Repeat(`,"y"`, 20_000) + `]}`)}
	text, err := json.Marshal(large)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.redis.HSet(t.Context(), "ringback:types", "large", text, ":version", 1).Err(); err != nil {
		t.Fatal(err)
	}
	typ, ok, err := h.Types().Lookup(t.Context(), "large")
	if err != nil || !ok {
		t.Fatalf("%t, %v", ok, err)
	}
	if _, err := typ.Check(json.RawMessage(`"z"`)); err == nil {
		t.Error("its schema is not used")
	}
	if _, err := h.Types().Put(t.Context(), large); err == nil || !strings.Contains(err.Error(), "body.schema is too large: it may have 20000 values") {
		t.Errorf("put again: %v", err)
	}
}
