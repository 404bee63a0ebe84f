package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

func callbacksCommand() *cli.Command {
	return &cli.Command{
		Name:  "callbacks",
		Usage: "register URLs to be called, and look after them",
		Subcommands: []*cli.Command{
			{
				Name:  "create",
				Usage: "register a URL; prints the signing secret alone on stdout, so SECRET=$(ringback callbacks create …) works",
				Flags: []cli.Flag{
					companyFlag(),
					&cli.StringFlag{Name: "type", Usage: "callback `TYPE`, or a glob such as 'customer.*'", EnvVars: []string{"RINGBACK_TYPE"}},
					&cli.StringFlag{Name: "url", Usage: "`URL` to call, exactly as given", EnvVars: []string{"RINGBACK_URL"}},
					&cli.StringFlag{Name: "method", Usage: "POST, PUT or PATCH", EnvVars: []string{"RINGBACK_METHOD"}},
					&cli.StringFlag{Name: "content-type", Usage: "application/json or application/x-www-form-urlencoded", EnvVars: []string{"RINGBACK_CONTENT_TYPE"}},
					&cli.StringFlag{Name: "campaign-token", Usage: "only events of the wallet campaign with this `TOKEN`", EnvVars: []string{"RINGBACK_CAMPAIGN_TOKEN"}},
					&cli.StringSliceFlag{Name: "match", Usage: "only events with this `NAME=VALUE` (repeatable)", EnvVars: []string{"RINGBACK_MATCH"}},
					&cli.StringFlag{Name: "description", Usage: "`TEXT` for people", EnvVars: []string{"RINGBACK_DESCRIPTION"}},
					&cli.StringFlag{Name: "file", Usage: "the whole registration as JSON from `FILE` (- is stdin) instead of the flags above", EnvVars: []string{"RINGBACK_FILE"}},
				},
				Action: createCallback,
			},
			{
				Name:  "list",
				Usage: "list a company's callbacks",
				Flags: append([]cli.Flag{
					companyFlag(),
					&cli.StringFlag{Name: "type", Usage: "only those registered for this `TYPE`", EnvVars: []string{"RINGBACK_TYPE"}},
					&cli.StringFlag{Name: "status", Usage: "only those that are enabled, paused or disabled", EnvVars: []string{"RINGBACK_STATUS"}},
				}, pageFlags()...),
				Action: listCallbacks,
			},
			{Name: "get", Usage: "show one callback", ArgsUsage: "CALLBACK_ID", Flags: []cli.Flag{companyFlag()}, Action: getCallback},
			{Name: "pause", Usage: "hold what is for it until resume", ArgsUsage: "CALLBACK_ID", Flags: []cli.Flag{companyFlag()}, Action: pauseCallback},
			{
				Name: "resume", Usage: "let it be called again, and deliver what was held", ArgsUsage: "CALLBACK_ID",
				Flags: []cli.Flag{
					companyFlag(),
					&cli.BoolFlag{Name: "skip-held", Usage: "cancel what was held instead of delivering it", EnvVars: []string{"RINGBACK_SKIP_HELD"}},
				},
				Action: resumeCallback,
			},
			{Name: "delete", Usage: "delete it, and cancel what waits for it", ArgsUsage: "CALLBACK_ID", Flags: []cli.Flag{companyFlag()}, Action: deleteCallback},
		},
	}
}

// callbackView is what the command line reads of a callback.
type callbackView struct {
	CallbackID   int64  `json:"callback_id"`
	CallbackType string `json:"callback_type"`
	Destination  struct {
		URL         string `json:"url"`
		Method      string `json:"method"`
		ContentType string `json:"content_type"`
	} `json:"destination"`
	Description string            `json:"description"`
	Headers     map[string]string `json:"headers"`
	Auth        struct {
		Type     string `json:"type"`
		Username string `json:"username"`
	} `json:"auth"`
	Success string `json:"success"`
	Trace   bool   `json:"trace"`
	Timeout string `json:"timeout"`
	Retry   struct {
		InitialInterval string  `json:"initial_interval"`
		Multiplier      float64 `json:"multiplier"`
		MaxInterval     string  `json:"max_interval"`
		MaxAttempts     int     `json:"max_attempts"`
	} `json:"retry"`
	StartDate      time.Time `json:"start_date"`
	CreatedAt      time.Time `json:"created_at"`
	Status         string    `json:"status"`
	StatusAt       time.Time `json:"status_at"`
	DisabledReason string    `json:"disabled_reason"`
	Secret         string    `json:"secret"`
	match          string
}

