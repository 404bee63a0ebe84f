package registry_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// quota sets one quota of a company.
func (h *house) quota(company, name string, n int64) {
	h.t.Helper()
	if _, err := h.SetQuotas(h.t.Context(), company, map[string]*int64{name: &n}); err != nil {
		h.t.Fatal(err)
	}
}

// wantQuota checks that an error names the quota, its value, and who can raise it.
func wantQuota(t *testing.T, err error, name string, limit int64) {
	t.Helper()
	e, ok := errors.AsType[*registry.QuotaError](err)
	if !ok || e.Quota != name || e.Limit != limit || e.Used < limit {
		t.Errorf("want the quota %s of %d, got %+v", name, limit, err)
		return
	}
	for _, word := range []string{name, fmt.Sprint(limit), "ask the operator", "ringback companies quotas"} {
		if !strings.Contains(e.Error(), word) {
			t.Errorf("%q does not say %q", e, word)
		}
	}
}

// together runs n calls at once and counts those that succeed. The others must have met the quota.
func together(t *testing.T, n int, name string, limit int64, call func(i int) error) (succeeded int64) {
	t.Helper()
	var ok atomic.Int64
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := call(i); err != nil {
				wantQuota(t, err, name, limit)
			} else {
				ok.Add(1)
			}
		})
	}
	wg.Wait()
	return ok.Load()
}

// However many register at once, no company gets more callbacks than its quota. The callbacks that it has go on, even past a quota that is lowered.
func TestCallbackQuota(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	h.quota("acme", registry.QuotaCallbacks, 5)
	create := func(int) error { _, err := h.Create(ctx, "acme", []byte(plain)); return err }
	if n := together(t, 24, registry.QuotaCallbacks, 5, create); n != 5 {
		t.Errorf("%d callbacks were registered at once past a quota of 5", n)
	}
	h.create("other", plain) // which has the default
	page, _, err := h.List(ctx, "acme", registry.Filter{})
	if err != nil || len(page) != 5 {
		t.Fatalf("%d callbacks are there: %v", len(page), err)
	}
	h.quota("acme", registry.QuotaCallbacks, 2)
	id := page[0].ID
	for name, do := range map[string]func() error{
		"patch":  func() error { _, err := h.Patch(ctx, "acme", id, []byte(`{"description":"d"}`)); return err },
		"rotate": func() error { _, err := h.RotateSecret(ctx, "acme", id, 0); return err },
		"pause":  func() error { _, err := h.Pause(ctx, "acme", id); return err },
		"resume": func() error { _, err := h.Resume(ctx, "acme", id); return err },
	} {
		if err := do(); err != nil {
			t.Errorf("%s past the quota: %v", name, err)
		}
	}
	for _, cb := range page[:4] {
		wantQuota(t, create(0), registry.QuotaCallbacks, 2)
		if err := h.Delete(ctx, "acme", cb.ID); err != nil {
			t.Fatal(err)
		}
	}
	if err := create(0); err != nil {
		t.Errorf("below the quota again: %v", err)
	}
	if _, err := h.SetQuotas(ctx, "acme", map[string]*int64{registry.QuotaCallbacks: nil}); err != nil {
		t.Fatal(err)
	}
	for i := range registry.DefaultCallbacks - 2 { // as many as there would be
		if err := h.redis.HSet(ctx, "{acme}:cb", fmt.Sprint(100_000+i), "x").Err(); err != nil {
			t.Fatal(err)
		}
	}
	wantQuota(t, create(0), registry.QuotaCallbacks, registry.DefaultCallbacks)
}

