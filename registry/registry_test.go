package registry_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/redistest"
)

func TestCreateAnswersLikeTheWallet(t *testing.T) {
	h := newHouse(t)
	cb := h.create("acme", wallet)
	if cb.ID != 1 {
		t.Errorf("the first id is %d, want 1", cb.ID)
	}
	doc := document(t, cb)
	for _, name := range []string{"created_at", "updated_at", "start_date"} {
		if at, err := time.Parse(time.RFC3339, fmt.Sprint(doc[name])); err != nil || time.Since(at) > time.Minute {
			t.Errorf("%s is %v", name, doc[name])
		}
		delete(doc, name)
	}
	want := map[string]any{
		"callback_id": 1.0, "callback_type": install, "event_type": install,
		install:       map[string]any{"campaign_token": "r3zhm8"},
		"destination": map[string]any{"url": "https://partner.example/hook?a=1&b=2", "method": "POST", "content_type": "application/json"},
		"url":         "/companies/acme/config/callbacks/1",
		"status":      "enabled", "trace": false, "timeout": "15s",
		"retry": map[string]any{"initial_interval": "5s", "multiplier": 2.5, "max_interval": "12h", "max_attempts": 15.0},
	}
	if diff := cmp.Diff(want, doc); diff != "" {
		t.Errorf("the answer (-want +got):\n%s", diff)
	}

	secret, _ := document(t, cb.WithSecret())["secret"].(string)
	if _, err := payloads.ParseSecret(secret); err != nil {
		t.Errorf("the secret shown on creation: %v", err)
	}
	if got := cb.LiveSecrets(time.Now()); len(got) != 1 || got[0].Reveal() != secret {
		t.Error("the live secret is not the one shown")
	}
	if again := h.create("acme", wallet); again.ID != 2 || again.Version <= cb.Version {
		t.Errorf("the second has id %d and version %d after %d", again.ID, again.Version, cb.Version)
	}
	if got, want := document(t, h.get("acme", 1)), document(t, cb); !cmp.Equal(got, want) {
		t.Errorf("Get differs from Create:\n%s", cmp.Diff(want, got))
	}
	companies, err := h.Companies(t.Context())
	if err != nil || !slices.Equal(companies, []string{"acme"}) {
		t.Errorf("companies %v, %v", companies, err)
	}
}

func TestWalletBlockComesBackUnderItsName(t *testing.T) {
	h := newHouse(t)
	body := strings.Replace(wallet, `"callback_type":"wallet_item_install"`, `"event_type":"wallet_item_remove"`, 1)
	cb := h.create("acme", body)
	doc := document(t, h.get("acme", cb.ID))
	if doc["callback_type"] != "wallet_item_remove" || doc["event_type"] != "wallet_item_remove" {
		t.Errorf("types %v and %v", doc["callback_type"], doc["event_type"])
	}
	if diff := cmp.Diff(map[string]any{"campaign_token": "r3zhm8"}, doc[install]); diff != "" {
		t.Error(diff)
	}
	if got := h.current(t.Context(), "acme", "wallet_item_remove", map[string]string{"campaign_token": "r3zhm8"}, time.Now()); len(got) != 1 {
		t.Errorf("matched %v", got)
	}
}

const rich = `{"callback_type":"customer.*","destination":{"url":"https://partner.example/SECRETPATH","method":"PUT","content_type":"application/x-www-form-urlencoded"},
	"description":"SECRETDESC","start_date":"2030-01-31T12:00:00+02:00","headers":{"X-Origin":"SECRETHEADER","x-two":"SECRETTWO"},
	"auth":{"type":"basic","username":"SECRETUSER","password":"SECRETPASS"},"success":"any_2xx","trace":true,"timeout":"60s",
	"retry":{"initial_interval":"1s","multiplier":1,"max_interval":"90s","max_attempts":3},"rate_limit":{"per_second":50,"burst":100}}`

