// Command ringback runs, feeds and watches Ringback, a reliable dispatcher of outbound webhooks.
//
// Every command is one file of this package: its flags, what it does with them, and how it prints.
// dev and serve become a config and are wired by hand in house.go; callbacks, events, deliveries and egress talk to the
// HTTP API of a running server, through the client package; keys, keyset and doctor talk to Redis; listen and verify talk to nobody.
// bench is a package of its own, which knows Ringback from outside only.
//
// Exit codes: 0 done, 1 failed, 2 called wrongly; of dev and serve, 64 called or configured wrongly. Errors are one line on stderr that says what to do.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
)

// The exit codes of every command. Of dev and serve a supervisor has to know whether starting again can help, and a Go program that panics
// exits with 2: they say 64 (EX_USAGE in sysexits.h) where the call, a setting or a file is wrong.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
	exitConfig  = 64
)

func main() {
	os.Exit(run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program: args[0] is its name, the answer its exit code. The first SIGINT, SIGTERM or SIGHUP asks for an
// orderly end; from then on signals do what they always do, so that a second one ends the process at once.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, cancel := untilSignal(ctx)
	defer cancel()
	routeLogs(slog.New(slog.DiscardHandler)) // until a server has a log: errors say what matters
	app := newApp(stdin, stdout, stderr)     //nolint:contextcheck // each command has its own
	if len(args) > 1 && args[1] == completeWords {
		complete(app, args[2:])
		return exitOK
	}
	err := app.RunContext(ctx, arrange(app, args))
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errSaid):
		return exitFailure
	}
	_, _ = fmt.Fprintln(stderr, "ringback: "+printable(oneLine(remedy(err).Error())))
	return exitCode(err, serves(app, args))
}

// exitCode is what an error ends a command with.
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

// serves reports whether a supervisor may have started this command, and starts it again when it ends.
func serves(app *cli.App, args []string) bool {
	path := place(app, args).path
	return len(path) > 0 && (path[0] == "serve" || path[0] == "dev")
}

// untilSignal is ctx until the first signal. Before it ends the signals are let go, so that whoever sees it end can count on the
// second one.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it
		signal.Notify(signals, syscall.SIGHUP)
	}
	go func() {
		select {
		case <-signals:
		case <-ctx.Done():
		}
		signal.Stop(signals)
		cancel()
	}()
	return ctx, cancel
}

func newApp(stdin io.Reader, stdout, stderr io.Writer) *cli.App {
	app := &cli.App{
		Name:      "ringback",
		Usage:     "deliver events to the webhooks that partners registered: signed, retried, accounted for",
		Reader:    stdin,
		Writer:    stdout,
		ErrWriter: stderr,
		Flags:     globalFlags(),
		Commands: []*cli.Command{
			devCommand(), serveCommand(), listenCommand(), keysCommand(), keysetCommand(),
			callbacksCommand(), eventsCommand(), deliveriesCommand(), companiesCommand(), auditCommand(), egressCommand(), verifyCommand(), doctorCommand(), benchCommand(), completionCommand(), versionCommand(),
		},
		Action:                    noCommand,
		HideVersion:               true,
		DisableSliceFlagSeparator: true, // "--match name=a,b" means what it says
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError:              wrongFlags,
	}
	tame(app.Commands)
	return app
}

// tame gives every command the same manners: errors about flags are usage errors in one line, and only groups of commands have
// a "help" command of their own.
func tame(commands []*cli.Command) {
	for _, c := range commands {
		c.OnUsageError = wrongFlags
		c.HideHelpCommand = true
		if len(c.Subcommands) > 0 {
			c.Action = noCommand
			tame(c.Subcommands)
		}
	}
}

// A configError is a setting, a file or what stands in Redis that is wrong: starting again will not put it right.
type configError struct{ error }

func (e *configError) Unwrap() error { return e.error }

// misconfigured makes a configError of err.
func misconfigured(err error) error {
	if err == nil {
		return nil
	}
	return &configError{err}
}

// usageError is a command called wrongly.
type usageError struct{ message string }

