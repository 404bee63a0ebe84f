package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// stock gives a company callbacks, each with so many cancelled deliveries.
func (h *house) stock(company string, perCallback ...int) {
	h.t.Helper()
	for i, n := range perCallback {
		typ := fmt.Sprintf("wallet_item_%s", []string{"install", "remove"}[i%2])
		cb, err := h.registry.Create(h.t.Context(), company, fmt.Appendf(nil, `{"callback_type": %q, %q: {"campaign_token": "t%d"}, "destination": {"url": %q}}`,
			typ, typ, i, h.partner.url("bulk")))
		h.must(err)
		h.partner.knows(cb)
		_, err = h.registry.Pause(h.t.Context(), company, cb.ID)
		h.must(err)
		for j := range n {
			r, err := h.client.Send(h.t.Context(), payloads.Event{
				Company: company, ID: fmt.Sprintf("e-%d-%d", i, j), Type: typ, Payload: exampleOf(h.t, typ, fmt.Sprintf("t%d", i)),
			})
			h.must(err)
			for _, d := range r.Deliveries {
				_, err = h.client.Cancel(h.t.Context(), company, d.DeliveryID)
				h.must(err)
			}
		}
		_, err = h.registry.Resume(h.t.Context(), company, cb.ID)
		h.must(err)
	}
}

// exampleOf is a type's example, with a campaign's token.
func exampleOf(t *testing.T, typ, token string) []byte {
	t.Helper()
	known, ok := payloads.Builtin().Lookup(typ)
	if !ok {
		t.Fatalf("no type %s", typ)
	}
	attrs, _, err := known.Examine(known.Example)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(strings.ReplaceAll(string(known.Example), attrs["campaign_token"], token))
}

// all is every name.
func all(string) bool { return true }

// round goes on with the replays over companies, and then with those that they have begun.
func (h *house) bulkRound(companies ...string) {
	h.t.Helper()
	h.must(h.client.goOnBulks(h.t.Context(), all, soon()))
	for _, company := range companies {
		h.must(h.client.sweep(h.t.Context(), company, time.Now().Add(time.Minute)))
	}
}

var cancelledOnes = []ledger.State{ledger.Cancelled}

