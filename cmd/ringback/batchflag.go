package main

import (
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

// batchOn is a batch of which everything has its default.
const batchOn = "on"

// batchFlag reads --batch. What it does not name stays as it is, or has its default, and none takes all of it back.
func batchFlag(c *cli.Context) (value any, given bool, err error) {
	text := c.String("batch")
	switch {
	case orNull(text) == nil, text == "none":
		return nil, c.IsSet("batch"), nil
	case text == batchOn:
		return map[string]any{}, true, nil
	}
	members := map[string]any{}
	for pair := range strings.SplitSeq(text, ",") {
		name, said, _ := strings.Cut(pair, "=")
		if members[name] = batchMember(name, said); members[name] == nil {
			return nil, false, usagef("--batch takes %s, or max_events=N, max_bytes=N, max_wait=5s, element=payload|envelope, results=true|false, rate_limit=requests|events, or none", batchOn)
		}
	}
	return members, true, nil
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
