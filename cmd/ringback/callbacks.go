package main

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/client"
)

func callbacksCommand() *cli.Command {
	return &cli.Command{
		Name:        "callbacks",
		Usage:       "register URLs to be called, and look after them",
		Description: "These commands talk to a server's API, with an operator's key or a partner's of the company.",
		Subcommands: []*cli.Command{
			createCallbackCommand(),
			listCallbacksCommand(),
			{
				Name: "get", Usage: "show one callback: its settings and its health", ArgsUsage: callbackArg,
				Description: examples("ringback callbacks get 12"),
				Flags:       []cli.Flag{companyFlag()}, Action: getCallback,
			},
			updateCallbackCommand(),
			{
				Name: "delete", Usage: "delete it, and cancel what waits for it", ArgsUsage: callbackArg,
				Description: examples("ringback callbacks delete 12", "ringback callbacks delete 12 --yes"),
				Flags:       []cli.Flag{companyFlag(), yesFlag()}, Action: deleteCallback,
			},
			{
				Name: "pause", Usage: "hold what is for it until resume", ArgsUsage: callbackArg,
				Description: examples("ringback callbacks pause 12"),
				Flags:       []cli.Flag{companyFlag()}, Action: pauseCallback,
			},
			resumeCallbackCommand(),
			testCallbackCommand(),
			dryRunCommand(),
			verifyCallbackCommand(),
			pollCommand(), ackCommand(), seekCommand(),
			rotateSecretCommand(),
			rotateKeyCommand(),
			replayCommand(), replaysCommand(),
		},
	}
}

func createCallbackCommand() *cli.Command {
	return &cli.Command{
		Name:  "create",
		Usage: "register a URL; prints the signing secret that was made alone on stdout, so SECRET=$(ringback callbacks create …) works",
		Description: examples(
			"ID=$(ringback callbacks create --type 'payment_*' --pull)",
			"ringback callbacks create --type payment_proof --url https://partner.example/hook",
			"ringback callbacks create --type 'customer.*' --url https://partner.example/hook --timeout 30s",
			"ringback callbacks create --file registration.json --secret @old.secret",
			"ringback callbacks create --file registration.json",
		) + registrationHelp,
		Flags:  append([]cli.Flag{companyFlag(), onceFlag()}, registrationFlags()...),
		Action: createCallback,
	}
}

func createCallback(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	api, company, err := forCompany(c)
	if err != nil {
		return err
	}
	registration, err := registrationFrom(c)
	if err != nil {
		return err
	}
	answer, err := api.Do(c.Context, http.MethodPost, callbacksPath(company), nil, registration)
	if err != nil {
		return err
	}
	out := newPrinter(c)
	if out.json {
		return out.raw(answer)
	}
	var cb client.Callback
	if err := decode(answer, &cb); err != nil {
		return err
	}
	if cb.Destination.Pull { // which no secret signs anything for
		_, _ = fmt.Fprintf(c.App.ErrWriter, "callback %d (%s) is registered; what is for it waits until it is fetched: ringback callbacks poll %d\n", cb.CallbackID, printable(cb.CallbackType), cb.CallbackID)
		return out.line("%d", cb.CallbackID)
	}
	if why := unverified(&cb); why != "" {
		_, _ = fmt.Fprintf(c.App.ErrWriter, "callback %d is unverified, and what is for it waits: %s\n", cb.CallbackID, printable(why))
	}
	if cb.Secret == "" {
		_, _ = fmt.Fprintf(c.App.ErrWriter, "callback %d (%s) is registered, and signs with the secret that you gave\n", cb.CallbackID, printable(cb.CallbackType))
		return nil
	}
	_, _ = fmt.Fprintf(c.App.ErrWriter, "callback %d (%s) is registered; its signing secret, shown this once:\n", cb.CallbackID, printable(cb.CallbackType))
	return out.line("%s", printable(cb.Secret))
}

func callbacksPath(company string) string {
	return "/companies/" + url.PathEscape(company) + "/config/callbacks"
}

func updateCallbackCommand() *cli.Command {
	return &cli.Command{
		Name: "update", Usage: "change some of its settings", ArgsUsage: callbackArg,
		Description: examples(
			"ringback callbacks update 12 --url https://partner.example/new --description ''",
			"ringback callbacks update 12 --rate-limit 50 --rate-burst 100",
			"echo '{\"timeout\": \"30s\"}' | ringback callbacks update 12 --file -",
		) + "\n\nWhat is not named stays. \"default\" takes a setting back, as do --auth none, --header 'Name:' and\n" +
			"--match NAME= theirs. --file holds a JSON Merge Patch (RFC 7396): null removes a member, and \"***\"\n" +
			"leaves a secret as it is." + registrationHelp,
		Flags: append([]cli.Flag{companyFlag()}, registrationFlags()...), Action: updateCallback,
	}
}

