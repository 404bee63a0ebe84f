package main

import (
	"errors"
	"fmt"
	"strings"
)

// The exit codes of every command. A supervisor of dev and serve has to know whether starting again can help. If the call, a setting or a file
// is wrong, these two exit with 64 (EX_USAGE in sysexits.h). They never exit with 2, for a Go program that panics does.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
	exitConfig  = 64
)

// exitCode is the code that a command ends with after err; serves says that the command is dev or serve.
func exitCode(err error, serves bool) int {
	_, usage := errors.AsType[*usageError](err)
	_, config := errors.AsType[*configError](err)
	switch {
	case serves && (usage || config):
		return exitConfig
	case usage:
		return exitUsage
	}
	return exitFailure
}

// A usageError says that a command was called wrongly.
type usageError struct{ message string }

func (e *usageError) Error() string { return e.message }

func usagef(format string, a ...any) error {
	return &usageError{fmt.Sprintf(format, a...)}
}

// A configError says that a setting, a file or the content of Redis is wrong: starting again will not put it right.
type configError struct{ error }

func (e *configError) Unwrap() error { return e.error }

// misconfigured makes a configError of err.
func misconfigured(err error) error {
	if err == nil {
		return nil
	}
	return &configError{err}
}

// errSaid is the failure of a command whose output has said it all. The command exits with 1, and prints no more.
var errSaid = errors.New("failed, as its output says")

// oneLine keeps an error on one line, whatever is in it.
func oneLine(s string) string {
	return strings.Join(strings.Fields(s), " ")
}
