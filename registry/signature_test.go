package registry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

const signedHook = `{"callback_type":"payment_proof","destination":{"url":"https://partner.example/hook"},"signature":{%s}}`

func signedBy(flags string) string { return fmt.Sprintf(signedHook, flags) }

// signers says in short what a callback's requests are signed with at a time.
func signers(cb *registry.Callback, at time.Time) string {
	secrets, standard, messages := cb.Signers(at)
	return fmt.Sprintf("%d %d %d", len(secrets), len(standard), len(messages))
}

func stages(cb *registry.Callback, at time.Time) (stages []string) {
	for _, k := range cb.PublishedKeys(at) {
		stages = append(stages, k.Stage(at))
	}
	return stages
}

func TestSignatureOfANewCallback(t *testing.T) {
	h := newHouse(t)
	for flags, want := range map[string]string{
		``:                                           "1 0 0",
		`"hmac":true`:                                "1 0 0",
		`"ed25519":true`:                             "1 1 0",
		`"hmac":false,"ed25519":true`:                "0 1 0",
		`"hmac":null,"rfc9421":true`:                 "1 0 1",
		`"hmac":false,"rfc9421":true`:                "0 0 1",
		`"ed25519":true,"rfc9421":true`:              "1 1 1",
		`"ed25519":false,"rfc9421":false`:            "1 0 0",
		`"hmac":false,"ed25519":true,"rfc9421":true`: "0 1 1",
	} {
		cb := h.create("acme", signedBy(flags))
		for _, read := range []*registry.Callback{cb, h.get("acme", cb.ID)} {
			if got := signers(read, read.CreatedAt.Add(-time.Second)); got != want {
				t.Errorf("%s: signed by %s, want %s", flags, got, want)
			}
			_, shown := document(t, read)["signature"]
			if shown != (want != "1 0 0") {
				t.Errorf("%s: shown %t", flags, shown)
			}
		}
		if err := h.Delete(t.Context(), "acme", cb.ID); err != nil { // the next key is the first one again
			t.Fatal(err)
		}
	}
	for flags, at := range map[string]string{
		`"hmac":false`:                 "body.signature ",
		`"hmac":false,"ed25519":false`: "body.signature ",
		`"hmac":1`:                     "body.signature.hmac",
		`"ed25519":"yes"`:              "body.signature.ed25519",
		`"rfc9421":{}`:                 "body.signature.rfc9421",
		`"ed25519":true,"keys":[]`:     "body.signature.keys",
		`"ed448":true`:                 "body.signature.ed448",
		`"rfc9421":true},"headers":{"Signature":"x"`:      "body.headers.Signature",
		`"rfc9421":true},"headers":{"content_digest":"x"`: "body.headers.content_digest",
	} {
		if _, err := h.Create(t.Context(), "acme", []byte(signedBy(flags))); err == nil || !strings.Contains(err.Error(), at) {
			t.Errorf("%s: %v", flags, err)
		}
	}
	if cb := h.create("acme", signedBy(`"ed25519":true},"headers":{"Signature":"x"`)); len(cb.Headers) != 1 {
		t.Error("a header of another scheme is refused")
	}
}

