package main

import (
	"encoding/json"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/client"
)

func auditCommand() *cli.Command {
	return &cli.Command{
		Name:  "audit",
		Usage: "show who changed what, the newest first; it is kept for 90 days",
		Description: examples("ringback audit", "ringback audit --company acme --since 2d") +
			"\n\nIt takes an operator's key, or a partner's, who sees what concerns its company.\n\n" + timeHelp,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "company", Usage: "only changes to `COMPANY`, its API keys included; '*' is all, and the default", EnvVars: []string{"RINGBACK_COMPANY"}},
			timeFlag("since", "only changes at this `TIME` or later"),
			timeFlag("until", "only changes before this `TIME`"),
		}, pageFlags()...),
		Action: listAudit,
	}
}

func listAudit(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	api, err := newAPI(c)
	if err != nil {
		return err
	}
	company := c.String("company")
	if company == wholeInstallation {
		company = ""
	}
	q := client.AuditQuery{Company: company, Since: timeOf(c, "since"), Until: timeOf(c, "until")}
	return follow(c, "entries", func(limit int, cursor string) (leaf, error) {
		q.Limit, q.Cursor = limit, cursor
		page, err := api.Audit(c.Context, q)
		if err != nil {
			return leaf{}, err
		}
		var lines [][]string
		for _, e := range page.Entries {
			lines = append(lines, []string{moment(e.At), e.Actor, e.Company, e.Action, e.Object, changeWords(e.Changes)})
		}
		show := gridRows([]tableColumn{
			times("TIME"), words("ACTOR"), words("COMPANY").dropped(1), words("ACTION"), words("OBJECT"), sentences("CHANGES"),
		}, lines)
		return leaf{raw: page.Raw, entries: len(lines), next: page.NextCursor, show: show}, nil
	})
}

// changeWords are changes as field: old -> new.
func changeWords(changes []client.AuditChange) string {
	var words []string
	for _, change := range changes {
		word := change.Field + ":"
		if change.Old != nil {
			word += " " + valueWords(change.Old)
		}
		if change.New != nil {
			word += " -> " + valueWords(change.New)
		}
		words = append(words, word)
	}
	return strings.Join(words, ", ")
}

func valueWords(v any) string {
	if text, ok := v.(string); ok {
		return text
	}
	text, _ := json.Marshal(v) // it came as JSON
	return string(text)
}
