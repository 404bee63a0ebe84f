package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/client"
)

func companiesCommand() *cli.Command {
	return &cli.Command{
		Name:  "companies",
		Usage: "list companies, bound what one may use, give one a client certificate, or erase all that there is of it",
		Subcommands: []*cli.Command{listCompaniesCommand(), quotasCommand(), companyTLSCommand(), {
			Name: "erase", Usage: "remove a company's callbacks, events, deliveries, decisions, replays and API keys", ArgsUsage: "COMPANY",
			Description: examples("ringback companies erase acme", "ringback companies erase acme --yes") +
				"\n\nIt takes an operator's key, and cannot be undone. Stop what sends for the company first: its next event makes the company anew.\n" +
				"Broken off, it goes on when it is called again.",
			Flags: []cli.Flag{
				yesFlag(),
			},
			Action: eraseCompany,
		}},
	}
}

// eraseCompany asks the server again and again, until all is erased.
func eraseCompany(c *cli.Context) error {
	args, err := arguments(c, "COMPANY")
	if err != nil {
		return err
	}
	company := args[0]
	api, err := newAPI(c)
	if err != nil {
		return err
	}
	if err := confirm(c, "All of company "+company+" will be erased, for ever. Type its name to go on: ", company); err != nil {
		return err
	}
	var sum client.ErasedCompany
	for calls := 1; !sum.Done; calls++ {
		e, err := api.EraseCompany(c.Context, company)
		if refused, ok := errors.AsType[*client.APIError](err); ok && refused.Status == http.StatusNotFound && calls > 1 {
			sum.Done = true // by somebody else, or by a call before this one whose answer was lost
			break
		}
		if err != nil {
			return fmt.Errorf("%w; to go on, call it again", err)
		}
		add(&sum, e)
	}
	out := newPrinter(c)
	if out.json {
		return out.value(sum)
	}
	return out.pairs(
		[2]string{"erased", company},
		[2]string{"callbacks", fmt.Sprint(sum.Callbacks)},
		[2]string{"events", fmt.Sprint(sum.Events)},
		[2]string{"deliveries", fmt.Sprintf("%d: %s", sum.Deliveries, fates(sum.Unfinished, sum.Dead, sum.InFlight))},
		[2]string{"decisions", fmt.Sprint(sum.Decisions)},
		[2]string{"replays", fmt.Sprint(sum.Replays)},
		[2]string{"API keys", fmt.Sprint(sum.APIKeys)},
		[2]string{"kept", strings.Join(sum.Kept, "; ")},
	)
}

func add(sum, e *client.ErasedCompany) {
	sum.Company, sum.Done, sum.Kept = e.Company, e.Done, e.Kept
	sum.Callbacks, sum.Events, sum.Deliveries = sum.Callbacks+e.Callbacks, sum.Events+e.Events, sum.Deliveries+e.Deliveries
	sum.Unfinished, sum.Dead, sum.InFlight = sum.Unfinished+e.Unfinished, sum.Dead+e.Dead, sum.InFlight+e.InFlight
	sum.Decisions, sum.Replays, sum.APIKeys = sum.Decisions+e.Decisions, sum.Replays+e.Replays, sum.APIKeys+e.APIKeys
}
