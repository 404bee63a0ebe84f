package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/client"
)

func dryRunCommand() *cli.Command {
	return &cli.Command{
		Name: "dry-run", Usage: "say whether a payload matches it and what it would be sent, and send nothing", ArgsUsage: "[CALLBACK_ID]",
		Description: examples(
			"ringback callbacks dry-run 12 --payload order.json",
			"ringback callbacks dry-run 12 --payload order.json --filter @filter.json",
			"ringback callbacks dry-run --file registration.json --payload order.json",
		) + "\n\nWith CALLBACK_ID, the other flags are changes to try first; without it, they are a registration that need not exist.\n" +
			"The exit code is 0 if the payload matches and there is something to send, else 1." + registrationHelp,
		Flags: append([]cli.Flag{
			companyFlag(),
			&cli.StringFlag{Name: "payload", Usage: "JSON from `FILE` (- is stdin) instead of the type's example"},
			&cli.StringFlag{Name: "event-type", Usage: "the `TYPE` of the event; needed for a callback with a glob"},
		}, registrationFlags()...),
		Action: dryRun,
	}
}

func dryRun(c *cli.Context) error {
	d, api, company, err := dryRunFrom(c)
	if err != nil {
		return err
	}
	if file := c.String("payload"); file != "" {
		if d.Payload, err = readJSON(c, file); err != nil {
			return fmt.Errorf("--payload: %w", err)
		}
	}
	d.EventType = c.String("event-type")
	result, err := api.DryRun(c.Context, company, d)
	if err != nil {
		return err
	}
	if err := printDryRun(newPrinter(c), result); err != nil {
		return err
	}
	if !result.Matches || result.Request == nil && len(result.Payload) == 0 {
		return errSaid
	}
	return nil
}

// dryRunFrom is the callback that is tried.
func dryRunFrom(c *cli.Context) (d client.DryRun, api *client.Client, company string, err error) {
	if c.Args().Len() == 0 {
		if strings.Contains(c.String("type"), "*") && c.String("event-type") == "" {
			return d, nil, "", usagef("--event-type is missing: --type %s is for several types, say which of them to try", printable(c.String("type")))
		}
		if api, company, err = forCompany(c); err == nil {
			d.Callback, err = registrationFrom(c)
		}
		return d, api, company, err
	}
	args, err := arguments(c, callbackArg)
	if err != nil {
		return d, nil, "", err
	}
	if d.CallbackID, err = strconv.ParseInt(args[0], 10, 64); err != nil || d.CallbackID < 1 {
		return d, nil, "", usagef("CALLBACK_ID is a number, not %q", args[0])
	}
	if api, company, err = forCompany(c); err != nil || !changesAny(c) {
		return d, api, company, err
	}
	patch, err := patchFrom(c, api, company, d.CallbackID)
	if err != nil {
		return d, nil, "", err
	}
	d.Callback, err = json.Marshal(patch)
	return d, api, company, err
}

// changesAny reports whether a flag of a registration is given.
func changesAny(c *cli.Context) bool {
	return slices.ContainsFunc(registrationFlags(), func(f cli.Flag) bool { return c.IsSet(f.Names()[0]) })
}

// printDryRun begins with the sentence that says whether it matches, and ends with the body.
func printDryRun(out printer, r *client.DryRunResult) error {
	if out.json {
		return out.raw(r.Raw)
	}
	does := "It matches. "
	if !r.Matches {
		does = "It does not match. "
	}
	if err := out.say("%s", does+r.Why); err != nil {
		return err
	}
	for _, warning := range r.Warnings {
		if err := out.say("%s", "warning: "+warning); err != nil {
			return err
		}
	}
	if len(r.Payload) > 0 {
		return out.line("\n%s\n", printableText(string(r.Payload)))
	}
	if r.Request == nil {
		return out.say("%s", "Nothing can be sent: "+r.RequestMissing)
	}
	var headers []string
	for _, name := range slices.Sorted(maps.Keys(r.Request.Headers)) {
		headers = append(headers, name+": "+r.Request.Headers[name])
	}
	if err := out.pairs([2]string{"type", r.EventType}, [2]string{"request", r.Request.Method + " " + r.Request.URL}); err != nil {
		return err
	}
	if err := out.line("\n%s\n", printableText(strings.Join(headers, "\n"))); err != nil {
		return err
	}
	body, err := r.Request.BodyBytes()
	if err != nil {
		return err
	}
	return out.line("%s", printableText(string(body)))
}

// filterText is a filter as JSON, in which <, > and & stay as they are.
func filterText(f *client.Filter) string {
	if f == nil {
		return ""
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if enc.Encode(f) != nil {
		return ""
	}
	return strings.TrimSpace(b.String())
}
