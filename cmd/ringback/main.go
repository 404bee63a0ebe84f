// Command ringback runs, feeds and watches Ringback, a reliable dispatcher of outbound webhooks.
//
// Every family of commands has a file, or a few: its flags, its work, and how it prints. dev and serve make a config, of which openApp wires the
// program by hand. callbacks, events, types, trigger, deliveries, companies, audit and egress talk to the HTTP API of a running server, through the client package.
// keys, keyset and doctor talk to Redis. listen and verify talk to nobody. bench is a package of its own, which knows Ringback from outside only.
//
// The files stand in layers, and each uses names of lower ones only, which TestFilesOfAPackageDoNotCircle sees to:
//
//   - main.go knows all commands.
//   - The commands know each other where one shows what another one is about: an event has deliveries, a callback has attempts.
//   - client.go is the API's client as the flags describe it, redisflags.go does the same for Redis, and app.go wires the server.
//   - redis.go, certificates.go, door.go, telemetry.go and others each hold one thing that an app or a client is made of.
//   - problems.go, arguments.go, input.go, output.go, times.go, table.go and progress.go are how every command is called, fails and speaks.
//
// Exit codes: 0 done, 1 failed, 2 called wrongly. If dev and serve are called or configured wrongly, theirs is 64. Errors are one line on stderr that
// says what to do.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"
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
	root := newCLI(stdin, stdout, stderr)    //nolint:contextcheck // each command has its own
	if len(args) > 1 && args[1] == completeWords {
		complete(root, args[2:])
		return exitOK
	}
	err := root.RunContext(ctx, arrange(root, args))
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errSaid):
		return exitFailure
	}
	_, _ = fmt.Fprintln(stderr, "ringback: "+printable(oneLine(remedy(err).Error())))
	return exitCode(err, serves(root, args))
}

// serves reports whether a supervisor may have started this command, and starts it again when it ends.
func serves(root *cli.App, args []string) bool {
	path := place(root, args).path
	return len(path) > 0 && (path[0] == "serve" || path[0] == "dev")
}

// untilSignal is ctx until the first signal. It lets the signals go before it ends, so that a caller that sees it end can count on the
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

func newCLI(stdin io.Reader, stdout, stderr io.Writer) *cli.App {
	root := &cli.App{
		Name:  "ringback",
		Usage: "deliver events to the webhooks that partners registered: signed, retried, accounted for",
		Description: "Tables fit the terminal, or COLUMNS; what is no terminal gets every column, a row a line. Colours are for\n" +
			"terminals only, and for none with NO_COLOR. Times are in the terminal's zone (TZ), and in JSON in UTC.",
		Reader:    stdin,
		Writer:    stdout,
		ErrWriter: stderr,
		Flags:     globalFlags(),
		Commands: []*cli.Command{
			devCommand(), serveCommand(), listenCommand(), keysCommand(), keysetCommand(),
			callbacksCommand(), eventsCommand(), typesCommand(), triggerCommand(), deliveriesCommand(), replaysOverCommand(), companiesCommand(), overviewCommand(), portalLinksCommand(), auditCommand(), egressCommand(), lanesCommand(), verifyCommand(), doctorCommand(), benchCommand(), completionCommand(), versionCommand(),
		},
		Action:                    noCommand,
		HideVersion:               true,
		HideHelpCommand:           true, // it is one for all programs in a process, and each writes to it
		DisableSliceFlagSeparator: true, // "--match name=a,b" means what it says
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError:              wrongFlags,
	}
	tame(root.Commands)
	return root
}

// tame gives every command the same manners: errors about flags are usage errors in one line, what the server refuses is said of the flag that it
// came from, and help is asked for by its flag, or as arrange has it.
func tame(commands []*cli.Command) {
	for _, c := range commands {
		c.OnUsageError = wrongFlags
		c.HideHelpCommand = true
		if len(c.Subcommands) > 0 {
			if c.Action == nil {
				c.Action = noCommand
			}
			tame(c.Subcommands)
		}
		c.Action = blaming(c.Action)
	}
}
