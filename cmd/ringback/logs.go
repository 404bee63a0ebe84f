package main

import (
	"log"
	"log/slog"
	"regexp"
	"strings"

	"github.com/go-logr/logr"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"
)

// Libraries log on their own, and some quote what a stranger sent: net/http prints the beginning of an answer that nobody asked for, and
// a partner may have put there what we sent it, secrets included. So every one of them is given a way into slog here or, where it has no
// logger of the process's, where it is made:
//
//   - package log: net/http's client and HTTP/2, asynqmon, net/http's servers without an ErrorLog;
//   - [http.Server]'s ErrorLog: newServer;
//   - go-redis: redisLog;
//   - OpenTelemetry: its logger here, its errors in openTelemetry;
//   - asynq: the dispatcher's asynqLog, which says of tasks no more than their ids.

// maxSaid bounds what a library may say at once, in bytes: a panic's first frames fit.
const maxSaid = 2000

// A libraryLog is what a library writes its lines to. It lets a line through in a while: a partner may cause as many as it likes.
type libraryLog struct {
	name string
	sparseLog
}

// Write implements io.Writer: package log calls it once for each message.
func (l *libraryLog) Write(line []byte) (int, error) {
	l.warn(l.name + ": " + telling(string(line)))
	return len(line), nil
}

// routeLogs lets the libraries that have one logger for all of the process speak through l.
func routeLogs(l *slog.Logger) {
	log.SetFlags(0)
	log.SetOutput(&libraryLog{name: "library", sparseLog: sparseLog{log: l}})
	redis.SetLogger(&redisLog{log: l})
	otel.SetLogger(logr.FromSlogHandler(l.Handler()))
}

// quoted is what a library quotes, to its end or to the text's; and a URL, quoted or not.
var quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*(?:"|\\?$)` + "|`[^`]*`?" + `|(?:^|[ (=:\[])'[^']*'|[a-zA-Z][a-zA-Z0-9+.-]*://[^\s"',;)]*`)

// telling is what may be told of a library's message: its own words. What it quotes comes from elsewhere, and is left out.
func telling(said string) string {
	said = quoted.ReplaceAllStringFunc(said[:min(len(said), 4*maxSaid)], func(q string) string {
		switch {
		case strings.HasPrefix(q, `"`):
			return `"…"`
		case strings.HasPrefix(q, "`"):
			return "`…`"
		case strings.HasSuffix(q, "'"):
			return q[:strings.IndexByte(q, '\'')] + "'…'"
		}
		return "…"
	})
	said = printable(oneLine(said))
	if len(said) > maxSaid {
		said = strings.ToValidUTF8(said[:maxSaid], "") + "…"
	}
	return said
}
