package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/client"
)

func egressCommand() *cli.Command {
	return &cli.Command{
		Name:  "egress",
		Usage: "stop everything that goes out, of all companies, and let it go out again",
		Subcommands: []*cli.Command{
			{
				Name: "pause", Usage: "stop it: deliveries wait, decisions and tests are refused, events are accepted as ever",
				Description: examples("ringback egress pause") + "\n\nOnce it returns no attempt begins; those in flight finish. It takes an operator's key of all companies.",
				Action:      steerEgress((*client.Client).PauseEgress),
			},
			{
				Name: "resume", Usage: "let it go out again, and all that waited",
				Description: examples("ringback egress resume"),
				Action:      steerEgress((*client.Client).ResumeEgress),
			},
			{
				Name: "status", Usage: "say whether anything goes out",
				Description: examples("ringback egress status"),
				Action:      steerEgress((*client.Client).Egress),
			},
		},
	}
}

func steerEgress(call func(*client.Client, context.Context) (*client.Egress, error)) cli.ActionFunc {
	return func(c *cli.Context) error {
		if _, err := arguments(c); err != nil {
			return err
		}
		api, err := newAPI(c)
		if err != nil {
			return err
		}
		egress, err := call(api, c.Context)
		if err != nil {
			return err
		}
		out := newPrinter(c)
		if out.json {
			return out.raw(egress.Raw)
		}
		return out.pairs([2]string{"egress", egress.Status}, [2]string{"since", clock(egress.Since)})
	}
}
