package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/client"
)

func typesCommand() *cli.Command {
	return &cli.Command{
		Name:  "types",
		Usage: "add callback types of your own, delete them, and look at those there are",
		Subcommands: []*cli.Command{
			{
				Name: "put", Usage: "add a type, or replace one that was added before", ArgsUsage: typeArg,
				Description: examples(
					"ringback types put order.placed --schema schema.json --example order.json --match shop=/shop/id",
					"ringback types get order.placed -o json > order.type.json",
					"ringback types put order.placed --file order.type.json",
				) + "\n\nA type is replaced as a whole: what is left out is as if it had never been given. It takes an operator's key of all companies.",
				Flags: typeFlags(), Action: putType,
			},
			{
				Name: "list", Usage: "list the types, and what callbacks may match them by",
				Description: examples("ringback types list"), Action: listAllTypes,
			},
			{
				Name: "get", Usage: "show a type with its schema and an example", ArgsUsage: typeArg,
				Description: examples("ringback types get payment_proof"), Action: showType,
			},
			deleteTypeCommand(),
		},
	}
}

func typeFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "schema", Usage: "JSON Schema (2020-12) of the payloads from `FILE` (- is stdin)"},
		&cli.StringFlag{Name: "example", Usage: "a payload that fits, which tests send, from `FILE` (- is stdin)"},
		&cli.StringSliceFlag{Name: "match", Usage: "callbacks may match by `NAME=/POINTER` into the payload (repeatable)"},
		&cli.StringFlag{Name: "success", Usage: "what counts as delivered: json_200_or_204, any_2xx or any_response"},
		&cli.StringFlag{Name: "description", Usage: "`TEXT` for people: when does it happen?"},
		&cli.StringFlag{Name: "validation", Usage: "enforce: refuse payloads that do not fit; warn: take them and say so"},
		&cli.StringFlag{Name: "stamp", Usage: "write the time of sending at this `/POINTER`"},
		&cli.BoolFlag{Name: "synchronous", Usage: "it is asked with a decision, and not sent"},
		&cli.StringFlag{Name: "file", Usage: "all of it as JSON from `FILE` (- is stdin) instead of the flags above"},
	}
}

func putType(c *cli.Context) error {
	args, err := arguments(c, typeArg)
	if err != nil {
		return err
	}
	api, err := newAPI(c)
	if err != nil {
		return err
	}
	definition, err := typeFrom(c)
	if err != nil {
		return err
	}
	answer, err := api.Do(c.Context, http.MethodPut, "/callback-types/"+url.PathEscape(args[0]), nil, definition)
	if err != nil {
		return err
	}
	out := newPrinter(c)
	if out.json {
		return out.raw(answer)
	}
	var t client.Type
	if err := decode(answer, &t); err != nil {
		return err
	}
	return out.line("%s is stored; `ringback trigger %s` sends its example", printable(t.Name), printable(t.Name))
}

// typeFrom is the JSON of a type: a file's, or put together from the flags.
func typeFrom(c *cli.Context) (json.RawMessage, error) {
	if file := c.String("file"); file != "" {
		for _, f := range typeFlags() {
			if name := f.Names()[0]; name != "file" && c.IsSet(name) {
				return nil, usagef("--file says it all: leave --%s out, or write it in the file", name)
			}
		}
		return readJSON(c, file)
	}
	if c.String("schema") == "-" && c.String("example") == "-" {
		return nil, usagef("--schema and --example cannot both be on stdin: give one of them a FILE")
	}
	t := client.TypeDefinition{
		Description: c.String("description"), Success: c.String("success"), Validation: c.String("validation"), Stamp: c.String("stamp"),
		Synchronous: c.Bool("synchronous"),
	}
	for flag, doc := range map[string]*json.RawMessage{"schema": &t.Schema, "example": &t.Example} {
		if file := c.String(flag); file != "" {
			var err error
			if *doc, err = readJSON(c, file); err != nil {
				return nil, fmt.Errorf("--%s: %w", flag, err)
			}
		}
	}
	for _, m := range c.StringSlice("match") {
		name, pointer, ok := strings.Cut(m, "=")
		if !ok || name == "" || !strings.HasPrefix(pointer, "/") {
			return nil, usagef("--match takes NAME=/POINTER, such as campaign_token=/wallet_campaign/token, not %q", m)
		}
		if t.Match == nil {
			t.Match = map[string]string{}
		}
		if t.Match[name] != "" {
			return nil, givenTwice("match", name)
		}
		t.Match[name] = pointer
	}
	return json.Marshal(t)
}

func listAllTypes(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	return listTypes(c)
}
