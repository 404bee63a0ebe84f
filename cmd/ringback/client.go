package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/client"
)

const defaultServer = "http://127.0.0.1:8080"

// globalFlags are those of every command that talks to a server.
func globalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "server", Usage: "`URL` of the Ringback server", Value: defaultServer, EnvVars: []string{"RINGBACK_SERVER"}},
		&cli.StringFlag{Name: "key", Usage: "API `KEY` (ringback dev's is \"dev\")", EnvVars: []string{"RINGBACK_KEY"}},
		&cli.StringFlag{Name: "server-ca", Usage: "trust an https server whose certificate the authority in this PEM `FILE` signed", EnvVars: []string{"RINGBACK_SERVER_CA"}},
		&cli.StringFlag{Name: "client-cert", Usage: "show the server the certificate in this PEM `FILE`, where it wants one", EnvVars: []string{"RINGBACK_CLIENT_CERT"}},
		&cli.StringFlag{Name: "client-key", Usage: "`FILE` of the certificate's key", EnvVars: []string{"RINGBACK_CLIENT_KEY"}},
		&cli.StringFlag{
			Name: "output", Aliases: []string{"o"}, Usage: "`table` for people or json for programs", Value: "table",
			Action: func(_ *cli.Context, v string) error {
				if v != "table" && v != "json" {
					return usagef("-o is table or json, not %q", v)
				}
				return nil
			},
		},
		&cli.BoolFlag{Name: versionFlag, Usage: "print the version"},
	}
}

func companyFlag() cli.Flag {
	return &cli.StringFlag{Name: "company", Usage: "`COMPANY` whose callbacks, events and deliveries are meant", EnvVars: []string{"RINGBACK_COMPANY"}}
}

// onceFlag is for commands whose caller, if the answer is lost, cannot tell whether they were done.
func onceFlag() cli.Flag {
	return &cli.StringFlag{
		Name: idempotencyKey, Usage: "do it once under this `KEY`, such as a UUID: for 24h the same command with the same key does nothing more, and says the same",
		Action: func(c *cli.Context, key string) error {
			if key == "" {
				return usagef("--%s is empty: give each thing to do a text of its own, such as a UUID, or leave it out", idempotencyKey)
			}
			c.Context = client.WithIdempotencyKey(c.Context, key)
			return nil
		},
	}
}

const idempotencyKey = "idempotency-key"

// withoutRepeats makes commands that people wait for fail at once: they can be called again. They wait only for a key's limit.
const withoutRepeats = -1

// repeatFor is how long commands keep on that may not simply be called again.
const repeatFor = 30 * time.Second

// newAPI is the client that the flags describe. Without a change to its config, it repeats only requests that came too soon, and says so. With an Idempotency-Key
// it keeps on, for what it repeats is done once.
func newAPI(c *cli.Context, change ...func(*client.Config)) (*client.Client, error) {
	base, err := url.Parse(c.String("server"))
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") {
		return nil, usagef("--server must be a URL such as %s", defaultServer)
	}
	if c.String("key") == "" {
		return nil, usagef("no API key: give one with --key or RINGBACK_KEY (ringback dev prints its own; of a server, an operator makes one with `ringback keys create`)")
	}
	cfg := client.Config{Server: c.String("server"), Key: c.String("key"), UserAgent: "ringback-cli/" + programVersion(), MaxElapsed: withoutRepeats}
	cfg.OnRepeat = func(err error, wait time.Duration) {
		_, _ = fmt.Fprintf(c.App.ErrWriter, "%s; trying again in %s\n", oneLine(printable(err.Error())), wait.Round(100*time.Millisecond))
	}
	if cfg.TLS, err = clientTLS(c.String("server-ca"), c.String("client-cert"), c.String("client-key")); err != nil {
		return nil, err
	}
	if c.String(idempotencyKey) != "" {
		patiently(&cfg)
	}
	for _, f := range change {
		f(&cfg)
	}
	api, err := client.New(cfg)
	if err != nil {
		return nil, usagef("--server or --key will not do: %s", strings.TrimPrefix(err.Error(), "client: "))
	}
	return api, nil
}

// patiently keeps a client trying while the server is away.
func patiently(cfg *client.Config) { cfg.MaxElapsed = repeatFor }

// forCompany is the client, and the company that the flags name.
func forCompany(c *cli.Context, change ...func(*client.Config)) (api *client.Client, company string, err error) {
	company = c.String("company")
	if company == "" {
		return nil, "", usagef("which company? say so with --company or RINGBACK_COMPANY")
	}
	api, err = newAPI(c, change...)
	return api, company, err
}

// remedy turns an error of the client into one that says what to do.
func remedy(err error) error {
	if errors.Is(err, context.Canceled) {
		return errors.New("interrupted; what was asked of the server may have been done")
	}
	if e, ok := errors.AsType[*client.APIError](err); ok && e.Status == http.StatusUnauthorized {
		return fmt.Errorf("the server does not know this API key: give another with --key or RINGBACK_KEY (%s)", e.Sentence())
	}
	if e, ok := errors.AsType[*client.UnreachableError](err); ok && error(e) == err { //nolint:errorlint // one that is wrapped says more
		return fmt.Errorf("cannot reach %s: start it with `ringback dev` or `ringback serve`, or say with --server where it is (%w)", e.Server, e.Err)
	}
	return err
}

// decode reads the answer of a call that is made with client.Do.
func decode(answer json.RawMessage, view any) error {
	if err := json.Unmarshal(answer, view); err != nil {
		return fmt.Errorf("the server answered something unexpected; does --server point at Ringback? (%w)", err)
	}
	return nil
}

// wholeInstallation stands where a company's name does, for what concerns all of them together.
const wholeInstallation = "*"

const (
	callbackArg = "CALLBACK_ID"
	typeArg     = "NAME"
)

// oneCallback is the client, and the callback that the flags and the command's argument name.
func oneCallback(c *cli.Context, change ...func(*client.Config)) (api *client.Client, company string, id int64, err error) {
	args, err := arguments(c, callbackArg)
	if err != nil {
		return nil, "", 0, err
	}
	if id, err = callbackID(args[0]); err != nil {
		return nil, "", 0, err
	}
	api, company, err = forCompany(c, change...)
	return api, company, id, err
}

func callbackID(text string) (int64, error) {
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id < 1 {
		return 0, usagef("a callback's id is a number, not %q: `ringback callbacks list` shows them", text)
	}
	return id, nil
}
