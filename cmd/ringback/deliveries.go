package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/client"
)

func deliveriesCommand() *cli.Command {
	return &cli.Command{
		Name:  "deliveries",
		Usage: "see each event's way to each callback, and send it again",
		Subcommands: []*cli.Command{
			{
				Name:  "list",
				Usage: "list a company's deliveries, newest first",
				Description: examples(
					"ringback deliveries list --state dead --state held",
					"ringback deliveries list --callback 12 --since 24h",
					"ringback deliveries list --decisions --state dead",
					"ringback deliveries list --company '*' --state dead",
				) + "\n\n" + timeHelp,
				Flags: append([]cli.Flag{
					companyFlag(),
					&cli.StringSliceFlag{
						Name: "state", Usage: "only those in this `STATE` (repeatable): pending, active, retrying, held, delivered, dead, cancelled",
					},
					&cli.BoolFlag{Name: "decisions", Usage: "decisions instead, which partners were asked for and somebody waited for"},
					&cli.Int64Flag{Name: "callback", Usage: "only those to the callback with this `ID`"},
					&cli.StringFlag{Name: "type", Usage: "only those of this event `TYPE`"},
					timeFlag("since", "only those accepted since this `TIME`"),
					timeFlag("until", "only those accepted before this `TIME`"),
				}, pageFlags()...),
				Action: listDeliveries,
			},
			tailCommand(),
			getDeliveryCommand(),
			{
				Name: "replay", Usage: "deliver it again, under the same webhook-id", ArgsUsage: deliveryArg,
				Description: examples("ringback deliveries replay dlv_x") + "\n\n`ringback callbacks replay` does so for many at once.",
				Flags:       []cli.Flag{companyFlag(), onceFlag()}, Action: callDelivery((*client.Client).ReplayDelivery),
			},
			{
				Name: "now", Usage: "try a retrying one at once; it counts as one of its attempts", ArgsUsage: deliveryArg,
				Description: examples("ringback deliveries now dlv_x") + "\n\n`ringback replays create --state retrying` does so for many at once.",
				Flags:       []cli.Flag{companyFlag(), onceFlag()}, Action: callDelivery((*client.Client).HastenDelivery),
			},
			{
				Name: "cancel", Usage: "give up an unfinished one", ArgsUsage: deliveryArg,
				Description: examples("ringback deliveries cancel dlv_x"),
				Flags:       []cli.Flag{companyFlag(), onceFlag()}, Action: callDelivery((*client.Client).CancelDelivery),
			},
		},
	}
}

func getDeliveryCommand() *cli.Command {
	return &cli.Command{
		Name: "get", Usage: "show one delivery, its attempts, and what was answered", ArgsUsage: deliveryArg,
		Description: examples("ringback deliveries get dlv_x", "ringback deliveries get dlv_x --request"),
		Flags: []cli.Flag{
			companyFlag(),
			&cli.BoolFlag{Name: "request", Usage: "show what the last attempts sent, too: headers and body, and where the time went"},
		},
		Action: getDelivery,
	}
}

func getDelivery(c *cli.Context) error {
	show := (*client.Client).Delivery
	if c.Bool("request") {
		show = (*client.Client).DeliveryWithRequests
	}
	return showDelivery(c, show, func(out printer, d *client.Delivery) error {
		if err := printDelivery(out, d); err != nil {
			return err
		}
		for _, a := range d.Attempts {
			if err := printExchange(out, &a, c.Bool("request")); err != nil {
				return err
			}
		}
		return nil
	})
}

func printDelivery(out printer, d *client.Delivery) error {
	if err := out.pairs(
		[2]string{"delivery", d.DeliveryID},
		[2]string{"event", d.EventID + " (" + d.EventType + ")"},
		[2]string{"number of its key", some(d.Sequence)},
		[2]string{"callback", fmt.Sprint(d.CallbackID)},
		[2]string{"state", stateOf(d)},
		[2]string{"in short", d.Summary},
		[2]string{"accepted", clock(d.AcceptedAt)},
		[2]string{"next attempt", clock(d.NextAttemptAt)},
	); err != nil {
		return err
	}
	return printAttempts(out, d.Attempts)
}