// TestKeysComeAndGoInStages follows a callback through all of its signatures by the clock. Nothing runs at any of the times.
func TestKeysComeAndGoInStages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := bubbleHouse(t)
		cb := h.create("acme", signedBy(`"hmac":true`))
		start := time.Now()
		patch := func(flags string) {
			t.Helper()
			next, err := h.Patch(t.Context(), "acme", cb.ID, []byte(`{"signature":`+flags+`}`))
			if err != nil {
				t.Fatal(err)
			}
			cb = h.get("acme", next.ID)
		}
		want := func(what string, at time.Time, by string, in ...string) {
			t.Helper()
			if got := signers(cb, at); got != by {
				t.Errorf("%s: signed by %s, want %s", what, got, by)
			}
			if got := stages(cb, at); !slices.Equal(got, in) {
				t.Errorf("%s: stages %v, want %v", what, got, in)
			}
		}

		patch(`{"hmac":false,"ed25519":true}`)
		signs := start.Add(registry.KeyLead)
		want("announced", start, "1 0 0", "announced")
		want("just before it signs", signs.Add(-time.Millisecond), "1 0 0", "announced")
		want("it signs", signs, "0 1 0", "signing")
		if registry.KeyLead <= registry.KeysMaxAge {
			t.Errorf("it is announced for %s, and remembered for %s", registry.KeyLead, registry.KeysMaxAge)
		}
		first := cb.Signature.Keys[0].Key.Public()
		if _, err := h.RotateKey(t.Context(), "acme", cb.ID, time.Hour, 0); err == nil || !strings.Contains(err.Error(), "body.announce comes too soon") {
			t.Errorf("rotated while one is announced: %v", err)
		}

		time.Sleep(time.Hour)
		patch(`{"rfc9421":true}`)
		want("the same key signs messages at once", time.Now(), "0 1 1", "signing")
		if cb.Signature.Keys[0].Key.Public() != first {
			t.Error("another flag made another key")
		}

		rotated, err := h.RotateKey(t.Context(), "acme", cb.ID, time.Hour, 2*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		cb = h.get("acme", rotated.ID)
		at := time.Now()
		want("rotated", at, "0 1 1", "announced", "signing")
		want("both sign", at.Add(time.Hour), "0 2 2", "signing", "signing")
		want("the one before ends", at.Add(3*time.Hour), "0 1 1", "signing", "retired")
		want("it is gone", at.Add(3*time.Hour+10*time.Minute), "0 1 1", "signing")
		if _, standard, _ := cb.Signers(at.Add(time.Hour)); standard[1].Public() != first || standard[0].Public() == first {
			t.Error("the newest key is not the first")
		}

		time.Sleep(2 * time.Hour)
		want("before they are given up", time.Now(), "0 2 2", "signing", "signing")
		patch(`null`)
		if cb.Signature != nil {
			t.Errorf("of keys that are given up there is left %+v", cb.Signature)
		}
		patch(`{"ed25519":true}`)
		want("again, by a new key", time.Now(), "1 0 0", "announced")
		if again := cb.Signature.Keys[0].Key.Public(); again == first {
			t.Error("a key that was given up is back")
		}
	})
}

// TestNoReceiverMeetsAStrangeKey follows what two processes publish, minute by minute, through all stages. Whoever remembers a set for as long as it may
// knows each key that signs. A key that no longer signs is there until the last that it signed was verified, and then goes; one that was given up goes at once.
func TestNoReceiverMeetsAStrangeKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := bubbleHouse(t)
		other, err := registry.New(registry.Config{Redis: h.redis, Catalogue: payloads.Builtin(), Keyset: h.keyset})
		if err != nil {
			t.Fatal(err)
		}
		processes := []*registry.Registry{h.Registry, other}
		id := h.create("acme", signedBy("")).ID
		steps := map[int]func() error{
			10: func() error {
				return createdError(h.Patch(t.Context(), "acme", id, []byte(`{"signature":{"hmac":false,"ed25519":true}}`)))
			},
			20: func() error {
				return createdError(other.RotateKey(t.Context(), "acme", id, registry.KeyLead, 3*time.Minute))
			},
			50: func() error { return createdError(h.RotateKey(t.Context(), "acme", id, registry.KeyLead, 0)) },
			70: func() error { return createdError(other.Patch(t.Context(), "acme", id, []byte(`{"signature":null}`))) },
		}
		const minutes = 90
		var sets [2][minutes]payloads.JWKS // as each process publishes them
		var signed [minutes]payloads.JWKS  // the keys that sign
		for minute := range minutes {
			if step := steps[minute]; step != nil {
				if err := step(); err != nil {
					t.Fatal(minute, err)
				}
			}
			time.Sleep(3 * time.Second) // a process looks again after two
			_, standard, _ := h.get("acme", id).Signers(time.Now())
			for _, k := range standard {
				signed[minute] = append(signed[minute], k.Public())
			}
			for i, r := range processes {
				set, err := r.PublishedKeys(t.Context(), "acme", func() error { return nil })
				if err != nil {
					t.Fatal(minute, err)
				}
				if sets[i][minute], err = payloads.ParseJWKS(set.Document); err != nil {
					t.Fatal(minute, err)
				}
			}
			time.Sleep(57 * time.Second)
		}
		const givenUp = 70
		remembered, late := int(registry.KeysMaxAge/time.Minute), int(payloads.Tolerance/time.Minute)
		all := map[payloads.PublicKey]bool{}
		for minute, keys := range signed {
			for _, key := range keys {
				all[key] = true
				for i := range processes {
					for at := minute - remembered; at <= min(minute+late, minutes-1) && at < givenUp; at++ {
						if !slices.Contains(sets[i][at], key) {
							t.Errorf("process %d, minute %d: %s is not published, and signs in minute %d", i, at, key, minute)
						}
					}
				}
			}
		}
		if len(all) != 3 || len(signed[givenUp-1]) != 1 || len(signed[givenUp]) != 0 {
			t.Errorf("%d keys signed in all", len(all))
		}
		for i := range processes {
			if len(sets[i][9]) != 0 || len(sets[i][givenUp]) != 0 {
				t.Errorf("process %d publishes %v before there is a key, and %v once it was given up", i, sets[i][9], sets[i][givenUp])
			}
		}
	})
}

