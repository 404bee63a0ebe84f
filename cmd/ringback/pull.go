package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/client"
)

// cursorArg is what commands call a cursor that a poll gave.
const cursorArg = "CURSOR"

func pollCommand() *cli.Command {
	return &cli.Command{
		Name: "poll", Usage: "fetch what waits for one that was made with --pull; ack says that you have it", ArgsUsage: callbackArg,
		Description: examples("ringback callbacks poll 12", "ringback callbacks poll 12 --wait 30s -o json", "ringback callbacks poll 12 --after 1769933698020-0"),
		Flags: []cli.Flag{
			companyFlag(),
			&cli.StringFlag{Name: "after", Usage: "begin behind this `CURSOR`, of a poll before (default: behind what was acknowledged)"},
			&cli.IntFlag{Name: "limit", Usage: "`N` deliveries at most, up to 500", Value: 50},
			&cli.DurationFlag{Name: "wait", Usage: "wait up to `DURATION` for something to fetch, at most 30s"},
		},
		Action: blaming(poll),
	}
}

func poll(c *cli.Context) error {
	api, company, id, err := oneCallback(c)
	if err != nil {
		return err
	}
	polled, err := api.Poll(c.Context, company, id, client.Poll{After: c.String("after"), Limit: c.Int("limit"), Wait: c.Duration("wait")})
	if err != nil {
		return err
	}
	out := newPrinter(c)
	if out.json {
		return out.raw(polled.Raw)
	}
	for i := range polled.Deliveries {
		d := &polled.Deliveries[i]
		payload := printableText(string(d.Payload))
		switch {
		case d.PayloadLeft:
			payload = "(kept without its payload)"
		case d.PayloadFault != "":
			payload = "(no payload: " + printable(d.PayloadFault) + ")"
		}
		if err := out.line("%s  %s  %s\n    %s", printable(d.Cursor), printable(d.EventType), printable(d.DeliveryID), payload); err != nil {
			return err
		}
	}
	if len(polled.Deliveries) == 0 {
		return out.say("Nothing waits behind %s.", polled.Next)
	}
	more := ""
	if polled.More {
		more = "; there is more behind it"
	}
	_, err = fmt.Fprintf(c.App.ErrWriter, "say that you have these with: ringback callbacks ack %d %s%s\n", id, printable(polled.Next), more)
	return err
}

func ackCommand() *cli.Command {
	return &cli.Command{
		Name: "ack", Usage: "say that you have all up to a cursor: it is delivered by that", ArgsUsage: callbackArg + " " + cursorArg,
		Description: examples("ringback callbacks ack 12 1769933698020-0"),
		Flags:       []cli.Flag{companyFlag()}, Action: acknowledge,
	}
}

func acknowledge(c *cli.Context) error {
	api, company, id, cursor, err := oneCallbackAnd(c, cursorArg)
	if err != nil {
		return err
	}
	return showAcknowledgement(c)(api.Acknowledge(c.Context, company, id, cursor))
}

func seekCommand() *cli.Command {
	return &cli.Command{
		Name: "seek", Usage: "go on fetching elsewhere: behind a cursor, at a time, start or end", ArgsUsage: callbackArg + " " + cursorArg + "|TIME|start|end",
		Description: examples("ringback callbacks seek 12 start", "ringback callbacks seek 12 2h", "ringback callbacks seek 12 end") +
			"\n\nWhat was acknowledged is fetched again, as far as it is kept, and stays delivered. What waits and is\n" +
			"jumped over is cancelled.\n" + timeHelp,
		Flags: []cli.Flag{companyFlag()}, Action: seek,
	}
}

func seek(c *cli.Context) error {
	api, company, id, to, err := oneCallbackAnd(c, cursorArg+", a TIME, start or end")
	if err != nil {
		return err
	}
	if at, err := readTime(to, time.Now()); err == nil {
		to = at.UTC().Format(time.RFC3339Nano)
	}
	return showAcknowledgement(c)(api.Seek(c.Context, company, id, to))
}

// oneCallbackAnd reads a callback's id and one more argument.
func oneCallbackAnd(c *cli.Context, name string) (api *client.Client, company string, id int64, value string, err error) {
	args, err := arguments(c, callbackArg, name)
	if err != nil {
		return nil, "", 0, "", err
	}
	if id, err = callbackID(args[0]); err != nil {
		return nil, "", 0, "", err
	}
	api, company, err = forCompany(c)
	return api, company, id, args[1], err
}

func showAcknowledgement(c *cli.Context) func(*client.Acknowledgement, error) error {
	return func(a *client.Acknowledgement, err error) error {
		if err != nil {
			return err
		}
		out := newPrinter(c)
		if out.json {
			return out.raw(a.Raw)
		}
		var did []string
		if a.Delivered > 0 {
			did = append(did, fmt.Sprintf("%d delivered", a.Delivered))
		}
		if a.Cancelled > 0 {
			did = append(did, fmt.Sprintf("%d cancelled", a.Cancelled))
		}
		if len(did) == 0 {
			did = []string{"nothing changed its state"}
		}
		return out.say("%s; what is fetched next is behind %s.", strings.Join(did, ", "), a.Acknowledged)
	}
}

// destinationOf says where a callback's deliveries go.
func destinationOf(d client.Destination) string {
	if d.Pull {
		return "fetched by the partner"
	}
	return strings.TrimSpace(d.Method + " " + d.URL)
}
