package registry_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/mac"

	"github.com/ringback/ringback/registry"
)

// keyMaterial is the secret part of a keyset's first key.
func keyMaterial(t *testing.T, k *registry.Keyset) string {
	t.Helper()
	data, err := k.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Key []struct {
			KeyData struct{ Value string } `json:"keyData"`
		}
	}
	if err := json.Unmarshal(data, &doc); err != nil || len(doc.Key) == 0 || doc.Key[0].KeyData.Value == "" {
		t.Fatalf("no key in a keyset: %v", err)
	}
	return doc.Key[0].KeyData.Value
}

func TestKeysetMarshalsBack(t *testing.T) {
	k := newKeyset(t)
	data, err := k.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := registry.ParseKeyset(data)
	if err != nil {
		t.Fatal(err)
	}
	if keyMaterial(t, again) != keyMaterial(t, k) {
		t.Error("another key came back")
	}
	if s := fmt.Sprintf("%v %+v", k, k); strings.Contains(s, keyMaterial(t, k)) {
		t.Errorf("printing a keyset shows the key: %s", s)
	}
}

func TestParseKeysetRefuses(t *testing.T) {
	good, err := newKeyset(t).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	macs, err := keyset.NewHandle(mac.HMACSHA256Tag256KeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	var foreign strings.Builder
	if err := insecurecleartextkeyset.Write(macs, keyset.NewJSONWriter(&foreign)); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{
		"nothing": "", "no json": "SECRETCANARY", "no keyset": `{"SECRETCANARY":1}`, "cut": string(good[:len(good)/2]), "keys of another kind": foreign.String(),
	} {
		if _, err := registry.ParseKeyset([]byte(data)); err == nil || strings.Contains(err.Error(), "SECRETCANARY") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLoadOrCreateKeyset(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyset.json")
	const n = 16
	keysets, created := make([]*registry.Keyset, n), make([]bool, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			var err error
			if keysets[i], created[i], err = registry.LoadOrCreateKeyset(path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	creators := 0
	for i := range n {
		if keyMaterial(t, keysets[i]) != keyMaterial(t, keysets[0]) {
			t.Error("racing processes have different keysets")
		}
		if created[i] {
			creators++
		}
	}
	if creators != 1 {
		t.Errorf("%d claim to have created it", creators)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(files) != 1 {
		t.Errorf("left behind: %v, %v", files, err)
	}

	if err := os.WriteFile(path, []byte("SECRETCANARY"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := registry.LoadOrCreateKeyset(path); err == nil || strings.Contains(err.Error(), "SECRETCANARY") || !strings.Contains(err.Error(), path) {
		t.Errorf("a damaged file: %v", err)
	}
	if _, _, err := registry.LoadOrCreateKeyset(filepath.Join(path, "no", "directory")); err == nil {
		t.Error("created a keyset nowhere")
	}
}

func TestWrongKeysetIsRefused(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	for range 2 {
		if err := h.CheckKeyset(ctx); err != nil {
			t.Fatal(err)
		}
	}
	cb := h.create("acme", plain)
	stranger := openHouse(t, h.server, newKeyset(t))
	err := stranger.CheckKeyset(ctx)
	if !errors.Is(err, registry.ErrSealed) || !strings.Contains(err.Error(), "start with the keyset") {
		t.Errorf("a strange keyset: %v", err)
	}
	if _, err := stranger.Get(ctx, "acme", cb.ID); !errors.Is(err, registry.ErrSealed) {
		t.Errorf("a strange keyset opened a callback: %v", err)
	}
	if err := h.CheckKeyset(ctx); err != nil {
		t.Errorf("after the stranger: %v", err)
	}
}

func TestKeysetsThatRaceForAnEmptyRedis(t *testing.T) {
	h := newHouse(t)
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		house := openHouse(t, h.server, newKeyset(t))
		wg.Go(func() { errs[i] = house.CheckKeyset(t.Context()) })
	}
	wg.Wait()
	accepted := 0
	for _, err := range errs {
		if err == nil {
			accepted++
		} else if !errors.Is(err, registry.ErrSealed) {
			t.Error(err)
		}
	}
	if accepted != 1 {
		t.Errorf("%d different keysets were accepted", accepted)
	}
}

// The steps the Keyset's comment gives for replacing a key.
func TestKeyRotation(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	if err := h.CheckKeyset(ctx); err != nil {
		t.Fatal(err)
	}
	cb := h.create("acme", plain)

	both := withNewKey(t, h.keyset, false)
	second := openHouse(t, h.server, both)
	promoted := openHouse(t, h.server, withNewKey(t, h.keyset, true))
	for _, next := range []*house{second, promoted} {
		if err := next.CheckKeyset(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := next.Get(ctx, "acme", cb.ID); err != nil {
			t.Errorf("what the old key sealed: %v", err)
		}
	}
	newer := promoted.create("acme", plain)
	if _, err := h.Get(ctx, "acme", newer.ID); !errors.Is(err, registry.ErrSealed) {
		t.Errorf("the old keyset opened what the new key sealed: %v", err)
	}
	if err := h.CheckKeyset(ctx); !errors.Is(err, registry.ErrSealed) {
		t.Errorf("the old keyset is still accepted: %v", err)
	}
	// A process that lags behind must not lose callbacks without a word.
	if err := h.Refresh(ctx, "acme", newer.Version); !errors.Is(err, registry.ErrSealed) {
		t.Errorf("refresh with the old keyset: %v", err)
	}
}

func withNewKey(t *testing.T, k *registry.Keyset, promote bool) *registry.Keyset {
	t.Helper()
	data, err := k.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(strings.NewReader(string(data))))
	if err != nil {
		t.Fatal(err)
	}
	manager := keyset.NewManagerFromHandle(handle)
	id, err := manager.Add(aead.XChaCha20Poly1305KeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	if promote {
		if err := manager.SetPrimary(id); err != nil {
			t.Fatal(err)
		}
	}
	if handle, err = manager.Handle(); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&out)); err != nil {
		t.Fatal(err)
	}
	next, err := registry.ParseKeyset([]byte(out.String()))
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func TestMovedRowsDoNotOpen(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	cb := h.create("acme", plain)
	h.create("acme", plain)
	h.create("other", plain)
	sealed := h.redis.HGet(ctx, "{acme}:cb", fmt.Sprint(cb.ID)).Val()
	flipped := []byte(sealed)
	flipped[len(flipped)-1] ^= 1
	for name, row := range map[string]struct{ key, id, value string }{
		"to another id":      {"{acme}:cb", "2", sealed},
		"to another company": {"{other}:cb", "1", sealed},
		"one bit changed":    {"{acme}:cb", "1", string(flipped)},
		"cut":                {"{acme}:cb", "1", sealed[:4]},
	} {
		t.Run(name, func(t *testing.T) {
			before := h.redis.HGet(ctx, row.key, row.id).Val()
			h.redis.HSet(ctx, row.key, row.id, row.value)
			defer h.redis.HSet(ctx, row.key, row.id, before)
			company := strings.Trim(strings.TrimSuffix(row.key, ":cb"), "{}")
			var id int64
			_, _ = fmt.Sscan(row.id, &id)
			if _, err := h.Get(ctx, company, id); !errors.Is(err, registry.ErrSealed) {
				t.Errorf("get: %v", err)
			}
			if err := h.neighbour().Refresh(ctx, company, 1); !errors.Is(err, registry.ErrSealed) {
				t.Errorf("refresh: %v", err)
			}
		})
	}
}

// An older row that is put back does not open, whoever sealed it: the company's anchor says what was written last. The other callbacks of the
// company open one by one, and deleting the refused one frees the company.
func TestOlderRowsDoNotOpen(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	h.check()
	cb := h.create("acme", plain)
	other := h.create("acme", plain)
	id := fmt.Sprint(cb.ID)
	both, promoted, _, _ := rotated(t, h)
	h, leading := openHouse(t, h.server, both), openHouse(t, h.server, promoted)
	leading.check()
	unanchored := h.sealAsBefore("acme", cb.ID)
	h.redis.HDel(ctx, "{acme}:cbseal", id)
	h.redis.HSet(ctx, "{acme}:cb", id, unanchored)
	if _, err := h.Get(ctx, "acme", cb.ID); err != nil {
		t.Fatalf("a row of before: %v", err)
	}
	if _, err := h.Patch(ctx, "acme", cb.ID, []byte(`{"description":"one"}`)); err != nil {
		t.Fatal(err)
	}
	first := h.redis.HGet(ctx, "{acme}:cb", id).Val()
	if _, err := h.Patch(ctx, "acme", cb.ID, []byte(`{"description":"two"}`)); err != nil {
		t.Fatal(err)
	}
	last := h.redis.HGet(ctx, "{acme}:cb", id).Val()
	for name, older := range map[string]string{"anchored": first, "from before anchors": unanchored} {
		h.redis.HSet(ctx, "{acme}:cb", id, older)
		if _, err := h.Get(ctx, "acme", cb.ID); !errors.Is(err, registry.ErrSealed) || !strings.Contains(err.Error(), "callback 1 of company acme") || !strings.Contains(err.Error(), "restore Redis from a backup") {
			t.Errorf("%s: get: %v", name, err)
		}
		if _, err := h.Pause(ctx, "acme", cb.ID); !errors.Is(err, registry.ErrSealed) {
			t.Errorf("%s: pause: %v", name, err)
		}
		if err := h.neighbour().Refresh(ctx, "acme", 1); !errors.Is(err, registry.ErrSealed) {
			t.Errorf("%s: refresh: %v", name, err)
		}
		if done, err := leading.Reseal(ctx, untold); !errors.Is(err, registry.ErrSealed) || done.Broken != 1 {
			t.Errorf("%s: reseal: %+v, %v", name, done, err)
		}
		if _, err := h.Get(ctx, "acme", other.ID); err != nil {
			t.Errorf("%s: the other callback: %v", name, err)
		}
	}
	h.redis.HSet(ctx, "{acme}:cb", id, last)
	if cb, err := h.Resume(ctx, "acme", cb.ID); err != nil || cb.Description != "two" {
		t.Errorf("the last one: %v, %v", cb, err)
	}
	h.redis.HSet(ctx, "{acme}:cb", id, first)
	if err := h.Delete(ctx, "acme", cb.ID); err != nil {
		t.Fatal(err)
	}
	if page, _, err := h.neighbour().List(ctx, "acme", registry.Filter{}); err != nil || len(page) != 1 {
		t.Errorf("after it was deleted: %v, %v", page, err)
	}
	if err := h.Delete(ctx, "acme", other.ID); err != nil {
		t.Fatal(err)
	}
	if left := h.redis.HGetAll(ctx, "{acme}:cbseal").Val(); len(left) != 0 {
		t.Errorf("anchors of deleted callbacks: %v", left)
	}
}

// sealAsBefore is a callback's row as commit 6da24ca seals it.
func (h *house) sealAsBefore(company string, id int64) string {
	h.t.Helper()
	at := fmt.Sprintf("%s/%d", company, id)
	anchor := h.redis.HGet(h.t.Context(), "{"+company+"}:cbseal", fmt.Sprint(id)).Val()
	data, err := h.keyset.Marshal()
	if err != nil {
		h.t.Fatal(err)
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(data)))
	if err != nil {
		h.t.Fatal(err)
	}
	box, err := aead.New(handle)
	if err != nil {
		h.t.Fatal(err)
	}
	row := h.redis.HGet(h.t.Context(), "{"+company+"}:cb", fmt.Sprint(id)).Val()
	bound := at
	if anchor != "" {
		bound += "/" + anchor
	}
	open, err := box.Decrypt([]byte(row), []byte(bound))
	if err != nil {
		h.t.Fatal(err)
	}
	sealed, err := box.Encrypt(open, []byte(at))
	if err != nil {
		h.t.Fatal(err)
	}
	return string(sealed)
}

// While a process of level 1 is alive, rows are sealed as it opens them. Once it is gone, the next change anchors a row, and resealing the rest.
func TestRowsAreAnchoredOnceAllKnowIt(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	h.check()
	anchored := h.create("acme", plain)
	end := connect(t, h.server, "ringback")
	beside := h.neighbour()
	for range 2 {
		beside.create("acme", plain)
	}
	if _, err := beside.Patch(ctx, "acme", anchored.ID, []byte(`{"description":"x"}`)); err != nil {
		t.Fatal(err)
	}
	if done, err := beside.Reseal(ctx, untold); err != nil || done.Already != 3 {
		t.Errorf("resealing beside an old process: %+v, %v", done, err)
	}
	if got := h.redis.HGetAll(ctx, "{acme}:cbseal").Val(); len(got) != 0 {
		t.Errorf("anchors beside an old process: %v", got)
	}
	end()
	alone := h.neighbour()
	if _, err := alone.Patch(ctx, "acme", 2, []byte(`{"description":"x"}`)); err != nil {
		t.Fatal(err)
	}
	if got := h.redis.HGetAll(ctx, "{acme}:cbseal").Val(); len(got) != 1 || got["2"] == "" {
		t.Errorf("anchors after a change: %v", got)
	}
	if done, err := alone.Reseal(ctx, untold); err != nil || done.Callbacks != 2 || done.Already != 1 {
		t.Errorf("resealing: %+v, %v", done, err)
	}
	if got := h.redis.HLen(ctx, "{acme}:cbseal").Val(); got != 3 {
		t.Errorf("%d anchors", got)
	}
	if page, _, err := h.neighbour().List(ctx, "acme", registry.Filter{}); err != nil || len(page) != 3 {
		t.Errorf("%v, %v", page, err)
	}
}