func (e *usageError) Error() string { return e.message }

func usagef(format string, a ...any) error {
	return &usageError{fmt.Sprintf(format, a...)}
}

// errSaid is the failure of a command whose output has said it all: exit code 1, and no more words.
var errSaid = errors.New("failed, as its output says")

// examples begin a command's description.
func examples(lines ...string) string {
	return "For example:\n  " + strings.Join(lines, "\n  ")
}

func wrongFlags(c *cli.Context, err error, _ bool) error {
	return usagef("%v; see `%s --help`", err, c.Command.HelpName)
}

// noCommand is the action of the program and of every group of commands, reached when no command was named.
func noCommand(c *cli.Context) error {
	commands, name := c.App.Commands, c.App.Name
	if len(c.Command.Subcommands) > 0 && c.Command.HelpName != c.App.Name {
		commands, name = c.Command.Subcommands, c.Command.HelpName
	}
	var names []string
	for _, sub := range commands {
		if sub.Name != "help" {
			names = append(names, sub.Name)
		}
	}
	if c.Args().Present() {
		return usagef("%s has no command %q, only %s; see `%s --help`", name, c.Args().First(), strings.Join(names, ", "), name)
	}
	return usagef("say which: %s with %s; see `%s --help`", name, strings.Join(names, ", "), name)
}

// arguments returns the command's arguments, exactly one for each name.
func arguments(c *cli.Context, names ...string) ([]string, error) {
	got := c.Args().Slice()
	switch {
	case len(got) < len(names):
		return nil, usagef("%s needs %s; see `%s --help`", c.Command.HelpName, strings.Join(names[len(got):], " and "), c.Command.HelpName)
	case len(got) > len(names):
		return nil, usagef("%s does not know what to do with %q; see `%s --help`", c.Command.HelpName, got[len(names)], c.Command.HelpName)
	}
	return got, nil
}

// arrange lets flags stand anywhere, as in "ringback events get ID -o json": urfave/cli wants the program's flags before the
// command and a command's flags before its arguments, so it gets them in that order.
func arrange(app *cli.App, args []string) []string {
	if len(args) == 0 {
		return []string{app.Name}
	}
	p := place(app, args)
	if len(p.positional) > 0 && strings.HasPrefix(p.positional[0], "-") {
		p.positional = append([]string{"--"}, p.positional...)
	}
	return slices.Concat(args[:1], p.global, p.path, p.local, p.positional)
}

// placed are the words of a command line by what they are.
type placed struct{ global, path, local, positional []string }

func place(app *cli.App, args []string) placed {
	var (
		p        placed
		flags    []cli.Flag
		commands = app.Commands
	)
	for rest := args[min(1, len(args)):]; len(rest) > 0; {
		arg := rest[0]
		rest = rest[1:]
		if arg == "--" {
			p.positional = append(p.positional, rest...)
			break
		}
		if arg == "-" || !strings.HasPrefix(arg, "-") {
			if next := findCommand(commands, arg); next != nil && len(p.positional) == 0 {
				p.path, commands, flags = append(p.path, arg), next.Subcommands, next.Flags
			} else {
				p.positional = append(p.positional, arg)
			}
			continue
		}
		name, _, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		taken := []string{arg}
		target, found := &p.local, findFlag(flags, name)
		if found == nil {
			if found = findFlag(app.Flags, name); found != nil || len(p.path) == 0 {
				target = &p.global
			}
		}
		if takesValue(found) && !hasValue && len(rest) > 0 {
			taken, rest = append(taken, rest[0]), rest[1:]
		}
		*target = append(*target, taken...)
	}
	return p
}

func findCommand(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

func findFlag(flags []cli.Flag, name string) cli.Flag {
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

func takesValue(f cli.Flag) bool {
	if f == nil {
		return false
	}
	_, isBool := f.(*cli.BoolFlag)
	return !isBool
}

// oneLine keeps an error on one line, whatever is in it.
func oneLine(s string) string {
	return strings.Join(strings.Fields(s), " ")
}
