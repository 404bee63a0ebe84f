package main

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// What commands call their arguments.
const (
	eventArg    = "EVENT_ID"
	deliveryArg = "DELIVERY_ID"
)

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

// examples begin a command's description.
func examples(lines ...string) string {
	return "For example:\n  " + strings.Join(lines, "\n  ")
}

// commaSeparated splits values that an environment variable may carry joined by commas.
func commaSeparated(values []string) []string {
	var out []string
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			if part = strings.TrimSpace(part); part != "" {
				out = append(out, part)
			}
		}
	}
	return out
}