// bubbleHouse is a house on a Redis in a bubble.
func bubbleHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, redis: bubbleClient(t), keyset: newKeyset(t), log: &bytes.Buffer{}}
	r, err := registry.New(registry.Config{Redis: h.redis, Catalogue: payloads.Builtin(), Keyset: h.keyset, Logger: slog.New(slog.NewTextHandler(h.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	h.Registry = r
	return h
}

func TestRotateKeyRefuses(t *testing.T) {
	h := newHouse(t)
	plain, keyed := h.create("acme", signedBy("")), h.create("acme", signedBy(`"ed25519":true`))
	for _, tt := range []struct {
		id                int64
		announce, overlap time.Duration
		want              string
	}{
		{plain.ID, time.Hour, 0, "signs by no key"},
		{keyed.ID, registry.KeyLead - 1, 0, "body.announce must be a duration from 6m"},
		{keyed.ID, registry.MaxAnnounce + 1, 0, "body.announce"},
		{keyed.ID, time.Hour, -1, "body.overlap"},
		{keyed.ID, time.Hour, registry.MaxOverlap + 1, "body.overlap"},
		{99, time.Hour, 0, registry.ErrNotFound.Error()},
	} {
		if _, err := h.RotateKey(t.Context(), "acme", tt.id, tt.announce, tt.overlap); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}

// TestSoManyKeysArePublished: five of a callback, and one more once one of them is no longer.
func TestSoManyKeysArePublished(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := bubbleHouse(t)
		id := h.create("acme", signedBy(`"ed25519":true`)).ID
		rotate := func() error {
			return createdError(h.RotateKey(t.Context(), "acme", id, registry.KeyLead, registry.MaxOverlap))
		}
		for range 4 {
			if err := rotate(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		}
		if err := rotate(); err == nil || !strings.Contains(err.Error(), "body.announce comes too soon: 5 keys of this callback are published") {
			t.Errorf("one more: %v", err)
		}
		cb := h.get("acme", id)
		if n := len(cb.PublishedKeys(time.Now())); n != 5 {
			t.Errorf("%d are published", n)
		}
		time.Sleep(time.Until(cb.Signature.Keys[4].PublishedUntil()))
		if err := rotate(); err != nil {
			t.Errorf("one more once the first has gone: %v", err)
		}
	})
}

// TestSigningKeysAreSealed: neither Redis, nor an answer, nor the audit trail has a private key.
func TestSigningKeysAreSealed(t *testing.T) {
	h := newHouse(t)
	cb := h.create("acme", signedBy(`"ed25519":true`))
	if _, err := h.RotateKey(t.Context(), "acme", cb.ID, time.Hour, 0); err != nil {
		t.Fatal(err)
	}
	cb = h.get("acme", cb.ID)
	shown, err := json.Marshal(cb)
	if err != nil {
		t.Fatal(err)
	}
	lines, _, err := h.Audit(t.Context(), registry.AuditQuery{Company: "acme", Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	said := string(shown) + fmt.Sprint(lines) + fmt.Sprintf("%+v", cb.Signature) + h.redis.HGetAll(t.Context(), "{acme}:cb").String()
	for _, k := range cb.Signature.Keys {
		if secret := strings.TrimPrefix(k.Key.Reveal(), "whsk_"); strings.Contains(said, secret[:40]) {
			t.Error("a private key is shown")
		}
		if public := k.Key.Public(); !strings.Contains(string(shown), public.String()) || !strings.Contains(string(shown), public.KID()) {
			t.Errorf("%s is not shown in %s", public, shown)
		}
	}
	if text := fmt.Sprint(lines); !strings.Contains(text, "callback.rotate_key") || !strings.Contains(text, cb.Signature.Keys[0].Key.Public().KID()) {
		t.Errorf("the audit trail: %s", text)
	}
}

// TestSignatureWaitsForOldProcesses: one that does not know it would sign otherwise.
func TestSignatureWaitsForOldProcesses(t *testing.T) {
	h := newHouse(t)
	plain := h.create("acme", signedBy(""))
	before := h.create("acme", signedBy(`"ed25519":true`))
	end := h.beside(5)
	defer func() { _ = end(context.WithoutCancel(t.Context())) }()
	n := h.neighbour()
	if _, err := n.Create(t.Context(), "acme", []byte(signedBy(`"rfc9421":true`))); !isOld(err) {
		t.Errorf("registered: %v", err)
	}
	if _, err := n.Patch(t.Context(), "acme", plain.ID, []byte(`{"signature":{"ed25519":true}}`)); !isOld(err) {
		t.Errorf("patched: %v", err)
	}
	for what, err := range map[string]error{
		"without it":    createdError(n.Create(t.Context(), "acme", []byte(signedBy("")))),
		"another field": createdError(n.Patch(t.Context(), "acme", before.ID, []byte(`{"trace":true}`))),
		"taken away":    createdError(n.Patch(t.Context(), "acme", before.ID, []byte(`{"signature":null}`))),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func createdError(_ *registry.Callback, err error) error { return err }

func TestPublishedKeys(t *testing.T) {
	h := newHouse(t)
	errStrange := errors.New("too many strangers")
	asked := 0
	ask := func(r *registry.Registry, company string) payloads.JWKS {
		t.Helper()
		set, err := r.PublishedKeys(t.Context(), company, func() error { asked++; return nil })
		if err != nil {
			t.Fatal(err)
		}
		keys, err := payloads.ParseJWKS(set.Document)
		if err != nil || set.ETag == "" {
			t.Fatal(err, set.ETag)
		}
		return keys
	}
	if got := ask(h.Registry, "nobody"); len(got) != 0 || asked != 1 {
		t.Errorf("an unknown company has %v, strange %d times", got, asked)
	}
	if _, err := h.PublishedKeys(t.Context(), "nobody", func() error { return errStrange }); !errors.Is(err, errStrange) {
		t.Errorf("a stranger: %v", err)
	}
	if got := ask(h.Registry, "no/company"); len(got) != 0 || asked != 1 {
		t.Errorf("no name has %v", got)
	}
	h.create("plain", signedBy(""))
	if got := ask(h.Registry, "plain"); len(got) != 0 {
		t.Errorf("without keys: %v", got)
	}
	var want payloads.JWKS
	for range 3 {
		want = append(want, h.create("acme", signedBy(`"ed25519":true`)).Signature.Keys[0].Key.Public())
		if got := ask(h.Registry, "acme"); !slices.Equal(got, want) {
			t.Errorf("published %v, want %v", got, want)
		}
	}
	asked = 0
	for range 100 {
		ask(h.Registry, "acme")
	}
	if asked != 0 {
		t.Errorf("strange %d times", asked)
	}
	if err := h.Delete(t.Context(), "acme", 2); err != nil {
		t.Fatal(err)
	}
	want = slices.Delete(want, 1, 2)
	if got := ask(h.Registry, "acme"); !slices.Equal(got, want) {
		t.Errorf("published %v after a deletion, want %v", got, want)
	}
	if got := ask(h.neighbour().Registry, "acme"); !slices.Equal(got, want) {
		t.Errorf("another process publishes %v, want %v", got, want)
	}
}

// TestTheFirstKeyWaitsForRememberedSets: whoever keeps the company's set for as long as it may meets no key that is not in it. Where the company publishes no
// key, nobody keeps one.
func TestTheFirstKeyWaitsForRememberedSets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := bubbleHouse(t)
		other, err := registry.New(registry.Config{Redis: h.redis, Catalogue: payloads.Builtin(), Keyset: h.keyset})
		if err != nil {
			t.Fatal(err)
		}
		h.create("acme", signedBy(""))
		first := h.create("acme", signedBy(`"hmac":false,"ed25519":true`))
		second, err := other.Create(t.Context(), "acme", []byte(signedBy(`"hmac":false,"ed25519":true`)))
		if err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			what string
			cb   *registry.Callback
			at   time.Duration
			want string
		}{
			{"the first of the company", first, 0, "0 1 0"},
			{"the next", second, 0, "1 0 0"},
			{"the next, later", second, registry.KeysMaxAge, "1 0 0"},
			{"the next, later still", second, registry.KeyLead, "0 1 0"},
			{"another company's", h.create("other", signedBy(`"hmac":false,"rfc9421":true`)), 0, "0 0 1"},
		} {
			if got := signers(tt.cb, time.Now().Add(tt.at)); got != tt.want {
				t.Errorf("%s: signed by %s, want %s", tt.what, got, tt.want)
			}
		}
		if err := h.Delete(t.Context(), "acme", first.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Patch(t.Context(), "acme", second.ID, []byte(`{"signature":null}`)); err != nil {
			t.Fatal(err)
		}
		if got := signers(h.create("acme", signedBy(`"ed25519":true`)), time.Now()); got != "1 1 0" {
			t.Errorf("once the company publishes none: signed by %s", got)
		}
	})
}

// TestKnownKeysOutliveRedis: a change of this process leaves what it knew where Redis is away afterwards, and what Redis says counts once it is back.
func TestKnownKeysOutliveRedis(t *testing.T) {
	h := newHouse(t)
	keyed := h.create("acme", signedBy(`"ed25519":true`))
	published := func(what string, n int) {
		t.Helper()
		set, err := h.PublishedKeys(t.Context(), "acme", func() error { return nil })
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		if keys, err := payloads.ParseJWKS(set.Document); err != nil || len(keys) != n {
			t.Errorf("%s: published %v, %v; want %d", what, keys, err, n)
		}
	}
	published("at first", 1)
	if _, err := h.Patch(t.Context(), "acme", keyed.ID, []byte(`{"signature":null}`)); err != nil {
		t.Fatal(err)
	}
	h.server.Kill()
	published("while Redis is away", 1)
	h.server.Restart()
}

// TestKeysThatCannotBeReadAreLogged: the set of before goes out, and somebody is told that it may be old, once a minute.
func TestKeysThatCannotBeReadAreLogged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := bubbleHouse(t)
		h.create("acme", signedBy(`"ed25519":true`))
		ask := func() payloads.JWKS {
			t.Helper()
			set, err := h.PublishedKeys(t.Context(), "acme", func() error { return nil })
			if err != nil {
				t.Fatal(err)
			}
			keys, err := payloads.ParseJWKS(set.Document)
			if err != nil {
				t.Fatal(err)
			}
			return keys
		}
		before := ask()
		broken := h.create("acme", signedBy(`"ed25519":true`))
		if err := h.redis.HSet(t.Context(), "{acme}:cb", broken.ID, "no seal").Err(); err != nil {
			t.Fatal(err)
		}
		for range 50 {
			if got := ask(); !slices.Equal(got, before) {
				t.Errorf("published %v, want %v", got, before)
			}
			time.Sleep(3 * time.Second)
		}
		if n := strings.Count(h.log.String(), "a company's public keys could not be read anew"); n != 3 {
			t.Errorf("told %d times in two and a half minutes: %s", n, h.log)
		}
	})
}

// TestOldKeysAreRememberedForLess: a process that Redis does not answer publishes what it knew, for as long as Redis may be taken to hold it. So a receiver has
// forgotten it before a key signs that another process announced meanwhile. While Redis answers, a set may be remembered for five minutes; an empty one not at
// all, for the first key signs at once.
func TestOldKeysAreRememberedForLess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := bubbleHouse(t)
		client, redis := another(t, h.redis), &slot{}
		client.AddHook(redis)
		cut, err := registry.New(registry.Config{Redis: client, Catalogue: payloads.Builtin(), Keyset: h.keyset})
		if err != nil {
			t.Fatal(err)
		}
		want := func(what string, keys int, remembered time.Duration) {
			t.Helper()
			set, err := cut.PublishedKeys(t.Context(), "acme", func() error { return nil })
			if err != nil {
				t.Fatal(what, err)
			}
			published, err := payloads.ParseJWKS(set.Document)
			if err != nil {
				t.Fatal(what, err)
			}
			if got := set.MaxAge(time.Now()); len(published) != keys || got != remembered {
				t.Errorf("%s: %d keys, remembered for %s; want %d, for %s", what, len(published), got, keys, remembered)
			}
		}
		want("of nobody", 0, 0)
		h.create("acme", `{"callback_type":"payment_proof","destination":{"url":"https://partner.example/"}}`)
		want("without keys", 0, 0)
		h.create("acme", signedBy(`"ed25519":true`))
		time.Sleep(2 * time.Second)
		want("at first", 1, registry.KeysMaxAge)
		time.Sleep(time.Second)
		want("from memory", 1, registry.KeysMaxAge-time.Second)
		time.Sleep(time.Hour)
		want("an hour later", 1, registry.KeysMaxAge)

		redis.is("refused")
		known := time.Now()
		next := h.create("acme", signedBy(`"ed25519":true`)).Signature.Keys[0]
		for _, age := range []time.Duration{3 * time.Second, 2*time.Minute - time.Millisecond, 2 * time.Minute, 4 * time.Minute, 289 * time.Second} {
			time.Sleep(time.Until(known.Add(age)))
			want(age.String(), 1, registry.KeysMaxAge-age.Truncate(time.Second))
		}
		for _, age := range []time.Duration{290 * time.Second, registry.KeysMaxAge, registry.KeyLead - 10*time.Second} {
			time.Sleep(time.Until(known.Add(age)))
			want(age.String(), 1, 10*time.Second)
			if time.Now().Add(10 * time.Second).After(next.SignsFrom) {
				t.Errorf("after %s it is remembered beyond %s, when the next key signs", age, next.SignsFrom)
			}
		}
		time.Sleep(24 * time.Hour)
		want("a day later", 1, 10*time.Second)
		redis.is("")
		time.Sleep(3 * time.Second)
		want("Redis is back", 2, registry.KeysMaxAge)
		time.Sleep(10 * time.Second)
		redis.is("refused")
		want("away again", 2, registry.KeysMaxAge-10*time.Second)
	})
}

