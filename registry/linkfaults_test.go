package registry_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// A link that cannot be read is told, and keeps nobody from making others; once one is made, it is gone.
func TestLinksThatCannotBeRead(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	token, l := h.link("acme", registry.LinkTerms{})
	session, _, err := h.sessions().Redeem(ctx, token)
	if err != nil {
		t.Fatal(err)
	}
	used := h.redis.HGet(ctx, "{acme}:links", l.ID+"/used").Val()
	for _, wrong := range []string{"nonsense", used + " 1", strings.Replace(used, " ", "x ", 1), used[:strings.LastIndexByte(used, ' ')+1] + "soon"} {
		h.redis.HSet(ctx, "{acme}:links", l.ID+"/used", wrong)
		if _, _, err := h.Links(ctx, "acme"); err == nil {
			t.Errorf("%q is read", wrong)
		}
		if _, err := h.sessions().Get(ctx, session, registry.PlacePortal); err == nil {
			t.Errorf("with %q a session is good", wrong)
		}
	}
	h.redis.HSet(ctx, "{acme}:links", l.ID+"/used", used, "lnk_bad", "nonsense")
	if _, _, err := h.Links(ctx, "acme"); err == nil || !strings.Contains(err.Error(), "lnk_bad") {
		t.Errorf("the link that cannot be read: %v", err)
	}
	h.link("acme", registry.LinkTerms{})
	if links, _, err := h.Links(ctx, "acme"); err != nil || len(links) != 2 {
		t.Errorf("%d links, %v", len(links), err)
	}
}

// asked counts what Redis is asked for.
type asked struct{ n int }

func (*asked) DialHook(next redis.DialHook) redis.DialHook { return next }

func (a *asked) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { a.n++; return next(ctx, cmd) }
}

func (*asked) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// What is no token of ours asks Redis for nothing: it names no key.
func TestTokensOfNoLinkAskNothing(t *testing.T) {
	h := newHouse(t)
	token, l := h.link("acme", registry.LinkTerms{})
	rdb, a := h.server.Client(), &asked{}
	rdb.AddHook(a)
	sessions := registry.NewSessions(registry.NewKeys(rdb))
	for _, wrong := range []string{
		"", "rbl_", "rbp_", token[:47], token[:48] + "lnk_x", token[:48] + l.ID + ".", token[:48] + l.ID + ".}x{acme", token[:48] + l.ID + "..", token[:48] + "rbk_x.acme", token[:48] + "/used.acme",
	} {
		_, _, _ = sessions.Redeem(t.Context(), wrong)
		if strings.HasPrefix(wrong, "rbl_") {
			wrong = "rbp_" + wrong[4:]
			_, _ = sessions.Get(t.Context(), wrong, registry.PlacePortal)
			_ = sessions.End(t.Context(), wrong)
		}
		if a.n > 0 {
			t.Errorf("%s asks for %d things", wrong, a.n)
		}
		a.n = 0
	}
}

// A link's state follows from its times.
func TestStatesOfLinks(t *testing.T) {
	t.Parallel()
	at := time.Now()
	for i, tt := range []struct {
		link registry.Link
		want registry.LinkState
	}{
		{registry.Link{ExpiresAt: at.Add(1)}, registry.LinkUnused},
		{registry.Link{ExpiresAt: at}, registry.LinkExpired},
		{registry.Link{ExpiresAt: at.Add(-1), UsedAt: at.Add(-2), SessionEndsAt: at.Add(1)}, registry.LinkInUse},
		{registry.Link{ExpiresAt: at.Add(1), UsedAt: at.Add(-2), SessionEndsAt: at}, registry.LinkEnded},
	} {
		if got := tt.link.State(at); got != tt.want {
			t.Errorf("%d: %s, want %s", i, got, tt.want)
		}
	}
}

// The trail tells what a link was made for, and a company's links go with their sessions where it is erased. So many callbacks it may name.
func TestTermsAreInTheTrail(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	cb := h.create("acme", plain)
	token, l := h.link("acme", registry.LinkTerms{Callbacks: []int64{cb.ID}, ReadOnly: true, SessionExpiresIn: time.Hour})
	said := ""
	for _, e := range h.trail("acme") {
		if e.Action == "portal_link.create" {
			said = fmt.Sprint(e.Changes)
		}
	}
	for _, part := range []string{"expires_at", "session_expires_in", "1h", "callback_ids", "read_only"} {
		if !strings.Contains(said, part) {
			t.Errorf("the trail has no %s: %s", part, said)
		}
	}
	session, _, err := h.sessions().Redeem(ctx, token)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.ForgetLinks(ctx, "acme"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.sessions().Get(ctx, session, registry.PlacePortal); !errors.Is(err, registry.ErrUnauthorized) || h.state("acme", l.ID) != "" {
		t.Errorf("the session of a link that is gone: %v", err)
	}
	many := make([]int64, 101)
	for i := range many {
		many[i] = int64(i + 1)
	}
	_, _, err = h.CreateLink(ctx, "acme", registry.LinkTerms{Callbacks: many})
	if invalid, ok := errors.AsType[*payloads.InvalidError](err); !ok || !strings.Contains(invalid.Fields[0].Message, "1 to 100 callbacks") {
		t.Errorf("a link to 101 callbacks: %v", err)
	}
}
