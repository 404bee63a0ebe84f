package registry_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

const goneTypes = "{ringback:types}:gone"

// sees says how a process finds a type: "here", "accepted" if only for what was accepted, or "unknown".
func sees(t *testing.T, r *registry.Registry, name string) string {
	t.Helper()
	if _, err := r.Types().Fresh(t.Context()); err != nil { // a second passes
		t.Fatal(err)
	}
	if _, ok, err := r.Types().Lookup(t.Context(), name); err != nil {
		t.Fatal(err)
	} else if ok {
		return "here"
	}
	typ, ok, err := r.Types().Accepted(t.Context(), name)
	switch {
	case err != nil:
		t.Fatal(err)
	case ok && typ.Name == name && typ.Success == payloads.Any2xx && typ.Match["shop"] == "/shop" && string(typ.Stamped([]byte(`{"at":1}`), time.Time{})) != `{"at":1}`:
		return "accepted"
	}
	return "unknown"
}

func (h *house) wantSeen(want string, all ...*registry.Registry) {
	h.t.Helper()
	for i, r := range all {
		if got := sees(h.t, r, "order.placed"); got != want {
			h.t.Errorf("process %d finds the type %s, want %s", i, got, want)
		}
	}
}

func stamped() payloads.Type {
	typ := orderPlaced()
	typ.Schema, typ.Example, typ.Stamp = nil, nil, "/at"
	return typ
}

// A type that is deleted is unknown to what is new from the first step on, in all processes. What was accepted of it is sent as before. It stays if nobody
// goes on within a minute, or if it is put again. Put after its end, it is a new one.
func TestTypesLeave(t *testing.T) {
	h := newHouse(t)
	other := h.another(t)
	both := []*registry.Registry{h.Registry, other}
	put := func() (created bool) {
		t.Helper()
		created, err := h.Types().Put(t.Context(), stamped())
		if err != nil {
			t.Fatal(err)
		}
		return created
	}
	leave := func() *registry.Leaving {
		t.Helper()
		l, err := h.Leave(t.Context(), "order.placed")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	h.wantSeen("unknown", both...)
	put()
	h.wantSeen("here", both...)
	l := leave()
	h.wantSeen("accepted", append(both, h.another(t))...)
	if words, err := other.Types().Deleted(t.Context(), "order.placed"); words != "is being deleted" {
		t.Error(words, err)
	}
	if _, err := h.Create(t.Context(), "acme", []byte(`{"callback_type":"order.placed","destination":{"url":"https://x.example/"}}`)); err == nil {
		t.Error("a callback is registered for it")
	}
	if err := l.Stay(t.Context()); err != nil {
		t.Error(err)
	}
	h.wantSeen("here", both...)
	if err := l.End(t.Context()); !errors.Is(err, registry.ErrBusy) {
		t.Errorf("a deletion that ended goes on: %v", err)
	}
	first := leave()
	second := leave() // as whoever repeats it after a kill
	if err := first.Stay(t.Context()); err != nil {
		t.Error(err)
	}
	h.wantSeen("accepted", both...)
	if err := first.End(t.Context()); !errors.Is(err, registry.ErrBusy) {
		t.Errorf("the first deletion: %v", err)
	}
	put()
	h.wantSeen("here", both...)
	if err := second.End(t.Context()); !errors.Is(err, registry.ErrBusy) {
		t.Errorf("the deletion of a type that was put again: %v", err)
	}
	h.wantSeen("here", both...)

	l = leave()
	h.wantSeen("accepted", both...) // so that they have to hear of its end
	for range 2 {                   // the answer of the first run is lost
		if err := l.End(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Stay(t.Context()); err != nil { // too late
		t.Error(err)
	}
	h.wantSeen("accepted", append(both, h.another(t))...)
	if words, err := other.Types().Deleted(t.Context(), "order.placed"); !strings.HasPrefix(words, "was deleted at 20") {
		t.Error(words, err)
	}
	if _, err := h.Leave(t.Context(), "order.placed"); !errors.Is(err, registry.ErrNoType) {
		t.Errorf("again: %v", err)
	}
	lines := h.trail("")
	if last := lines[len(lines)-1]; len(lines) != 2 || last.Action != "type.delete" || last.Object != "callback-types/order.placed" || len(last.Changes) == 0 {
		t.Errorf("the trail has %v", lines)
	}
	if !put() {
		t.Error("a type that was deleted is not a new one")
	}
	h.wantSeen("here", both...)
	if words, err := other.Types().Deleted(t.Context(), "order.placed"); words != "" || err != nil {
		t.Error(words, err)
	}
}

// A deletion that nobody goes on with ends after a minute, by whoever looks. Until then it may still be gone on with.
func TestTypesStayWhereNobodyGoesOn(t *testing.T) {
	h := newHouse(t)
	if _, err := h.Types().Put(t.Context(), stamped()); err != nil {
		t.Fatal(err)
	}
	l, err := h.Leave(t.Context(), "order.placed")
	if err != nil {
		t.Fatal(err)
	}
	age := func(by time.Duration) {
		t.Helper()
		text := strings.Replace(h.redis.HGet(t.Context(), goneTypes, "order.placed").Val(), `"at":`, fmt.Sprintf(`"at":%d,"was":`, time.Now().Add(-by).UnixMilli()), 1)
		if err := h.redis.HSet(t.Context(), goneTypes, "order.placed", text).Err(); err != nil {
			t.Fatal(err)
		}
	}
	age(50 * time.Second)
	h.wantSeen("accepted", h.another(t))
	age(61 * time.Second)
	h.wantSeen("here", h.another(t), h.Registry)
	if err := l.End(t.Context()); !errors.Is(err, registry.ErrBusy) {
		t.Errorf("it goes on: %v", err)
	}
	if n := h.redis.HLen(t.Context(), goneTypes).Val(); n != 0 {
		t.Errorf("%d deletions are left", n)
	}
}

func TestTypesThatDoNotLeave(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	for name, want := range map[string]error{"payment_proof": registry.ErrBuiltin, "order.placed": registry.ErrNoType, ":version": registry.ErrNoType} {
		if _, err := h.Leave(ctx, name); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := h.Types().Put(ctx, stamped()); err != nil {
		t.Fatal(err)
	}
	// What types were is known of a thousand, and the one that was deleted first is forgotten.
	for i := range 1000 {
		h.redis.HSet(ctx, goneTypes, fmt.Sprintf("old.%d", i), fmt.Sprintf(`{"at":%d}`, 2000-i))
	}
	if _, err := h.Leave(ctx, "order.placed"); err != nil {
		t.Fatal(err)
	}
	if n := h.redis.HLen(ctx, goneTypes).Val(); n != 1000 || h.redis.HExists(ctx, goneTypes, "old.999").Val() || !h.redis.HExists(ctx, goneTypes, "old.998").Val() {
		t.Errorf("%d are known", n)
	}
	end := h.beside(4)
	defer func() { _ = end(context.WithoutCancel(ctx)) }()
	if _, err := h.neighbour().Leave(ctx, "order.placed"); !isOld(err) {
		t.Errorf("while a process lives that would go on with it: %v", err)
	}
	// A process goes on with what it knows for a second, waits for Redis then, and a request may have looked at the end of that.
	if registry.TypesTurnOver < 2*time.Second {
		t.Errorf("after %s a process may still take what is of the type", registry.TypesTurnOver)
	}
}