func updateCallback(c *cli.Context) error {
	api, company, id, err := oneCallback(c)
	if err != nil {
		return err
	}
	patch, err := patchFrom(c, api, company, id)
	if err != nil {
		return err
	}
	return showCallback(c)(api.PatchCallback(c.Context, company, id, patch))
}

func listCallbacksCommand() *cli.Command {
	return &cli.Command{
		Name:        "list",
		Usage:       "list a company's callbacks and how they do",
		Description: examples("ringback callbacks list", "ringback callbacks list --status disabled", "ringback callbacks list --company '*' --status disabled"),
		Flags: append([]cli.Flag{
			companyFlag(),
			&cli.StringFlag{Name: "type", Usage: "only those registered for this `TYPE`"},
			&cli.StringFlag{Name: "status", Usage: "only those that are enabled, paused, disabled or unverified"},
		}, pageFlags()...),
		Action: listCallbacks,
	}
}

func listCallbacks(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	api, company, err := forCompany(c)
	if err != nil {
		return err
	}
	q := client.CallbacksQuery{CallbackType: c.String("type"), Status: c.String("status")}
	return follow(c, "callbacks", func(limit int, cursor string) (leaf, error) {
		q.Limit, q.Cursor = limit, cursor
		page, err := api.Callbacks(c.Context, company, q)
		if err != nil {
			return leaf{}, err
		}
		var lines [][]string
		for _, cb := range page.Callbacks {
			failed := ""
			if f := cmp.Or(cb.LastFailure, cb.LastTokenFailure); f != nil {
				failed = strings.TrimSpace(moment(f.At) + " " + f.Reason)
			}
			lines = append(lines, ofCompany(company, cb.Company,
				fmt.Sprint(cb.CallbackID), cb.CallbackType, match(cb), cb.Status,
				fmt.Sprint(cb.Pending), fmt.Sprint(cb.Held), fmt.Sprint(cb.Dead), failed, destinationOf(cb.Destination),
			))
		}
		show := gridRows(withCompany(company,
			words("ID"), words("TYPE"), sentences("MATCH").dropped(1), states("STATUS"), words("PENDING"), words("HELD"), words("DEAD"),
			lastFailure(), sentences("DESTINATION"),
		), lines)
		return leaf{raw: page.Raw, entries: len(lines), next: page.NextCursor, show: show}, nil
	})
}

// lastFailure is a column of a time and a reason.
func lastFailure() tableColumn {
	c := times("LAST FAILURE")
	c.kind = ofSentences
	return c
}

func getCallback(c *cli.Context) error {
	api, company, id, err := oneCallback(c)
	if err != nil {
		return err
	}
	return showCallback(c)(api.Callback(c.Context, company, id))
}

func pauseCallback(c *cli.Context) error {
	api, company, id, err := oneCallback(c)
	if err != nil {
		return err
	}
	return showCallback(c)(api.PauseCallback(c.Context, company, id))
}

func resumeCallbackCommand() *cli.Command {
	return &cli.Command{
		Name: "resume", Usage: "let it be called again, even if it was disabled, and deliver what was held", ArgsUsage: callbackArg,
		Description: examples("ringback callbacks resume 12", "ringback callbacks resume 12 --skip-held"),
		Flags: []cli.Flag{
			companyFlag(),
			&cli.BoolFlag{Name: "skip-held", Usage: "cancel what was held instead of delivering it"},
			onceFlag(),
		},
		Action: resumeCallback,
	}
}

func resumeCallback(c *cli.Context) error {
	api, company, id, err := oneCallback(c)
	if err != nil {
		return err
	}
	return showCallback(c)(api.ResumeCallback(c.Context, company, id, c.Bool("skip-held")))
}

func deleteCallback(c *cli.Context) error {
	api, company, id, err := oneCallback(c)
	if err != nil {
		return err
	}
	question := fmt.Sprintf("Callback %d of company %s will be deleted, and what waits for it cancelled. Type its number to go on: ", id, company)
	if err := confirm(c, question, strconv.FormatInt(id, 10)); err != nil {
		return err
	}
	if err := api.DeleteCallback(c.Context, company, id); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(c.App.ErrWriter, "callback %d is deleted\n", id)
	return nil
}

