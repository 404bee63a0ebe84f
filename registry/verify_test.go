package registry_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// verifying is another process on h's Redis, which wants proof of control.
func (h *house) verifying() *house {
	h.t.Helper()
	strict := h.neighbour()
	var err error
	strict.Registry, err = registry.New(registry.Config{
		Redis: strict.redis, Catalogue: payloads.Builtin(), Keyset: h.keyset, Logger: slog.New(slog.NewTextHandler(strict.log, nil)), VerifyDestinations: true,
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return strict
}

// TestUnverifiedCallbacks follows a callback through all that opens and closes its gate. Nothing but proof opens one that is unverified. If it was
// closed for another reason, that is not forgotten meanwhile.
func TestUnverifiedCallbacks(t *testing.T) {
	plainly := newHouse(t)
	ctx := t.Context()
	old := plainly.create("acme", plain)
	h := plainly.verifying()
	if got := h.get("acme", old.ID); got.Status != registry.Enabled {
		t.Errorf("a callback from before is %s", got.Status)
	}

	cb := h.create("acme", plain)
	if cb.Status != registry.Unverified || !cb.Moved || cb.StatusAt.IsZero() {
		t.Fatalf("created as %s since %s", cb.Status, cb.StatusAt)
	}
	gate := registry.GateKey("acme", cb.ID)
	want := func(what string, status registry.Status, reason string) *registry.Callback {
		t.Helper()
		got, err := h.Get(ctx, "acme", cb.ID)
		if err != nil {
			t.Fatal(err)
		}
		if got.Status != status || got.UnverifiedReason != reason || (status == registry.Enabled) != (h.redis.Exists(ctx, gate).Val() == 0) {
			t.Errorf("%s: %s (%s), gate %s", what, got.Status, got.UnverifiedReason, h.redis.Get(ctx, gate).Val())
		}
		return got
	}
	do := func(got *registry.Callback, err error) *registry.Callback {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	patch := func(doc string) *registry.Callback {
		t.Helper()
		return do(h.Patch(ctx, "acme", cb.ID, []byte(doc)))
	}

	do(h.Resume(ctx, "acme", cb.ID))
	want("resumed", registry.Unverified, "")
	do(h.Verified(ctx, "acme", cb.ID, cb.Version, "status_404"))
	got := want("challenged in vain", registry.Unverified, "status_404")
	if doc := document(t, got); doc["status"] != "unverified" || doc["unverified_reason"] != "status_404" {
		t.Errorf("shown as %v", doc)
	}
	do(h.Verified(ctx, "acme", cb.ID, cb.Version-1, ""))
	want("another version verified", registry.Unverified, "status_404")
	if err := h.redis.Del(ctx, registry.RoomsKey("acme")).Err(); err != nil {
		t.Fatal(err)
	}
	do(h.Verified(ctx, "acme", cb.ID, cb.Version, ""))
	want("verified", registry.Enabled, "")
	if h.redis.ZCard(ctx, registry.RoomsKey("acme")).Val() != 1 {
		t.Error("verifying did not put the room up")
	}
	do(h.Verified(ctx, "acme", cb.ID, cb.Version, "timeout"))
	want("verified, then challenged in vain", registry.Enabled, "")

	if moved := patch(`{"description": "for people"}`); moved.Moved {
		t.Error("another description moved it")
	}
	want("described", registry.Enabled, "")
	do(h.Pause(ctx, "acme", cb.ID))
	moved := patch(`{"destination": {"url": "https://elsewhere.example/"}}`)
	if !moved.Moved {
		t.Errorf("another URL: %s", moved.Status)
	}
	want("paused, then moved", registry.Unverified, "")
	if moved = patch(`{"description": "for others"}`); moved.Status != registry.Unverified || moved.Moved {
		t.Errorf("described while unverified: %s, moved %t", moved.Status, moved.Moved)
	}
	do(h.Verified(ctx, "acme", cb.ID, moved.Version, ""))
	want("paused, moved, verified", registry.Paused, "")
	do(h.Resume(ctx, "acme", cb.ID))
	want("resumed after that", registry.Enabled, "")

	patch(`{"auth": {"type": "oauth2", "token_url": "https://id.example/token", "client_id": "c", "client_secret": "s3cr3t"}}`)
	want("a token_url of its own", registry.Unverified, "")
	do(h.Pause(ctx, "acme", cb.ID))
	do(h.Pause(ctx, "acme", cb.ID))
	moved = patch(`{"destination": {"url": "https://third.example/"}}`)
	want("paused while unverified, then moved", registry.Unverified, "")
	do(h.Verified(ctx, "acme", cb.ID, moved.Version, ""))
	want("paused while unverified, then verified", registry.Paused, "")
	do(h.Resume(ctx, "acme", cb.ID))

	moved = patch(`{"auth": {"token_url": "https://other.example/token", "client_secret": "s3cr3t"}}`)
	want("another token_url", registry.Unverified, "")
	do(h.Pause(ctx, "acme", cb.ID))
	do(h.Resume(ctx, "acme", cb.ID))
	want("paused and resumed while unverified", registry.Unverified, "")
	do(h.Verified(ctx, "acme", cb.ID, moved.Version, ""))
	want("then verified", registry.Enabled, "")
	patch(`{"auth": null}`)
	want("without credentials", registry.Enabled, "")

	disabled := registry.Gate{Status: registry.Disabled, Reason: "gone", At: time.Now().UTC()}
	if err := h.redis.Set(ctx, gate, disabled.String(), 0).Err(); err != nil {
		t.Fatal(err)
	}
	moved = patch(`{"destination": {"url": "https://fourth.example/"}}`)
	want("disabled, then moved", registry.Unverified, "")
	do(h.Verified(ctx, "acme", cb.ID, moved.Version, ""))
	if got := want("disabled, moved, verified", registry.Disabled, ""); got.DisabledReason != "gone" {
		t.Errorf("disabled because of %q", got.DisabledReason)
	}
	do(h.Resume(ctx, "acme", cb.ID))

	patch(`{"destination": {"url": "https://fifth.example/"}}`)
	page, _, err := h.List(ctx, "acme", registry.Filter{Status: registry.Unverified})
	if err != nil || !slices.Equal(ids(page), []int64{cb.ID}) {
		t.Errorf("unverified are %v, %v", ids(page), err)
	}
	counts, err := h.CountStatuses(ctx, []string{"acme"})
	if err != nil || counts[0][registry.Unverified] != 1 || counts[0][registry.Enabled] != 1 {
		t.Errorf("counted %v, %v", counts, err)
	}
	if got := do(plainly.Resume(ctx, "acme", cb.ID)); got.Status != registry.Enabled {
		t.Errorf("resumed where no proof is wanted: %s", got.Status)
	}
	do(plainly.Patch(ctx, "acme", cb.ID, []byte(`{"destination": {"url": "https://sixth.example/"}}`)))
	want("moved where no proof is wanted", registry.Enabled, "")

	patch(`{"destination": {"url": "https://seventh.example/"}}`)
	if err := h.Delete(ctx, "acme", cb.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Verified(ctx, "acme", cb.ID, moved.Version, ""); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("a deleted one verified: %v", err)
	}
	if stored := h.redis.Get(ctx, gate).Val(); !strings.Contains(stored, `"deleted"`) {
		t.Errorf("the gate of a deleted one is %s", stored)
	}
}

// TestUnverifiedInTheAuditTrail: each change of the gate leaves a line that says from what to what.
func TestUnverifiedInTheAuditTrail(t *testing.T) {
	h := newHouse(t).verifying()
	ctx := t.Context()
	cb := h.create("acme", plain)
	steps := []func() error{
		func() error { _, err := h.Pause(ctx, "acme", cb.ID); return err },
		func() error { _, err := h.Verified(ctx, "acme", cb.ID, cb.Version, "timeout"); return err },
		func() error { _, err := h.Verified(ctx, "acme", cb.ID, cb.Version, ""); return err },
		func() error { _, err := h.Verified(ctx, "acme", cb.ID, cb.Version, ""); return err },
		func() error { _, err := h.Resume(ctx, "acme", cb.ID); return err },
		func() error {
			_, err := h.Patch(ctx, "acme", cb.ID, []byte(`{"destination": {"url": "https://elsewhere.example/"}}`))
			return err
		},
	}
	for _, step := range steps {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	page, _, err := h.Audit(ctx, registry.AuditQuery{Company: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range slices.Backward(page) {
		line := []string{e.Action}
		for _, c := range e.Changes {
			if strings.HasPrefix(c.Field, "status") {
				line = append(line, fmt.Sprintf("%s %v→%v", c.Field, c.Old, c.New))
			}
		}
		got = append(got, strings.Join(line, " "))
	}
	want := []string{
		"callback.create status <nil>→unverified", "callback.pause status_once_verified enabled→paused", "callback.verify status unverified→paused",
		"callback.resume status paused→enabled", "callback.update status enabled→unverified",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the trail has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestUnverifiedNeedsToBeKnown: a process of the version before would not read the gate, so nothing is unverified while one is alive.
func TestUnverifiedNeedsToBeKnown(t *testing.T) {
	h := newHouse(t).verifying()
	ctx := t.Context()
	before := h.neighbour().create("acme", plain) // by a process that wants no proof
	veteran := h.server.Client()
	if err := veteran.Do(ctx, "CLIENT", "SETNAME", "ringback").Err(); err != nil {
		t.Fatal(err)
	}
	list := veteran.ClientList(ctx).Val()
	if !strings.Contains(list, "name=ringback ") {
		t.Fatalf("no connection of an old process: %s", list)
	}
	if _, err := h.Create(ctx, "acme", []byte(plain)); !isOld(err) {
		t.Errorf("created: %v", err)
	}
	if _, err := h.Patch(ctx, "acme", before.ID, []byte(`{"destination": {"url": "https://elsewhere.example/"}}`)); !isOld(err) {
		t.Errorf("moved: %v", err)
	}
	if _, err := h.Patch(ctx, "acme", before.ID, []byte(`{"description": "for people"}`)); err != nil {
		t.Errorf("described: %v", err)
	}
	if got := h.get("acme", before.ID); got.Status != registry.Enabled || got.Destination.URL != "https://partner.example/" {
		t.Errorf("after all that: %s, %s", got.Status, got.Destination.URL)
	}
}

func isOld(err error) bool {
	_, ok := errors.AsType[*registry.OldProcessError](err)
	return ok
}

// TestGatesOfTheVersionBefore: gates are read as they were stored before there were unverified ones.
func TestGatesOfTheVersionBefore(t *testing.T) {
	for _, status := range []registry.Status{registry.Paused, registry.Disabled, registry.Deleted} {
		stored, err := json.Marshal(map[string]any{"status": status, "reason": "gone", "at": time.Unix(1e9, 0).UTC()})
		if err != nil {
			t.Fatal(err)
		}
		if gate, err := registry.ParseGate(string(stored)); err != nil || gate.Status != status || gate.Then != nil {
			t.Errorf("%s: %+v, %v", stored, gate, err)
		}
	}
}
