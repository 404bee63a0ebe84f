package main

import (
	"strconv"

	"github.com/urfave/cli/v2"
)

// batchOn is a batch of which everything has its default.
const batchOn = "on"

// batchNames are what --batch has.
var batchNames = []string{"max_events", "max_bytes", "max_wait", "element", "results", "rate_limit"}

// batchFlag reads --batch. What it does not name stays as it is, or has its default, and none takes all of it back.
func batchFlag(c *cli.Context) (value any, given bool, err error) {
	word, parts, err := settingOf(c, "batch", batchOn, noSetting)
	switch {
	case word == batchOn:
		return map[string]any{}, true, nil
	case err != nil || parts == nil:
		return nil, c.IsSet("batch"), err
	}
	unlike := usagef("--batch takes %s, or max_events=N, max_bytes=N, max_wait=5s, element=payload|envelope, results=true|false, rate_limit=requests|events, or none", batchOn)
	members, err := membersOf("batch", atCommas(parts), batchNames, always(unlike), func(name, said string) (any, error) {
		if value := batchMember(name, said); value != nil {
			return value, nil
		}
		return nil, unlike
	})
	return members, err == nil, err
}

// batchMember reads the value of a member of --batch; nil: it is none.
func batchMember(name, said string) any {
	switch name {
	case "max_events", "max_bytes":
		if n, err := strconv.Atoi(said); err == nil {
			return n
		}
	case "results":
		if yes, err := strconv.ParseBool(said); err == nil {
			return yes
		}
	case "max_wait", "element", "rate_limit":
		if said != "" {
			return said
		}
	}
	return nil
}