func testCallbackCommand() *cli.Command {
	return &cli.Command{
		Name: "test", Usage: "send it its type's example, once and now, and say how that went", ArgsUsage: callbackArg,
		Description: examples("ringback callbacks test 12", "ringback callbacks test 13 --type customer.created") +
			"\n\nNothing of it is kept, and it works while the callback is paused or disabled, but not while it is unverified. The exit code is 0 if it was delivered, else 1.",
		Flags: []cli.Flag{
			companyFlag(),
			&cli.StringFlag{Name: "type", Usage: "which `TYPE`'s example; needed for a callback with a glob"},
		},
		Action: testCallback,
	}
}

func testCallback(c *cli.Context) error {
	api, company, id, err := oneCallback(c)
	if err != nil {
		return err
	}
	result, err := api.TestCallback(c.Context, company, id, c.String("type"))
	if err != nil {
		return err
	}
	if err := printTest(newPrinter(c), result); err != nil {
		return err
	}
	if result.Verdict != client.Delivered {
		return errSaid
	}
	return nil
}

func verifyCallbackCommand() *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "ask its endpoint whether it wants to be called, and say what it answered", ArgsUsage: callbackArg,
		Description: examples("ringback callbacks verify 12") +
			"\n\nWhat is for an unverified callback waits until its endpoint agrees. The exit code is 0 if it did, else 1.",
		Flags: []cli.Flag{companyFlag()}, Action: verifyCallback,
	}
}

func verifyCallback(c *cli.Context) error {
	api, company, id, err := oneCallback(c)
	if err != nil {
		return err
	}
	r, err := api.VerifyCallback(c.Context, company, id)
	if err != nil {
		return err
	}
	out := newPrinter(c)
	if out.json {
		err = out.raw(r.Raw)
	} else if err = out.say("%s", r.Detail); err == nil {
		err = printAnswer(out, &client.TestResult{
			DeliveryID: r.DeliveryID, StatusCode: r.StatusCode, DurationMS: r.DurationMS, ResponseHeaders: r.ResponseHeaders, ResponseBody: r.ResponseBody,
		}, [2]string{"callback", fmt.Sprint(r.CallbackID)}, [2]string{"is now", r.Status})
	}
	if err == nil && !r.Verified {
		return errSaid
	}
	return err
}

func rotateSecretCommand() *cli.Command {
	return &cli.Command{
		Name:  "rotate-secret",
		Usage: "give it a new signing secret; prints one that was made alone on stdout", ArgsUsage: callbackArg,
		Description: examples("SECRET=$(ringback callbacks rotate-secret 12)", "ringback callbacks rotate-secret 12 --overlap 0s", "ringback callbacks rotate-secret 12 --secret @new.secret") +
			"\n\nMeanwhile requests carry a signature by each secret, so that the partner can change over at leisure.\n" +
			"With the header style github they carry one, and --overlap must be 0s.",
		Flags: []cli.Flag{
			companyFlag(),
			&cli.DurationFlag{
				Name: "overlap", Usage: "for how `LONG` requests are signed with the old secret as well, up to 168h; 0s ends it at once",
				Value: client.DefaultOverlap,
				Action: func(_ *cli.Context, d time.Duration) error {
					if d < 0 {
						return usagef("--overlap is a duration such as 24h, and not negative")
					}
					return nil
				},
			},
			&cli.StringFlag{Name: "secret", Usage: "the new `SECRET`, if you bring one: @FILE, @- for stdin, env:VARIABLE, or itself"},
			onceFlag(),
		},
		Action: rotateSecret,
	}
}

func rotateSecret(c *cli.Context) error {
	api, company, id, err := oneCallback(c)
	if err != nil {
		return err
	}
	overlap := c.Duration("overlap")
	own := ""
	if c.IsSet("secret") {
		if own, err = ownSecret(c); err != nil {
			return err
		}
	}
	cb, err := api.RotateSecretTo(c.Context, company, id, own, overlap)
	if err != nil {
		return err
	}
	out := newPrinter(c)
	if out.json {
		return out.raw(cb.Raw)
	}
	meanwhile := "the old one is worthless from now on"
	if overlap > 0 {
		meanwhile = "until " + clock(time.Now().Add(overlap)) + " requests are signed with the old one as well"
	}
	if own != "" {
		_, _ = fmt.Fprintf(c.App.ErrWriter, "callback %d signs with the secret that you gave; %s\n", id, meanwhile)
		return nil
	}
	_, _ = fmt.Fprintf(c.App.ErrWriter, "callback %d has a new signing secret, shown this once; %s:\n", id, meanwhile)
	return out.line("%s", printable(cb.Secret))
}
