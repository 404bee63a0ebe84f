package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/client"
)

func replayCommand() *cli.Command {
	return &cli.Command{
		Name: "replay", Usage: "send it again what it did not get: all its dead deliveries, or those that the flags name", ArgsUsage: callbackArg,
		Description: examples(
			"ringback callbacks replay 12 --dry-run",
			"ringback callbacks replay 12 --since yesterday --reason status_500 --wait",
		) + "\n\nEach goes out under its old webhook-id, paced. `ringback callbacks replays` shows how far it is, and stops it.\n\n" + timeHelp,
		Flags: []cli.Flag{
			companyFlag(),
			timeFlag("since", "only of events accepted since this `TIME`"),
			timeFlag("until", "only of events accepted before this `TIME`"),
			&cli.StringSliceFlag{
				Name: "state", Usage: "those in this `STATE` (repeatable): dead, retrying, delivered, cancelled", DefaultText: client.Dead,
			},
			&cli.StringFlag{Name: "type", Aliases: []string{"event-type"}, Usage: "only of this event `TYPE`"},
			&cli.StringFlag{Name: "reason", Usage: "only those whose last attempt failed for this `REASON`, such as timeout or status_500"},
			paceFlag(),
			&cli.BoolFlag{Name: "dry-run", Usage: "only say how many there are"},
			waitFlag(), onceFlag(),
		},
		Action: replayCallback,
	}
}

func paceFlag() cli.Flag {
	return &cli.Int64Flag{Name: "pace", Usage: "at most `N` deliveries a second to a callback", DefaultText: "as fast as it takes them"}
}

func waitFlag() cli.Flag {
	return &cli.BoolFlag{Name: "wait", Usage: "stay until it is done; Ctrl-C leaves it running"}
}

func replaysCommand() *cli.Command {
	return &cli.Command{
		Name: "replays", Usage: "list a company's replays, or show, follow or stop one", ArgsUsage: "[REPLAY_ID]",
		Description: examples("ringback callbacks replays", "ringback callbacks replays rpl_x --wait", "ringback callbacks replays rpl_x --cancel"),
		Flags: []cli.Flag{
			companyFlag(), waitFlag(),
			&cli.BoolFlag{Name: "cancel", Usage: "stop it; what it has let out stays so"},
		},
		Action: showReplays,
	}
}

func replayCallback(c *cli.Context) error {
	api, company, id, err := oneCallback(c)
	if err != nil {
		return err
	}
	replay, err := api.ReplayCallback(c.Context, company, id, client.ReplayQuery{
		Since: timeOf(c, "since"), Until: timeOf(c, "until"), States: commaSeparated(c.StringSlice("state")),
		EventType: c.String("type"), Reason: c.String("reason"), Pace: c.Int64("pace"), DryRun: c.Bool("dry-run"),
	})
	if err != nil {
		return err
	}
	if c.Bool("wait") && replay.State == client.ReplayRunning {
		return followReplay(c, company, replay)
	}
	if replay.State == client.ReplayRunning {
		_, _ = fmt.Fprintf(c.App.ErrWriter, "it is under way: %s\n", printable(lookAgain(company, replay)))
	}
	return printReplay(newPrinter(c), replay)
}

func showReplays(c *cli.Context) error {
	if !c.Args().Present() {
		if c.Bool("wait") || c.Bool("cancel") {
			return usagef("which replay? give its id: `ringback callbacks replays` lists them")
		}
		return listReplays(c)
	}
	args, err := arguments(c, "REPLAY_ID")
	if err != nil {
		return err
	}
	if c.Bool("wait") && c.Bool("cancel") {
		return usagef("--wait and --cancel do not go together")
	}
	api, company, err := forCompany(c)
	if err != nil {
		return err
	}
	if c.Bool("cancel") {
		if err := api.CancelReplay(c.Context, company, args[0]); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(c.App.ErrWriter, "replay %s is stopped; what it has let out stays so\n", printable(args[0]))
		return nil
	}
	replay, err := api.Replay(c.Context, company, args[0])
	if err != nil {
		return err
	}
	if c.Bool("wait") && replay.State == client.ReplayRunning {
		return followReplay(c, company, replay)
	}
	return printReplay(newPrinter(c), replay)
}

func listReplays(c *cli.Context) error {
	api, company, err := forCompany(c)
	if err != nil {
		return err
	}
	list, err := api.Replays(c.Context, company)
	if err != nil {
		return err
	}
	return printReplays(newPrinter(c), list)
}

func printReplays(out printer, list *client.ReplayList) error {
	if out.json {
		return out.raw(list.Raw)
	}
	var rows [][]string
	for _, r := range list.Replays {
		rows = append(rows, []string{r.ReplayID, goesOver(r), r.State, fmt.Sprint(r.Matched), fmt.Sprint(r.Replayed), moment(r.CreatedAt), moment(r.FinishedAt)})
	}
	return out.grid([]tableColumn{
		ids("REPLAY"), words("CALLBACK"), words("STATE"), words("MATCHED"), words("REPLAYED"), times("BEGAN").dropped(2), times("ENDED").dropped(1),
	}, rows)
}

