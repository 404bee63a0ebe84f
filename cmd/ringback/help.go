package main

import (
	"bytes"
	"flag"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/payloads"
)

// helpWidth is how many columns help has at most: longer lines are hard to read.
const helpWidth = 100

// urfave/cli prints every help by these two, and gives every command this flag.
func init() {
	cli.HelpFlag = helpFlag{&cli.BoolFlag{Name: "help", Aliases: []string{"h"}, Usage: "show help", DisableDefaultText: true}}
	asItIs := cli.FlagStringer
	cli.FlagStringer = func(f cli.Flag) string { return twice.ReplaceAllString(asItIs(f), "") }
	cli.HelpPrinter = func(w io.Writer, template string, data any) {
		var b bytes.Buffer
		cli.HelpPrinterCustom(&b, template, data, nil)
		width := helpWidth
		if w := terminalWidth(w); w > 0 {
			width = min(width, w)
		}
		_, _ = io.WriteString(w, foldHelp(b.String(), width))
	}
}

// helpFlag is a flag that many programs in one process have: urfave/cli's own writes to itself when it is applied.
type helpFlag struct{ *cli.BoolFlag }

func (f helpFlag) Apply(set *flag.FlagSet) error {
	own := *f.BoolFlag
	return own.Apply(set)
}

var (
	twice       = regexp.MustCompile(` \[ --.* \]`)     // how urfave/cli says that a flag may be repeated; its usage does
	usageBegins = regexp.MustCompile(`^\s+\S.*?\s{2,}`) // a flag or a command, behind which its usage begins
)

// foldHelp folds the lines that are too long: usages under themselves, paragraphs as a whole, all else under its beginning.
func foldHelp(help string, width int) string {
	var b strings.Builder
	var paragraph []string
	flush := func() {
		if slices.ContainsFunc(paragraph, func(line string) bool { return text.StringWidthWithoutEscSequences(line) > width }) {
			paragraph = folded(strings.Join(strings.Fields(strings.Join(paragraph, " ")), " "), width-len(prose))
			for i := range paragraph {
				paragraph[i] = prose + paragraph[i]
			}
		}
		for _, line := range paragraph {
			b.WriteString(line + "\n")
		}
		paragraph = nil
	}
	for line := range strings.Lines(help) {
		line = strings.TrimRight(line, " \n")
		if strings.HasPrefix(line, prose) && line[len(prose)] != ' ' && usageBegins.FindString(line) == "" {
			paragraph = append(paragraph, line)
			continue
		}
		flush()
		for _, part := range foldEntry(line, width) {
			b.WriteString(part + "\n")
		}
	}
	flush()
	return b.String()
}

// prose is what stands before each line of a description.
const prose = "   "

// foldEntry folds a line that is no prose.
func foldEntry(line string, width int) []string {
	if text.StringWidthWithoutEscSequences(line) <= width {
		return []string{line}
	}
	body := strings.TrimLeft(line, " ")
	lead := line[:len(line)-len(body)]
	indent := lead
	if head := usageBegins.FindString(line); head != "" && len(head) <= width-least {
		lead, body, indent = head, line[len(head):], strings.Repeat(" ", text.StringWidthWithoutEscSequences(head))
	}
	lines := folded(body, width-len(indent))
	for i := range lines {
		lines[i] = lead + lines[i]
		lead = indent
	}
	return lines
}

// noCommand is the action of the program and of every group of commands that has none of its own, reached when no command was named.
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
	if !c.Args().Present() {
		return usagef("say which: %s with %s; see `%s --help`", name, strings.Join(names, ", "), name)
	}
	if near := payloads.Near(c.Args().First(), names); len(near) > 0 {
		return usagef("%s has no command %q; did you mean %s? See `%s --help`", name, c.Args().First(), strings.Join(near, " or "), name)
	}
	return usagef("%s has no command %q, only %s; see `%s --help`", name, c.Args().First(), strings.Join(names, ", "), name)
}

// How package flag says what is wrong with a flag.
var (
	unknownFlag = regexp.MustCompile(`^flag provided but not defined: --?(.+)$`)
	emptyFlag   = regexp.MustCompile(`^flag needs an argument: --?(.+)$`)
	badFlag     = regexp.MustCompile(`^(?i:invalid )(?:boolean )?value (".*") for (?:flag )?-?-?([A-Za-z-]+): .*$`)
)

// wrongFlags says it in the words of this program.
func wrongFlags(c *cli.Context, err error, _ bool) error {
	flags := slices.Concat(c.Command.Flags, c.App.Flags)
	said := oneLine(err.Error())
	if m := unknownFlag.FindStringSubmatch(said); m != nil {
		var names []string
		for _, f := range flags {
			names = append(names, "--"+f.Names()[0])
		}
		said = c.Command.HelpName + " has no flag --" + m[1]
		if near := payloads.Near("--"+m[1], names); len(near) > 0 {
			return usagef("%s; did you mean %s? See `%s --help`", said, strings.Join(near, " or "), c.Command.HelpName)
		}
	} else if m := emptyFlag.FindStringSubmatch(said); m != nil {
		said = "--" + m[1] + " needs a value"
	} else if m := badFlag.FindStringSubmatch(said); m != nil {
		said = "--" + m[2] + " takes " + wanted(findFlag(flags, m[2])) + ", not " + m[1]
	}
	return usagef("%s; see `%s --help`", said, c.Command.HelpName)
}

// wanted is what a flag takes.
func wanted(f cli.Flag) string {
	switch f.(type) {
	case *cli.IntFlag, *cli.Int64Flag:
		return "a whole number"
	case *cli.Float64Flag:
		return "a number"
	case *cli.DurationFlag:
		return "a duration such as 90s or 24h"
	case *cli.BoolFlag:
		return "true or false, or no value"
	}
	return "another value"
}
