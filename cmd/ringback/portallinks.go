package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/client"
)

func portalLinksCommand() *cli.Command {
	return &cli.Command{
		Name:  "portal-links",
		Usage: "let a partner without an API key in to its company's page",
		Subcommands: []*cli.Command{
			{
				Name: "create", Usage: "make a link that works once, and print it: it is shown this once",
				Description: examples("ringback portal-links create --company acme", "ringback portal-links create --company acme --expires-in 1h --callback 12 --read-only") +
					"\n\nThe server has to know the address that its pages are reached at (--public-url). Whoever opens the link first is\n" +
					"in, so send it as you would send a password.",
				Flags: []cli.Flag{
					companyFlag(),
					&cli.DurationFlag{Name: "expires-in", Usage: "it can be opened for `DURATION`, 1m to 720h", DefaultText: "24h"},
					&cli.DurationFlag{Name: "session", Usage: "whoever opened it stays in for `DURATION`, 1m to 168h", DefaultText: "12h"},
					&cli.StringSliceFlag{Name: "callback", Usage: "only this callback, by its `ID` (repeatable), is shown there, with its deliveries", DefaultText: "all of the company's"},
					&cli.BoolFlag{Name: "read-only", Usage: "nothing can be changed there"},
					onceFlag(),
				},
				Action: createPortalLink,
			},
			{
				Name: "list", Usage: "list a company's links, and who is in",
				Description: examples("ringback portal-links list --company acme"),
				Flags:       []cli.Flag{companyFlag()},
				Action:      listPortalLinks,
			},
			{
				Name: "revoke", Usage: "take a link away; whoever came in by it is out at once", ArgsUsage: "LINK_ID",
				Description: examples("ringback portal-links revoke lnk_x --company acme"),
				Flags:       []cli.Flag{companyFlag()},
				Action:      revokePortalLink,
			},
		},
	}
}

func createPortalLink(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	terms := client.PortalLinkTerms{
		ExpiresIn: client.Duration(c.Duration("expires-in")), SessionExpiresIn: client.Duration(c.Duration("session")), ReadOnly: c.Bool("read-only"),
	}
	for _, flag := range []string{"expires-in", "session"} {
		if c.IsSet(flag) && c.Duration(flag) < time.Minute {
			return usagef("--%s must be at least 1m, such as 24h", flag)
		}
	}
	for _, text := range commaSeparated(c.StringSlice("callback")) {
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil || id < 1 {
			return usagef("--callback takes a callback's id, such as 12, not %q", text)
		}
		terms.CallbackIDs = append(terms.CallbackIDs, id)
	}
	api, company, err := forCompany(c)
	if err != nil {
		return err
	}
	link, err := api.CreatePortalLink(c.Context, company, terms)
	if err != nil {
		return err
	}
	out := newPrinter(c)
	if out.json {
		return out.raw(link.Raw)
	}
	if _, err := fmt.Fprintf(c.App.ErrWriter, "portal link %s, shown this once: it works once, until %s, and then for %s\n", link.ID, clock(link.ExpiresAt), link.SessionExpiresIn); err != nil {
		return err
	}
	return out.line("%s", link.URL)
}

func listPortalLinks(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	api, company, err := forCompany(c)
	if err != nil {
		return err
	}
	list, err := api.PortalLinks(c.Context, company)
	if err != nil {
		return err
	}
	out := newPrinter(c)
	if out.json {
		return out.raw(list.Raw)
	}
	var rows [][]string
	for _, l := range list.PortalLinks {
		ends := l.ExpiresAt
		if !l.SessionExpiresAt.IsZero() {
			ends = l.SessionExpiresAt
		}
		rows = append(rows, []string{l.ID, l.Status, clock(ends), clock(l.UsedAt), l.CreatedBy, boundsOf(l)})
	}
	return out.table([]string{"LINK", "STATUS", "ENDS", "USED", "BY", "SEES"}, rows)
}

// boundsOf says in short what a link's session may see and do.
func boundsOf(l *client.PortalLink) string {
	sees := "all"
	if len(l.CallbackIDs) > 0 {
		ids := make([]string, len(l.CallbackIDs))
		for i, id := range l.CallbackIDs {
			ids[i] = strconv.FormatInt(id, 10)
		}
		sees = strings.Join(ids, " ")
	}
	if l.ReadOnly {
		sees += ", only looks"
	}
	return sees
}

func revokePortalLink(c *cli.Context) error {
	args, err := arguments(c, "LINK_ID")
	if err != nil {
		return err
	}
	api, company, err := forCompany(c)
	if err != nil {
		return err
	}
	return api.RevokePortalLink(c.Context, company, args[0])
}
