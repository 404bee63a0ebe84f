package main

import (
	"context"
	"fmt"
	"log"
	"log/slog"

	"github.com/go-logr/logr"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"

	"github.com/ringback/ringback/dispatcher"
)

// Libraries log on their own, and some quote what a stranger sent: net/http prints the beginning of an answer that nobody asked for, and
// a partner may have put there what we sent it, secrets included. So every one of them is given a way into slog here or, where it has no
// logger of the process's, where it is made:
//
//   - package log: net/http's client and HTTP/2, asynqmon, net/http's servers without an ErrorLog;
//   - [http.Server]'s ErrorLog: newServer;
//   - go-redis: its logger here;
//   - OpenTelemetry: its logger here, its errors in openTelemetry;
//   - asynq: the dispatcher's asynqLog, which says of tasks no more than their ids.

// A libraryLog is what a library writes its lines to. It lets a line through in a while: a partner may cause as many as it likes, and go-redis
// says the same several times within milliseconds while Redis is down.
type libraryLog struct {
	name string
	sparseLog
}

// Write implements io.Writer: package log calls it once for each message.
func (l *libraryLog) Write(line []byte) (int, error) {
	l.warn(l.name + ": " + dispatcher.Telling(string(line)))
	return len(line), nil
}

// Printf implements go-redis's logging interface. Errors reach callers besides, and are not its business.
func (l *libraryLog) Printf(_ context.Context, format string, v ...any) {
	_, _ = fmt.Fprintf(l, format, v...)
}

// routeLogs lets the libraries that have one logger for all of the process speak through l.
func routeLogs(l *slog.Logger) {
	log.SetFlags(0)
	log.SetOutput(&libraryLog{name: "library", sparseLog: sparseLog{log: l}})
	redis.SetLogger(&libraryLog{name: "redis client", sparseLog: sparseLog{log: l}})
	otel.SetLogger(logr.FromSlogHandler(l.Handler()))
}
