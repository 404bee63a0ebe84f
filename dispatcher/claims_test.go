package dispatcher

import (
	"errors"
	"math"
	"testing"
	"time"
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
