package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/client"
)

const callbackArg = "CALLBACK_ID"

func callbacksCommand() *cli.Command {
	return &cli.Command{
		Name:        "callbacks",
		Usage:       "register URLs to be called, and look after them",
		Description: "These commands talk to a server's API, with an operator's key or a partner's of the company.",
		Subcommands: []*cli.Command{
			{
				Name:  "create",
				Usage: "register a URL; prints the signing secret alone on stdout, so SECRET=$(ringback callbacks create …) works",
				Description: examples(
					"ringback callbacks create --type payment_proof --url https://partner.example/hook",
					"ringback callbacks create --type wallet_item_install --campaign-token r3zhm8 --url https://partner.example/hook",
					"ringback callbacks create --file registration.json",
				),
				Flags:  append([]cli.Flag{companyFlag()}, registrationFlags()...),
				Action: createCallback,
			},
			{
				Name:        "list",
				Usage:       "list a company's callbacks and how they do",
				Description: examples("ringback callbacks list", "ringback callbacks list --status disabled"),
				Flags: append([]cli.Flag{
					companyFlag(),
					&cli.StringFlag{Name: "type", Usage: "only those registered for this `TYPE`"},
					&cli.StringFlag{Name: "status", Usage: "only those that are enabled, paused, disabled or unverified"},
				}, pageFlags()...),
				Action: listCallbacks,
			},
			{
				Name: "get", Usage: "show one callback: its settings and its health", ArgsUsage: callbackArg,
				Description: examples("ringback callbacks get 12"),
				Flags:       []cli.Flag{companyFlag()}, Action: getCallback,
			},
			{
				Name: "update", Usage: "change some of its settings", ArgsUsage: callbackArg,
				Description: examples(
					"ringback callbacks update 12 --url https://partner.example/new --description ''",
					"ringback callbacks update 12 --rate-limit 50 --rate-burst 100",
					"echo '{\"timeout\": \"30s\"}' | ringback callbacks update 12 --file -",
				) + "\n\nWhat is not named stays. --file holds a JSON Merge Patch (RFC 7396): null removes a member, \"***\" leaves a secret as it is.",
				Flags: append([]cli.Flag{companyFlag()}, registrationFlags()...), Action: updateCallback,
			},
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
			{
				Name: "resume", Usage: "let it be called again, even if it was disabled, and deliver what was held", ArgsUsage: callbackArg,
				Description: examples("ringback callbacks resume 12", "ringback callbacks resume 12 --skip-held"),
				Flags: []cli.Flag{
					companyFlag(),
					&cli.BoolFlag{Name: "skip-held", Usage: "cancel what was held instead of delivering it"},
				},
				Action: resumeCallback,
			},
			{
				Name: "test", Usage: "send it its type's example, once and now, and say how that went", ArgsUsage: callbackArg,
				Description: examples("ringback callbacks test 12", "ringback callbacks test 13 --type customer.created") +
					"\n\nNothing of it is kept, and it works while the callback is paused or disabled, but not while it is unverified. The exit code is 0 if it was delivered, else 1.",
				Flags: []cli.Flag{
					companyFlag(),
					&cli.StringFlag{Name: "type", Usage: "which `TYPE`'s example; needed for a callback with a glob"},
				},
				Action: testCallback,
			},
			{
				Name: "verify", Usage: "ask its endpoint whether it wants to be called, and say what it answered", ArgsUsage: callbackArg,
				Description: examples("ringback callbacks verify 12") +
					"\n\nWhat is for an unverified callback waits until its endpoint agrees. The exit code is 0 if it did, else 1.",
				Flags: []cli.Flag{companyFlag()}, Action: verifyCallback,
			},
			{
				Name:  "rotate-secret",
				Usage: "give it a new signing secret; prints it alone on stdout", ArgsUsage: callbackArg,
				Description: examples("SECRET=$(ringback callbacks rotate-secret 12)", "ringback callbacks rotate-secret 12 --overlap 0s") +
					"\n\nMeanwhile requests carry a signature by each secret, so that the partner can change over at leisure.",
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
				},
				Action: rotateSecret,
			},
			replayCommand(), replaysCommand(),
		},
	}
}

// registrationFlags set what is set most; --file sets all there is.
func registrationFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "type", Usage: "callback `TYPE`, or a glob such as 'customer.*'"},
		&cli.StringFlag{Name: "url", Usage: "`URL` to call, exactly as given"},
		&cli.StringFlag{Name: "method", Usage: "POST, PUT or PATCH"},
		&cli.StringFlag{Name: "content-type", Usage: "application/json or application/x-www-form-urlencoded"},
		&cli.StringFlag{Name: "campaign-token", Usage: "only events of the wallet campaign with this `TOKEN`"},
		&cli.StringSliceFlag{Name: "match", Usage: "only events with this `NAME=VALUE` (repeatable)"},
		&cli.StringFlag{Name: "description", Usage: "`TEXT` for people"},
		&cli.Float64Flag{Name: "rate-limit", Usage: "at most `N` attempts a second, from 0.01 to 10000; 0: as fast as it answers"},
		&cli.IntFlag{Name: "rate-burst", Usage: "up to `N` of them at once after a pause (default: --rate-limit, rounded up)"},
		&cli.StringFlag{Name: "file", Usage: "all of it as JSON from `FILE` (- is stdin) instead of the flags above"},
	}
}

