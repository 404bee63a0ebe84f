package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/client"
)

func tailCommand() *cli.Command {
	return &cli.Command{
		Name:  "tail",
		Usage: "watch a company's deliveries as they happen",
		Description: "A line for each attempt that ends, and for each change without one: held, cancelled, given up, replayed. It goes on by itself where a connection breaks.\n" +
			"Ctrl-C ends it. With -o json, each line is the delivery as `ringback deliveries get -o json` has it.\n\n" +
			examples(
				"ringback deliveries tail --state dead --state retrying",
				"ringback deliveries tail --callback 12 -o json",
			),
		Flags: []cli.Flag{
			companyFlag(),
			&cli.StringSliceFlag{Name: "state", Usage: "only those that come to this `STATE` (repeatable): pending, active, retrying, held, delivered, dead, cancelled"},
			&cli.Int64Flag{Name: "callback", Usage: "only those to the callback with this `ID`"},
			&cli.StringFlag{Name: "type", Usage: "only those of this event `TYPE`"},
		},
		Action: tailDeliveries,
	}
}

func tailDeliveries(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	api, company, err := watched(c)
	if err != nil {
		return err
	}
	out, colour := newPrinter(c), isTerminal(c.App.Writer)
	q := client.WatchQuery{States: commaSeparated(c.StringSlice("state")), CallbackID: c.Int64("callback"), EventType: c.String("type")}
	q.Begun = func(time.Time) {
		_, _ = fmt.Fprintf(c.App.ErrWriter, "Watching the deliveries of %s. Ctrl-C ends.\n", printable(company))
	}
	ctx := c.Context
	for change, err := range api.Watch(ctx, company, q) {
		switch {
		case err != nil && ctx.Err() != nil: // Ctrl-C
			return nil
		case err != nil:
			return err
		case change.Gap:
			_, _ = fmt.Fprintln(c.App.ErrWriter, "some changes are missing here: `ringback deliveries list` shows how all stand")
			continue
		}
		line := escaped(string(change.Delivery.Raw)) + "\n"
		if !out.json {
			line = tailLine(change.Delivery, time.Now(), colour)
		}
		if _, err := io.WriteString(out.w, line); err != nil {
			return err
		}
	}
	return nil
}

// watched is the client, and the company whose deliveries are watched.
func watched(c *cli.Context) (api *client.Client, company string, err error) {
	if api, company, err = forCompany(c); err == nil && company == wholeInstallation {
		err = usagef("deliveries are watched of one company: name it with --company")
	}
	return api, company, err
}

// tailLine is a delivery that changed just now, in one line.
func tailLine(d *client.Delivery, now time.Time, colour bool) string {
	const red, green, yellow, plain = "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"
	shade := map[string]string{client.Delivered: green, client.Dead: red, client.Retrying: yellow, client.Held: yellow}[d.State]
	state := printable(stateOf(d))
	if colour && shade != "" {
		state = shade + state + plain
	}
	return strings.Join([]string{
		now.Format("15:04:05"), state, printable(d.EventType), fmt.Sprintf("callback %d", d.CallbackID), printable(d.DeliveryID), printable(d.Summary),
	}, "  ") + "\n"
}
