package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/client"
)

func listEventsCommand() *cli.Command {
	return &cli.Command{
		Name: "list", Usage: "find events by type, time, id or what is in them, newest first",
		Description: examples(
			"ringback events list --type payment_proof --since 2h",
			"ringback events list --match campaign_token=r3zhm8",
			"ringback events list --webhook-id dlv_x",
			"ringback events list --company '*' --id 'order-47*'",
		),
		Flags: append([]cli.Flag{
			companyFlag(),
			&cli.StringFlag{Name: "type", Usage: "only those of this event `TYPE`"},
			&cli.StringFlag{Name: "id", Usage: "only the one with this `ID`, or with a * at its end those whose ids begin so"},
			&cli.StringFlag{Name: "webhook-id", Usage: "only the one of the delivery with this `ID`, which partners know as webhook-id"},
			&cli.StringSliceFlag{Name: "match", Usage: "only those with this match attribute, as `NAME=VALUE` (repeatable)"},
			timeFlag("since", "only those accepted since `TIME`"),
			timeFlag("until", "only those accepted before `TIME`"),
		}, pageFlags()...),
		Action: listEvents,
	}
}

func listEvents(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	q := client.EventsQuery{
		EventType: c.String("type"), EventID: c.String("id"), WebhookID: c.String("webhook-id"), Since: timeOf(c, "since"), Until: timeOf(c, "until"),
		Match: map[string]string{},
	}
	for _, pair := range c.StringSlice("match") {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" || value == "" {
			return usagef("--match takes NAME=VALUE, such as campaign_token=r3zhm8, not %q", pair)
		}
		if q.Match[name] != "" {
			return givenTwice("match", name)
		}
		q.Match[name] = value
	}
	api, company, err := forCompany(c)
	if err != nil {
		return err
	}
	return follow(c, "events", func(limit int, cursor string) (leaf, error) {
		q.Limit, q.Cursor = limit, cursor
		page, err := api.Events(c.Context, company, q)
		if err != nil {
			return leaf{}, err
		}
		var lines [][]string
		for _, e := range page.Events {
			lines = append(lines, ofCompany(company, e.Company, moment(e.AcceptedAt), e.EventType, e.EventID, inStates(e)))
		}
		show := gridRows(withCompany(company, times("ACCEPTED"), words("TYPE"), ids("EVENT"), sentences("DELIVERIES")), lines)
		return leaf{raw: page.Raw, entries: len(lines), next: page.NextCursor, searched: page.SearchedBackTo, show: show}, nil
	})
}

// inStates says how an event's deliveries stand.
func inStates(e *client.EventItem) string {
	var parts []string
	for state, n := range e.Deliveries {
		parts = append(parts, fmt.Sprintf("%d %s", n, state))
	}
	slices.Sort(parts)
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// withCompany are a list's columns, with the company before them where it is over all.
func withCompany(company string, all ...tableColumn) []tableColumn {
	if company == wholeInstallation {
		return slices.Insert(all, 0, words("COMPANY"))
	}
	return all
}

// ofCompany are a row's cells, as withCompany has the columns.
func ofCompany(company, own string, cells ...string) []string {
	if company == wholeInstallation {
		return slices.Insert(cells, 0, own)
	}
	return cells
}
