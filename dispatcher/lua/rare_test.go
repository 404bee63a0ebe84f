package lua

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry/redistest"
)

// TestPlainDeliveriesDefineNothingRare: an event that is accepted, attempted and delivered, by its owner or by way of the lane, or held, calls nothing of what
// is defined only when it is called. One to a company with batches does.
func TestPlainDeliveriesDefineNothingRare(t *testing.T) {
	rdb := redistest.Start(t).Client()
	run := func(name string, args ...any) string {
		t.Helper()
		text := strings.Replace(lean(source(name)), "if seldom then return seldom end", "if seldom then return seldom end redis.call('INCR', 'rare')", 1)
		if text == lean(source(name)) {
			t.Fatalf("%s.lua defines everything each time", name)
		}
		v, err := redis.NewScript(text).Run(t.Context(), rdb, []string{"{acme}:due"}, append([]any{"1000 2592000 100000 604800 432000 15000 0", len(args)}, args...)...).Slice()
		if err != nil {
			t.Fatal(name, err)
		}
		answer := v[0].([]any)
		if answer[0] == "error" {
			t.Fatal(name, answer)
		}
		if name == "accept" {
			return answer[1].(string)
		}
		return answer[0].(string)
	}
	accept := func(event, callback, begins string) (logID string) {
		t.Helper()
		return run("accept", event, "0", "{}", "body", "", 1, "", callback, begins, "")
	}
	deliver := func(event, logID string) {
		t.Helper()
		line := `{"n":1}`
		if word := run("finish", event+"/1", "token", "D", line, "\n"+line, 0, 0, "", 0, "", "", 0, "", "payment_proof", logID, "p.example", "up", 0, 8, "", 0, "h1", "{}"); word != "ok" {
			t.Fatal(word)
		}
	}
	wantRare := func(want int) {
		t.Helper()
		if got, _ := rdb.Get(t.Context(), "rare").Int(); got != want {
			t.Errorf("%d runs defined what is rare, want %d", got, want)
		}
	}
	rdb.Set(t.Context(), "{acme}:awake", "9999999999999", 0)
	deliver("near", accept("near", "1", "token 75000"))
	logID := accept("far", "1", "")
	if word := run("begin", "far/1", 1, "token", 75000, "0", "0", 0); word != "go" {
		t.Fatal(word)
	}
	deliver("far", logID)
	wantRare(0)
	rdb.Set(t.Context(), "{acme}:gate:2", `{"status":"paused"}`, 0)
	accept("held", "2", "")
	wantRare(0)
	rdb.Set(t.Context(), "{acme}:special", 1, 0)
	accept("held-too", "2", "")
	wantRare(1)
}
