package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/urfave/cli/v2"
)

// TestHelpIsReadable: no line of any help is longer than is easy to read, and examples are short enough to be pasted whole.
func TestHelpIsReadable(t *testing.T) {
	t.Parallel()
	seen := 0
	var walk func(path []string, commands []*cli.Command)
	walk = func(path []string, commands []*cli.Command) {
		var help strings.Builder
		if code := run(t.Context(), append(path, "--help"), strings.NewReader(""), &help, io.Discard); code != exitOK || !strings.Contains(help.String(), "USAGE:") {
			t.Errorf("%v --help: exit %d: %s", path, code, help.String())
		}
		for line := range strings.Lines(help.String()) {
			if w := text.StringWidthWithoutEscSequences(strings.TrimSuffix(line, "\n")); w > helpWidth {
				t.Errorf("%v --help: %d columns: %s", path, w, line)
			}
		}
		seen++
		for _, c := range commands {
			for line := range strings.Lines(c.Description) {
				const before = 3 // columns that the help puts there
				if w := text.StringWidthWithoutEscSequences(strings.TrimSuffix(line, "\n")); strings.HasPrefix(line, "  ") && w > helpWidth-before {
					t.Errorf("%v %s: an example has %d columns and would be folded: %s", path, c.Name, w, line)
				}
			}
			walk(append(slices.Clip(path), c.Name), c.Subcommands)
		}
	}
	walk([]string{"ringback"}, newCLI(strings.NewReader(""), io.Discard, io.Discard).Commands)
	if seen < 40 {
		t.Errorf("only %d commands were found", seen)
	}
}

// TestHelpIsFolded under itself: what a flag is for stays beside its name.
func TestHelpIsFolded(t *testing.T) {
	t.Parallel()
	got := foldHelp(`NAME:
   ringback keys - make, rotate and revoke keys

   They talk to Redis,
   and need no API key

   --redis URL  URL of the Redis that the servers use
   -h           show help
     ringback keys create --role operator --company acme
   It is revoked within a second
   by all.
`, 32)
	want := `NAME:
   ringback keys - make, rotate
   and revoke keys

   They talk to Redis,
   and need no API key

   --redis URL  URL of the Redis
                that the servers
                use
   -h           show help
     ringback keys create --role
     operator --company acme
   It is revoked within a second
   by all.
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestManyAtOnce: programs that run beside each other in one process, as these tests do, share nothing of urfave/cli's. Each says what it says alone.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	says := func(args []string) string {
		var b strings.Builder
		root := newCLI(strings.NewReader(""), &b, &b)
		err := root.RunContext(t.Context(), arrange(root, args))
		return fmt.Sprint(b.String(), err)
	}
	for _, args := range [][]string{
		{"version"},
		{"version", "--help"},
		{"help", "callbacks"},
		{"help", "callbacks", "list"},
		{"callbacks", "lisst"},
		{"version", "--nix"},
		{"--help"},
		{},
	} {
		args = append([]string{"ringback"}, args...)
		want := says(args)
		start := make(chan struct{})
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				<-start
				if got := says(args); got != want {
					t.Errorf("%q says\n%s\nbeside others, and alone\n%s", args, got, want)
				}
			})
		}
		close(start)
		all.Wait()
	}
}
