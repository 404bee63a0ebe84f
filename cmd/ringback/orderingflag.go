package main

import "github.com/urfave/cli/v2"

// orderingNames are what --ordering has.
var orderingNames = []string{"key", "skip_after"}

// orderingHelp is about --ordering.
const orderingHelp = `
--ordering has what has the same key go out one by one; the next waits until the one before is
delivered or dead, or for skip_after. none takes it back:
  --ordering key=/customerId,skip_after=24h`

// orderingFlag reads --ordering. What it does not name stays as it is.
func orderingFlag(c *cli.Context) (value any, given bool, err error) {
	_, parts, err := settingOf(c, "ordering", noSetting)
	if err != nil || parts == nil {
		return nil, c.IsSet("ordering"), err
	}
	members, err := membersOf("ordering", atNames(parts, orderingNames), orderingNames, always(usagef("--ordering takes key=/customerId,skip_after=24h, or one of these, or none")),
		func(_, value string) (any, error) { return orNull(value), nil })
	return members, err == nil, err
}
