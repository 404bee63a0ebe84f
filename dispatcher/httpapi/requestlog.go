package httpapi

import (
	"context"
	"log/slog"
)

// NameRequests has a log's lines about a request, whoever writes them, name it as request_id. It is for the logger that all of a process writes to. Those of a
// logger in [Config] need no more.
func NameRequests(h slog.Handler) slog.Handler {
	if named, ok := h.(requestLog); ok {
		return named
	}
	return requestLog{h}
}

// A requestLog adds a request's name to lines that are written with its context.
type requestLog struct{ slog.Handler }

// Handle implements [slog.Handler].
func (l requestLog) Handle(ctx context.Context, line slog.Record) error {
	if id := nameOf(ctx); id != "" {
		line = line.Clone() // it is others' too
		line.AddAttrs(slog.String("request_id", id))
	}
	return l.Handler.Handle(ctx, line)
}

// WithAttrs implements [slog.Handler].
func (l requestLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return requestLog{l.Handler.WithAttrs(attrs)}
}

// WithGroup implements [slog.Handler].
func (l requestLog) WithGroup(name string) slog.Handler { return requestLog{l.Handler.WithGroup(name)} }
