package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/ledger"
)

// TestARepeatWaitsForTheFirst: while a request may be under way its repeat is told so, later the repeat goes on with it, and the first may not act any more.
func TestARepeatWaitsForTheFirst(t *testing.T) {
	h := newHouse(t)
	h.announce()
	h.register("payment_proof", "")
	delivery := h.send(proof("e1")).Deliveries[0].DeliveryID
	r := Repeatable{Company: acme, Caller: "rbk_1", Method: "POST", Path: "/cancel", Key: "k", Content: []byte("body"), Lasts: 10 * time.Second}
	first, err := h.client.Claim(t.Context(), r)
	h.must(err)
	_, err = h.client.Claim(t.Context(), r)
	if e, ok := errors.AsType[*UnderWayError](err); !ok || e.Wait <= 0 || e.Wait > 10*time.Second {
		t.Fatalf("%v", err)
	}
	other := r
	other.Content = []byte("another body")
	if _, err := h.client.Claim(t.Context(), other); !errors.Is(err, ErrOtherRequest) {
		t.Fatalf("%v", err)
	}
	h.must(h.rdb.HSet(t.Context(), first.ref.Key(), "u", "1").Err()) // as if that time had passed
	second, err := h.client.Claim(t.Context(), r)
	h.must(err)
	if _, err := h.client.Cancel(first.Context(t.Context()), acme, delivery); !errors.Is(err, ErrClaimTaken) {
		t.Fatalf("the first acts: %v", err)
	}
	for range 2 { // the second time it is told what was said
		if d, err := h.client.Cancel(second.Context(t.Context()), acme, delivery); err != nil || d.State != Cancelled {
			t.Fatalf("%v, %v", d, err)
		}
	}
	h.checkModel(math.MaxInt)
	h.must(second.Answered(t.Context(), []byte("cancelled"), true))
	h.must(first.Answered(t.Context(), []byte("of the first"), true))
	if third, err := h.client.Claim(t.Context(), r); err != nil || string(third.Before) != "cancelled" {
		t.Fatalf("%+v, %v", third, err)
	}
	h.checkModel(math.MaxInt)
}

// TestFullClaimsSayHowManyMayBe: of requests about several callbacks or companies there may be fewer than of others.
func TestFullClaimsSayHowManyMayBe(t *testing.T) {
	h := newHouse(t)
	h.announce()
	for book, most := range map[ledger.ClaimRef]int{{Company: acme}: 100_000, {Company: acme, Bulk: true}: 1_000, {Bulk: true}: 1_000} {
		r := Repeatable{Company: book.Company, Bulk: book.Bulk, Caller: "rbk_1", Method: "POST", Path: "/replays", Key: "k", Lasts: time.Second}
		name := ledger.Key(acme, "idems")
		if book.Bulk {
			name = strings.TrimSuffix("{ringback:replays}:idems:"+book.Company, ":")
		}
		full := make([]redis.Z, most)
		for i := range full {
			full[i] = redis.Z{Score: float64(time.Now().Add(time.Hour).UnixMilli()), Member: i}
		}
		h.must(h.rdb.ZAdd(t.Context(), name, full...).Err())
		if _, err := h.client.Claim(t.Context(), r); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("(%d, for 24 h each)", most)) {
			t.Errorf("%+v: %v", book, err)
		}
	}
}

// TestAClaimThatDoesNotOpen, since its key is gone or somebody wrote into it, is said to be lost: whoever repeats the request is not told that it is free, nor another's answer.
func TestAClaimThatDoesNotOpen(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.announce()
	for _, field := range []string{"f", "n", "a"} {
		r := Repeatable{Company: acme, Caller: "rbk_1", Method: "POST", Path: "/cancel", Key: field, Content: []byte("body")}
		other := r
		other.Path = "/other"
		for _, is := range []Repeatable{r, other} {
			claim, err := h.client.Claim(t.Context(), is)
			h.must(err)
			h.must(claim.Answered(t.Context(), []byte("answer to "+is.Path), true))
		}
		ref := func(is Repeatable) string { return ledger.ClaimRef{Company: acme, Hash: is.hash()}.Key() }
		sealed := h.rdb.HGet(t.Context(), ref(other), "a").Val()
		if field == "n" {
			h.must(h.rdb.HDel(t.Context(), ref(r), "a").Err()) // it has its notes as long as it has no answer
		}
		h.must(h.rdb.HSet(t.Context(), ref(r), field, sealed).Err()) // which opens at its own place alone
		if claim, err := h.client.Claim(t.Context(), r); !errors.Is(err, ErrAnswerLost) {
			t.Errorf("%s: %+v, %v", field, claim, err)
		}
	}
}

// TestARepeatedSeekIsToldOnce, and a repeated skipping of what is held: a kill between two pages leaves one line of the audit trail, and the repeat adds none.
func TestARepeatedSeekIsToldOnce(t *testing.T) {
	for action, tt := range map[string]struct {
		destination string
		act         func(ctx context.Context, c *Client) error
	}{
		"callback.seek":      {`{"pull": true}`, func(ctx context.Context, c *Client) error { return second(c.Seek(ctx, acme, 1, Seek{End: true})) }},
		"callback.skip_held": {`{"url": "http://127.0.0.1:1/"}`, func(ctx context.Context, c *Client) error { return second(c.Resume(ctx, acme, 1, true)) }},
	} {
		t.Run(action, func(t *testing.T) {
			h := newHouse(t)
			h.announce()
			_, err := h.registry.Create(t.Context(), acme, []byte(`{"callback_type": "payment_proof", "destination": `+tt.destination+`}`))
			h.must(err)
			if action == "callback.skip_held" {
				h.must(second(h.registry.Pause(t.Context(), acme, 1)))
			}
			h.sendAll(eventIDs("p-", 250))
			r := Repeatable{Company: acme, Caller: "rbk_1", Method: "POST", Path: "/x", Key: "k", Lasts: 10 * time.Second}
			h.client.failpoint = func(at string) {
				if at == "acknowledged" {
					panic(at)
				}
			}
			h.rdb.AddHook(&onceBefore{isScript(purgeScript), 2, func(context.Context) { panic("purged") }})
			for _, killed := range []bool{true, false} {
				claim, err := h.client.Claim(t.Context(), r)
				h.must(err)
				err = h.client.contain(t.Context(), placeReconciler, func() error { return tt.act(claim.Context(t.Context()), h.client) })
				if killed != (err != nil) {
					t.Fatal(err)
				}
				h.client.failpoint = nil
				h.must(h.rdb.HSet(t.Context(), claim.ref.Key(), "u", "1").Err()) // as if its time had passed
			}
			told := 0
			for _, line := range h.trail("") {
				if line.Action == action {
					told++
				}
			}
			if told != 1 {
				t.Errorf("%d lines of the audit trail", told)
			}
		})
	}
}