// TestReplayAll counts and replays over callbacks and companies, each delivery once.
func TestReplayAll(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.stock("one", 3, 2)
	h.stock("two", 1)
	h.stock("three", 0)
	_, err := h.registry.Pause(t.Context(), "two", 1)
	h.must(err)
	for name, tt := range map[string]struct {
		company string
		q       BulkQuery
		want    int64
	}{
		"all":             {"", BulkQuery{}, 6},
		"some companies":  {"", BulkQuery{Companies: []string{"two", "three", "two"}}, 1},
		"one's own":       {"one", BulkQuery{}, 5},
		"of callbacks":    {"one", BulkQuery{Callbacks: []int64{2, 2}}, 2},
		"of one by name":  {"", BulkQuery{Companies: []string{"one"}, Callbacks: []int64{1}}, 3},
		"by type":         {"", BulkQuery{ReplayQuery: ReplayQuery{EventType: "wallet_item_remove"}}, 2},
		"by reason":       {"", BulkQuery{ReplayQuery: ReplayQuery{Reason: "timeout"}}, 0},
		"since":           {"", BulkQuery{ReplayQuery: ReplayQuery{Since: time.Now().Add(time.Hour)}}, 0},
		"dead":            {"", BulkQuery{ReplayQuery: ReplayQuery{States: []ledger.State{ledger.Dead}}}, 0},
		"dead, retrying":  {"", BulkQuery{ReplayQuery: ReplayQuery{States: []ledger.State{ledger.Dead, ledger.Retrying}}}, 0},
		"of nothing":      {"three", BulkQuery{}, 0},
		"dead, cancelled": {"one", BulkQuery{ReplayQuery: ReplayQuery{States: []ledger.State{ledger.Dead, ledger.Cancelled}}}, 5},
	} {
		q := tt.q
		q.DryRun = true
		if q.States == nil {
			q.States = cancelledOnes
		}
		r, err := h.client.ReplayAll(t.Context(), tt.company, q)
		h.must(err)
		kept, err := h.client.ReplayProgress(t.Context(), tt.company, r.ReplayID)
		if err != nil || r.Matched != tt.want || r.Estimate || r.State != ReplayDryRun || kept.Matched != r.Matched {
			t.Errorf("%s: %+v, want %d; kept as %+v, %v", name, r, tt.want, kept, err)
		}
	}
	r, err := h.client.ReplayAll(registry.WithActor(t.Context(), "somebody"), "", BulkQuery{ReplayQuery: ReplayQuery{States: cancelledOnes, Pace: 1000}})
	h.must(err)
	h.must(h.client.goOnBulks(t.Context(), func(string) bool { return false }, soon())) // another worker's
	if p, err := h.client.ReplayProgress(t.Context(), "", r.ReplayID); err != nil || p.State != ReplayRunning || len(p.Parts) != 0 {
		t.Errorf("begun: %+v, %v", p, err)
	}
	for range 3 { // each has its time, which may be too short for all
		h.must(h.client.goOnBulks(t.Context(), all, soon()))
	}
	want := []ReplayPart{
		{Company: "one", State: ReplayRunning, CallbackIDs: []int64{1, 2}}, {Company: "two", State: ReplayRunning, CallbackIDs: []int64{1}},
	}
	p, err := h.client.ReplayProgress(t.Context(), "", r.ReplayID)
	h.must(err)
	for i := range p.Parts {
		p.Parts[i].Matched, p.Parts[i].Left = 0, 0 // counted as far as there was time
	}
	if diff := cmp.Diff(want, p.Parts); diff != "" || p.PartsLeft != 2 {
		t.Errorf("under way, %d parts are left (-want +got):\n%s", p.PartsLeft, diff)
	}
	for range 2 {
		h.bulkRound("one", "two", "three")
	}
	p, err = h.client.ReplayProgress(t.Context(), "", r.ReplayID)
	h.must(err)
	want = []ReplayPart{
		{Company: "one", State: ReplayDone, Matched: 5, Replayed: 5}, {Company: "two", State: ReplayDone, Matched: 1, Replayed: 1},
	}
	if diff := cmp.Diff(want, p.Parts); diff != "" || p.State != ReplayDone || p.Replayed != 6 || p.Matched != 6 || p.FinishedAt.IsZero() || p.PartsLeft != 0 {
		t.Errorf("%+v (-want +got):\n%s", p, diff)
	}
	list, err := h.client.Replays(t.Context(), "one")
	h.must(err)
	var of []string
	for _, s := range list {
		if s.State == ReplayDone {
			of = append(of, fmt.Sprint(s.BulkID, s.CallbackID, s.Replayed, s.Pace))
		}
	}
	if slices.Sort(of); !slices.Equal(of, []string{r.ReplayID + "1 3 1000", r.ReplayID + "2 2 1000"}) {
		t.Errorf("the company's own: %q", of)
	}
	trail, _, err := h.registry.Audit(t.Context(), registry.AuditQuery{Company: "one", Limit: 500})
	h.must(err)
	if n := len(slices.DeleteFunc(trail, func(e registry.AuditEntry) bool { return e.Action != "replay.start" || e.Actor != "somebody" })); n != 2 {
		t.Errorf("%d lines tell the company who replays there", n)
	}
	for _, company := range []string{"one", "two"} {
		page, _, err := h.client.Deliveries(t.Context(), company, Query{States: cancelledOnes})
		if err != nil || len(page) != 0 {
			t.Errorf("%d of %s are still cancelled, %v", len(page), company, err)
		}
	}
	h.checkModel(1000)
}

