package once_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/ringback/ringback/registry/once"
	"github.com/ringback/ringback/registry/redistest"
)

func TestMain(m *testing.M) {
	// go-redis looks once more, after a second, for a Redis that was away.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// TestAScriptUnderAClaimActsOnce: whatever it answers, a repeat is told the same, by another run too, and it acts once. What did not act may act later.
func TestAScriptUnderAClaimActsOnce(t *testing.T) {
	rdb := redistest.Start(t).Client()
	ctx := t.Context()
	const claim = "{c}:claim"
	seal := func(plain []byte) ([]byte, error) { return plain, nil }
	for i, reply := range []string{
		"7", "-7", "''", "'text'", `'\0\255;:a2'`, "{'ok', 7}", "{}", "{{'a', {}}, false, 'b'}", "{false, false}", "redis.status_reply('fine')", "nil",
	} {
		acting := once.New(fmt.Sprintf("step_%d", i), "redis.call('INCR', KEYS[1]) local n = #KEYS + #ARGV if n ~= 3 then error(n) end return "+reply, "true")
		plain := redis.NewScript("return " + reply)
		rdb.FlushAll(ctx)
		rdb.HSet(ctx, claim, "t", "mine")
		want, wantErr := plain.Run(ctx, rdb, nil).Result()
		for range 3 {
			under := once.With(ctx, &once.Claim{Key: claim, Token: "mine", Seal: seal})
			got, err := acting.Run(under, rdb, []string{"{c}:n"}, "a", "b").Result()
			if !cmp.Equal(got, want) || !errors.Is(err, wantErr) {
				t.Errorf("%s: %#v, %v, want %#v, %v", reply, got, err, want, wantErr)
			}
		}
		if n := rdb.Get(ctx, "{c}:n").Val(); n != "1" {
			t.Errorf("%s: acted %s times", reply, n)
		}
		other := once.With(ctx, &once.Claim{Key: claim, Token: "another's", Seal: seal})
		if err := acting.Run(other, rdb, []string{"{c}:n"}, "a", "b").Err(); !errors.Is(err, once.ErrTaken) {
			t.Errorf("%s: with another token: %v", reply, err)
		}
	}
	modest := once.New("modest", "return redis.call('INCR', KEYS[1])", "reply == 2")
	under := once.With(ctx, &once.Claim{Key: claim, Token: "mine", Seal: seal})
	rdb.FlushAll(ctx)
	rdb.HSet(ctx, claim, "t", "mine")
	for _, want := range []int{1, 2, 2} {
		if got, err := modest.Run(under, rdb, []string{"{c}:n"}).Int(); err != nil || got != want {
			t.Errorf("%d, %v, want %d", got, err, want)
		}
	}
}

// TestNotes: what was made up is found again by who takes the claim over, and by nobody without one.
func TestNotes(t *testing.T) {
	plain := context.Background()
	var got string
	if err := once.Note(plain, "secret", "s"); err != nil {
		t.Error(err)
	}
	if found, err := once.Noted(plain, "secret", &got); found || err != nil {
		t.Errorf("without a claim: %v, %v", found, err)
	}
	taken := &once.Claim{}
	if err := taken.Read([]byte(`{"secret":"s","number":1}`)); err != nil {
		t.Error(err)
	}
	ctx := once.With(plain, taken)
	if found, err := once.Noted(ctx, "secret", &got); !found || err != nil || got != "s" {
		t.Errorf("%q, %v, %v", got, found, err)
	}
	if found, err := once.Noted(ctx, "number", &got); found || err == nil {
		t.Error("a number is read as a text")
	}
	if found, _ := once.Noted(ctx, "other", &got); found {
		t.Error("what nobody noted is found")
	}
	if err := taken.Read([]byte(`[`)); err == nil {
		t.Error("what is no JSON is read")
	}
}

func FuzzReply(f *testing.F) {
	for _, text := range []string{"n", "i7;", "s3:abc", "a2:s1:an", "a0:", "a99999999:", "s-1:", "i;", ""} {
		f.Add(text)
	}
	f.Fuzz(func(_ *testing.T, text string) { _, _ = once.ReadReply(text) })
}