// UnmarshalJSON also finds the block that is named after a type, {"campaign_token": "…"}: the only member that is an object of
// strings and has a name the API does not use itself.
func (v *callbackView) UnmarshalJSON(doc []byte) error {
	type plain callbackView
	if err := json.Unmarshal(doc, (*plain)(v)); err != nil {
		return err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(doc, &members); err != nil {
		return err
	}
	for _, own := range []string{"destination", "headers", "auth", "retry", "last_failure"} {
		delete(members, own)
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		var block map[string]string
		if json.Unmarshal(members[name], &block) != nil {
			continue
		}
		for _, attribute := range slices.Sorted(maps.Keys(block)) {
			v.match = strings.TrimPrefix(v.match+" "+attribute+"="+block[attribute], " ")
		}
	}
	return nil
}

// print shows every setting that is set; of what is secret, that it is there.
func (v *callbackView) print(out printer) error {
	auth, trace, retry := v.Auth.Type, "", ""
	if v.Auth.Username != "" {
		auth += " as " + v.Auth.Username
	}
	if v.Trace {
		trace = "sends traceparent"
	}
	if r := v.Retry; r.MaxAttempts > 0 {
		retry = fmt.Sprintf("after %s, then ×%g, at most %s apart, %d attempts in all", r.InitialInterval, r.Multiplier, r.MaxInterval, r.MaxAttempts)
	}
	return out.pairs(
		[2]string{"callback", fmt.Sprint(v.CallbackID)},
		[2]string{"type", v.CallbackType},
		[2]string{"match", v.match},
		[2]string{"destination", strings.TrimSpace(v.Destination.Method + " " + v.Destination.URL)},
		[2]string{"content type", v.Destination.ContentType},
		[2]string{"auth", auth},
		[2]string{"headers", strings.Join(slices.Sorted(maps.Keys(v.Headers)), ", ")},
		[2]string{"success", v.Success},
		[2]string{"trace", trace},
		[2]string{"timeout", v.Timeout},
		[2]string{"retry", retry},
		[2]string{"start date", clock(v.StartDate)},
		[2]string{"description", v.Description},
		[2]string{"status", v.Status},
		[2]string{"because", v.DisabledReason},
		[2]string{"since", clock(v.StatusAt)},
	)
}

func createCallback(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	api, path, err := forCompany(c)
	if err != nil {
		return err
	}
	registration, err := registrationFrom(c)
	if err != nil {
		return err
	}
	answer, err := api.call(c.Context, http.MethodPost, path+"/config/callbacks", nil, registration)
	if err != nil {
		return err
	}
	out := newPrinter(c)
	if out.json {
		return out.raw(answer)
	}
	var view callbackView
	if err := decode(answer, &view); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(c.App.ErrWriter, "callback %d (%s) is registered; its signing secret, shown this once:\n", view.CallbackID, printable(view.CallbackType))
	return out.line("%s", view.Secret)
}

// registrationFrom is the JSON of a registration: a file's, or put together from the flags.
func registrationFrom(c *cli.Context) ([]byte, error) {
	if file := c.String("file"); file != "" {
		for _, name := range []string{"type", "url", "method", "content-type", "campaign-token", "match", "description"} {
			if c.IsSet(name) {
				return nil, usagef("--file is the whole registration: leave --%s out, or write it in the file", name)
			}
		}
		return readJSON(c, file)
	}
	typ, destination := c.String("type"), c.String("url")
	if typ == "" || destination == "" {
		return nil, usagef("%s needs --type and --url, or --file", c.Command.HelpName)
	}
	block := map[string]string{}
	for _, m := range c.StringSlice("match") {
		name, value, ok := strings.Cut(m, "=")
		if !ok || name == "" {
			return nil, usagef("--match takes NAME=VALUE, such as campaign_token=r3zhm8")
		}
		block[name] = value
	}
	if token := c.String("campaign-token"); token != "" {
		block["campaign_token"] = token
	}
	to := map[string]string{"url": destination}
	for flag, member := range map[string]string{"method": "method", "content-type": "content_type"} {
		if v := c.String(flag); v != "" {
			to[member] = v
		}
	}
	registration := map[string]any{"callback_type": typ, "destination": to}
	if d := c.String("description"); d != "" {
		registration["description"] = d
	}
	if len(block) > 0 {
		registration[typ] = block
	}
	return json.Marshal(registration)
}

// readJSON reads a JSON document from a file, or from stdin if it is named "-".
func readJSON(c *cli.Context, file string) (json.RawMessage, error) {
	var doc []byte
	var err error
	if file == "-" {
		doc, err = io.ReadAll(c.App.Reader)
	} else {
		doc, err = os.ReadFile(file) //nolint:gosec // reading the file that the user named is the point
	}
	if err != nil {
		return nil, err
	}
	if !json.Valid(doc) {
		return nil, fmt.Errorf("%s does not hold valid JSON", fileName(file))
	}
	return doc, nil
}

func fileName(file string) string {
	if file == "-" {
		return "stdin"
	}
	return file
}

func listCallbacks(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	api, path, err := forCompany(c)
	if err != nil {
		return err
	}
	query := pageQuery(c)
	setQuery(query, "callback_type", c.String("type"))
	setQuery(query, "status", c.String("status"))
	var page struct {
		Callbacks  []callbackView `json:"callbacks"`
		NextCursor string         `json:"next_cursor"`
	}
	answer, err := api.get(c.Context, path+"/config/callbacks", query, &page)
	if err != nil {
		return err
	}
	out := newPrinter(c)
	if out.json {
		return out.raw(answer)
	}
	var rows [][]string
	for _, v := range page.Callbacks {
		rows = append(rows, []string{fmt.Sprint(v.CallbackID), v.CallbackType, v.match, v.Status, clock(v.CreatedAt), v.Destination.Method + " " + v.Destination.URL})
	}
	more(c, page.NextCursor)
	return out.table([]string{"ID", "TYPE", "MATCH", "STATUS", "CREATED", "DESTINATION"}, rows)
}

// oneCallback is the client and path of the callback that the command's argument names.
func oneCallback(c *cli.Context) (*apiClient, string, error) {
	args, err := arguments(c, "CALLBACK_ID")
	if err != nil {
		return nil, "", err
	}
	api, path, err := forCompany(c)
	return api, path + "/config/callbacks/" + url.PathEscape(args[0]), err
}

func getCallback(c *cli.Context) error {
	api, path, err := oneCallback(c)
	if err != nil {
		return err
	}
	return showCallback(c, api, http.MethodGet, path, nil)
}

func pauseCallback(c *cli.Context) error {
	api, path, err := oneCallback(c)
	if err != nil {
		return err
	}
	return showCallback(c, api, http.MethodPost, path+"/pause", nil)
}

func resumeCallback(c *cli.Context) error {
	api, path, err := oneCallback(c)
	if err != nil {
		return err
	}
	var how []byte
	if c.Bool("skip-held") {
		how = []byte(`{"skip_held": true}`)
	}
	return showCallback(c, api, http.MethodPost, path+"/resume", how)
}

// showCallback calls path and prints the callback it answers with.
func showCallback(c *cli.Context, api *apiClient, method, path string, body []byte) error {
	answer, err := api.call(c.Context, method, path, nil, body)
	if err != nil {
		return err
	}
	out := newPrinter(c)
	if out.json {
		return out.raw(answer)
	}
	var view callbackView
	if err := decode(answer, &view); err != nil {
		return err
	}
	return view.print(out)
}

func deleteCallback(c *cli.Context) error {
	api, path, err := oneCallback(c)
	if err != nil {
		return err
	}
	if _, err := api.call(c.Context, http.MethodDelete, path, nil, nil); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(c.App.ErrWriter, "callback %s is deleted\n", printable(c.Args().First()))
	return nil
}
