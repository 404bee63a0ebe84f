package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/client"
)

func eventsCommand() *cli.Command {
	return &cli.Command{
		Name:  "events",
		Usage: "hand over events, and ask what became of them",
		Subcommands: []*cli.Command{
			listEventsCommand(),
			{
				Name: "send", ArgsUsage: "[FILE]",
				Usage: "hand over one event by --type and --payload, or all that a FILE holds, one a line",
				Description: examples(
					"ringback events send --type payment_proof --payload proof.json --event-id proof-1",
					"ringback events send events.ndjson --rejects refused.ndjson",
					"zcat events.ndjson.gz | ringback events send -",
				) + sendDescription,
				Flags: []cli.Flag{
					companyFlag(),
					&cli.StringFlag{Name: "type", Usage: "of one event: its `TYPE`, see `ringback events types`"},
					&cli.StringFlag{Name: "payload", Usage: "of one event: JSON from `FILE` (- is stdin)"},
					&cli.StringFlag{Name: "event-id", Usage: "of one event: your own `ID`; sent twice, it is delivered once"},
					&cli.StringFlag{Name: "rejects", Usage: "write the lines that are refused to `FILE`, to be corrected and sent"},
				},
				Action: sendEvents,
			},
			{
				Name: "ask", Usage: "ask a partner to decide, and wait for its answer",
				Description: examples("ringback events ask --type entry_code.verify --payload code.json --timeout 3s") +
					"\n\nThe answer's JSON is on stdout, a rejection, too: what it says is between you and the partner. It fails if the partner did not decide.",
				Flags: []cli.Flag{
					companyFlag(),
					&cli.StringFlag{Name: "type", Usage: "the synchronous `TYPE`, see `ringback events types`"},
					&cli.StringFlag{Name: "payload", Usage: "JSON from `FILE` (- is stdin)"},
					&cli.DurationFlag{Name: "timeout", Usage: "how long the partner has, 100ms to 60s; default: as its callback says"},
					onceFlag(),
				},
				Action: askDecision,
			},
			{
				Name: "get", Usage: "explain what became of an event, callback by callback", ArgsUsage: eventArg,
				Description: examples("ringback events get proof-1", "ringback events get proof-1 --callback 12 -o json"),
				Flags: append([]cli.Flag{
					companyFlag(),
					&cli.Int64Flag{Name: "callback", Usage: "only as to the callback with this `ID`"},
				}, pageFlags()...),
				Action: explainEvent,
			},
			payloadCommand(),
			{
				Name: "erase", Usage: "remove an event and its deliveries, as if it had never been handed over", ArgsUsage: eventArg,
				Description: examples("ringback events erase proof-1") + "\n\nWhat of it is not delivered yet never will be. Sent again under the same id, it is a new event.",
				Flags:       []cli.Flag{companyFlag()}, Action: eraseEvent,
			},
			{
				Name: "types", Usage: "list the types of events, or show one with its schema and an example", ArgsUsage: "[TYPE]",
				Description: examples("ringback events types", "ringback events types payment_proof"),
				Action:      listTypes,
			},
		},
	}
}

// sendEvents hands over one event or a file of them.
func sendEvents(c *cli.Context) error {
	one := []string{"type", "payload", "event-id"}
	if !c.Args().Present() {
		if c.String("type") == "" || c.String("payload") == "" {
			return usagef("%s needs --type and --payload (`ringback events types` lists the types), or a FILE with an event a line (- is stdin)", c.Command.HelpName)
		}
		if c.String("rejects") != "" {
			return usagef("--rejects goes with a FILE of events")
		}
		return sendEvent(c)
	}
	args, err := arguments(c, "FILE")
	if err != nil {
		return err
	}
	for _, flag := range one {
		if c.String(flag) != "" {
			return usagef("a FILE holds whole events, a line each: leave --%s out, or send one event by --type and --payload", flag)
		}
	}
	return sendFile(c, args[0])
}

func sendEvent(c *cli.Context) error {
	api, company, err := forCompany(c, patiently)
	if err != nil {
		return err
	}
	payload, err := readJSON(c, c.String("payload"))
	if err != nil {
		return err
	}
	receipt, err := api.Send(c.Context, company, client.Event{Type: c.String("type"), ID: c.String("event-id"), Payload: payload})
	if err != nil {
		return err
	}
	out := newPrinter(c)
	if out.json {
		return out.raw(receipt.Raw)
	}
	for _, warning := range receipt.Warnings {
		_, _ = fmt.Fprintf(c.App.ErrWriter, "warning: %s\n", printable(warning))
	}
	return printReceipt(out, receipt)
}

// askDecision prints what the partner says, and beside it who said so.
func askDecision(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	if c.String("type") == "" || c.String("payload") == "" {
		return usagef("%s needs --type and --payload (`ringback events types` lists the types)", c.Command.HelpName)
	}
	api, company, err := forCompany(c)
	if err != nil {
		return err
	}
	payload, err := readJSON(c, c.String("payload"))
	if err != nil {
		return err
	}
	answer, err := api.Ask(c.Context, company, client.Question{Type: c.String("type"), Payload: payload, Timeout: c.Duration("timeout")})
	if err != nil {
		return err
	}
	out := newPrinter(c)
	if out.json {
		return out.raw(answer.Raw)
	}
	_, _ = fmt.Fprintf(c.App.ErrWriter, "callback %d answered %d in %s (%s)\n", answer.CallbackID, answer.StatusCode, took(answer.DurationMS), printable(answer.DecisionID))
	return out.raw(answer.Body)
}

