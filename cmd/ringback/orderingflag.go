package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// orderingNames are what --ordering has.
var orderingNames = []string{"key", "skip_after"}

// orderingHelp is about --ordering.
const orderingHelp = `
--ordering has what has the same key go out one by one; the next waits until the one before is
delivered or dead, or for skip_after. none takes it back:
  --ordering key=/customerId,skip_after=24h`

// orderingFlag reads --ordering. What it does not name stays as it is.
func orderingFlag(c *cli.Context) (value any, given bool, err error) {
	rest := c.String("ordering")
	if orNull(rest) == nil || rest == "none" {
		return nil, c.IsSet("ordering"), nil
	}
	members := map[string]any{}
	for rest != "" {
		var pair string
		pair, rest = nextPair(rest, orderingNames)
		name, value, ok := strings.Cut(pair, "=")
		if !ok || !slices.Contains(orderingNames, name) {
			return nil, false, usagef("--ordering takes key=/customerId,skip_after=24h, or one of these, or none")
		}
		members[name] = orNull(value)
	}
	return members, true, nil
}
