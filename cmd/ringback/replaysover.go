package main

import (
	"context"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/ringback/ringback/dispatcher/client"
)

const replayArg = "REPLAY_ID"

func replaysOverCommand() *cli.Command {
	return &cli.Command{
		Name:  "replays",
		Usage: "send many deliveries again, over callbacks and companies",
		Subcommands: []*cli.Command{
			{
				Name: "create", Usage: "send again all dead deliveries of a company, or those that the flags name",
				Description: examples(
					"ringback replays create --company acme --dry-run",
					"ringback replays create --company '*' --since 2h --reason status_503 --follow",
					"ringback replays create --company '*' --state retrying --yes",
				) + "\n\nOn a terminal it says how many there are, and asks before it begins. Each goes out under its old webhook-id.\n" +
					"Retrying ones are tried at once, which counts as one of their attempts. --company '*' is all companies.\n\n" + timeHelp,
				Flags: []cli.Flag{
					companyFlag(),
					&cli.Int64SliceFlag{Name: "callback", Usage: "only those to the company's callback with this `ID` (repeatable)"},
					timeFlag("since", "only of events accepted since this `TIME`"),
					timeFlag("until", "only of events accepted before this `TIME`"),
					&cli.StringSliceFlag{
						Name: "state", Usage: "those in this `STATE` (repeatable): dead, retrying, delivered, cancelled", DefaultText: client.Dead,
					},
					&cli.StringFlag{Name: "type", Aliases: []string{"event-type"}, Usage: "only of this event `TYPE`"},
					&cli.StringFlag{Name: "reason", Usage: "only those whose last attempt failed for this `REASON`, such as timeout"},
					paceFlag(),
					&cli.BoolFlag{Name: "dry-run", Usage: "only say how many there are"},
					yesFlag(), followFlag(), onceFlag(),
				},
				Action: createReplay,
			},
			{
				Name: "list", Usage: "list a company's replays, newest first; with --company '*', those over companies",
				Description: examples("ringback replays list --company '*'"), Flags: []cli.Flag{companyFlag()}, Action: listReplaysOver,
			},
			{
				Name: "get", Usage: "show how far a replay is, company by company", ArgsUsage: replayArg,
				Description: examples("ringback replays get rpl_x --company '*' --follow"), Flags: []cli.Flag{companyFlag(), followFlag()}, Action: getReplay,
			},
			{
				Name: "cancel", Usage: "stop a replay; what it has let out stays so", ArgsUsage: replayArg,
				Description: examples("ringback replays cancel rpl_x --company '*'"), Flags: []cli.Flag{companyFlag()}, Action: cancelReplay,
			},
		},
	}
}

func followFlag() cli.Flag {
	return &cli.BoolFlag{Name: "follow", Usage: "stay until it is done; Ctrl-C leaves it running"}
}

func createReplay(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	api, company, err := forCompany(c)
	if err != nil {
		return err
	}
	q := client.BulkReplayQuery{CallbackIDs: c.Int64Slice("callback"), ReplayQuery: client.ReplayQuery{
		Since: timeOf(c, "since"), Until: timeOf(c, "until"), States: commaSeparated(c.StringSlice("state")),
		EventType: c.String("type"), Reason: c.String("reason"), Pace: c.Int64("pace"), DryRun: c.Bool("dry-run"),
	}}
	if company == wholeInstallation && len(q.CallbackIDs) > 0 {
		return usagef("--callback needs one company: each counts its own callbacks up from 1")
	}
	create := func(ctx context.Context, q client.BulkReplayQuery) (*client.Replay, error) {
		if company == wholeInstallation {
			return api.ReplayCompanies(ctx, q)
		}
		return api.ReplayCompany(ctx, company, q)
	}
	if !q.DryRun && asksHere(c) {
		preview := q
		preview.DryRun = true
		counted, err := create(client.WithIdempotencyKey(c.Context, ""), preview) // the key is of what follows
		if err != nil {
			return err
		}
		if err := confirm(c, wouldGo(counted)+". Type yes to go on: ", "yes"); err != nil {
			return err
		}
	}
	replay, err := create(c.Context, q)
	if err != nil {
		return err
	}
	if replay.State != client.ReplayRunning {
		return printReplay(newPrinter(c), replay)
	}
	if c.Bool("follow") {
		return followReplay(c, company, replay)
	}
	_, _ = fmt.Fprintf(c.App.ErrWriter, "it is under way: %s\n", printable(lookAgain(company, replay)))
	return printReplay(newPrinter(c), replay)
}

// asksHere reports whether there is somebody at a terminal to ask.
func asksHere(c *cli.Context) bool {
	in, ok := c.App.Reader.(*os.File)
	return ok && !c.Bool("yes") && term.IsTerminal(int(in.Fd()))
}

func listReplaysOver(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	if c.String("company") != wholeInstallation {
		return listReplays(c)
	}
	api, err := newAPI(c)
	if err != nil {
		return err
	}
	list, err := api.CompaniesReplays(c.Context)
	if err != nil {
		return err
	}
	return printReplays(newPrinter(c), list)
}

func getReplay(c *cli.Context) error {
	args, err := arguments(c, replayArg)
	if err != nil {
		return err
	}
	api, company, err := forCompany(c)
	if err != nil {
		return err
	}
	replay, err := replayOf(c, api, company, args[0])
	if err != nil {
		return err
	}
	if c.Bool("follow") && replay.State == client.ReplayRunning {
		return followReplay(c, company, replay)
	}
	return printReplay(newPrinter(c), replay)
}

func cancelReplay(c *cli.Context) error {
	args, err := arguments(c, replayArg)
	if err != nil {
		return err
	}
	api, company, err := forCompany(c)
	if err != nil {
		return err
	}
	if company == wholeInstallation {
		err = api.CancelCompaniesReplay(c.Context, args[0])
	} else {
		err = api.CancelReplay(c.Context, company, args[0])
	}
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(c.App.ErrWriter, "replay %s is stopped; what it has let out stays so\n", printable(args[0]))
	return nil
}
