package ledger

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry/once"
)

// TestClaims: who has the token acts, once, and what is kept of it ends after a day.
func TestClaims(t *testing.T) {
	d := newDesk(t, standard)
	ctx, must := t.Context(), func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	claim := func(r ClaimRef, token string, lasts time.Duration) ClaimFound {
		t.Helper()
		found, err := d.ledger.Claim(ctx, r, token, []byte("print"), lasts)
		must(err)
		return found
	}
	halt := func(r ClaimRef, token string, resume bool) error {
		seal := func(plain []byte) ([]byte, error) { return plain, nil }
		under := once.With(ctx, &once.Claim{Key: r.Key(), Token: token, Seal: seal})
		must(once.Note(under, "name", "made up"))
		return d.ledger.Halt(under, []string{"{ringback:lanes}:halt"}, resume, time.Unix(1, 0), "line")
	}
	r := ClaimRef{Company: acme, Hash: "h1"}
	if found := claim(r, "first", 0); !found.New {
		t.Fatalf("%+v", found)
	}
	until, err := d.rdb.HGet(ctx, r.Key(), "u").Int64()
	must(err)
	ends, err := d.rdb.HGet(ctx, r.Key(), "x").Int64()
	if must(err); ends-until != 24*time.Hour.Milliseconds() { // it was allowed no time
		t.Errorf("claimed at %d, it ends at %d", until, ends)
	}
	for _, key := range []string{r.Key(), "{acme}:idems"} { // should nobody come to it any more
		if left := d.rdb.PTTL(ctx, key).Val(); left < 25*24*time.Hour {
			t.Errorf("Redis ends %s in %s", key, left)
		}
	}
	must(halt(r, "first", false))
	found := claim(r, "second", time.Minute)
	if found.New || string(found.Fingerprint) != "print" || string(found.Notes) != `{"name":"made up"}` || len(found.Answer) > 0 || found.Wait != 0 {
		t.Fatalf("%+v", found)
	}
	for i, want := range []bool{true, false} {
		if ok, err := d.ledger.Reclaim(ctx, r, found, "second", time.Minute); err != nil || ok != want {
			t.Fatalf("%d: %v, %v", i, ok, err)
		}
	}
	slow := ClaimRef{Company: acme, Hash: "slow"}
	claim(slow, "first", 0)
	found = claim(slow, "second", 0)
	for i, want := range []bool{true, false} { // two who found the same: the time of the one that was faster may be over, too
		if ok, err := d.ledger.Reclaim(ctx, slow, found, fmt.Sprint(i), 0); err != nil || ok != want {
			t.Fatalf("%d: %v, %v", i, ok, err)
		}
	}
	must(d.ledger.Answered(ctx, slow, "0", nil, false))
	must(d.rdb.Del(ctx, "{ringback:lanes}:halt").Err())
	if err := halt(r, "first", false); !errors.Is(err, once.ErrTaken) {
		t.Fatalf("the first acts once more: %v", err)
	}
	must(halt(r, "second", false)) // which hears what was said
	if n := d.rdb.Exists(ctx, "{ringback:lanes}:halt").Val(); n != 0 {
		t.Fatal("the second acts once more")
	}
	if found := claim(r, "third", 0); found.New || found.Wait < 50*time.Second {
		t.Fatalf("the second is under way: %+v", found)
	} else if ok, err := d.ledger.Reclaim(ctx, r, found, "third", 0); ok || err != nil {
		t.Fatalf("the third takes it over: %v", err)
	}
	must(d.ledger.Answered(ctx, r, "first", []byte("of the first"), true))
	must(d.ledger.Answered(ctx, r, "second", []byte("of the second"), false)) // it acted
	if found := claim(r, "third", 0); string(found.Answer) != "of the second" || len(found.Notes) > 0 {
		t.Fatalf("%+v", found)
	}

	// What did not act is freed, and what is kept ends with the sweep.
	for book, free := range map[string]ClaimRef{
		"{acme}:idems": {Company: acme, Hash: "h2"}, "{ringback:replays}:idems:acme": {Company: acme, Bulk: true, Hash: "h2"}, "{ringback:replays}:idems": {Bulk: true, Hash: "h2"},
	} {
		claim(free, "first", time.Minute)
		if err := d.rdb.ZScore(ctx, book, free.Hash).Err(); err != nil {
			t.Errorf("%s does not name it: %v", book, err)
		}
		must(d.ledger.Answered(ctx, free, "first", []byte("refused"), false))
		if left := d.rdb.ZScore(ctx, book, free.Hash).Err(); !errors.Is(left, redis.Nil) {
			t.Errorf("its place in %s is kept: %v", book, left)
		}
		if !claim(free, "second", 0).New {
			t.Fatal("what changed nothing is kept")
		}
		if free.Bulk { // those are counted below
			must(d.ledger.Answered(ctx, free, "second", nil, false))
		}
	}
	must(d.rdb.ZAdd(ctx, "{acme}:idems", redis.Z{Score: 1, Member: "h1"}).Err())
	_, err = d.ledger.TrimLog(ctx, acme, "-")
	must(err)
	if left := d.rdb.Exists(ctx, r.Key()).Val() + d.rdb.ZCard(ctx, "{acme}:idems").Val(); left != 1 {
		t.Fatalf("%d are left, want that of the other claim's book", left)
	}

	// As many are kept as may be, of a company by itself among those of all.
	for i := range maxBulkClaims {
		must(d.rdb.ZAdd(ctx, "{ringback:replays}:idems:acme", redis.Z{Score: float64(time.Now().Add(time.Hour).UnixMilli()), Member: fmt.Sprint(i)}).Err())
	}
	if found := claim(ClaimRef{Company: acme, Bulk: true, Hash: "h3"}, "x", 0); !found.Full || found.Wait < 50*time.Minute {
		t.Fatalf("%+v", found)
	}
	if found := claim(ClaimRef{Company: "other", Bulk: true, Hash: "h3"}, "x", 0); !found.New {
		t.Fatalf("%+v", found)
	}
	// Nothing sweeps those for replays over companies: who claims one ends some whose time is up, with their books' places.
	ended := ClaimRef{Company: acme, Bulk: true, Hash: "ended"}
	must(d.rdb.HSet(ctx, ended.Key(), "t", "x", "f", "print", "x", 1).Err())
	must(d.rdb.ZAdd(ctx, "{ringback:replays}:idems:acme", redis.Z{Score: 1, Member: ended.Hash}).Err())
	if found := claim(ClaimRef{Company: acme, Bulk: true, Hash: "h4"}, "x", 0); !found.Full { // a thousand others are not over
		t.Fatalf("%+v", found)
	}
	if d.rdb.Exists(ctx, ended.Key()).Val() != 0 {
		t.Error("a claim whose time is up is left")
	}
	must(d.rdb.ZAdd(ctx, "{ringback:replays}:idems:acme", redis.Z{Score: 1, Member: "0"}, redis.Z{Score: 2, Member: "1"}).Err())
	if found := claim(ClaimRef{Company: acme, Bulk: true, Hash: "h4"}, "x", 0); !found.New {
		t.Fatalf("two of them are over: %+v", found)
	}
	if n := d.rdb.ZCard(ctx, "{ringback:replays}:idems:acme").Val(); n != maxBulkClaims-1 {
		t.Errorf("the book names %d", n)
	}
}
