package main

import (
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/client"
)

// TestHealthIsSaidInWords: whether a callback works, and what its breaker does.
func TestHealthIsSaidInWords(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 28, 14, 0, 5, 0, time.UTC)
	failed := &client.Failure{At: at, Reason: "status_503"}
	for name, tt := range map[string]struct {
		cb   client.Callback
		want []string
	}{
		"new":     {client.Callback{Breaker: "closed"}, []string{"health   not called yet", "breaker  closed: it is called"}},
		"well":    {client.Callback{Breaker: "closed", LastSuccessAt: at.Add(time.Hour), LastFailure: failed}, []string{"well: its last attempt was a success"}},
		"once":    {client.Callback{Breaker: "closed", LastFailure: failed, ConsecutiveFailures: 1}, []string{"failing: its last attempt was no success"}},
		"failing": {client.Callback{Breaker: "open", LastFailure: failed, ConsecutiveFailures: 12, PausedUntil: at}, []string{"failing: its last 12 attempts", "open: what is for it is held", "the next from 2026-11-28 "}},
		"token":   {client.Callback{Breaker: "closed", LastTokenFailure: failed}, []string{"unclear: its last attempt"}},
		"healing": {client.Callback{Breaker: "half_open", LastFailure: failed, LastSuccessAt: at.Add(time.Second)}, []string{"well: ", "half open: it delivers again"}},
	} {
		var out strings.Builder
		if err := (printer{w: &out}).pairs([2]string{"health", healthOf(&tt.cb)}, [2]string{"breaker", breakerOf(&tt.cb)}); err != nil {
			t.Fatal(err)
		}
		for _, want := range tt.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: no %q in\n%s", name, want, &out)
			}
		}
	}
}