// TestDraftsSignAsCallbacksDo: what a dry run shows is signed as what is sent, by a key that is nobody's.
func TestDraftsSignAsCallbacksDo(t *testing.T) {
	h := newHouse(t)
	keyed := h.create("acme", signedBy(`"hmac":false,"ed25519":true`))
	draft := func(cb *registry.Callback, err error) *registry.Callback {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range cb.PublishedKeys(time.Now()) {
			if k.Key.Public() == keyed.Signature.Keys[0].Key.Public() {
				t.Error("a draft signs by a callback's key")
			}
		}
		return cb
	}
	for flags, want := range map[string]string{
		`{"hmac":true,"ed25519":false}`:                "1 0 0",
		`{"hmac":false,"ed25519":true}`:                "0 1 0",
		`{"hmac":true,"rfc9421":true,"ed25519":false}`: "1 0 1",
	} {
		fresh := draft(h.Draft(t.Context(), "acme", []byte(strings.Replace(signedHook, "{%s}", flags, 1))))
		if got := signers(fresh, time.Now()); got != want {
			t.Errorf("%s, a registration: signed by %s, want %s", flags, got, want)
		}
		if got := signers(draft(h.PatchDraft(t.Context(), "acme", keyed.ID, []byte(`{"signature":`+flags+`}`))), time.Now()); got != want {
			t.Errorf("%s, a patch: signed by %s, want %s", flags, got, want)
		}
	}
	if got := signers(draft(h.PatchDraft(t.Context(), "acme", keyed.ID, []byte(`{}`))), time.Now()); got != "0 1 0" {
		t.Errorf("as it is: signed by %s", got)
	}
}
