package main

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/dispatcher/client"
)

func lanesCommand() *cli.Command {
	return &cli.Command{
		Name:  "lanes",
		Usage: "show the lanes that deliveries go by, and change how many there are",
		Description: examples("ringback lanes", "ringback lanes set 8") + "\n\nA lane is one of asynq's queues; on a Redis Cluster the list says on which master it lies. It takes an operator's key\n" +
			"of all companies.",
		Action: listLanes,
		Subcommands: []*cli.Command{{
			Name: "set", Usage: "change how many lanes there are, of the whole installation, while it runs", ArgsUsage: "N",
			Description: examples("ringback lanes set 8") + "\n\nFrom 1 to 64. What is in a lane above the number goes out from there. It is refused while a process of an older\n" +
				"version is running, and after it none starts.",
			Action: setLanes,
		}},
	}
}

func listLanes(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	api, err := newAPI(c)
	if err != nil {
		return err
	}
	lanes, err := api.Lanes(c.Context)
	return printLanes(c, lanes, err)
}

func setLanes(c *cli.Context) error {
	args, err := arguments(c, "N")
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(args[0])
	if err != nil || n < 1 || n > dispatcher.MostLanes {
		return usagef("the number of lanes is one from 1 to %d, not %q", dispatcher.MostLanes, args[0])
	}
	api, err := newAPI(c)
	if err != nil {
		return err
	}
	lanes, err := api.SetLanes(c.Context, n)
	return printLanes(c, lanes, err)
}

func printLanes(c *cli.Context, lanes *client.Lanes, err error) error {
	if err != nil {
		return err
	}
	out := newPrinter(c)
	if out.json {
		return out.raw(lanes.Raw)
	}
	var rows [][]string
	for _, l := range lanes.Lanes {
		state := ""
		if slices.Contains(lanes.Draining, l.Lane) {
			state = "until it is empty"
		}
		rows = append(rows, []string{l.Lane, fmt.Sprint(l.Pending), fmt.Sprint(l.Active), fmt.Sprint(l.Retry), l.Node, state})
	}
	if err := out.pairs([2]string{"lanes", fmt.Sprint(lanes.Count)}); err != nil {
		return err
	}
	return out.table([]string{"LANE", "PENDING", "ACTIVE", "RETRY", "NODE", "STATE"}, rows)
}