func TestTypeQuota(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	h.quota("", registry.QuotaTypes, 3)
	put := func(i int) error {
		_, err := h.Types().Put(ctx, payloads.Type{Name: fmt.Sprintf("quota.%d", i)})
		return err
	}
	if n := together(t, 12, registry.QuotaTypes, 3, put); n != 3 {
		t.Errorf("%d types were added at once past a quota of 3", n)
	}
	if n, err := h.Types().Added(ctx); err != nil || n != 3 {
		t.Errorf("%d types are there: %v", n, err)
	}
	types, err := h.Types().Fresh(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range types.Types() {
		if h.Types().Builtin(typ.Name) {
			continue
		}
		if created, err := h.Types().Put(ctx, payloads.Type{Name: typ.Name, Description: "changed"}); err != nil || created {
			t.Errorf("a type that is there cannot be changed: created %t, %v", created, err)
		}
	}
}

func TestQuotasAreCheckedAndShown(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	for name, n := range map[string]int64{"callbacks": -1, "replays": 1001, "waiting_bytes": 0, "weight": 101, "callback_types": 5, "nonsense": 1} {
		_, err := h.SetQuotas(ctx, "acme", map[string]*int64{name: &n})
		bad, ok := errors.AsType[*payloads.InvalidError](err)
		if !ok || bad.Fields[0].Location != "body."+name {
			t.Errorf("%s %d: %v", name, n, err)
		}
	}
	if _, err := h.SetQuotas(ctx, "a b", nil); err == nil {
		t.Error("a company that cannot be one has quotas")
	}
	want := map[string]int64{"callbacks": registry.DefaultCallbacks, "replays": registry.DefaultReplays, "waiting_bytes": -1, "weight": 1}
	got, err := h.Quotas(ctx, "acme")
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("quotas %v, %v; want %v", got, err, want)
	}
	h.quota("acme", "waiting_bytes", 5000)
	want["waiting_bytes"] = 5000
	if got, err = h.Quotas(ctx, "acme"); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("quotas %v, %v; want %v", got, err, want)
	}
	if known, err := h.Known(ctx, "acme"); err != nil || !known {
		t.Errorf("a company with quotas is not known, and could not be erased: %v", err)
	}
	if h.redis.HExists(context.WithoutCancel(ctx), "{acme}:quota", "callbacks").Val() {
		t.Error("a default is stored")
	}
}

// TestQuotasTakenBackNameNobody: where there is no quota to take back, there may be no company. Where there is one, a line tells of it, and whoever erases
// the company has to find that.
func TestQuotasTakenBackNameNobody(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	for _, change := range []map[string]*int64{nil, {registry.QuotaCallbacks: nil}, {registry.QuotaWaitingBytes: nil, registry.QuotaReplays: nil}} {
		if got, err := h.SetQuotas(ctx, "acme", change); err != nil || got[registry.QuotaCallbacks] != registry.DefaultCallbacks {
			t.Errorf("%v: %v, %v", change, got, err)
		}
	}
	if dump := h.dump(); dump != "" {
		t.Errorf("Redis was written to: %s", dump)
	}
	h.quota("acme", registry.QuotaReplays, 5)
	h.redis.SRem(ctx, "ringback:companies", "acme") // as a crash may lose it
	if _, err := h.SetQuotas(ctx, "acme", map[string]*int64{registry.QuotaReplays: nil}); err != nil {
		t.Fatal(err)
	}
	if known, err := h.Known(ctx, "acme"); err != nil || !known {
		t.Errorf("a company with a line in its trail is not known: %v", err)
	}
}

// TestQuotasNeedToBeKnown: a process of the version before keeps no quota, so none is set while one is alive. One can be taken back.
func TestQuotasNeedToBeKnown(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	veteran := h.server.Client()
	if err := veteran.Do(ctx, "CLIENT", "SETNAME", "ringback").Err(); err != nil {
		t.Fatal(err)
	}
	five := int64(5)
	if _, err := h.SetQuotas(ctx, "acme", map[string]*int64{registry.QuotaCallbacks: &five}); !isOld(err) {
		t.Errorf("set beside an old process: %v", err)
	}
	if _, err := h.SetQuotas(ctx, "acme", map[string]*int64{registry.QuotaCallbacks: nil}); err != nil {
		t.Errorf("taken back beside an old process: %v", err)
	}
}