// TestReplayAllRefuses what it does not know, and more than may run.
func TestReplayAllRefuses(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.stock("one", 1)
	for name, tt := range map[string]struct {
		company, location string
		q                 BulkQuery
	}{
		"no company":          {"", "body.companies[1]", BulkQuery{Companies: []string{"one", "nobody"}}},
		"no name":             {"", "body.companies[0]", BulkQuery{Companies: []string{"a/b"}}},
		"no callback":         {"one", "body.callback_ids[1]", BulkQuery{Callbacks: []int64{1, 2}}},
		"callbacks of all":    {"", "body.callback_ids", BulkQuery{Callbacks: []int64{1}}},
		"held ones":           {"", "body.states[0]", BulkQuery{ReplayQuery: ReplayQuery{States: []ledger.State{ledger.Held}}}},
		"too fast":            {"", "body.pace", BulkQuery{ReplayQuery: ReplayQuery{Pace: MaxPace + 1}}},
		"too many companies":  {"", "body.companies", BulkQuery{Companies: make([]string, maxNames+1)}},
		"too many callbacks":  {"one", "body.callback_ids", BulkQuery{Callbacks: make([]int64, maxNames+1)}},
		"a company not there": {"nobody", "body.companies[0]", BulkQuery{}},
	} {
		_, err := h.client.ReplayAll(t.Context(), tt.company, tt.q)
		if bad, ok := errors.AsType[*payloads.InvalidError](err); !ok || bad.Fields[0].Location != tt.location {
			t.Errorf("%s: %v", name, err)
		}
	}
	for range registry.DefaultReplays {
		for _, company := range []string{"", "one"} {
			_, err := h.client.ReplayAll(t.Context(), company, BulkQuery{})
			h.must(err)
		}
	}
	if _, err := h.client.ReplayAll(t.Context(), "", BulkQuery{}); !errors.Is(err, ErrTooManyReplays) {
		t.Errorf("one too many: %v", err)
	}
	if _, err := h.client.ReplayAll(t.Context(), "one", BulkQuery{}); err == nil {
		t.Error("one too many of a company is taken")
	} else if e, ok := errors.AsType[*registry.QuotaError](err); !ok || e.Company != "one" || e.Limit != registry.DefaultReplays {
		t.Errorf("one too many of a company: %v", err)
	}
	r, err := h.client.ReplayAll(t.Context(), "one", BulkQuery{ReplayQuery: ReplayQuery{DryRun: true}})
	h.must(err)
	for _, company := range []string{"", "two"} { // it is the company's own
		if _, err := h.client.ReplayProgress(t.Context(), company, r.ReplayID); !errors.Is(err, ErrNotFound) {
			t.Errorf("shown to %q: %v", company, err)
		}
		if err := h.client.CancelReplay(t.Context(), company, r.ReplayID); !errors.Is(err, ErrNotFound) {
			t.Errorf("cancelled by %q: %v", company, err)
		}
	}
}

// TestReplayAllKeepsToTheQuota: it leaves a place to who asks for one replay, and goes on when its own have ended. A company that may have none has none.
func TestReplayAllKeepsToTheQuota(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.stock("one", 1, 1, 1)
	h.stock("none", 1)
	for company, most := range map[string]int64{"one": 2, "none": 0} {
		_, err := h.registry.SetQuotas(t.Context(), company, map[string]*int64{registry.QuotaReplays: &most})
		h.must(err)
	}
	r, err := h.client.ReplayAll(t.Context(), "", BulkQuery{ReplayQuery: ReplayQuery{States: cancelledOnes}})
	h.must(err)
	for round := range 3 {
		h.must(h.client.goOnBulks(t.Context(), all, soon()))
		if n := h.rdb.SCard(t.Context(), ledger.Key("one", "replaying")).Val(); n != 1 {
			t.Errorf("in round %d, %d run", round+1, n)
		}
		if round == 0 {
			own, err := h.client.ReplayCallback(t.Context(), "one", 1, ReplayQuery{})
			h.must(err)
			h.must(h.client.CancelReplay(t.Context(), "one", own.ReplayID))
		}
		h.must(h.client.sweep(t.Context(), "one", time.Now().Add(time.Minute)))
	}
	h.bulkRound()
	p, err := h.client.ReplayProgress(t.Context(), "", r.ReplayID)
	if err != nil || p.State != ReplayDone || p.Replayed != 3 {
		t.Errorf("%+v, %v", p, err)
	}
}

// soon is when a round's share of time is over that has just begun.
func soon() time.Time { return time.Now().Add(time.Minute) }

