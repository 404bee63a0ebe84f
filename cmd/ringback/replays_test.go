package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// TestFollowingAReplay: it is looked at until it has ended, through a server's absence; Ctrl-C leaves it running and says how to look
// again; one that is cancelled meanwhile is not done.
func TestFollowingAReplay(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, ends string // the state it ends in; "": it does not
		code       int
		says       string
	}{
		{"done", "done", exitOK, "deliveries  120, of which 3 were let out again, and 5 cannot, for their bodies are no longer kept"},
		{"cancelled", "cancelled", exitFailure, "state       cancelled"},
		{"interrupted", "", exitFailure, "ringback: the replay goes on without this command, "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var looks atomic.Int64
			looked := make(chan struct{}, 100)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n, state := int64(0), "running"
				if r.Method == http.MethodGet {
					n = looks.Add(1)
					looked <- struct{}{}
				}
				if n == 2 {
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				if n == 3 && tt.ends != "" {
					state = tt.ends
				}
				_, _ = fmt.Fprintf(w, `{"replay_id":"rpl_1","callback_id":7,"state":%q,"matched":120,"body_left":5,"replayed":%d,"states":["dead"]}`, state, n)
			}))
			t.Cleanup(server.Close)
			env := []string{"RINGBACK_SERVER=" + server.URL, "RINGBACK_KEY=k", "RINGBACK_COMPANY=acme"}
			p := start(t, env, "callbacks", "replay", "7", "--wait")
			if tt.ends == "" {
				<-looked
				<-looked
				<-looked
				if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
					t.Fatal(err)
				}
			}
			<-p.done
			if code := p.cmd.ProcessState.ExitCode(); code != tt.code || !strings.Contains(p.said.String(), tt.says) {
				t.Errorf("exit %d, want %d and %q:\n%s", code, tt.code, tt.says, p.said)
			}
			if tt.ends == "" && !strings.Contains(p.said.String(), "`ringback callbacks replays rpl_1` shows how far it is, --wait follows it, --cancel stops it") {
				t.Errorf("it does not say how to look again:\n%s", p.said)
			}
		})
	}
}
