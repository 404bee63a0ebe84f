package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/client"
)

// The quotas by their flags, and the names that the API has for them.
var companyQuotaFlags, installationQuotaFlags = []string{"callbacks", "replays", "waiting-bytes", "weight"}, []string{"callback-types"}

func quotasCommand() *cli.Command {
	quota := func(name, usage string) cli.Flag {
		return &cli.StringFlag{Name: name, Usage: usage + ": `N`, or default", Action: func(_ *cli.Context, v string) error {
			_, err := quotaOf(name, v)
			return err
		}}
	}
	return &cli.Command{
		Name: "quotas", Usage: "show a company's quotas and how much of them is used, and change them", ArgsUsage: "COMPANY",
		Description: examples("ringback companies quotas acme", "ringback companies quotas acme --callbacks 5000 --waiting-bytes 268435456",
			"ringback companies quotas acme --callbacks default", "ringback companies quotas '*' --callback-types 2000") +
			"\n\nIt takes an operator's key. '*' is the installation, which has a quota of its own. What is there already stays, even if it is more than\n" +
			"a quota allows: only what is new is refused.",
		Flags: []cli.Flag{
			quota("callbacks", "how many callbacks the company may have"),
			quota("replays", "how many replays of many deliveries may be under way at a time"),
			quota("waiting-bytes", "how many bytes of payload may wait for delivery"),
			quota("weight", "how many times as much as a company of weight 1 it gets, while both have more to send than goes out"),
			quota("callback-types", "with '*': how many callback types may be added"),
		},
		Action: companyQuotas,
	}
}

// quotaOf reads a quota; nil is the default.
func quotaOf(flag, text string) (*int64, error) {
	if text == "default" {
		return nil, nil //nolint:nilnil // documented
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return nil, usagef("--%s takes a whole number, or default, not %q", flag, text)
	}
	return &n, nil
}

func companyQuotas(c *cli.Context) error {
	args, err := arguments(c, "COMPANY")
	if err != nil {
		return err
	}
	flags, others := companyQuotaFlags, installationQuotaFlags
	if args[0] == wholeInstallation {
		flags, others = others, flags
	}
	change := map[string]*int64{}
	for _, flag := range slices.Concat(flags, others) {
		if !c.IsSet(flag) {
			continue
		}
		if slices.Contains(others, flag) {
			return usagef("--%s is no quota of %s: %s", flag, printable(args[0]), "--"+strings.Join(flags, ", --"))
		}
		n, err := quotaOf(flag, c.String(flag))
		if err != nil {
			return err
		}
		change[strings.ReplaceAll(flag, "-", "_")] = n
	}
	api, err := newAPI(c)
	if err != nil {
		return err
	}
	if args[0] == wholeInstallation {
		return installationQuotas(c, api, change)
	}
	var q *client.Quotas
	if len(change) > 0 {
		q, err = api.SetQuotas(c.Context, args[0], change)
	} else {
		q, err = api.Quotas(c.Context, args[0])
	}
	if err != nil {
		return err
	}
	out := newPrinter(c)
	if out.json {
		return out.raw(q.Raw)
	}
	return out.table(quotaColumns, [][]string{
		quotaRow("callbacks", &q.Callbacks, &q.Used.Callbacks, &q.Defaults.Callbacks),
		quotaRow("replays", &q.Replays, &q.Used.Replays, &q.Defaults.Replays),
		quotaRow("waiting_bytes", q.WaitingBytes, q.Used.WaitingBytes, q.Defaults.WaitingBytes),
		{"weight", fmt.Sprint(q.Weight), "-", fmt.Sprint(q.Defaults.Weight)},
	})
}

func installationQuotas(c *cli.Context, api *client.Client, change map[string]*int64) error {
	var q *client.InstallationQuotas
	var err error
	if len(change) > 0 {
		q, err = api.SetInstallationQuotas(c.Context, change)
	} else {
		q, err = api.InstallationQuotas(c.Context)
	}
	if err != nil {
		return err
	}
	out := newPrinter(c)
	if out.json {
		return out.raw(q.Raw)
	}
	return out.table(quotaColumns, [][]string{quotaRow("callback_types", &q.CallbackTypes, &q.Used.CallbackTypes, &q.Defaults.CallbackTypes)})
}

var quotaColumns = []string{"QUOTA", "LIMIT", "USED", "DEFAULT"}

func quotaRow(name string, limit, used, fallback *int64) []string {
	words := func(n *int64, none string) string {
		if n == nil {
			return none
		}
		return fmt.Sprint(*n)
	}
	return []string{name, words(limit, "none"), words(used, "not counted"), words(fallback, "none")}
}
