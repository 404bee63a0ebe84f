package main

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

func keysCommand() *cli.Command {
	const where = "`URL` of the Redis that the servers use"
	return &cli.Command{
		Name:        "keys",
		Usage:       "make and revoke API keys",
		Description: "These commands talk to Redis itself, as `ringback serve` does, and need no API key.",
		Subcommands: []*cli.Command{
			{
				Name:  "create",
				Usage: "make an API key; prints it alone on stdout, so KEY=$(ringback keys create …) works",
				Description: examples(
					"ringback keys create --role operator",
					"ringback keys create --role partner --company acme",
				),
				Flags: append(redisFlags(where),
					&cli.StringFlag{
						Name: "role", EnvVars: []string{"RINGBACK_ROLE"},
						Usage: "what the key may do, its `ROLE`: operator (all), producer (send events), partner (manage callbacks), viewer (read)",
					},
					&cli.StringFlag{Name: "company", Usage: "the only `COMPANY` it is good for; '*' is all, and the default of operator and viewer", EnvVars: []string{"RINGBACK_KEY_COMPANY"}},
				),
				Action: createKey,
			},
			{
				Name: "list", Usage: "list the API keys, by id; the keys themselves are not stored",
				Description: examples("ringback keys list --redis redis://127.0.0.1:6379"),
				Flags:       redisFlags(where), Action: listKeys,
			},
			{
				Name: "revoke", Usage: "make a key worthless within seconds", ArgsUsage: "KEY_ID",
				Description: examples("ringback keys revoke rbk_x"),
				Flags:       redisFlags(where), Action: revokeKey,
			},
		},
	}
}

func createKey(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	role, company, err := keyScope(registry.Role(c.String("role")), c.String("company"))
	if err != nil {
		return err
	}
	rdb, err := redisFromFlags(c)
	if err != nil {
		return err
	}
	defer func() { _ = rdb.Close() }()
	if err := checkModel(c.Context, rdb); err != nil {
		return err
	}
	secret, key, err := registry.NewKeys(rdb).Create(c.Context, role, company)
	if err != nil {
		return fmt.Errorf("storing the key: %w", err)
	}
	out := newPrinter(c)
	if out.json {
		return out.value(map[string]string{"key": secret, "id": key.ID, "role": string(key.Role), "company": key.Company})
	}
	_, _ = fmt.Fprintf(c.App.ErrWriter, "API key %s, %s for %s; shown this once:\n", key.ID, key.Role, scopeWords(key.Company))
	return out.line("%s", secret)
}

// keyScope checks what a key is asked to be good for.
func keyScope(role registry.Role, company string) (registry.Role, string, error) {
	switch role {
	case registry.Operator, registry.Viewer:
		company = cmp.Or(company, registry.AllCompanies)
	case registry.Producer:
		if company == "" {
			return "", "", usagef("which company may this key send events for? say so with --company; '*' is all")
		}
	case registry.Partner:
		if company == "" || company == registry.AllCompanies {
			return "", "", usagef("a partner's key is for one company: say which with --company")
		}
	default:
		return "", "", usagef("--role is operator, producer, partner or viewer")
	}
	if company != registry.AllCompanies && !payloads.ValidCompany(company) {
		return "", "", usagef("--company takes 1 to 64 letters, digits, dots, underscores and hyphens, or '*' for all")
	}
	return role, company, nil
}

func scopeWords(company string) string {
	if company == registry.AllCompanies {
		return "all companies"
	}
	return "company " + company
}

func listKeys(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	rdb, err := redisFromFlags(c)
	if err != nil {
		return err
	}
	defer func() { _ = rdb.Close() }()
	keys, err := registry.NewKeys(rdb).List(c.Context)
	if err != nil {
		return fmt.Errorf("reading the keys: %w", err)
	}
	out := newPrinter(c)
	if out.json {
		list := make([]map[string]any, 0, len(keys))
		for _, k := range keys {
			list = append(list, map[string]any{"id": k.ID, "role": k.Role, "company": k.Company, "created_at": k.CreatedAt})
		}
		return out.value(map[string]any{"keys": list})
	}
	var rows [][]string
	for _, k := range keys {
		rows = append(rows, []string{k.ID, string(k.Role), k.Company, clock(k.CreatedAt)})
	}
	return out.table([]string{"ID", "ROLE", "COMPANY", "CREATED"}, rows)
}

func revokeKey(c *cli.Context) error {
	args, err := arguments(c, "KEY_ID")
	if err != nil {
		return err
	}
	rdb, err := redisFromFlags(c)
	if err != nil {
		return err
	}
	defer func() { _ = rdb.Close() }()
	if err := registry.NewKeys(rdb).Revoke(c.Context, args[0]); err != nil {
		if errors.Is(err, registry.ErrNotFound) {
			return fmt.Errorf("no key has the id %q: `ringback keys list` shows the ids", args[0])
		}
		return fmt.Errorf("revoking the key: %w", err)
	}
	_, _ = fmt.Fprintf(c.App.ErrWriter, "API key %s is revoked; servers notice within seconds\n", args[0])
	return nil
}