// match is what a callback's block narrows the match to.
func match(cb *client.Callback) string {
	var pairs []string
	for _, attribute := range slices.Sorted(maps.Keys(cb.Match)) {
		pairs = append(pairs, attribute+"="+cb.Match[attribute])
	}
	return strings.Join(pairs, " ")
}

// printCallback shows every setting that is set, of what is secret that it is there, and the callback's health.
func printCallback(out printer, cb *client.Callback) error {
	auth, trace, retry := "", "", ""
	if cb.Auth != nil {
		auth = cb.Auth.Type
		if cb.Auth.Username != "" {
			auth += " as " + cb.Auth.Username
		}
		if cb.Auth.TokenURL != "" {
			auth += " as " + cb.Auth.ClientID + ", token from " + cb.Auth.TokenURL
		}
	}
	if cb.Trace {
		trace = "sends traceparent"
	}
	if r := cb.Retry; r.MaxAttempts > 0 {
		retry = fmt.Sprintf("after %s, then ×%g, at most %s apart, %d attempts in all", brief(r.InitialInterval), r.Multiplier, brief(r.MaxInterval), r.MaxAttempts)
	}
	if cb.Retry.MaxAttempts == 1 {
		retry = "never, there is one attempt"
	}
	limit := ""
	if l := cb.RateLimit; l != nil {
		limit = fmt.Sprintf("%g a second, up to %d at once", l.PerSecond, l.Burst)
	}
	dead := ""
	if cb.Dead > 0 {
		dead = fmt.Sprintf("%d; `ringback callbacks replay %d` sends them again", cb.Dead, cb.CallbackID)
	}
	return out.pairs(
		[2]string{"callback", fmt.Sprint(cb.CallbackID)},
		[2]string{"type", cb.CallbackType},
		[2]string{"match", match(cb)},
		[2]string{"destination", strings.TrimSpace(cb.Destination.Method + " " + cb.Destination.URL)},
		[2]string{"content type", cb.Destination.ContentType},
		[2]string{"auth", auth},
		[2]string{"headers", strings.Join(slices.Sorted(maps.Keys(cb.Headers)), ", ")},
		[2]string{"success", cb.Success},
		[2]string{"trace", trace},
		[2]string{"timeout", brief(cb.Timeout)},
		[2]string{"retry", retry},
		[2]string{"rate limit", limit},
		[2]string{"start date", clock(cb.StartDate)},
		[2]string{"description", cb.Description},
		[2]string{"status", cb.Status},
		[2]string{"because", cmp.Or(cb.DisabledReason, unverified(cb))},
		[2]string{"since", clock(cb.StatusAt)},
		[2]string{"pending", some(cb.Pending)},
		[2]string{"held", some(cb.Held)},
		[2]string{"oldest waits since", clock(cb.OldestWaitingAt)},
		[2]string{"dead", dead},
		[2]string{"last success", clock(cb.LastSuccessAt)},
		[2]string{"last failure", failure(cb.LastFailure)},
		[2]string{"last without token", failure(cb.LastTokenFailure)},
	)
}

// some shows a number, and zero as nothing.
func some(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// brief is a duration without minutes and seconds that are zero: 1h, not 1h0m0s.
func brief(d client.Duration) string {
	s := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, zero) {
			s = strings.TrimSuffix(s, zero[1:])
		}
	}
	return s
}

// failure says when and how the last attempt failed, and of which delivery.
func failure(f *client.Failure) string {
	if f == nil {
		return ""
	}
	return strings.Join(slices.DeleteFunc([]string{clock(f.At), f.Detail, "(" + f.DeliveryID + ")"}, func(s string) bool { return s == "" || s == "()" }), " ")
}

// unverified says what to do about an unverified callback; empty: it is none.
func unverified(cb *client.Callback) string {
	if cb.Status != "unverified" {
		return ""
	}
	last := "its endpoint was not challenged yet"
	if cb.UnverifiedReason != "" {
		last = "its endpoint did not answer its challenge (" + cb.UnverifiedReason + ")"
	}
	return fmt.Sprintf("%s; `ringback callbacks verify %d` tries again", last, cb.CallbackID)
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
	if why := unverified(&cb); why != "" {
		_, _ = fmt.Fprintf(c.App.ErrWriter, "callback %d is unverified, and what is for it waits: %s\n", cb.CallbackID, printable(why))
	}
	_, _ = fmt.Fprintf(c.App.ErrWriter, "callback %d (%s) is registered; its signing secret, shown this once:\n", cb.CallbackID, printable(cb.CallbackType))
	return out.line("%s", printable(cb.Secret))
}