// goesOver names the callback that a replay is of, or those that it goes over.
func goesOver(r *client.Replay) string {
	switch {
	case r.CallbackID != 0:
		return fmt.Sprint(r.CallbackID)
	case len(r.CallbackIDs) == 1:
		return fmt.Sprint(r.CallbackIDs[0])
	case len(r.CallbackIDs) > 1:
		return fmt.Sprintf("%d of them", len(r.CallbackIDs))
	}
	return "all"
}

// wouldGo says what a replay was counted to send.
func wouldGo(r *client.Replay) string {
	least := ""
	if r.Estimate {
		least = ", and perhaps more: counting took too long"
	}
	return fmt.Sprintf("%d deliveries would go out again%s%s", r.Matched, unsendable(r), least)
}

func printReplay(out printer, r *client.Replay) error {
	if out.json {
		return out.raw(r.Raw)
	}
	if r.State == client.ReplayDryRun {
		return out.line("%s; nothing is sent", wouldGo(r))
	}
	matched := fmt.Sprint(r.Matched)
	if r.Estimate {
		matched += " at least"
	}
	if err := out.pairs(
		[2]string{"replay", r.ReplayID},
		[2]string{"companies", strings.Join(r.Companies, ", ")},
		[2]string{"callback", goesOver(r)},
		[2]string{"state", r.State},
		[2]string{"deliveries", fmt.Sprintf("%s, of which %d were let out again%s", matched, r.Replayed, unsendable(r))},
		[2]string{"those", strings.Join(r.States, ", ")},
		[2]string{"began", clock(r.CreatedAt)},
		[2]string{"ended", clock(r.FinishedAt)},
	); err != nil {
		return err
	}
	return printParts(out, r)
}

// unsendable says how many more there are that cannot be sent again.
func unsendable(r *client.Replay) string {
	if r.BodyLeft == 0 {
		return ""
	}
	return fmt.Sprintf(", and %d cannot, for their bodies are no longer kept", r.BodyLeft)
}

// The pauses between two looks at a replay: it may be done at once, or take hours.
const (
	firstLook = 100 * time.Millisecond
	lastLook  = 2 * time.Second
)

// followReplay looks at a replay until it has ended, and shows on a terminal how far it is.
func followReplay(c *cli.Context, company string, r *client.Replay) error {
	api, _, err := forCompany(c, patiently)
	if err != nil {
		return err
	}
	bar := replayBar(c, r)
	for pause := firstLook; r.State == client.ReplayRunning; pause = min(2*pause, lastLook) {
		if err := rest(c.Context, pause); err != nil {
			_ = bar.Exit()
			return fmt.Errorf("the replay goes on without this command, %d of %d are let out: %s", r.Replayed, r.Matched, lookAgain(company, r))
		}
		next, err := replayOf(c, api, company, r.ReplayID)
		if err != nil && c.Err() != nil {
			continue // rest says it
		}
		if err != nil {
			_ = bar.Exit()
			return err
		}
		r = next
		_ = bar.Set64(min(r.Replayed, r.Matched))
	}
	_ = bar.Finish()
	if err := printReplay(newPrinter(c), r); err != nil {
		return err
	}
	if r.State != client.ReplayDone {
		return errSaid
	}
	return nil
}

func replayBar(c *cli.Context, r *client.Replay) *progressbar.ProgressBar {
	to := "to callback " + goesOver(r)
	if r.CallbackID == 0 {
		to = "over callbacks"
	}
	return progressbar.NewOptions64(max(r.Matched, 1), append(barOptions(c), progressbar.OptionSetDescription("replaying "+to), progressbar.OptionShowCount())...)
}

// rest waits, or returns the context's error.
func rest(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// replayOf reads a replay: a company's, or one over companies.
func replayOf(c *cli.Context, api *client.Client, company, id string) (*client.Replay, error) {
	if company == wholeInstallation {
		return api.CompaniesReplay(c.Context, id)
	}
	return api.Replay(c.Context, company, id)
}

// lookAgain says how to see how far a replay is.
func lookAgain(company string, r *client.Replay) string {
	if r.CallbackID != 0 {
		return fmt.Sprintf("`ringback callbacks replays %s` shows how far it is, --wait follows it, --cancel stops it", r.ReplayID)
	}
	if company == wholeInstallation {
		company = "'" + company + "'"
	}
	return fmt.Sprintf("`ringback replays get %s --company %s` shows how far it is, --follow follows it; `ringback replays cancel` stops it", r.ReplayID, company)
}

// printParts shows what a replay over callbacks does in each company.
func printParts(out printer, r *client.Replay) error {
	if len(r.Parts) == 0 {
		return nil
	}
	var rows [][]string
	for _, p := range r.Parts {
		var waits []string
		for _, id := range p.CallbackIDs {
			waits = append(waits, fmt.Sprint(id))
		}
		rows = append(rows, []string{p.Company, p.State, fmt.Sprint(p.Matched), fmt.Sprint(p.Replayed), fmt.Sprint(p.Left), strings.Join(waits, ", ")})
	}
	return errors.Join(out.line(""), out.grid([]tableColumn{
		ids("COMPANY"), words("STATE"), words("MATCHED"), words("REPLAYED"), words("LEFT"), words("CALLBACKS LEFT").dropped(1),
	}, rows))
}