// TestReplayAllKeepsToItsTime: once its share of a round is over, it begins and stops nothing more, and knows what it has.
func TestReplayAllKeepsToItsTime(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.stock("one", 1, 1, 1)
	r, err := h.client.ReplayAll(t.Context(), "", BulkQuery{ReplayQuery: ReplayQuery{States: cancelledOnes}})
	h.must(err)
	b, err := h.client.ledger.Bulk(t.Context(), r.ReplayID)
	h.must(err)
	p, _, err := h.client.namePart(t.Context(), b, "one", true)
	h.must(err)
	if n, whole, err := h.client.countOne(t.Context(), b, "one", candidate{id: 1}, time.Now().Add(-time.Second)); err != nil || !whole || n.Matched != 1 {
		t.Errorf("what is one page is counted, however late: %+v, %t, %v", n, whole, err)
	}
	late := &ledger.Bulk{States: b.States, Span: b.Span}
	if err := h.client.countCompany(t.Context(), late, "one", time.Now().Add(-time.Second)); err != nil || !late.Estimate || late.Matched != 0 {
		t.Errorf("no callback is begun with that late: %+v, %v", late, err)
	}
	_, _, err = h.client.beginPart(t.Context(), b, "one", 2)
	h.must(err)
	for what, step := range map[string]func(context.Context, *ledger.Bulk, *ledger.Part, time.Time) error{"go on": h.client.goOnPart, "stop": h.client.stopPart} {
		h.must(step(t.Context(), b, p, time.Now()))
		if n := h.rdb.SCard(t.Context(), ledger.Key("one", "replaying")).Val(); n != 1 || len(p.Left) != 3 || p.Running.Matched != 1 {
			t.Errorf("%s: %d run, and of the part: %+v", what, n, p)
		}
	}
	h.must(h.client.goOnPart(t.Context(), b, p, soon()))
	if n := h.rdb.SCard(t.Context(), ledger.Key("one", "replaying")).Val(); n != 3 || p.Running.Matched != 3 {
		t.Errorf("with time, %d run, and of the part: %+v", n, p)
	}
	h.must(h.client.stopPart(t.Context(), b, p, soon()))
	if n := h.rdb.Exists(t.Context(), ledger.Key("one", "replaying")).Val(); n != 0 || len(p.Left) != 0 || p.Ended.Matched != 3 {
		t.Errorf("stopped: %d, %+v", n, p)
	}
}

// TestReplayAllIsCancelled: what was named and not begun cannot be begun by somebody who is late, and what runs is stopped.
func TestReplayAllIsCancelled(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.stock("one", 1, 1)
	h.stock("two", 1)
	r, err := h.client.ReplayAll(t.Context(), "", BulkQuery{ReplayQuery: ReplayQuery{States: cancelledOnes}})
	h.must(err)
	late, err := h.client.ledger.Bulk(t.Context(), r.ReplayID)
	h.must(err)
	found, named, err := h.client.namePart(t.Context(), late, "one", true)
	if err != nil || !named || len(found.Left) != 2 {
		t.Fatalf("%+v, %t, %v", found, named, err)
	}
	_, _, err = h.client.beginPart(t.Context(), late, "one", 1) // and callback 2 is not begun
	h.must(err)
	h.must(h.client.CancelReplay(registry.WithActor(t.Context(), "somebody"), "", r.ReplayID))
	h.must(h.client.CancelReplay(t.Context(), "", r.ReplayID)) // again changes nothing
	h.bulkRound()
	h.must(h.client.goOnPart(t.Context(), late, &ledger.Part{Company: "one", Left: []int64{1, 2}}, soon()))
	if _, named, err := h.client.namePart(t.Context(), late, "two", true); named || err != nil {
		t.Errorf("another company is named: %v", err)
	}
	p, err := h.client.ReplayProgress(t.Context(), "", r.ReplayID)
	if err != nil || p.State != ReplayCancelled || p.Replayed != 0 || p.FinishedAt.IsZero() || len(p.Parts) != 1 {
		t.Errorf("%+v, %v", p, err)
	}
	list, err := h.client.Replays(t.Context(), "one")
	h.must(err)
	if len(list) != 2 || slices.ContainsFunc(list, func(r *Replay) bool { return r.State != ReplayCancelled }) {
		t.Errorf("its parts: %+v", list)
	}
	for _, company := range []string{"one", "two", "ringback:replays"} {
		if n := h.rdb.Exists(t.Context(), ledger.Key(company, "replaying")).Val(); n != 0 {
			t.Errorf("something runs of %s", company)
		}
	}
	trail, _, err := h.registry.Audit(t.Context(), registry.AuditQuery{Limit: 500})
	h.must(err)
	if n := len(slices.DeleteFunc(trail, func(e registry.AuditEntry) bool { return e.Action != "replay.cancel" || e.Actor != "somebody" })); n != 2 {
		t.Errorf("%d lines say who cancelled, want one for it and one for what ran", n)
	}
}