func callbacksPath(company string) string {
	return "/companies/" + url.PathEscape(company) + "/config/callbacks"
}

// registrationFrom is the JSON of a registration: a file's, or put together from the flags.
func registrationFrom(c *cli.Context) ([]byte, error) {
	if file := c.String("file"); file != "" {
		return wholeFile(c, file)
	}
	if c.String("type") == "" || c.String("url") == "" {
		return nil, usagef("%s needs --type and --url, or --file", c.Command.HelpName)
	}
	block, err := matchBlock(c)
	if err != nil {
		return nil, err
	}
	perSecond, err := rateLimit(c)
	if err != nil {
		return nil, err
	}
	var limit *client.RateLimit
	if perSecond != 0 {
		limit = &client.RateLimit{PerSecond: perSecond, Burst: c.Int("rate-burst")}
	}
	return json.Marshal(client.Registration{
		CallbackType: c.String("type"), Match: block, Description: c.String("description"),
		Destination: client.Destination{URL: c.String("url"), Method: c.String("method"), ContentType: c.String("content-type")},
		RateLimit:   limit,
	})
}

// wholeFile reads --file, which leaves nothing to the other flags.
func wholeFile(c *cli.Context, file string) ([]byte, error) {
	for _, f := range registrationFlags() {
		if name := f.Names()[0]; name != "file" && c.IsSet(name) {
			return nil, usagef("--file says it all: leave --%s out, or write it in the file", name)
		}
	}
	return readJSON(c, file)
}

