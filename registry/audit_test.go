package registry_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// trail is the whole audit trail about a company ("": all), oldest first.
func (h *house) trail(company string) []registry.AuditEntry {
	h.t.Helper()
	var all []registry.AuditEntry
	for cursor := "-"; cursor != ""; {
		page, next, err := h.Audit(h.t.Context(), registry.AuditQuery{Company: company, Limit: 7, Cursor: strings.TrimPrefix(cursor, "-")})
		if err != nil {
			h.t.Fatal(err)
		}
		all, cursor = append(all, page...), next
	}
	slices.Reverse(all)
	return all
}

func actions(lines []registry.AuditEntry) []string {
	out := []string{}
	for _, e := range lines {
		out = append(out, e.Action)
	}
	return out
}

// secretive is a registration with a word in each place of a secret, and of a part of a URL that may hold one. The word must be seen nowhere else.
const secretive = `{"callback_type":"wallet_item_install","wallet_item_install":{"campaign_token":"r3zhm8"},"description":"mine","headers":{"X-Key":"canary-header"},` +
	`"auth":{"type":"oauth2","token_url":"https://id.example/token?k=canary-query","client_id":"ringback","client_secret":"canary-client"},` +
	`"destination":{"url":"https://partner.example/hook?key=canary-query"}}`