func printReceipt(out printer, receipt *client.Receipt) error {
	said := fmt.Sprintf("%s (%s) is accepted", receipt.EventID, receipt.EventType)
	if receipt.Duplicate {
		said = fmt.Sprintf("%s (%s) was accepted before; nothing is sent again", receipt.EventID, receipt.EventType)
	}
	if len(receipt.Deliveries) == 0 && !receipt.Expanding {
		return out.line("%s; no callback matches it. `ringback events get %s` says why.", printable(said), printable(receipt.EventID))
	}
	if receipt.Expanding {
		said += "; it is still being spread over all callbacks that match"
	}
	if err := out.line("%s", printable(said)); err != nil {
		return err
	}
	var rows [][]string
	for _, d := range receipt.Deliveries {
		rows = append(rows, []string{d.DeliveryID, fmt.Sprint(d.CallbackID), d.State})
	}
	return out.grid([]tableColumn{ids("DELIVERY"), words("CALLBACK"), states("STATE")}, rows)
}

// explainEvent prints the server's sentences: the whole first, then callback by callback, with the attempts.
func explainEvent(c *cli.Context) error {
	args, err := arguments(c, eventArg)
	if err != nil {
		return err
	}
	api, company, err := forCompany(c)
	if err != nil {
		return err
	}
	return follow(c, "callbacks", func(limit int, cursor string) (leaf, error) {
		explained, err := api.Event(c.Context, company, args[0], client.ExplainQuery{CallbackID: c.Int64("callback"), Limit: limit, Cursor: cursor})
		if err != nil {
			return leaf{}, err
		}
		show := func(out printer, _ *columns, first bool) error { return printExplanation(out, explained, first) }
		return leaf{raw: explained.Raw, entries: len(explained.Callbacks), next: explained.NextCursor, show: show}, nil
	})
}

// printExplanation prints a page of it.
func printExplanation(out printer, explained *client.Explanation, first bool) error {
	if first {
		summary := explained.Summary
		if summary == "" { // the server is older than summaries are
			summary = fmt.Sprintf("%s (%s), accepted %s", explained.EventID, explained.EventType, clock(explained.AcceptedAt))
		}
		if err := out.say("%s", summary); err != nil {
			return err
		}
		if len(explained.Callbacks) == 0 {
			return out.line("the company has no callbacks: `ringback callbacks create` registers one")
		}
	}
	for _, cb := range explained.Callbacks {
		if err := out.line(""); err != nil {
			return err
		}
		if err := out.say("callback %d (%s): %s: %s", cb.CallbackID, cb.CallbackType, strings.ReplaceAll(cb.Decision, "_", " "), cb.Why); err != nil {
			return err
		}
		if cb.Delivery != nil {
			if err := printBrief(out, cb.Delivery); err != nil {
				return err
			}
		}
	}
	return nil
}

func eraseEvent(c *cli.Context) error {
	args, err := arguments(c, eventArg)
	if err != nil {
		return err
	}
	api, company, err := forCompany(c)
	if err != nil {
		return err
	}
	e, err := api.EraseEvent(c.Context, company, args[0])
	if err != nil {
		return err
	}
	out := newPrinter(c)
	if out.json {
		return out.raw(e.Raw)
	}
	return out.line("event %s is erased, with %d deliveries: %s", printable(e.EventID), e.Deliveries, fates(e.Unfinished, e.Dead, e.InFlight))
}

func listTypes(c *cli.Context) error {
	if c.Args().Present() {
		return showType(c)
	}
	api, err := newAPI(c)
	if err != nil {
		return err
	}
	list, err := api.Types(c.Context)
	if err != nil {
		return err
	}
	out := newPrinter(c)
	if out.json {
		return out.raw(list.Raw)
	}
	var rows [][]string
	for _, t := range list.CallbackTypes {
		rows = append(rows, []string{t.Name, matchNames(t), t.Description})
	}
	return out.table([]string{"TYPE", "MATCHES ON", "WHAT IT SAYS"}, rows)
}

// matchNames are what callbacks may narrow their match by.
func matchNames(t *client.Type) string {
	return strings.Join(slices.Sorted(maps.Keys(t.Match)), ", ")
}

func showType(c *cli.Context) error {
	args, err := arguments(c, "TYPE")
	if err != nil {
		return err
	}
	api, err := newAPI(c)
	if err != nil {
		return err
	}
	t, err := api.Type(c.Context, args[0])
	if err != nil {
		return err
	}
	out := newPrinter(c)
	if out.json {
		return out.raw(t.Raw)
	}
	if err := out.pairs(
		[2]string{"type", t.Name}, [2]string{"what it says", t.Description}, [2]string{"matches on", matchNames(t)},
		[2]string{"success", t.Success}, [2]string{"validation", t.Validation}, [2]string{"stamped on sending", t.Stamp},
		[2]string{"synchronous", strconv.FormatBool(t.Synchronous)},
		[2]string{"operational", strconv.FormatBool(t.Operational)},
	); err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		doc  []byte
	}{{"example", t.Example}, {"schema", t.Schema}} {
		if len(part.doc) == 0 {
			continue
		}
		if err := out.line("\n%s:", part.name); err != nil {
			return err
		}
		if err := out.raw(part.doc); err != nil {
			return err
		}
	}
	return nil
}
