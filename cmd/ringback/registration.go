package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/client"
)

// registrationFlags set all that a callback has.
func registrationFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "type", Usage: "callback `TYPE`, or a glob such as 'customer.*'"},
		&cli.StringFlag{Name: "url", Usage: "`URL` to call, exactly as given"},
		&cli.BoolFlag{Name: "pull", Usage: "send nothing: the partner fetches, see poll; in the place of --url"},
		&cli.StringFlag{Name: "method", Usage: "POST, PUT or PATCH"},
		&cli.StringFlag{Name: "content-type", Usage: "application/json or application/x-www-form-urlencoded"},
		&cli.StringFlag{Name: "campaign-token", Usage: "only events of the wallet campaign with this `TOKEN`"},
		&cli.StringSliceFlag{Name: "match", Usage: "only events with this `NAME=VALUE` (repeatable)"},
		&cli.StringFlag{Name: "description", Usage: "`TEXT` for people"},
		&cli.StringFlag{Name: "success", Usage: "what counts as delivered: json_200_or_204, any_2xx or any_response"},
		&cli.StringFlag{Name: "timeout", Usage: "how long an attempt may take, from 1s to 60s"},
		settingFlag("retry", "when it is tried again: `NAME=VALUE,…`, see below"),
		settingFlag("auth", "how requests prove who they are: `TYPE,NAME=VALUE,…`, see below"),
		settingFlag("tls", "a client certificate, and whom to trust: `NAME=VALUE,…`, see below"),
		&cli.StringSliceFlag{Name: "header", Usage: "send this header: `'Name: value'` (repeatable), see below"},
		&cli.BoolFlag{Name: "trace", Usage: "send traceparent, so that the partner's traces go on from ours"},
		&cli.StringFlag{Name: "start-date", Usage: "only events accepted since this `TIME`", Action: checkStart},
		&cli.StringFlag{Name: "filter", Usage: "only events whose payload this `JSON` is for, or @FILE's, see below"},
		&cli.StringFlag{Name: "template", Usage: "send a new body, made as this `JSON` says, or @FILE's, see below"},
		&cli.Float64Flag{Name: "rate-limit", Usage: "at most `N` attempts a second, from 0.01 to 10000; 0: as fast as it answers"},
		&cli.IntFlag{Name: "rate-burst", Usage: "up to `N` of them at once after a pause (default: --rate-limit, rounded up)"},
		settingFlag("ordering", "keep what has the same key in order: `NAME=VALUE,…`, see below"),
		&cli.StringFlag{Name: "header-style", Usage: "in which headers the signature travels: standard, svix, github or stripe"},
		&cli.StringFlag{Name: "secret", Usage: "sign with this `SECRET`, which the receiver has already, see below; default: one is made"},
		&cli.StringFlag{Name: "envelope", Usage: "what payloads travel in: none, cloudevents-structured or cloudevents-binary"},
		&cli.StringFlag{Name: "body", Usage: "full, or thin: an address where the payload is had"},
		signatureFlag(),
		settingFlag("batch", "send deliveries together: on, or `NAME=VALUE,…`, or none, see below"),
		&cli.StringFlag{Name: "file", Usage: "all of it as JSON from `FILE` (- is stdin) instead of the flags above"},
	}
}

