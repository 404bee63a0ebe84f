package main

import (
	"bytes"
	"log"
	"log/slog"
	"strings"
	"testing"
)

// TestNoLibraryLogsOnItsOwn: after openLogs, what net/http, asynqmon and others hand to package log comes out of slog.
func TestNoLibraryLogsOnItsOwn(t *testing.T) {
	flags, writer := log.Flags(), log.Writer()
	defer func() { log.SetFlags(flags); log.SetOutput(writer) }()
	var said bytes.Buffer
	routeLogs(slog.New(slog.NewJSONHandler(&said, nil)))
	log.Printf("starting with %q", "canary")
	if got := said.String(); !strings.Contains(got, `"level":"WARN","msg":"library: starting with \"…\"","left_out":0}`) {
		t.Errorf("the log is %s", got)
	}
}
