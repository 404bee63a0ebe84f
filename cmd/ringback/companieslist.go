package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/client"
)

func listCompaniesCommand() *cli.Command {
	return &cli.Command{
		Name: "list", Usage: "list the companies and how they stand",
		Description: examples("ringback companies list", "ringback companies list --prefix ac") + "\n\nIt takes an operator's or viewer's key of all companies.",
		Flags:       append([]cli.Flag{&cli.StringFlag{Name: "prefix", Usage: "only those whose names begin with `TEXT`"}}, pageFlags()...),
		Action:      listCompanies,
	}
}

func listCompanies(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	api, err := newAPI(c)
	if err != nil {
		return err
	}
	q := client.CompaniesQuery{Prefix: c.String("prefix")}
	return follow(c, "companies", func(limit int, cursor string) (leaf, error) {
		q.Limit, q.Cursor = limit, cursor
		page, err := api.Companies(c.Context, q)
		if err != nil {
			return leaf{}, err
		}
		var lines [][]string
		for _, co := range page.Companies {
			lines = append(lines, []string{co.Company, fmt.Sprint(co.Callbacks), fmt.Sprint(co.Waiting), moment(co.OldestWaitingAt), fmt.Sprint(co.Dead), co.Words})
		}
		show := gridRows([]tableColumn{
			words("COMPANY"), words("CALLBACKS"), words("WAITING"), times("OLDEST").dropped(1), words("DEAD"), sentences("HOW IT STANDS"),
		}, lines)
		return leaf{raw: page.Raw, entries: len(lines), next: page.NextCursor, show: show}, nil
	})
}