// registrationHelp is about those whose values have a form of their own.
const registrationHelp = `

--retry takes any of initial_interval, multiplier, max_interval and max_attempts:
  --retry initial_interval=5s,multiplier=2.5,max_interval=12h,max_attempts=15
--auth is bearer, basic or oauth2. A secret that is left out is asked for:
  --auth bearer,token=@token.txt
  --auth basic,username=me,password=env:PASSWORD
  --auth oauth2,token_url=https://id.example/token,client_id=me,client_secret=@-
--secret is whsec_ and base64, or any text of 16 to 256 characters with --header-style github or
stripe. On an update it takes the place of all that sign, at once; rotate-secret lets them overlap:
  --header-style stripe --secret env:STRIPE_WEBHOOK_SECRET
--tls takes any of client_certificate, client_key, ca and server_name; none takes all of it back. PEM
comes from a file, and ca is trusted instead of the system's authorities:
  --tls client_certificate=@cert.pem,client_key=@key.pem,ca=@ca.pem,server_name=hooks.example
--header takes a value that may be seen, or says where the value is:
  --header 'X-Tenant: 12' --header X-Api-Key=@key.txt --header X-Token=env:TOKEN
--filter takes a clause, or a group of clauses, of JSON Pointers into the payload:
  --filter '{"pointer": "/amount", "op": "gt", "value": 100}' --filter @filter.json
There are the groups all, any and not, and equals, not_equals, in, not_in, prefix, suffix, exists, gt,
gte, lt and lte.
--template takes JSON in which {"$pointer": "/customer/id"} stands for what is there in the payload:
  --template '{"id": {"$pointer": "/customer/id"}}' --template @template.json
ringback callbacks dry-run tries both.
--batch takes any of max_events, max_bytes, max_wait, element (payload or envelope), results and
rate_limit (what takes a token of it: requests or events):
  --batch max_events=100,max_bytes=262144,max_wait=5s,element=envelope,results=false` + orderingHelp + `
What has commas may be given in parts, as in --batch max_events=100 --batch max_wait=5s.
@FILE is a file, @- is stdin, env:VARIABLE is a variable of the environment. What stands on the
command line itself is kept by shells, and other users of the machine may see it.

` + timeHelp