// TestReplayAllOfAnErasedCompany goes on with the others, and nothing of the company comes back.
func TestReplayAllOfAnErasedCompany(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.stock("one", 1)
	h.stock("gone", 1)
	own, err := h.client.ReplayAll(t.Context(), "gone", BulkQuery{ReplayQuery: ReplayQuery{States: cancelledOnes}})
	h.must(err)
	r, err := h.client.ReplayAll(t.Context(), "", BulkQuery{Companies: []string{"gone", "one"}, ReplayQuery: ReplayQuery{States: cancelledOnes}})
	h.must(err)
	b, err := h.client.ledger.Bulk(t.Context(), r.ReplayID)
	h.must(err)
	late, _, err := h.client.namePart(t.Context(), b, "gone", true)
	h.must(err)
	said, err := h.client.EraseCompany(t.Context(), registry.NewKeys(h.rdb), "gone", "")
	if err != nil || !said.Done || said.Replays != 1 {
		t.Fatalf("%+v, %v", said, err)
	}
	h.must(h.client.goOnPart(t.Context(), b, late, soon()))
	for range 3 {
		h.bulkRound("one")
	}
	p, err := h.client.ReplayProgress(t.Context(), "", r.ReplayID)
	if err != nil || p.State != ReplayDone || p.Replayed != 1 || !slices.Equal(p.Companies, []string{"one"}) || len(p.Parts) != 1 || p.Parts[0].Company != "one" {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := h.client.ReplayProgress(t.Context(), "gone", own.ReplayID); !errors.Is(err, ErrNotFound) {
		t.Errorf("its own: %v", err)
	}
	for _, key := range h.keys() {
		if name, ours := strings.CutPrefix(key, "{gone}:"); ours && !slices.Contains([]string{"ver", "cbver", "cbseq"}, name) {
			t.Errorf("%s is left of the company", key)
		}
	}
}

// TestKillWithinAReplayOverCompanies: whoever goes on finds what was named and not begun, and nothing is sent again twice.
func TestKillWithinAReplayOverCompanies(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.stock("one", 1, 2)
	h.stock("two", 1)
	for point, after := range map[string]int{"part named": 1, "part begun": 2} {
		for n := range after + 1 {
			r, err := h.client.ReplayAll(t.Context(), "", BulkQuery{ReplayQuery: ReplayQuery{States: cancelledOnes}})
			h.must(err)
			h.start(childJob{Bulk: true, KillAt: point, After: n}).dies()
			for range 2 {
				h.bulkRound("one", "two")
			}
			p, err := h.client.ReplayProgress(t.Context(), "", r.ReplayID)
			if err != nil || p.State != ReplayDone || p.Replayed != 4 || p.Matched != 4 || len(p.Parts) != 2 {
				t.Errorf("killed at the %d. %s: %+v, %v", n+1, point, p, err)
			}
			for _, company := range []string{"one", "two"} { // for the next kill
				list, _, err := h.client.Deliveries(t.Context(), company, Query{States: []ledger.State{ledger.Pending}})
				h.must(err)
				for _, d := range list {
					_, err := h.client.Cancel(t.Context(), company, d.DeliveryID)
					h.must(err)
				}
			}
		}
	}
}

// TestReplayAllFromEndToEnd: dead and retrying ones of several callbacks go out in one go, a retrying one with the budget that it has.
func TestReplayAllFromEndToEnd(t *testing.T) {
	inBubble(t, func(h *house) {
		h.partner.answers(answering(503, 503, 204))
		h.register("payment_proof", `"retry": {"initial_interval": "1h", "max_attempts": 3}`)
		h.register("payment_proof", `"retry": {"max_attempts": 1}`)
		stop := h.work()
		id := h.send(proof("p-1")).Deliveries
		h.await(id[0].DeliveryID, ledger.Retrying, time.Minute)
		h.await(id[1].DeliveryID, ledger.Dead, time.Minute)
		for range 2 {
			r, err := h.client.ReplayAll(h.t.Context(), acme, BulkQuery{ReplayQuery: ReplayQuery{States: []ledger.State{ledger.Dead, ledger.Retrying}}})
			h.must(err)
			if r.Matched != 2 {
				h.t.Errorf("%d match, want 2", r.Matched)
			}
			h.eventually(30*time.Second, func() bool {
				p, err := h.client.ReplayProgress(h.t.Context(), acme, r.ReplayID)
				return err == nil && p.State == ReplayDone && p.Replayed == 2
			}, func() string { return "the replay does not end" })
			<-time.After(20 * time.Second)
		}
		for _, d := range id {
			if got := h.await(d.DeliveryID, ledger.Delivered, time.Minute); len(got.Attempts) != 3 {
				h.t.Errorf("%s took %d attempts, want 3", d.DeliveryID, len(got.Attempts))
			}
		}
		h.check()
		stop()
	})
}
