package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// versionFlag asks what `ringback version` does, whatever else is asked.
const versionFlag = "version"

// arrange lets flags stand anywhere, as in "ringback events get ID -o json": urfave/cli wants the program's flags before the
// command and a command's flags before its arguments, so it gets them in that order. "ringback help events get" is
// "ringback events get --help".
func arrange(root *cli.App, args []string) []string {
	if len(args) == 0 {
		return []string{root.Name}
	}
	p := place(root, args)
	if at := slices.Index(p.global, "--"+versionFlag); at >= 0 {
		return slices.Concat(args[:1], slices.Delete(p.global, at, at+1), []string{"version"})
	}
	if len(p.positional) > 0 && strings.HasPrefix(p.positional[0], "-") {
		p.positional = append([]string{"--"}, p.positional...)
	}
	return slices.Concat(args[:1], p.global, p.path, p.local, p.positional)
}

// placed are the words of a command line by what they are.
type placed struct{ global, path, local, positional []string }

func place(root *cli.App, args []string) placed {
	var (
		p        placed
		flags    []cli.Flag
		commands = root.Commands
	)
	for rest := args[min(1, len(args)):]; len(rest) > 0; {
		arg := rest[0]
		rest = rest[1:]
		if arg == "--" {
			p.positional = append(p.positional, rest...)
			break
		}
		if arg == "-" || !strings.HasPrefix(arg, "-") {
			next := findCommand(commands, arg)
			switch first := len(p.path)+len(p.positional)+len(p.local) == 0; {
			case first && (arg == "help" || arg == "h"):
				p.local = append(p.local, "--help")
			case next != nil && len(p.positional) == 0:
				p.path, commands, flags = append(p.path, arg), next.Subcommands, next.Flags
			default:
				p.positional = append(p.positional, arg)
			}
			continue
		}
		name, _, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		taken := []string{arg}
		target, found := &p.local, findFlag(flags, name)
		if found == nil {
			if found = findFlag(root.Flags, name); found != nil || len(p.path) == 0 {
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