// printBrief leaves out what an explanation says already.
func printBrief(out printer, d *client.Delivery) error {
	if err := out.pairs(
		[2]string{"delivery", d.DeliveryID},
		[2]string{"state", stateOf(d)},
		[2]string{"next attempt", clock(d.NextAttemptAt)},
	); err != nil {
		return err
	}
	return printAttempts(out, d.Attempts)
}

// printAttempts names the batches that the attempts were, if any was one.
func printAttempts(out printer, attempts []client.Attempt) error {
	if len(attempts) == 0 {
		return nil
	}
	columns := []tableColumn{words("ATTEMPT"), times("STARTED"), words("STATUS"), words("VERDICT"), words("TOOK").dropped(1), sentences("DETAIL")}
	batches := slices.ContainsFunc(attempts, func(a client.Attempt) bool { return a.BatchID != "" })
	if batches {
		columns = append(columns, ids("BATCH"))
	}
	var rows [][]string
	for _, a := range attempts {
		status := ""
		if a.StatusCode != 0 {
			status = fmt.Sprint(a.StatusCode)
		}
		row := []string{fmt.Sprint(a.Number), moment(a.StartedAt), status, verdict(a.Verdict, a.Reason), took(a.DurationMS), a.Detail}
		if batches {
			row = append(row, a.BatchID)
		}
		rows = append(rows, row)
	}
	return out.grid(columns, rows)
}

// verdict is an attempt's verdict and, where there is one, its reason.
func verdict(verdict, reason string) string {
	return strings.TrimSuffix(verdict+" ("+reason+")", " ()")
}

// took shows whole milliseconds to people.
func took(ms int64) string {
	if ms == 0 {
		return "<1ms"
	}
	return (time.Duration(ms) * time.Millisecond).String()
}

func listDeliveries(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	api, company, err := forCompany(c)
	if err != nil {
		return err
	}
	q := client.DeliveriesQuery{
		States: commaSeparated(c.StringSlice("state")), CallbackID: c.Int64("callback"), EventType: c.String("type"),
		Since: timeOf(c, "since"), Until: timeOf(c, "until"), Decisions: c.Bool("decisions"),
	}
	return follow(c, "deliveries", func(limit int, cursor string) (leaf, error) {
		q.Limit, q.Cursor = limit, cursor
		page, err := api.Deliveries(c.Context, company, q)
		if err != nil {
			return leaf{}, err
		}
		var lines [][]string
		for _, d := range page.Deliveries {
			lines = append(lines, ofCompany(company, d.Company, moment(d.AcceptedAt), d.EventType, fmt.Sprint(d.CallbackID), stateOf(d), fmt.Sprint(len(d.Attempts)), d.DeliveryID, d.Summary))
		}
		show := gridRows(withCompany(company,
			times("ACCEPTED"), words("TYPE").dropped(2), words("CALLBACK"), states("STATE"), words("ATTEMPTS").dropped(1), ids("DELIVERY"), sentences("IN SHORT"),
		), lines)
		return leaf{raw: page.Raw, entries: len(lines), next: page.NextCursor, searched: page.SearchedBackTo, show: show}, nil
	})
}

// callDelivery makes call for the delivery that the command's argument names, and prints what comes back.
func callDelivery(call deliveryCall) cli.ActionFunc {
	return func(c *cli.Context) error { return showDelivery(c, call, printDelivery) }
}

// A deliveryCall is a method of the client about a company's delivery.
type deliveryCall = func(*client.Client, context.Context, string, string) (*client.Delivery, error)

// showDelivery makes call for the delivery that the command's argument names, and shows what comes back: as JSON, or as show prints it.
func showDelivery(c *cli.Context, call deliveryCall, show func(printer, *client.Delivery) error) error {
	args, err := arguments(c, deliveryArg)
	if err != nil {
		return err
	}
	api, company, err := forCompany(c)
	if err != nil {
		return err
	}
	delivery, err := call(api, c.Context, company, args[0])
	if err != nil {
		return err
	}
	out := newPrinter(c)
	if out.json {
		return out.raw(delivery.Raw)
	}
	return show(out, delivery)
}

// fates says what became of the deliveries that were erased.
func fates(unfinished, dead, inFlight int64) string {
	said := fmt.Sprintf("%d were unfinished, %d dead", unfinished, dead)
	if inFlight > 0 {
		said += fmt.Sprintf("; %d requests are under way and still reach their partners", inFlight)
	}
	return said
}
