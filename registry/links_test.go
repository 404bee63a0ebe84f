package registry_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// sessions are those of the house's Redis.
func (h *house) sessions() *registry.Sessions {
	return registry.NewSessions(registry.NewKeys(h.redis))
}

func (h *house) link(company string, terms registry.LinkTerms) (token string, l registry.Link) {
	h.t.Helper()
	token, l, err := h.CreateLink(registry.WithActor(h.t.Context(), "rbk_maker"), company, terms)
	if err != nil {
		h.t.Fatal(err)
	}
	return token, l
}

// state is that of a link as it is listed; empty: it is not.
func (h *house) state(company, id string) registry.LinkState {
	h.t.Helper()
	l, at, err := h.Link(h.t.Context(), company, id)
	if errors.Is(err, registry.ErrNotFound) {
		return ""
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return l.State(at)
}

// A portal link works once. Its session acts as a partner within the link's bounds, until somebody logs out or the link is revoked. Redis holds
// neither token, and the audit trail tells who made, used and revoked it.
func TestAPortalLinkWorksOnce(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	cb := h.create("acme", plain)
	here, there := h.sessions(), h.sessions() // two processes
	token, l := h.link("acme", registry.LinkTerms{ExpiresIn: time.Hour, SessionExpiresIn: 2 * time.Hour, Callbacks: []int64{cb.ID, cb.ID}, ReadOnly: true})
	if h.state("acme", l.ID) != registry.LinkUnused || l.CreatedBy != "rbk_maker" || l.ExpiresAt.Sub(l.CreatedAt) != time.Hour {
		t.Errorf("%+v", l)
	}
	if _, err := here.Get(ctx, token, registry.PlacePortal); !errors.Is(err, registry.ErrUnauthorized) {
		t.Errorf("the link's own token as a session's: %v", err)
	}
	session, s, err := here.Redeem(ctx, token)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := there.Redeem(ctx, token); !errors.Is(err, registry.ErrLinkUsed) || !errors.Is(err, registry.ErrUnauthorized) {
		t.Errorf("once more: %v", err)
	}
	got, err := there.Get(ctx, session, registry.PlacePortal)
	if diff := cmp.Diff(s, got); err != nil || diff != "" {
		t.Errorf("%v: %s", err, diff)
	}
	want := registry.Key{ID: l.ID, Role: registry.Partner, Company: "acme", CreatedAt: l.CreatedAt, ExpiresAt: got.ExpiresAt, Callbacks: []int64{cb.ID}, ReadOnly: true}
	if diff := cmp.Diff(want, got.Key); diff != "" || got.ExpiresAt.Sub(got.BeganAt) != 2*time.Hour || !got.Key.IsLink() || !got.Key.Bounded() {
		t.Error(diff)
	}
	if !got.Key.Sees(cb.ID) || got.Key.Sees(cb.ID+1) || got.Key.Limit() != registry.PartnerRateLimit {
		t.Errorf("%+v", got.Key)
	}
	if _, err := there.Get(ctx, session, registry.PlaceConsole); !errors.Is(err, registry.ErrUnauthorized) {
		t.Errorf("at another place: %v", err)
	}
	if h.state("acme", l.ID) != registry.LinkInUse || h.state("other", l.ID) != "" {
		t.Error("it is not listed as in use, or by another company")
	}
	for field, value := range h.redis.HGetAll(ctx, "{acme}:links").Val() {
		if strings.Contains(value+field, token[4:40]) || strings.Contains(value+field, session[4:40]) {
			t.Errorf("Redis has %s: %s", field, value)
		}
	}
	if err := h.RevokeLink(registry.WithActor(ctx, "rbk_boss"), "acme", l.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := there.Get(ctx, session, registry.PlacePortal); !errors.Is(err, registry.ErrUnauthorized) {
		t.Errorf("revoked: %v", err)
	}
	if err := h.RevokeLink(ctx, "acme", l.ID); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("revoked again: %v", err)
	}
	var trail []string
	for _, e := range h.trail("acme") {
		if strings.HasPrefix(e.Action, "portal_link.") {
			trail = append(trail, e.Action+" "+e.Object+" "+e.Actor)
		}
	}
	object := " portal-links/" + l.ID + " "
	if diff := cmp.Diff([]string{"portal_link.create" + object + "rbk_maker", "portal_link.use" + object + l.ID, "portal_link.revoke" + object + "rbk_boss"}, trail); diff != "" {
		t.Error(diff)
	}
}

// Whoever guesses, changes a token or takes it to another company opens nothing, and uses nothing up.
func TestOnlyItsTokenOpensALink(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	sessions := h.sessions()
	token, l := h.link("acme", registry.LinkTerms{})
	h.link("other", registry.LinkTerms{})
	for _, other := range []string{
		"", token[:len(token)-1], strings.Replace(token, "acme", "other", 1), "rbp_" + token[4:], "rbl_" + strings.Repeat("x", 43) + "." + l.ID + ".acme",
		token[:48] + "lnk_nobodys.acme", "rbl_" + strings.Repeat("x", 43) + ".lnk_}.{ac}", strings.ToUpper(token), token + strings.Repeat("x", 300),
	} {
		if _, _, err := sessions.Redeem(ctx, other); !errors.Is(err, registry.ErrUnauthorized) || errors.Is(err, registry.ErrLinkUsed) {
			t.Errorf("%s: %v", other, err)
		}
		if _, err := sessions.Get(ctx, other, registry.PlacePortal); !errors.Is(err, registry.ErrUnauthorized) {
			t.Errorf("%s: %v", other, err)
		}
	}
	session, _, err := sessions.Redeem(ctx, token)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sessions.Get(ctx, strings.Replace(session, session[4:8], "xxxx", 1), registry.PlacePortal); !errors.Is(err, registry.ErrUnauthorized) {
		t.Errorf("another session: %v", err)
	}
	if err := sessions.End(ctx, strings.Replace(session, session[4:8], "xxxx", 1)); err != nil {
		t.Error(err)
	}
	if _, err := sessions.Get(ctx, session, registry.PlacePortal); err != nil {
		t.Errorf("somebody else logged out: %v", err)
	}
	if err := sessions.End(ctx, session); err != nil {
		t.Fatal(err)
	}
	if _, err := sessions.Get(ctx, session, registry.PlacePortal); !errors.Is(err, registry.ErrUnauthorized) || h.state("acme", l.ID) != registry.LinkEnded {
		t.Errorf("logged out: %v, %s", err, h.state("acme", l.ID))
	}
	if _, _, err := sessions.Redeem(ctx, token); !errors.Is(err, registry.ErrLinkUsed) {
		t.Errorf("after the logout: %v", err)
	}
}

// Of those who open a link at the same time, one gets in.
func TestOneOfManyOpensALink(t *testing.T) {
	h := newHouse(t)
	token, _ := h.link("acme", registry.LinkTerms{})
	var opened atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if _, _, err := h.sessions().Redeem(t.Context(), token); err == nil {
				opened.Add(1)
			} else if !errors.Is(err, registry.ErrLinkUsed) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if opened.Load() != 1 {
		t.Errorf("%d got in", opened.Load())
	}
}

// If a process dies between a link's opening and its answer, the link is used, and nobody has its session. Another link gets its owner in, and the
// lost session ends when the link is revoked.
func TestALostSessionIsNobodys(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	warm, _ := h.link("acme", registry.LinkTerms{})
	if _, _, err := h.sessions().Redeem(ctx, warm); err != nil { // the server knows the script
		t.Fatal(err)
	}
	token, l := h.link("acme", registry.LinkTerms{})
	dying := h.server.Client()
	f := &fault{after: true}
	dying.AddHook(f)
	sessions := registry.NewSessions(registry.NewKeys(dying))
	used := func() string { return h.redis.HGet(ctx, "{acme}:links", l.ID+"/used").Val() }
	for n := int64(1); used() == ""; n++ {
		if n > 20 {
			t.Fatal("it was never opened")
		}
		f.countdown.Store(n)
		if _, _, err := sessions.Redeem(ctx, token); !errors.Is(err, errInjected) {
			t.Fatalf("answer %d is lost: %v", n, err)
		}
	}
	f.countdown.Store(0)
	if _, _, err := sessions.Redeem(ctx, token); !errors.Is(err, registry.ErrLinkUsed) || h.state("acme", l.ID) != registry.LinkInUse {
		t.Errorf("%v, %s", err, h.state("acme", l.ID))
	}
	if err := h.RevokeLink(ctx, "acme", l.ID); err != nil {
		t.Fatal(err)
	}
	if used() != "" || h.state("acme", l.ID) != "" {
		t.Error("its session is left")
	}
	another, _ := h.link("acme", registry.LinkTerms{})
	if _, _, err := h.sessions().Redeem(ctx, another); err != nil {
		t.Error(err)
	}
}

// A link's terms are checked, and what it is bounded to must be there.
func TestTermsOfALink(t *testing.T) {
	h := newHouse(t)
	cb := h.create("acme", plain)
	h.create("other", plain)
	h.create("other", plain)
	for field, terms := range map[string]registry.LinkTerms{
		"expires_in": {ExpiresIn: registry.MaxLinkLife + time.Second}, "expires_in ": {ExpiresIn: time.Second}, "session_expires_in": {SessionExpiresIn: registry.MaxLinkSession + 1},
		"callback_ids": {Callbacks: []int64{}}, "callback_ids ": {Callbacks: []int64{cb.ID, cb.ID + 1}},
	} {
		_, _, err := h.CreateLink(t.Context(), "acme", terms)
		invalid, ok := errors.AsType[*payloads.InvalidError](err)
		if !ok || invalid.Fields[0].Location != "body."+strings.TrimSpace(field) {
			t.Errorf("%+v: %v", terms, err)
		}
	}
	if _, _, err := h.CreateLink(t.Context(), "..", registry.LinkTerms{}); err == nil {
		t.Error("a company that cannot be")
	}
	if known, err := h.Known(t.Context(), "new"); known || err != nil {
		t.Error(known, err)
	}
	_, l := h.link("new", registry.LinkTerms{})
	if known, err := h.Known(t.Context(), "new"); !known || err != nil {
		t.Errorf("its company is not named: %v", err)
	}
	if l.ExpiresIn != registry.DefaultLinkLife || l.SessionExpiresIn != registry.SessionLife || l.Callbacks != nil {
		t.Errorf("%+v", l)
	}
	end := h.beside(4)
	defer func() { _ = end(t.Context()) }()
	if _, _, err := h.neighbour().CreateLink(t.Context(), "acme", registry.LinkTerms{}); !isOld(err) {
		t.Errorf("while a process lives that would leave it in an erased company: %v", err)
	}
}

// A company has a hundred links. One more takes the place of the one that ended first, and is refused if none has ended.
func TestLinksOfACompanyAreBounded(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	_, first := h.link("acme", registry.LinkTerms{})
	old := time.Now().Add(-2 * time.Hour).UnixMilli()
	put := func(id string, ends int64) {
		h.redis.HSet(ctx, "{acme}:links", id, fmt.Sprintf(`{"t":"x","at":%d,"by":"rbk_a","ends":%d,"life":1000}`, old, ends))
	}
	for i := range registry.MaxLinks - 4 {
		put(fmt.Sprintf("lnk_%d", i), time.Now().Add(time.Hour).UnixMilli())
	}
	put("lnk_late", old+10)
	put("lnk_early", old+5)
	put("lnk_long", time.Now().Add(-8*24*time.Hour).UnixMilli())
	put("lnk_longer", time.Now().Add(-9*24*time.Hour).UnixMilli())
	h.redis.HSet(ctx, "{acme}:links", "lnk_early/used", fmt.Sprintf("%d - %d", old, old+7), "lnk_long/used", fmt.Sprintf("%d - %d", old, old-8*24*3600_000))
	if links, _, err := h.Links(ctx, "acme"); err != nil || len(links) != registry.MaxLinks-1 || links[0].ID != first.ID {
		t.Errorf("%d links, %v: what ended long ago is not listed, and the newest comes first", len(links), err)
	}
	has := func(id string) bool { return h.redis.HExists(ctx, "{acme}:links", id).Val() }
	for _, want := range []struct {
		gone string
		kept string
	}{{"lnk_long", "lnk_early"}, {"lnk_early", "lnk_late"}, {"lnk_late", first.ID}} {
		h.link("acme", registry.LinkTerms{})
		if has("lnk_longer") {
			t.Error("only one of those is gone that ended long ago")
		}
		if has(want.gone) || has(want.gone+"/used") || !has(want.kept) {
			t.Errorf("%s is there: %t, %s: %t", want.gone, has(want.gone), want.kept, has(want.kept))
		}
	}
	if _, _, err := h.CreateLink(ctx, "acme", registry.LinkTerms{}); !errors.Is(err, registry.ErrTooManyLinks) {
		t.Errorf("one too many: %v", err)
	}
	if err := h.RevokeLink(ctx, "acme", first.ID); err != nil {
		t.Fatal(err)
	}
	h.link("acme", registry.LinkTerms{})
}

// A link, and its session, end at their times, whatever Redis's clock does.
func TestLinksOutliveAStep(t *testing.T) {
	eachStep(t, func(t *testing.T, r *tower, by time.Duration) {
		ctx := t.Context()
		callbacks, err := registry.New(registry.Config{Redis: r, Catalogue: payloads.Builtin(), Keyset: newKeyset(t), Clock: r.clock()})
		if err != nil {
			t.Fatal(err)
		}
		sessions := registry.NewSessions(registry.NewKeys(r).Follow(r.clock()))
		link := func(life time.Duration) string {
			t.Helper()
			token, _, err := callbacks.CreateLink(ctx, "acme", registry.LinkTerms{ExpiresIn: life, SessionExpiresIn: 10 * time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			return token
		}
		used, late, last := link(time.Minute), link(time.Minute), link(time.Minute)
		session, _, err := sessions.Redeem(ctx, used)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		r.step(by)
		if _, err := sessions.Get(ctx, session, registry.PlacePortal); err != nil {
			t.Errorf("right after the step: %v", err)
		}
		time.Sleep(55 * time.Second)
		if _, _, err := sessions.Redeem(ctx, last); err != nil {
			t.Errorf("in its last seconds: %v", err)
		}
		time.Sleep(3 * time.Second)
		if _, _, err := sessions.Redeem(ctx, late); !errors.Is(err, registry.ErrExpired) {
			t.Errorf("too late: %v", err)
		}
		time.Sleep(9*time.Minute - 4*time.Second)
		if _, err := sessions.Get(ctx, session, registry.PlacePortal); err != nil {
			t.Errorf("before its end: %v", err)
		}
		time.Sleep(5 * time.Second)
		if _, err := sessions.Get(ctx, session, registry.PlacePortal); !errors.Is(err, registry.ErrExpired) {
			t.Errorf("after its end: %v", err)
		}
	})
}