func TestSecretsAreHiddenEverywhere(t *testing.T) {
	h := newHouse(t)
	cb := h.create("acme", rich)
	if err := h.CheckKeyset(t.Context()); err != nil {
		t.Fatal(err)
	}
	keys := registry.NewKeys(h.redis)
	apiKey, _, err := keys.Create(t.Context(), registry.Operator, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.RotateSecret(t.Context(), "acme", cb.ID, time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Patch(t.Context(), "acme", cb.ID, []byte(`{"headers":{"X-Origin":"SECRETNEW"}}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Pause(t.Context(), "acme", cb.ID); err != nil {
		t.Fatal(err)
	}

	cb = h.get("acme", cb.ID)
	material, _ := h.keyset.Marshal()
	canaries := []string{"SECRET", "partner.example", apiKey, string(material), keyMaterial(t, h.keyset)}
	for _, s := range cb.Secrets {
		canaries = append(canaries, s.Secret.Reveal(), strings.TrimPrefix(s.Secret.Reveal(), "whsec_"))
	}
	inRedis := h.dump()
	for _, c := range canaries {
		if strings.Contains(inRedis, c) {
			t.Errorf("Redis holds %q in clear", c)
		}
		if strings.Contains(h.log.String(), c) {
			t.Errorf("the log holds %q", c)
		}
	}
	text, err := json.Marshal(cb)
	if err != nil {
		t.Fatal(err)
	}
	printed := fmt.Sprintf("%v %+v %v %+v %v %v", cb, cb, *cb, *cb, cb.Auth, *cb.Auth)
	for _, c := range append([]string{"SECRETNEW", "SECRETTWO", "SECRETPASS"}, canaries[2:]...) {
		if strings.Contains(string(text), c) {
			t.Errorf("the answer holds %q", c)
		}
		if strings.Contains(printed, c) {
			t.Errorf("printing a callback shows %q", c)
		}
	}
	doc := document(t, cb)
	if diff := cmp.Diff(map[string]any{"X-Origin": "***", "x-two": "***"}, doc["headers"]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]any{"type": "basic", "username": "SECRETUSER", "password": "***"}, doc["auth"]); diff != "" {
		t.Error(diff)
	}
	if doc["start_date"] != "2030-01-31T10:00:00Z" || doc["timeout"] != "60s" || doc["success"] != "any_2xx" || doc["trace"] != true {
		t.Errorf("settings %v", doc)
	}
	if cb.Headers["X-Origin"] != "SECRETNEW" || cb.Headers["x-two"] != "SECRETTWO" || cb.Auth.Password != "SECRETPASS" {
		t.Error("secrets were not kept for sending")
	}
}

func TestPatch(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	patch := func(id int64, p string) (*registry.Callback, error) { return h.Patch(ctx, "acme", id, []byte(p)) }

	tests := []struct {
		name, base, patch string
		want              map[string]any // members of the result; nil: absent
		fault             string         // in the error
	}{
		{name: "description", patch: `{"description":"d"}`, want: map[string]any{"description": "d"}},
		{name: "url only", patch: `{"destination":{"url":"http://x.example"}}`, want: map[string]any{"destination": map[string]any{"url": "http://x.example", "method": "POST", "content_type": "application/json"}}},
		{name: "null resets", base: `{"callback_type":"*","timeout":"30s","description":"d","destination":{"url":"https://x.example"}}`, patch: `{"timeout":null,"description":null}`, want: map[string]any{"timeout": "15s", "description": nil}},
		{name: "alias alone", patch: `{"event_type":"wallet_item_remove"}`, want: map[string]any{"callback_type": "wallet_item_remove", "event_type": "wallet_item_remove"}},
		{name: "type alone", patch: `{"callback_type":"wallet_item_remove"}`, want: map[string]any{"callback_type": "wallet_item_remove"}},
		{name: "aliases differ", patch: `{"callback_type":"wallet_item_remove","event_type":"wallet_item_install"}`, fault: "body.event_type"},
		{name: "type without block", patch: `{"callback_type":"payment_proof"}`, fault: "body.wallet_item_install does not go with"},
		{name: "type and block", patch: `{"callback_type":"payment_proof","wallet_item_install":null}`, want: map[string]any{"callback_type": "payment_proof", "wallet_item_install": nil}},
		{name: "glob needs no block", patch: `{"callback_type":"*","wallet_item_install":null}`, want: map[string]any{"callback_type": "*"}},
		{name: "whole document back", patch: `WHOLE`, want: map[string]any{"description": nil}},
		{name: "id", patch: `{"callback_id":7}`, fault: "body.callback_id cannot be changed"},
		{name: "status", patch: `{"status":"paused"}`, fault: "body.status cannot be changed: use"},
		{name: "same status", patch: `{"status":"enabled","description":"x"}`, want: map[string]any{"description": "x"}},
		{name: "url member", patch: `{"url":"https://x.example"}`, fault: "body.url cannot be changed: the URL to call is destination.url"},
		{name: "secret", patch: `{"secret":"whsec_x"}`, fault: "body.secret cannot sign: what follows whsec_ is not base64"},
		{name: "health", patch: `{"pending":3,"held":0,"last_failure":{"reason":"dns"}}`},
		{name: "unknown", patch: `{"colour":"red"}`, fault: "body.colour is not known"},
		{name: "unknown null", patch: `{"colour":null}`},
		{name: "no json", patch: `{`, fault: "not valid JSON"},
		{name: "no object", patch: `[]`, fault: "body must be an object"},
		{name: "hidden header kept", base: rich, patch: `{"headers":{"X-Origin":"***","x-two":null,"X-Three":"v"}}`, want: map[string]any{"headers": map[string]any{"X-Origin": "***", "X-Three": "***"}}},
		{name: "header case", base: rich, patch: `{"headers":{"x-oRIGIN":null}}`, want: map[string]any{"headers": map[string]any{"x-two": "***"}}},
		{name: "hidden header that is not there", patch: `{"headers":{"X-New":"***"}}`, fault: "body.headers.X-New"},
		{name: "hidden password kept", base: rich, patch: `{"auth":{"username":"u","password":"***"}}`, want: map[string]any{"auth": map[string]any{"type": "basic", "username": "u", "password": "***"}}},
		{name: "other auth", base: rich, patch: `{"auth":{"type":"bearer","username":null,"password":null,"token":"t"}}`, want: map[string]any{"auth": map[string]any{"type": "bearer", "token": "***"}}},
		{name: "other auth, same secret", base: rich, patch: `{"auth":{"type":"bearer","username":null,"password":null,"token":"***"}}`, fault: "body.auth.token"},
		{name: "other auth, leftovers", base: rich, patch: `{"auth":{"type":"bearer","token":"t"}}`, fault: "null removes a member"},
		{name: "no auth", base: rich, patch: `{"auth":null}`, want: map[string]any{"auth": nil}},
		{name: "start date off", base: rich, patch: `{"start_date":null}`, want: map[string]any{"callback_type": "customer.*"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body := wallet
			if tt.base != "" {
				body = tt.base
			}
			base := h.create("acme", body)
			p := tt.patch
			if p == "WHOLE" {
				text, _ := json.Marshal(h.get("acme", base.ID))
				p = string(text)
			}
			got, err := patch(base.ID, p)
			stored := h.get("acme", base.ID)
			if tt.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fault) {
					t.Errorf("error %v, want one with %q", err, tt.fault)
				}
				if strings.Contains(fmt.Sprint(err), "SECRET") {
					t.Errorf("the error shows a secret: %v", err)
				}
				if stored.Version != base.Version {
					t.Error("a refused patch was stored")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			doc := document(t, got)
			for name, want := range tt.want {
				if diff := cmp.Diff(want, doc[name]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
			if diff := cmp.Diff(doc, document(t, stored)); diff != "" {
				t.Errorf("what is stored differs from the answer:\n%s", diff)
			}
			if got.StartDateGiven && !base.StartDateGiven {
				t.Error("the patch made the start date explicit")
			}
			changed := len(tt.want) > 0 && tt.patch != "WHOLE"
			if (got.Version > base.Version) != changed {
				t.Errorf("version %d after %d, changed: %v", got.Version, base.Version, changed)
			}
			if !got.Secrets[0].Secret.Equal(base.Secrets[0].Secret) {
				t.Error("a patch touched the signing secret")
			}
		})
	}
	if _, err := patch(999, `{}`); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("patch of nothing: %v", err)
	}
}

// The dispatcher reads the rate limit from a key of its own, which every change leaves as the callback has it.
func TestRateLimitStandsWhereTheDispatcherReadsIt(t *testing.T) {
	h := newHouse(t)
	h.create("acme", wallet) // another, without one
	const body = `{"callback_type":"*","destination":{"url":"https://partner.example/"},"rate_limit":{"per_second":50}}`
	cb := h.create("acme", body)
	patch := func(merge string) func() error {
		return func() error {
			_, err := h.Patch(t.Context(), "acme", cb.ID, []byte(merge))
			return err
		}
	}
	for _, step := range []struct {
		name   string
		change func() error
		shown  any
		stored string
	}{
		{"created", func() error { return nil }, map[string]any{"per_second": 50.0, "burst": 50.0}, "50 50"},
		{"a patch of a part", patch(`{"rate_limit":{"burst":100}}`), map[string]any{"per_second": 50.0, "burst": 100.0}, "50 100"},
		{"a patch of another part", patch(`{"rate_limit":{"per_second":0.5}}`), map[string]any{"per_second": 0.5, "burst": 100.0}, "0.5 100"},
		{"the default again", patch(`{"rate_limit":{"per_second":2.5,"burst":null}}`), map[string]any{"per_second": 2.5, "burst": 3.0}, "2.5 3"},
		{"a refused patch", func() error {
			if err := patch(`{"rate_limit":{"per_second":null}}`)(); err == nil || !strings.Contains(err.Error(), "body.rate_limit.per_second is missing") {
				return fmt.Errorf("refused with %w", err)
			}
			return nil
		}, map[string]any{"per_second": 2.5, "burst": 3.0}, "2.5 3"},
		{"a key that was lost", func() error {
			if err := h.redis.Del(t.Context(), registry.RateKey("acme", cb.ID)).Err(); err != nil {
				return err
			}
			_, err := h.RotateSecret(t.Context(), "acme", cb.ID, time.Hour)
			return err
		}, map[string]any{"per_second": 2.5, "burst": 3.0}, "2.5 3"},
		{"removed", patch(`{"rate_limit":null}`), nil, ""},
		{"given to one that had none", patch(`{"rate_limit":{"per_second":1}}`), map[string]any{"per_second": 1.0, "burst": 1.0}, "1 1"},
	} {
		if err := step.change(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if diff := cmp.Diff(step.shown, document(t, h.get("acme", cb.ID))["rate_limit"]); diff != "" {
			t.Errorf("%s, shown (-want +got):\n%s", step.name, diff)
		}
		if got := h.redis.Get(t.Context(), "{acme}:rate:2").Val(); got != step.stored {
			t.Errorf("%s: stored as %q, want %q", step.name, got, step.stored)
		}
	}
	if page, _, err := h.neighbour().List(t.Context(), "acme", registry.Filter{}); err != nil || len(page) != 2 || page[0].RateLimit != nil || page[1].RateLimit.String() != "1 1" {
		t.Errorf("listed %v, %v", page, err)
	}
	if err := h.Delete(t.Context(), "acme", cb.ID); err != nil {
		t.Fatal(err)
	}
	if keys := h.redis.Keys(t.Context(), "*:rate:*").Val(); len(keys) > 0 {
		t.Errorf("after the deletion there is %v", keys)
	}
}

func TestDeletedIsGone(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	cb := h.create("acme", plain)
	if got := h.current(ctx, "acme", "payment_proof", nil, time.Now()); !slices.Equal(got, []int64{cb.ID}) {
		t.Fatalf("matched %v", got)
	}
	if err := h.Delete(ctx, "acme", cb.ID); err != nil {
		t.Fatal(err)
	}
	if err := h.Delete(ctx, "acme", cb.ID); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("second delete: %v", err)
	}
	ver := h.version(ctx, "acme")
	if ver <= cb.Version {
		t.Errorf("version %d after %d", ver, cb.Version)
	}
	_, getErr := h.Get(ctx, "acme", cb.ID)
	_, pauseErr := h.Pause(ctx, "acme", cb.ID)
	_, resumeErr := h.Resume(ctx, "acme", cb.ID)
	_, patchErr := h.Patch(ctx, "acme", cb.ID, []byte(`{"description":"d"}`))
	_, lookupErr := h.Lookup(ctx, "acme", cb.ID, ver)
	for i, err := range []error{getErr, pauseErr, resumeErr, patchErr, lookupErr} {
		if !errors.Is(err, registry.ErrNotFound) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if got := h.current(ctx, "acme", "payment_proof", nil, time.Now()); len(got) != 0 {
		t.Errorf("matched %v", got)
	}
	gate, err := registry.ParseGate(h.redis.Get(ctx, registry.GateKey("acme", cb.ID)).Val())
	if err != nil || gate.Status != registry.Deleted || time.Since(gate.At) > time.Minute {
		t.Errorf("gate %+v, %v", gate, err)
	}
	if due, err := h.redis.ZScore(ctx, registry.RoomsKey("acme"), "1").Result(); err != nil || due > float64(time.Now().UnixMilli()) {
		t.Errorf("room due %v, %v", due, err)
	}
	if next := h.create("acme", plain); next.ID == cb.ID {
		t.Error("an id was given twice")
	}
}

func TestPauseAndResume(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	cb := h.create("acme", plain)
	ver := h.version(ctx, "acme")
	gateKey := registry.GateKey("acme", cb.ID)

	paused, err := h.Pause(ctx, "acme", cb.ID)
	if err != nil || paused.Status != registry.Paused || paused.StatusAt.IsZero() {
		t.Fatalf("paused: %v %v %v", paused.Status, paused.StatusAt, err)
	}
	again, err := h.Pause(ctx, "acme", cb.ID)
	if err != nil || !again.StatusAt.Equal(paused.StatusAt) {
		t.Errorf("paused twice: since %v, then since %v, %v", paused.StatusAt, again.StatusAt, err)
	}
	if got := h.current(ctx, "acme", "payment_proof", nil, time.Now()); len(got) != 1 {
		t.Error("a paused callback must match: its deliveries are held")
	}
	if h.redis.ZCard(ctx, registry.RoomsKey("acme")).Val() != 0 {
		t.Error("pausing put the room up to be let out")
	}

	resumed, err := h.Resume(ctx, "acme", cb.ID)
	if err != nil || resumed.Status != registry.Enabled || !resumed.StatusAt.IsZero() {
		t.Errorf("resumed: %v %v", resumed, err)
	}
	if n := h.redis.Exists(ctx, gateKey).Val(); n != 0 {
		t.Error("the gate is still there")
	}
	if h.redis.ZCard(ctx, registry.RoomsKey("acme")).Val() != 1 {
		t.Error("resuming did not put the room up")
	}

	gone := registry.Gate{Status: registry.Disabled, Reason: "gone", At: time.Now()}
	if err := h.redis.Set(ctx, gateKey, gone.String(), 0).Err(); err != nil {
		t.Fatal(err)
	}
	disabled, err := h.Pause(ctx, "acme", cb.ID)
	if err != nil || disabled.Status != registry.Disabled || disabled.DisabledReason != "gone" {
		t.Errorf("a disabled one, paused: %v %q %v", disabled.Status, disabled.DisabledReason, err)
	}
	if doc := document(t, disabled); doc["status"] != "disabled" || doc["disabled_reason"] != "gone" {
		t.Errorf("shown as %v %v", doc["status"], doc["disabled_reason"])
	}
	if enabled, err := h.Resume(ctx, "acme", cb.ID); err != nil || enabled.Status != registry.Enabled {
		t.Errorf("a disabled one, resumed: %v %v", enabled, err)
	}
	if now := h.version(ctx, "acme"); now != ver {
		t.Errorf("pausing moved the version from %d to %d", ver, now)
	}

	if err := h.redis.Set(ctx, gateKey, "open sesame", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Get(ctx, "acme", cb.ID); err == nil {
		t.Error("an unreadable gate was taken for an open one")
	}
}

func TestList(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	for i := range 7 {
		if i%3 == 0 {
			h.create("acme", wallet)
		} else {
			h.create("acme", plain)
		}
	}
	h.create("other", plain)
	if _, err := h.Pause(ctx, "acme", 2); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Pause(ctx, "acme", 5); err != nil {
		t.Fatal(err)
	}
	if err := h.neighbour().Delete(ctx, "acme", 6); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		filter registry.Filter
		want   [][]int64
	}{
		{"all", registry.Filter{}, [][]int64{{1, 2, 3, 4, 5, 7}}},
		{"pages", registry.Filter{Limit: 4}, [][]int64{{1, 2, 3, 4}, {5, 7}}},
		{"exact page", registry.Filter{Limit: 3}, [][]int64{{1, 2, 3}, {4, 5, 7}}},
		{"type", registry.Filter{Type: install, Limit: 2}, [][]int64{{1, 4}, {7}}},
		{"paused", registry.Filter{Status: registry.Paused, Limit: 1}, [][]int64{{2}, {5}}},
		{"enabled", registry.Filter{Status: registry.Enabled, Limit: 3}, [][]int64{{1, 3, 4}, {7}}},
		{"disabled", registry.Filter{Status: registry.Disabled}, [][]int64{{}}},
		{"no such type", registry.Filter{Type: "customer.*"}, [][]int64{{}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got [][]int64
			f := tt.filter
			for {
				page, next, err := h.List(ctx, "acme", f)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, ids(page))
				for _, cb := range page {
					if got, err := h.Get(ctx, "acme", cb.ID); err != nil || got.Status != cb.Status {
						t.Errorf("listed as %s: %v, got as %v, %v", cb.Status, cb, got, err)
					}
				}
				if next == "" {
					break
				}
				f.Cursor = next
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	for _, f := range []registry.Filter{{Limit: -1}, {Limit: 501}, {Cursor: "?"}, {Cursor: "YQ"}, {Cursor: "YWZ0ZXI6eA"}, {Status: "deleted"}} {
		_, _, err := h.List(ctx, "acme", f)
		if _, ok := errors.AsType[*payloads.InvalidError](err); !ok {
			t.Errorf("%+v: %v", f, err)
		}
	}
}

func TestListOfNothing(t *testing.T) {
	h := newHouse(t)
	page, next, err := h.List(t.Context(), "nobody", registry.Filter{})
	if err != nil || len(page) != 0 || next != "" {
		t.Errorf("%v %q %v", page, next, err)
	}
	if dump := h.dump(); dump != "" {
		t.Errorf("reading wrote: %s", dump)
	}
}

func TestRotation(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	cb := h.create("acme", plain)
	first := cb.Secrets[0].Secret
	rotated, err := h.RotateSecret(ctx, "acme", cb.ID, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if rotated.Version <= cb.Version {
		t.Error("a rotation must reach the other processes: it needs a version")
	}
	now := time.Now()
	if live := rotated.LiveSecrets(now); len(live) != 2 || !live[1].Equal(first) || live[0].Equal(first) {
		t.Error("during the overlap both must sign, the new one first")
	}
	if live := h.get("acme", cb.ID).LiveSecrets(now.Add(25 * time.Hour)); len(live) != 1 || live[0].Equal(first) {
		t.Error("after the overlap only the new one signs")
	}
	if shown := document(t, rotated.WithSecret())["secret"]; shown != rotated.Secrets[0].Secret.Reveal() {
		t.Error("the new secret is not shown")
	}
	at := rotated.LiveSecrets(now)[0]
	final, err := h.RotateSecret(ctx, "acme", cb.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	if live := final.LiveSecrets(time.Now()); len(live) != 1 || live[0].Equal(first) || live[0].Equal(at) {
		t.Errorf("without overlap %d secrets sign", len(live))
	}
	for _, overlap := range []time.Duration{-1, registry.MaxOverlap + 1} {
		if _, err := h.RotateSecret(ctx, "acme", cb.ID, overlap); err == nil {
			t.Errorf("overlap %v was taken", overlap)
		}
	}
	for range 4 {
		if _, err := h.RotateSecret(ctx, "acme", cb.ID, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.RotateSecret(ctx, "acme", cb.ID, time.Hour); err == nil {
		t.Error("a sixth live secret was made")
	}
}

func TestMatch(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	token := func(s string) string { return strings.Replace(wallet, "r3zhm8", s, 1) }
	typed := func(typ, more string) string {
		return fmt.Sprintf(`{"callback_type":%q,"destination":{"url":"https://x.example"}%s}`, typ, more)
	}
	h.create("acme", typed("*", ""))                                         // 1
	h.create("acme", token("a"))                                             // 2
	h.create("acme", token("b"))                                             // 3
	h.create("acme", typed(install, ""))                                     // 4
	h.create("acme", typed("payment_*", ""))                                 // 5
	h.create("acme", typed("payment_proof", ""))                             // 6
	h.create("acme", typed(install, `,"start_date":"2030-01-01T00:00:00Z"`)) // 7
	h.create("acme", typed(install, `,"wallet_item_remove":{}`))             // 8
	h.create("acme", token("a"))                                             // 9
	h.create("other", typed("*", ""))                                        // other company's
	early, late := time.Date(2029, 12, 31, 23, 59, 59, 999, time.UTC), time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	tests := []struct {
		typ   string
		attrs map[string]string
		at    time.Time
		want  []int64
	}{
		{install, map[string]string{"campaign_token": "a"}, early, []int64{1, 2, 4, 8, 9}},
		{install, map[string]string{"campaign_token": "b"}, early, []int64{1, 3, 4, 8}},
		{install, map[string]string{"campaign_token": "c"}, early, []int64{1, 4, 8}},
		{install, nil, late, []int64{1, 4, 7, 8}},
		{"payment_proof", map[string]string{"campaign_token": "a"}, early, []int64{1, 5, 6}},
		{"payment_other", nil, early, []int64{1, 5}},
		{"customer.deleted", nil, early, []int64{1}},
	}
	everyone, _, err := h.List(ctx, "acme", registry.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, h.current(ctx, "acme", tt.typ, tt.attrs, tt.at)); diff != "" {
			t.Errorf("%s %v: %s", tt.typ, tt.attrs, diff)
		}
		for _, cb := range everyone { // the same rule explains
			matched, why, _ := h.Decide(cb, tt.typ, tt.attrs, tt.at, nil)
			if matched != slices.Contains(tt.want, cb.ID) || !strings.HasSuffix(why, ".") {
				t.Errorf("%v for %s: %v: %s", cb, tt.typ, matched, why)
			}
		}
	}
	if got := h.current(ctx, "nobody", install, nil, late); len(got) != 0 {
		t.Errorf("a company without callbacks matched %v", got)
	}
}

func TestMatchNeedsNoRedisOnceLoaded(t *testing.T) {
	h := newHouse(t)
	cb := h.create("acme", plain)
	h.current(t.Context(), "acme", "payment_proof", nil, time.Now())
	h.server.Stop()
	defer h.server.Cont()
	ver, matched, err := h.Match(t.Context(), "acme", "payment_proof", nil, time.Now(), nil)
	if err != nil || ver != cb.Version || len(matched) != 1 {
		t.Errorf("%d %v %v", ver, matched, err)
	}
	if got, err := h.Lookup(t.Context(), "acme", cb.ID, cb.Version); err != nil || got.ID != cb.ID {
		t.Errorf("lookup: %v %v", got, err)
	}
}

func TestLookupReadsWhatIsNewer(t *testing.T) {
	h := newHouse(t)
	other := h.neighbour()
	ctx := t.Context()
	cb := h.create("acme", plain)
	if _, err := other.Lookup(ctx, "acme", cb.ID, 0); err != nil {
		t.Fatal(err)
	}
	changed, err := h.Patch(ctx, "acme", cb.ID, []byte(`{"timeout":"2s"}`))
	if err != nil {
		t.Fatal(err)
	}
	if old, err := other.Lookup(ctx, "acme", cb.ID, cb.Version); err != nil || old.Timeout != 15*time.Second {
		t.Errorf("memory was new enough and still read: %v %v", old, err)
	}
	if fresh, err := other.Lookup(ctx, "acme", cb.ID, changed.Version); err != nil || fresh.Timeout != 2*time.Second {
		t.Errorf("%v %v", fresh, err)
	}
}

// A registration that has returned is in every match at its version or later,
// whoever matches, whatever others write meanwhile.
func TestRegisteredMeansMatched(t *testing.T) {
	h := newHouse(t)
	houses := []*house{h, h.neighbour(), h.neighbour()}
	ctx := t.Context()
	var mu sync.Mutex
	live := map[int64]int64{} // registered, and not about to be deleted -> version
	gone := map[int64]bool{}

	var writers, readers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			r := houses[w%len(houses)]
			rng := rand.New(rand.NewPCG(1, uint64(w)))
			var mine []int64
			for range 40 {
				switch op := rng.IntN(4); {
				case op == 0 && len(mine) > 0:
					id := mine[0]
					mine = mine[1:]
					mu.Lock()
					delete(live, id)
					mu.Unlock()
					if err := r.Delete(ctx, "acme", id); err != nil {
						t.Errorf("delete: %v", err)
					}
					mu.Lock()
					gone[id] = true
					mu.Unlock()
				case op == 1 && len(mine) > 0:
					if _, err := r.Patch(ctx, "acme", mine[0], fmt.Appendf(nil, `{"description":"%d"}`, rng.Uint64())); err != nil {
						t.Errorf("patch: %v", err)
					}
				default:
					cb, err := r.Create(ctx, "acme", []byte(plain))
					if err != nil {
						t.Errorf("create: %v", err)
						return
					}
					mine = append(mine, cb.ID)
					mu.Lock()
					live[cb.ID] = cb.Version
					mu.Unlock()
				}
			}
		})
	}
	stop := make(chan struct{})
	for i := range 4 {
		readers.Go(func() {
			r := houses[i%len(houses)]
			var last int64
			for {
				mu.Lock()
				must, mustNot := maps.Clone(live), maps.Clone(gone)
				mu.Unlock()
				want := r.version(ctx, "acme")
				if err := r.Refresh(ctx, "acme", want); err != nil {
					t.Errorf("refresh: %v", err)
					return
				}
				ver, matched, err := r.Match(ctx, "acme", "payment_proof", nil, time.Now(), nil)
				if err != nil || ver < want || ver < last {
					t.Errorf("match at %d, want %d or later, last %d: %v", ver, want, last, err)
				}
				last = ver
				mu.Lock() // those deleted meanwhile may be missing
				for id, at := range must {
					if _, still := live[id]; still && at <= ver && !slices.Contains(ids(matched), id) {
						t.Errorf("callback %d of version %d is missing at version %d", id, at, ver)
					}
				}
				mu.Unlock()
				for id := range mustNot {
					if slices.Contains(ids(matched), id) {
						t.Errorf("deleted callback %d matched at version %d", id, ver)
					}
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()

	want := []int64{}
	for id := range live {
		want = append(want, id)
	}
	slices.Sort(want)
	for _, r := range houses {
		if diff := cmp.Diff(want, r.current(ctx, "acme", "payment_proof", nil, time.Now())); diff != "" {
			t.Errorf("in the end (-want +got):\n%s", diff)
		}
	}
}

func TestConcurrentPatchesAllCount(t *testing.T) {
	h := newHouse(t)
	cb := h.create("acme", plain)
	const n = 12
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if _, err := h.Patch(t.Context(), "acme", cb.ID, fmt.Appendf(nil, `{"headers":{"X-%d":"v"}}`, i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := len(h.get("acme", cb.ID).Headers); got != n {
		t.Errorf("%d of %d patches are left", got, n)
	}
}

func TestManyCallbacksLoadInPages(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	const n = 1203 // more than two pages
	h.quota("acme", registry.QuotaCallbacks, n)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := w; i < n; i += 8 {
				if _, err := h.Create(ctx, "acme", []byte(plain)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := h.Delete(ctx, "acme", 7); err != nil {
		t.Fatal(err)
	}
	if got := len(h.neighbour().current(ctx, "acme", "payment_proof", nil, time.Now())); got != n-1 {
		t.Errorf("%d callbacks, want %d", got, n-1)
	}
}

// A process must not remember for longer what Redis has forgotten.
func TestRedisThatWentBackInTime(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	kept := h.create("acme", plain)
	saved := map[string]string{}
	for _, key := range h.redis.Keys(ctx, "*").Val() {
		saved[key] = h.redis.Dump(ctx, key).Val()
	}
	h.create("acme", plain)
	if _, err := h.Patch(ctx, "acme", kept.ID, []byte(`{"timeout":"2s"}`)); err != nil {
		t.Fatal(err)
	}
	restore := func() {
		t.Helper()
		h.redis.FlushAll(ctx)
		for began := h.redis.Time(ctx).Val(); h.redis.Time(ctx).Val().UnixMilli() == began.UnixMilli(); { // a restart takes longer than a millisecond
		}
		for key, dump := range saved {
			if err := h.redis.Restore(ctx, key, 0, dump).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	h.current(ctx, "acme", "payment_proof", nil, time.Now()) // both, remembered

	restore()
	if got := h.current(ctx, "acme", "payment_proof", nil, time.Now()); !slices.Equal(got, []int64{kept.ID}) {
		t.Errorf("after Redis lost a callback: %v", got)
	}

	if _, err := h.Patch(ctx, "acme", kept.ID, []byte(`{"timeout":"3s"}`)); err != nil {
		t.Fatal(err)
	}
	h.current(ctx, "acme", "payment_proof", nil, time.Now()) // the patch, remembered
	restore()
	h.neighbour().create("acme", plain) // and Redis has moved on since
	if got := h.current(ctx, "acme", "payment_proof", nil, time.Now()); len(got) != 2 {
		t.Errorf("after Redis lost a patch: %v", got)
	}
	if cb, err := h.Lookup(ctx, "acme", kept.ID, 0); err != nil || cb.Timeout != 15*time.Second {
		t.Errorf("a lost patch is still remembered: %v %v", cb, err)
	}

	h.redis.FlushAll(ctx)
	if got := h.current(ctx, "acme", "payment_proof", nil, time.Now()); len(got) != 0 {
		t.Errorf("after Redis lost everything: %v", got)
	}
}

func TestRegistrySurvivesARestartOfRedis(t *testing.T) {
	h := newHouse(t)
	if err := h.redis.ConfigSet(t.Context(), "appendfsync", "always").Err(); err != nil { // everysec puts writes off while the disk is busy
		t.Fatal(err)
	}
	cb := h.create("acme", wallet)
	h.server.Kill()
	h.server.Restart()
	if got := h.get("acme", cb.ID); got.Version != cb.Version {
		t.Errorf("version %d, want %d", got.Version, cb.Version)
	}
}

func TestCompaniesAreStrangers(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	mine := h.create("acme", plain)
	h.create("acme", plain)
	theirs := h.create("acme2", plain)
	before := h.dump()
	const id = 2 // exists for acme only
	_, getErr := h.Get(ctx, "acme2", id)
	_, patchErr := h.Patch(ctx, "acme2", id, []byte(`{"description":"x"}`))
	_, pauseErr := h.Pause(ctx, "acme2", id)
	_, resumeErr := h.Resume(ctx, "acme2", id)
	_, rotateErr := h.RotateSecret(ctx, "acme2", id, 0)
	_, lookupErr := h.Lookup(ctx, "acme2", id, mine.Version)
	for i, err := range []error{getErr, patchErr, pauseErr, resumeErr, rotateErr, lookupErr, h.Delete(ctx, "acme2", id)} {
		if !errors.Is(err, registry.ErrNotFound) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if after := h.dump(); len(after) != len(before) {
		t.Errorf("reaching for another's callback changed Redis:\n%s\n%s", before, after)
	}
	if got := h.current(ctx, "acme2", "payment_proof", nil, time.Now()); !slices.Equal(got, []int64{theirs.ID}) {
		t.Errorf("matched %v", got)
	}
	page, _, err := h.List(ctx, "acme2", registry.Filter{})
	if err != nil || len(page) != 1 || page[0].Company != "acme2" {
		t.Errorf("listed %v, %v", page, err)
	}
}

func TestCompanyNamesAreChecked(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	for _, company := range []string{"", "a b", "a{b}", "a/b", "a:b", "é", strings.Repeat("a", 65)} {
		calls := map[string]error{
			"Delete":  h.Delete(ctx, company, 1),
			"Forget":  h.Forget(ctx, company, registry.Erasure{ID: "1"}),
			"Refresh": h.Refresh(ctx, company, 1),
			"Touch":   h.Touch(ctx, company),
		}
		_, calls["All"] = h.All(ctx, company)
		_, calls["Verified"] = h.Verified(ctx, company, 1, 1, "")
		if company != "" { // which stands for the whole installation there
			_, calls["Quotas"] = h.Quotas(ctx, company)
			_, calls["SetQuotas"] = h.SetQuotas(ctx, company, map[string]*int64{registry.QuotaCallbacks: new(int64)})
			_, _, calls["Audit"] = h.Audit(ctx, registry.AuditQuery{Company: company})
		}
		_, calls["Create"] = h.Create(ctx, company, []byte(plain))
		_, calls["Get"] = h.Get(ctx, company, 1)
		_, _, calls["List"] = h.List(ctx, company, registry.Filter{})
		_, calls["Patch"] = h.Patch(ctx, company, 1, []byte(`{}`))
		_, calls["Pause"] = h.Pause(ctx, company, 1)
		_, calls["Resume"] = h.Resume(ctx, company, 1)
		_, calls["RotateSecret"] = h.RotateSecret(ctx, company, 1, 0)
		_, _, calls["Match"] = h.Match(ctx, company, install, nil, time.Now(), nil)
		_, calls["Lookup"] = h.Lookup(ctx, company, 1, 1)
		for name, err := range calls {
			if invalid, ok := errors.AsType[*payloads.InvalidError](err); !ok || invalid.Fields[0].Location != "path.company" {
				t.Errorf("%s(%q): %v", name, company, err)
			}
		}
	}
	const impossible = "a}b{c" // those for names out of Redis find nothing of it
	known, err := h.Known(ctx, impossible)
	ids, idsErr := h.IDs(ctx, impossible, true)
	counts, countErr := h.CountStatuses(ctx, []string{impossible})
	err = errors.Join(err, idsErr, countErr, h.TrimAudit(ctx, []string{impossible}, time.Now()))
	if err != nil || known || len(ids)+len(counts[0]) != 0 {
		t.Errorf("of a company that cannot be one: known %t, ids %v, counts %v, %v", known, ids, counts, err)
	}
	if dump := h.dump(); dump != "" {
		t.Errorf("Redis was written to: %s", dump)
	}
}

func TestTouchIsRememberedForAMinute(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	for range 3 {
		if err := h.Touch(ctx, "acme"); err != nil {
			t.Fatal(err)
		}
	}
	h.redis.FlushAll(ctx)
	if err := h.Touch(ctx, "acme"); err != nil {
		t.Fatal(err)
	}
	if n := h.redis.SCard(ctx, "ringback:companies").Val(); n != 0 {
		t.Error("every Touch is a round trip")
	}
}

// TestAnErasedCompanyIsNamedAgain: if an erased company is used again, a process that remembers it names it again.
func TestAnErasedCompanyIsNamedAgain(t *testing.T) {
	for name, use := range map[string]func(*house) error{
		"callback created": func(h *house) error { return second(h.Create(t.Context(), "acme", []byte(plain))) },
		"read for the first time, then touched": func(h *house) error {
			_, _, err := h.Match(t.Context(), "acme", "payment_proof", nil, time.Now(), nil)
			return errors.Join(err, h.Touch(t.Context(), "acme"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			if err := h.Touch(t.Context(), "acme"); err != nil {
				t.Fatal(err)
			}
			other := h.neighbour() // erases it: see the dispatcher's EraseCompany
			cb := other.create("acme", plain)
			if err := errors.Join(other.Delete(t.Context(), "acme", cb.ID), other.Forget(t.Context(), "acme", registry.Erasure{ID: "1"})); err != nil {
				t.Fatal(err)
			}
			if err := use(h); err != nil {
				t.Fatal(err)
			}
			if known, err := h.Known(t.Context(), "acme"); err != nil || !known {
				t.Errorf("used again, but not named: %v", err)
			}
		})
	}
}

// TestACompanyIsNotNamedByMemoryAlone: if a company is erased while it is being named, in the same process, its next use names it again.
func TestACompanyIsNotNamedByMemoryAlone(t *testing.T) {
	for name, race := range map[string]func(name, erase func()) (outer func(), hook *onCommand){
		"erased between the naming and the note of it": func(name, erase func()) (func(), *onCommand) {
			return name, &onCommand{name: "sadd", after: erase}
		},
		"named before the last step of the erasure": func(name, erase func()) (func(), *onCommand) {
			return erase, &onCommand{name: "evalsha", of: "ringback:companies", before: name}
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			ctx := t.Context()
			must := func(do func() error) func() {
				return func() {
					if err := do(); err != nil {
						t.Error(err)
					}
				}
			}
			name := must(func() error { return h.Touch(ctx, "acme") })
			erase := must(func() error { return h.Forget(ctx, "acme", registry.Erasure{ID: "1"}) })
			erase() // and the scripts are known
			outer, hook := race(name, erase)
			h.redis.AddHook(hook)
			outer()
			if known, err := h.Known(ctx, "acme"); err != nil || known {
				t.Fatalf("the erasure came last, and the company is known: %v", err)
			}
			name()
			if known, err := h.Known(ctx, "acme"); err != nil || !known {
				t.Errorf("used again, but not named: %v", err)
			}
		})
	}
}

func second[T any](_ T, err error) error { return err }

func TestNewRefusesNonsense(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer func() { _ = client.Close() }()
	for _, cfg := range []registry.Config{
		{},
		{Redis: client, Catalogue: payloads.Builtin()},
		{Redis: client, Keyset: newKeyset(t)},
		{Catalogue: payloads.Builtin(), Keyset: newKeyset(t)},
	} {
		if _, err := registry.New(cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	server := redistest.Start(b)
	keyset, err := registry.NewKeyset()
	if err != nil {
		b.Fatal(err)
	}
	r, err := registry.New(registry.Config{Redis: server.Client(), Catalogue: payloads.Builtin(), Keyset: keyset})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := r.SetQuotas(b.Context(), "acme", map[string]*int64{registry.QuotaCallbacks: new(int64(2000))}); err != nil {
		b.Fatal(err)
	}
	for i := range 2000 {
		if _, err := r.Create(b.Context(), "acme", []byte(strings.Replace(wallet, "r3zhm8", fmt.Sprint("t", i), 1))); err != nil {
			b.Fatal(err)
		}
	}
	attrs := map[string]string{"campaign_token": "t7"}
	at := time.Now()
	for b.Loop() {
		if _, matched, err := r.Match(b.Context(), "acme", install, attrs, at, nil); err != nil || len(matched) != 1 {
			b.Fatal(matched, err)
		}
	}
}