// Each change leaves one line that says who did what. A call that changes nothing, or is refused, leaves none. No secret is in a line.
func TestAuditTrailTellsEachChange(t *testing.T) {
	h := newHouse(t)
	ctx := registry.WithActor(t.Context(), "rbk_me")
	cb, err := h.Create(ctx, "acme", []byte(secretive))
	if err != nil {
		t.Fatal(err)
	}
	patch := func(text string) {
		t.Helper()
		if _, err := h.Patch(ctx, "acme", cb.ID, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	patch(`{"description":"yours","destination":{"url":"https://partner.example/v2?key=canary-other"},"headers":{"X-Key":"canary-newer"}}`)
	patch(`{"description":"yours"}`) // as it is
	for range 2 {
		if _, err := h.Pause(ctx, "acme", cb.ID); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if _, err := h.Resume(ctx, "acme", cb.ID); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.RotateSecret(ctx, "acme", cb.ID, time.Hour); err != nil {
		t.Fatal(err)
	}
	h.quota("acme", registry.QuotaCallbacks, 1)
	h.quota("acme", registry.QuotaCallbacks, 1)
	if _, err := h.Create(ctx, "acme", []byte(plain)); err == nil {
		t.Error("the quota is not kept")
	}
	if _, err := h.Create(ctx, "acme", []byte(`{}`)); err == nil {
		t.Error("nonsense is registered")
	}
	if err := h.Delete(ctx, "acme", cb.ID); err != nil {
		t.Fatal(err)
	}
	if err := h.Delete(ctx, "acme", cb.ID); !errors.Is(err, registry.ErrNotFound) {
		t.Error(err)
	}
	for _, description := range []string{"one", "one", "two"} {
		if _, err := h.Types().Put(ctx, payloads.Type{Name: "order.placed", Description: description}); err != nil {
			t.Fatal(err)
		}
	}

	lines := h.trail("acme")
	want := []string{"callback.create", "callback.update", "callback.pause", "callback.resume", "callback.rotate_secret", "quotas.update", "callback.delete"}
	if !slices.Equal(actions(lines), want) {
		t.Fatalf("the trail has %v, want %v", actions(lines), want)
	}
	all := slices.Sorted(slices.Values(actions(h.trail("")))) // of one millisecond, those of a stream stand together
	if want := slices.Sorted(slices.Values(append(want, "type.create", "type.update"))); !slices.Equal(all, want) {
		t.Errorf("all of the trail is %v", all)
	}
	for i, e := range lines {
		if actor := map[bool]string{true: registry.ActorEngine, false: "rbk_me"}[e.Action == "quotas.update"]; e.Actor != actor {
			t.Errorf("%s by %s, want %s", e.Action, e.Actor, actor)
		}
		if e.Company != "acme" || e.Object != "callbacks/1" && e.Action != "quotas.update" || e.At.IsZero() || e.ID == "" || i > 0 && e.ID == lines[i-1].ID {
			t.Errorf("%+v", e)
		}
	}
	update := map[string]registry.AuditChange{}
	for _, c := range lines[1].Changes {
		update[c.Field] = c
	}
	for _, c := range []registry.AuditChange{
		{"description", "mine", "yours"}, {"destination.url", "https://partner.example/hook", "https://partner.example/v2"}, {"headers.X-Key", "***", "***"},
	} {
		if update[c.Field] != c {
			t.Errorf("%s: %+v, want %+v", c.Field, update[c.Field], c)
		}
	}
	if len(update) != 3 {
		t.Errorf("more changed than three fields: %+v", update)
	}
	if text := fmt.Sprint(h.trail("")); strings.Contains(text, "canary") || strings.Contains(text, "whsec_") {
		t.Errorf("a secret is in the trail: %s", text)
	}
	if dump := h.dump(); strings.Contains(dump, "canary") || strings.Contains(dump, "whsec_") {
		t.Error("a secret is in Redis")
	}
}

// Pages go on where the one before ended, over all streams, and windows cut what they should.
func TestAuditPagesAndWindows(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	for i := range 40 { // more than are read at first
		h.create(fmt.Sprintf("c-%d", i%3), plain)
	}
	for i := range 5 {
		if _, err := h.Types().Put(ctx, payloads.Type{Name: fmt.Sprintf("t.%d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	all := h.trail("")
	seen := map[string]bool{}
	for i, e := range all {
		if seen[e.ID] || i > 0 && e.At.Before(all[i-1].At) {
			t.Errorf("line %d comes twice, or too late: %+v", i, e)
		}
		seen[e.ID] = true
	}
	if len(all) != 45 || len(h.trail("c-1")) != 13 {
		t.Errorf("%d lines in all, %d of one company", len(all), len(h.trail("c-1")))
	}
	middle := all[20].At
	newer, _, err := h.Audit(ctx, registry.AuditQuery{Since: middle, Limit: 500})
	if err != nil {
		t.Fatal(err)
	}
	older, _, err := h.Audit(ctx, registry.AuditQuery{Until: middle, Limit: 500})
	if err != nil || len(newer)+len(older) != 45 || newer[len(newer)-1].At.Before(middle) || len(older) > 0 && !older[0].At.Before(middle) {
		t.Errorf("%d lines since, %d before: %v", len(newer), len(older), err)
	}
	for _, q := range []registry.AuditQuery{{Cursor: "nonsense"}, {Company: "a b"}} {
		if _, _, err := h.Audit(ctx, q); err == nil {
			t.Errorf("%+v is answered", q)
		}
	}
}

// A line that is older than 90 days goes, with the next line or with the reconciler's round.
func TestAuditTrailIsTrimmed(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	old := time.Now().Add(-registry.AuditKept - time.Hour).UnixMilli()
	for i := range 3 {
		for _, stream := range []string{registry.AuditKey("acme"), registry.AuditKeyOfAll} {
			if err := h.redis.XAdd(ctx, &redis.XAddArgs{Stream: stream, ID: fmt.Sprintf("%d-%d", old, i), Values: []string{"l", "{}", "x", ""}}).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	h.create("acme", plain)
	if err := h.TrimAudit(ctx, []string{"acme"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if n := h.redis.XLen(ctx, registry.AuditKey("acme")).Val(); n != 1 {
		t.Errorf("%d lines of the company are left", n)
	}
	if n := h.redis.XLen(ctx, registry.AuditKeyOfAll).Val(); n != 0 {
		t.Errorf("%d lines of the installation are left", n)
	}
}

// Whichever answer is lost, go-redis asks again, and the change and its line are there once. They are one script: no kill comes between them.
func TestLostAnswersLeaveOneLine(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	left := &atomic.Int64{}
	rdb := h.server.LossyClient(left)
	broken, err := registry.New(registry.Config{Redis: rdb, Catalogue: payloads.Builtin(), Keyset: h.keyset})
	if err != nil {
		t.Fatal(err)
	}
	number := int64(7)
	keys, brokenKeys := registry.NewKeys(h.redis), registry.NewKeys(rdb)
	var key registry.Key // of the company
	var token string     // of its link
	var link registry.Link
	ops := map[string]struct {
		action string
		do     func(company string) error
	}{
		"create": {"callback.create", func(company string) error { _, err := broken.Create(ctx, company, []byte(plain)); return err }},
		"patch": {"callback.update", func(company string) error {
			_, err := broken.Patch(ctx, company, 1, []byte(`{"description":"d"}`))
			return err
		}},
		"rotate": {"callback.rotate_secret", func(company string) error { _, err := broken.RotateSecret(ctx, company, 1, time.Hour); return err }},
		"pause":  {"callback.pause", func(company string) error { _, err := broken.Pause(ctx, company, 1); return err }},
		"resume": {"callback.resume", func(company string) error { _, err := broken.Resume(ctx, company, 2); return err }},
		"delete": {"callback.delete", func(company string) error { return broken.Delete(ctx, company, 1) }},
		"quotas": {"quotas.update", func(company string) error {
			_, err := broken.SetQuotas(ctx, company, map[string]*int64{registry.QuotaReplays: &number})
			return err
		}},
		"type": {"type.create", func(company string) error {
			_, err := broken.Types().Put(ctx, payloads.Type{Name: company})
			return err
		}},
		"key":        {"apikey.create", func(company string) error { _, _, err := brokenKeys.Create(ctx, registry.Partner, company); return err }},
		"key-revoke": {"apikey.revoke", func(string) error { return brokenKeys.Revoke(ctx, key.ID) }},
		"key-rotate": {"apikey.rotate", func(string) error { _, _, err := brokenKeys.Rotate(ctx, key.ID, time.Hour); return err }},
		"link": {"portal_link.create", func(company string) error {
			_, _, err := broken.CreateLink(ctx, company, registry.LinkTerms{})
			return err
		}},
		"link-use":    {"portal_link.use", func(string) error { _, _, err := registry.NewSessions(brokenKeys).Redeem(ctx, token); return err }},
		"link-revoke": {"portal_link.revoke", func(company string) error { return broken.RevokeLink(ctx, company, link.ID) }},
		"erase": {registry.ActionEraseCompany, func(company string) error {
			return broken.Forget(ctx, company, registry.Erasure{ID: company})
		}},
	}
	// lines are those that tell of an operation, and how many there are in all.
	lines := func(name, company string) (found, all int) {
		if name == "type" {
			n := int(h.redis.XLen(ctx, "{ringback:types}:audit").Val())
			return n, n
		}
		page, _, err := h.Audit(ctx, registry.AuditQuery{Company: company})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page {
			if e.Action == ops[name].action {
				found++
			}
		}
		return found, len(page)
	}
	for name, op := range ops {
		lost := 0
		for step := int64(0); ; step++ { // at first none is lost: from then on Redis knows the script
			company := fmt.Sprintf("%s-%d", name, step)
			h.create(company, plain)
			h.create(company, plain)
			if _, err := h.Pause(ctx, company, 2); err != nil {
				t.Fatal(err)
			}
			if _, key, err = keys.Create(ctx, registry.Partner, company); err != nil {
				t.Fatal(err)
			}
			token, link = h.link(company, registry.LinkTerms{})
			found, all := lines(name, company)
			_ = rdb.Ping(ctx) // a connection that has said hello
			left.Store(step)
			if err := op.do(company); err != nil {
				t.Errorf("%s, answer %d lost: %v", name, step, err)
			}
			if left.Swap(0) > 0 {
				break // it has no more answers
			}
			if step > 0 {
				lost++
			}
			if name == "erase" {
				all-- // that of the company's key goes
			}
			if foundNow, allNow := lines(name, company); foundNow != found+1 || allNow != all+1 {
				t.Errorf("%s, answer %d lost: %d lines more, %d of them its own; want one", name, step, allNow-all, foundNow-found)
			}
		}
		if lost == 0 {
			t.Errorf("%s: no answer was lost", name)
		}
	}
}

// The changes of a callback are sealed in the trail, as the callback is elsewhere. Redis alone tells nothing of them, and a reader with another
// keyset says so.
func TestAuditTrailIsSealed(t *testing.T) {
	h := newHouse(t)
	h.create("acme", secretive)
	for _, word := range []string{"partner.example", "id.example", "X-Key", "r3zhm8", "mine"} {
		if strings.Contains(h.dump(), word) {
			t.Errorf("Redis holds %q in clear", word)
		}
	}
	stranger := openHouse(t, h.server, newKeyset(t))
	if lines := stranger.trail("acme"); len(lines) != 1 || !lines[0].Sealed || len(lines[0].Changes) != 0 || lines[0].Action != "callback.create" {
		t.Errorf("with another keyset: %+v", lines)
	}
	if lines := h.trail("acme"); lines[0].Sealed || len(lines[0].Changes) < 5 {
		t.Errorf("with its own: %+v", lines)
	}
}

// The trail tells what a key is good for. The key itself is nowhere in it. The lines about an erased company's keys go with it.
func TestAuditTrailOfKeys(t *testing.T) {
	h := newHouse(t)
	ctx := registry.WithActor(t.Context(), registry.ActorCLI)
	keys := registry.NewKeys(h.redis)
	secret, key, err := keys.Create(ctx, registry.Partner, "acme")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := keys.Create(ctx, registry.Operator, ""); err != nil {
		t.Fatal(err)
	}
	if _, _, err := keys.Create(ctx, registry.Partner, ""); err == nil {
		t.Error("a partner's key for no company")
	}
	if err := keys.Revoke(ctx, key.ID); err != nil {
		t.Fatal(err)
	}
	if err := keys.Revoke(ctx, key.ID); !errors.Is(err, registry.ErrNotFound) {
		t.Error(err)
	}
	lines := h.trail("acme")
	if !slices.Equal(actions(lines), []string{"apikey.create", "apikey.revoke"}) || lines[0].Actor != registry.ActorCLI || lines[0].Object != "keys/"+key.ID ||
		!slices.Contains(lines[0].Changes, registry.AuditChange{Field: "role", New: "partner"}) {
		t.Errorf("%+v", lines)
	}
	if all := h.trail(""); len(all) != 3 || all[1].Company != "" {
		t.Errorf("%+v", all)
	}
	if strings.Contains(h.dump(), secret[13:]) {
		t.Error("a key is in Redis")
	}
	if err := h.Forget(ctx, "acme", registry.Erasure{ID: "1"}); err != nil {
		t.Fatal(err)
	}
	if lines := h.trail("acme"); !slices.Equal(actions(lines), []string{registry.ActionEraseCompany}) {
		t.Errorf("erased, it leaves %v", actions(lines))
	}
}

// counting notes how many lines of the audit trail Redis is asked for, and gives.
type counting struct{ commands, lines int }

func (c *counting) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (c *counting) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (c *counting) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		for _, cmd := range cmds {
			if read, ok := cmd.(*redis.XMessageSliceCmd); ok {
				c.commands, c.lines = c.commands+1, c.lines+len(read.Val())
			}
		}
		return err
	}
}

// A page costs little, however many companies there are, and however many lines about others.
func TestAPageOfTheTrailIsBounded(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	const companies, each, others = 300, 20, 5000
	start := time.Now().Add(-time.Hour).UnixMilli()
	pipe := h.redis.Pipeline()
	add := func(stream, line string, at int) {
		pipe.XAdd(ctx, &redis.XAddArgs{Stream: stream, ID: fmt.Sprintf("%d-0", start+int64(at)), Values: []string{"l", line, "x", ""}})
	}
	keys, of := "{ringback:keys}:audit", "egress.pause"
	for i := range companies {
		name := fmt.Sprintf("c-%d", i)
		pipe.SAdd(ctx, "ringback:companies", name)
		for n := range each {
			add(registry.AuditKey(name), fmt.Sprintf(`{"c":%q,"by":"x","do":"callback.pause"}`, name), 10*n+i%10)
		}
	}
	for i := range others {
		line := `{"c":"c-9","by":"x","do":"apikey.create"}`
		if i%2000 == 7 {
			line = `{"c":"c-1","by":"x","do":"apikey.create"}`
		}
		add(keys, line, 1000+i)
		add(registry.AuditKeyOfAll, fmt.Sprintf(`{"by":"x","do":%q}`, of), i)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	count := &counting{}
	h.redis.AddHook(count)
	for _, tt := range []struct {
		company                            string
		want, pages, perPage, commandsEach int
	}{
		{"", companies*each + 2*others, (companies*each + 2*others) / 500, companies + 500 + 1500, companies + 4 + 200},
		{"c-1", each + 3, 8, 1000 + 3*100, 3 + 20},
	} {
		seen, pages := map[string]bool{}, 0
		var last time.Time
		for cursor := "-"; cursor != ""; pages++ {
			*count = counting{}
			page, next, err := h.Audit(ctx, registry.AuditQuery{Company: tt.company, Limit: 500, Cursor: strings.TrimPrefix(cursor, "-")})
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page {
				if seen[e.ID] || !last.IsZero() && e.At.After(last) || tt.company != "" && e.Company != tt.company {
					t.Fatalf("%q: a line comes twice, too late or for another: %+v", tt.company, e)
				}
				seen[e.ID], last = true, e.At
			}
			if count.lines > tt.perPage || count.commands > tt.commandsEach {
				t.Errorf("%q, page %d of %d lines: %d were read with %d commands", tt.company, pages, len(page), count.lines, count.commands)
			}
			cursor = next
		}
		if len(seen) != tt.want || pages > tt.pages {
			t.Errorf("%q: %d lines on %d pages, want %d on %d", tt.company, len(seen), pages, tt.want, tt.pages)
		}
	}
}