// matchBlock is what --match and --campaign-token narrow the match to; nil if neither is given.
func matchBlock(c *cli.Context) (map[string]string, error) {
	var block map[string]string
	set := func(name, value string) {
		if block == nil {
			block = map[string]string{}
		}
		block[name] = value
	}
	for _, m := range c.StringSlice("match") {
		name, value, ok := strings.Cut(m, "=")
		if !ok || name == "" {
			return nil, usagef("--match takes NAME=VALUE, such as campaign_token=r3zhm8")
		}
		set(name, value)
	}
	if token := c.String("campaign-token"); token != "" {
		set("campaign_token", token)
	}
	return block, nil
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

// patchFrom is the merge patch that the flags or the file describe. The name of the block that narrows the match is the callback's own.
func patchFrom(c *cli.Context, api *client.Client, company string, id int64) (any, error) {
	if file := c.String("file"); file != "" {
		patch, err := wholeFile(c, file)
		return json.RawMessage(patch), err
	}
	block, err := matchBlock(c)
	if err != nil {
		return nil, err
	}
	patch, to := map[string]any{}, map[string]any{}
	for flag, member := range map[string]string{"url": "url", "method": "method", "content-type": "content_type"} {
		if c.IsSet(flag) {
			to[member] = orNull(c.String(flag))
		}
	}
	if len(to) > 0 {
		patch["destination"] = to
	}
	for flag, member := range map[string]string{"type": "callback_type", "description": "description"} {
		if c.IsSet(flag) {
			patch[member] = orNull(c.String(flag))
		}
	}
	if limit, given, err := rateLimitPatch(c); err != nil {
		return nil, err
	} else if given {
		patch["rate_limit"] = limit
	}
	if block != nil {
		name := c.String("type")
		if name == "" {
			cb, err := api.Callback(c.Context, company, id)
			if err != nil {
				return nil, err
			}
			if name = cb.MatchBlock; name == "" {
				name = cb.CallbackType
			}
		}
		patch[name] = block
	}
	if len(patch) == 0 {
		return nil, usagef("%s changes nothing: name what to change, or give a merge patch with --file", c.Command.HelpName)
	}
	return patch, nil
}

// rateLimitPatch is what --rate-limit and --rate-burst make of the member. A new rate without a burst has the default one: what was at
// once before means little at another rate.
func rateLimitPatch(c *cli.Context) (member any, given bool, err error) {
	limit := map[string]any{}
	if c.IsSet("rate-limit") {
		perSecond, err := rateLimit(c)
		if err != nil || perSecond == 0 {
			return nil, true, err
		}
		limit["per_second"], limit["burst"] = perSecond, nil
	}
	if c.IsSet("rate-burst") {
		limit["burst"] = c.Int("rate-burst")
	}
	return limit, len(limit) > 0, nil
}

// rateLimit is --rate-limit, 0 for none. A burst alone means nothing.
func rateLimit(c *cli.Context) (perSecond float64, err error) {
	perSecond = c.Float64("rate-limit")
	switch {
	case math.IsNaN(perSecond) || math.IsInf(perSecond, 0):
		return 0, usagef("--rate-limit must be a number from 0.01 to 10000, or 0")
	case perSecond == 0 && c.IsSet("rate-burst"):
		return 0, usagef("--rate-burst goes with --rate-limit, which says how many attempts a second there may be")
	}
	return perSecond, nil
}

// orNull is how a merge patch removes what a flag empties.
func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func listCallbacks(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	api, company, err := forCompany(c)
	if err != nil {
		return err
	}
	page, err := api.Callbacks(c.Context, company, client.CallbacksQuery{
		CallbackType: c.String("type"), Status: c.String("status"), Limit: c.Int("limit"), Cursor: c.String("cursor"),
	})
	if err != nil {
		return err
	}
	out := newPrinter(c)
	if out.json {
		return out.raw(page.Raw)
	}
	var rows [][]string
	for _, cb := range page.Callbacks {
		failed := ""
		if f := cmp.Or(cb.LastFailure, cb.LastTokenFailure); f != nil {
			failed = strings.TrimSpace(clock(f.At) + " " + f.Reason)
		}
		rows = append(rows, []string{
			fmt.Sprint(cb.CallbackID), cb.CallbackType, match(cb), cb.Status,
			fmt.Sprint(cb.Pending), fmt.Sprint(cb.Held), fmt.Sprint(cb.Dead), failed, cb.Destination.Method + " " + cb.Destination.URL,
		})
	}
	more(c, page.NextCursor)
	return out.table([]string{"ID", "TYPE", "MATCH", "STATUS", "PENDING", "HELD", "DEAD", "LAST FAILURE", "DESTINATION"}, rows)
}

// oneCallback is the client, and the callback that the flags and the command's argument name.
func oneCallback(c *cli.Context, change ...func(*client.Config)) (api *client.Client, company string, id int64, err error) {
	args, err := arguments(c, callbackArg)
	if err != nil {
		return nil, "", 0, err
	}
	if id, err = strconv.ParseInt(args[0], 10, 64); err != nil || id < 1 {
		return nil, "", 0, usagef("a callback's id is a number, not %q: `ringback callbacks list` shows them", args[0])
	}
	api, company, err = forCompany(c, change...)
	return api, company, id, err
}

// showCallback prints the callback that a call answers with.
func showCallback(c *cli.Context) func(*client.Callback, error) error {
	return func(cb *client.Callback, err error) error {
		if err != nil {
			return err
		}
		out := newPrinter(c)
		if out.json {
			return out.raw(cb.Raw)
		}
		return printCallback(out, cb)
	}
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
	} else if err = out.line("%s", printable(r.Detail)); err == nil {
		err = printAnswer(out, &client.TestResult{
			DeliveryID: r.DeliveryID, StatusCode: r.StatusCode, DurationMS: r.DurationMS, ResponseHeaders: r.ResponseHeaders, ResponseBody: r.ResponseBody,
		}, [2]string{"callback", fmt.Sprint(r.CallbackID)}, [2]string{"is now", r.Status})
	}
	if err == nil && !r.Verified {
		return errSaid
	}
	return err
}

// printTest begins with the sentence that says how it went.
func printTest(out printer, r *client.TestResult) error {
	if out.json {
		return out.raw(r.Raw)
	}
	if err := out.line("%s", printable(r.Detail)); err != nil {
		return err
	}
	return printAnswer(out, r, [2]string{"type", r.EventType}, [2]string{"verdict", verdict(r.Verdict, r.Reason)})
}

// printAnswer shows what a partner answered, after some pairs.
func printAnswer(out printer, r *client.TestResult, pairs ...[2]string) error {
	status, answer := "", []string{}
	if r.StatusCode != 0 {
		status = fmt.Sprint(r.StatusCode)
	}
	for _, name := range slices.Sorted(maps.Keys(r.ResponseHeaders)) {
		answer = append(answer, name+": "+r.ResponseHeaders[name])
	}
	if err := out.pairs(slices.Concat([][2]string{{"delivery", r.DeliveryID}}, pairs, [][2]string{
		{"status", status},
		{"took", took(r.DurationMS)},
		{"answered", strings.Join(answer, ", ")},
	})...); err != nil || r.ResponseBody == "" {
		return err
	}
	return out.line("%s", printableText(r.ResponseBody))
}

func rotateSecret(c *cli.Context) error {
	api, company, id, err := oneCallback(c)
	if err != nil {
		return err
	}
	overlap := c.Duration("overlap")
	cb, err := api.RotateSecret(c.Context, company, id, overlap)
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
	_, _ = fmt.Fprintf(c.App.ErrWriter, "callback %d has a new signing secret, shown this once; %s:\n", id, meanwhile)
	return out.line("%s", printable(cb.Secret))
}