// registrationFrom is the JSON of a registration: a file's, or put together from the flags.
func registrationFrom(c *cli.Context) ([]byte, error) {
	if file := c.String("file"); file != "" {
		return wholeFile(c, file)
	}
	if c.String("type") == "" || c.String("url") == "" && !c.Bool("pull") {
		return nil, usagef("%s needs --type and --url, --type and --pull, or --file", c.Command.HelpName)
	}
	settings, err := settingsFrom(c)
	if err != nil {
		return nil, err
	}
	block, err := matchBlock(c)
	if err != nil {
		return nil, err
	}
	if block != nil {
		settings[c.String("type")] = block
	}
	return json.Marshal(withoutNulls(settings))
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

// patchFrom is the merge patch that the flags or the file describe. The name of the block that narrows the match is the callback's own.
func patchFrom(c *cli.Context, api *client.Client, company string, id int64) (any, error) {
	if file := c.String("file"); file != "" {
		patch, err := wholeFile(c, file)
		return json.RawMessage(patch), err
	}
	patch, err := settingsFrom(c)
	if err != nil {
		return nil, err
	}
	block, err := matchBlock(c)
	if err != nil {
		return nil, err
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

// settingsFrom are the members that the flags set, but for the block that narrows the match. null takes one back.
func settingsFrom(c *cli.Context) (map[string]any, error) {
	settings, to := map[string]any{}, map[string]any{}
	for flag, member := range map[string]string{"url": "url", "method": "method", "content-type": "content_type"} {
		if c.IsSet(flag) {
			to[member] = orNull(c.String(flag))
		}
	}
	if c.IsSet("pull") {
		to["pull"] = c.Bool("pull")
	}
	if len(to) > 0 {
		settings["destination"] = to
	}
	for flag, member := range map[string]string{"type": "callback_type", "description": "description", "success": "success", "timeout": "timeout", "header-style": "header_style", "envelope": "envelope", "body": "body"} {
		if c.IsSet(flag) {
			settings[member] = orNull(c.String(flag))
		}
	}
	if c.IsSet("secret") {
		secret, err := ownSecret(c)
		if err != nil {
			return nil, err
		}
		settings["secret"] = secret
	}
	if c.IsSet("trace") {
		settings["trace"] = c.Bool("trace")
	}
	for member, read := range map[string]func(*cli.Context) (value any, given bool, err error){
		"start_date": startDate, "retry": retry, "auth": auth, "tls": tlsFlag, "batch": batchFlag, "headers": headers, "rate_limit": rateLimits,
		"filter": jsonFlag("filter"), "template": jsonFlag("template"), "signature": signatureOf, "ordering": orderingFlag,
	} {
		value, given, err := read(c)
		if err != nil {
			return nil, err
		}
		if given {
			settings[member] = value
		}
	}
	return settings, nil
}

// ownSecret reads --secret, a signing secret that the receiver has already.
func ownSecret(c *cli.Context) (string, error) {
	secret, err := secretFrom(c, "--secret", c.String("secret"))
	if err == nil && secret == "" {
		return "", usagef("--secret is empty: leave it out to have one made")
	}
	return secret, err
}

// matchBlock is what --match and --campaign-token narrow the match to; nil if neither is given. An empty value takes an attribute back.
func matchBlock(c *cli.Context) (map[string]any, error) {
	var block map[string]any
	set := func(name, value string) error {
		if block == nil {
			block = map[string]any{}
		}
		if _, before := block[name]; before {
			return givenTwice("match", name)
		}
		block[name] = value
		if value == "" && c.Command.Name == "update" {
			block[name] = nil
		}
		return nil
	}
	for _, m := range c.StringSlice("match") {
		name, value, ok := strings.Cut(m, "=")
		if !ok || name == "" {
			return nil, usagef("--match takes NAME=VALUE, such as campaign_token=r3zhm8")
		}
		if err := set(name, value); err != nil {
			return nil, err
		}
	}
	if c.IsSet("campaign-token") {
		if set("campaign_token", c.String("campaign-token")) != nil {
			return nil, usagef("--campaign-token is the same as --match campaign_token=…: give one of them")
		}
	}
	return block, nil
}

func checkStart(_ *cli.Context, v string) error {
	if _, err := readTime(v, time.Now()); err != nil && v != "" && v != byDefault {
		return usagef("--start-date: %v", err)
	}
	return nil
}

func startDate(c *cli.Context) (value any, given bool, err error) {
	if orNull(c.String("start-date")) == nil {
		return nil, c.IsSet("start-date"), nil
	}
	return timeOf(c, "start-date").UTC().Format(time.RFC3339Nano), true, nil
}

// retryNames are what --retry has.
var retryNames = []string{"initial_interval", "multiplier", "max_interval", "max_attempts"}

// retry reads --retry, whose members may be some of those that there are.
func retry(c *cli.Context) (value any, given bool, err error) {
	_, parts, err := settingOf(c, "retry")
	if err != nil || parts == nil {
		return nil, c.IsSet("retry"), err
	}
	unlike := func(pair string) error {
		return usagef("--retry takes initial_interval=5s,multiplier=2.5,max_interval=12h,max_attempts=15, or some of these, not %q", pair)
	}
	members, err := membersOf("retry", atCommas(parts), retryNames, unlike, func(name, value string) (any, error) {
		if name == "initial_interval" || name == "max_interval" {
			return value, nil
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
			return nil, usagef("--retry %s must be a number, not %q", name, value)
		}
		return n, nil
	})
	return members, err == nil, err
}

// authSecrets are the secrets of each type of auth, and authNames all that it has.
var (
	authSecrets = map[string]string{"bearer": "token", "basic": "password", "oauth2": "client_secret"}
	authNames   = map[string][]string{
		"bearer": {"token"}, "basic": {"username", "password"}, "oauth2": {"token_url", "client_id", "client_secret", "scopes", "audience"},
	}
)

// auth reads --auth. It says all of it: what it does not name is taken back.
func auth(c *cli.Context) (value any, given bool, err error) {
	_, parts, err := settingOf(c, "auth", noSetting)
	if err != nil || parts == nil {
		return nil, c.IsSet("auth"), err
	}
	kind, rest, _ := strings.Cut(parts[0], ",")
	secret, known := authSecrets[kind]
	if !known {
		return nil, false, usagef("--auth begins with bearer, basic, oauth2 or none, such as bearer,token=@token.txt")
	}
	members := map[string]any{"type": kind}
	for _, names := range authNames {
		for _, name := range names {
			members[name] = nil
		}
	}
	own := authNames[kind]
	pairs := atNames(append([]string{rest}, parts[1:]...), own)
	named, err := membersOf("auth", pairs, own, always(usagef("--auth %s takes %s, each as NAME=VALUE", kind, strings.Join(own, ", "))), func(name, value string) (any, error) {
		switch name {
		case secret:
			return secretFrom(c, "--auth "+name, value)
		case "scopes":
			return strings.Fields(value), nil
		}
		return value, nil
	})
	if err != nil {
		return nil, false, err
	}
	maps.Copy(members, named)
	if members[secret] == nil {
		if members[secret], err = askSecret(c, "--auth "+secret); err != nil {
			return nil, false, err
		}
	}
	return members, true, nil
}

// headers reads --header: 'Name: value', Name=@FILE or Name=env:VARIABLE. On an update, 'Name:' takes a header back.
func headers(c *cli.Context) (value any, given bool, err error) {
	members := map[string]any{}
	for _, text := range c.StringSlice("header") {
		at := strings.IndexAny(text, ":=")
		if at < 1 {
			return nil, false, usagef("--header takes 'Name: value', Name=@FILE or Name=env:VARIABLE")
		}
		name, value := strings.TrimSpace(text[:at]), strings.TrimSpace(text[at+1:])
		if _, before := members[name]; before { // the server knows other spellings
			return nil, false, givenTwice("header", printable(name))
		}
		switch source := text[at+1:]; {
		case text[at] == '=' && !strings.HasPrefix(source, fromFile) && !strings.HasPrefix(source, fromVariable):
			return nil, false, usagef("--header %s=… says where the value is: %s; a value that may be seen is written '%[1]s: value'", printable(name), elsewhere)
		case text[at] == '=':
			if members[name], err = secretFrom(c, "--header "+name, source); err != nil {
				return nil, false, err
			}
		case value == "" && c.Command.Name == "update":
			members[name] = nil
		case value == "":
			return nil, false, usagef("--header %s has no value: leave it out, or write '%[1]s: value'", printable(name))
		default:
			members[name] = value
		}
	}
	return members, len(members) > 0, nil
}

// rateLimits reads --rate-limit and --rate-burst. A new rate without a burst has the default one: the burst before means little at another rate.
func rateLimits(c *cli.Context) (value any, given bool, err error) {
	perSecond := c.Float64("rate-limit")
	limit := map[string]any{}
	switch {
	case math.IsNaN(perSecond) || math.IsInf(perSecond, 0):
		return nil, false, usagef("--rate-limit must be a number from 0.01 to 10000, or 0")
	case perSecond == 0 && c.IsSet("rate-burst") && (c.IsSet("rate-limit") || c.Command.Name != "update"):
		return nil, false, usagef("--rate-burst goes with --rate-limit, which says how many attempts a second there may be")
	case c.IsSet("rate-limit") && perSecond == 0:
		return nil, true, nil
	case c.IsSet("rate-limit"):
		limit["per_second"], limit["burst"] = perSecond, nil
	}
	if c.IsSet("rate-burst") {
		limit["burst"] = c.Int("rate-burst")
	}
	return limit, len(limit) > 0, nil
}

// jsonFlag reads a flag that takes JSON, or @ and the name of a file that holds it.
func jsonFlag(name string) func(*cli.Context) (value any, given bool, err error) {
	return func(c *cli.Context) (value any, given bool, err error) {
		text := c.String(name)
		if orNull(text) == nil {
			return nil, c.IsSet(name), nil
		}
		if file, ok := strings.CutPrefix(text, fromFile); ok {
			doc, err := readJSON(c, file)
			if err != nil {
				return nil, false, fmt.Errorf("--%s: %w", name, err)
			}
			return doc, true, nil
		}
		if !json.Valid([]byte(text)) {
			return nil, false, usagef("--%s takes JSON, or @FILE", name)
		}
		return json.RawMessage(text), true, nil
	}
}

// withoutNulls are the members that a new callback is given.
func withoutNulls(members map[string]any) map[string]any {
	given := maps.Clone(members)
	for name, value := range given {
		switch value := value.(type) {
		case nil:
			delete(given, name)
		case map[string]any:
			given[name] = withoutNulls(value)
		}
	}
	return given
}
