package main

import (
	"encoding/json"
	"math"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/client"
)

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

// rateLimitPatch is the member that --rate-limit and --rate-burst ask for. A new rate without a burst has the default one: the burst before means
// little at another rate.
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
