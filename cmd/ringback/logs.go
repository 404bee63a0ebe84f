package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/dispatcher/httpapi"
)

// Libraries log on their own, and some quote what a stranger sent. net/http prints the beginning of an answer that nobody asked for, and
// a partner may have put our own secrets there. So every library is given a way into slog: here if it has one logger for the process, else
// where it is made:
//
//   - package log: net/http's client and HTTP/2, asynqmon, net/http's servers without an ErrorLog;
//   - [http.Server]'s ErrorLog: newServer;
//   - go-redis: its logger here;
//   - OpenTelemetry: its logger here, its errors in openTelemetry;
//   - asynq: the dispatcher's asynqLog, which gives tasks' ids and nothing else.

// A libraryLog takes the lines of a library. It lets one through in a while: a partner may cause as many as it likes, and go-redis says the same
// several times within milliseconds while Redis is down.
type libraryLog struct {
	name string
	sparseLog
}

// Write implements io.Writer: package log calls it once for each message.
func (l *libraryLog) Write(line []byte) (int, error) {
	l.warn(l.name + ": " + dispatcher.Telling(string(line)))
	return len(line), nil
}

// Printf implements go-redis's logging interface. Callers get errors besides.
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

// sparseEvery is how often a sparseLog writes: strangers can make net/http, and a full door, say something as often as they want.
const sparseEvery = 10 * time.Second

// A sparseLog writes a line in sparseEvery, and says how many it left out since the last.
type sparseLog struct {
	log *slog.Logger

	mu      sync.Mutex
	next    time.Time // not before then
	leftOut int
}

func (l *sparseLog) warn(line string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Now().Before(l.next) {
		l.leftOut++
		return
	}
	l.log.WarnContext(context.Background(), line, append(args, "left_out", l.leftOut)...)
	l.next, l.leftOut = time.Now().Add(sparseEvery), 0
}

// newLog writes JSON, a line each. What is said of a request names it. Durations are words such as 1m5s, as they are given in settings: slog has nanoseconds.
func newLog(w io.Writer) *slog.Logger {
	return slog.New(httpapi.NameRequests(slog.NewJSONHandler(w, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration {
			a.Value = slog.StringValue(a.Value.Duration().String())
		}
		return a
	}})))
}
