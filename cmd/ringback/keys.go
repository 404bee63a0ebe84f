package main

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

func keysCommand() *cli.Command {
	const where = "`URL` of the Redis that the servers use"
	return &cli.Command{
		Name:        "keys",
		Usage:       "make, rotate and revoke API keys",
		Description: "These commands talk to Redis itself, as `ringback serve` does, and need no API key.",
		Before: func(c *cli.Context) error { // the audit trail says who did it
			c.Context = registry.WithActor(c.Context, registry.ActorCLI)
			return nil
		},
		Subcommands: []*cli.Command{
			{
				Name:  "create",
				Usage: "make an API key; prints it alone on stdout, so KEY=$(ringback keys create …) works",
				Description: examples(
					"ringback keys create --role operator",
					"ringback keys create --role partner --company acme",
					"ringback keys create --role producer --company acme --expires-in 720h --rate-limit 50",
				),
				Flags: append(redisFlags(where),
					&cli.StringFlag{
						Name:  "role",
						Usage: "what the key may do, its `ROLE`: operator (all), producer (send events), partner (manage callbacks), viewer (read)",
					},
					&cli.StringFlag{Name: "company", Usage: "the only `COMPANY` it is good for; '*' is all, and the default of operator and viewer"},
					&cli.DurationFlag{Name: "expires-in", Usage: "make it worthless after a `DURATION` such as 720h; without this it does not expire"},
					&cli.Float64Flag{
						Name:  "rate-limit",
						Usage: "let it make at most `N` changes a second, each line of a batch being one; 0 is any number. Default: 20 for a partner, else any number",
					},
				),
				Action: createKey,
			},
			{
				Name: "list", Usage: "list the API keys, by id; the keys themselves are not stored",
				Description: examples("ringback keys list --redis redis://127.0.0.1:6379"),
				Flags:       redisFlags(where), Action: onRedis(listKeys),
			},
			{
				Name: "rotate", Usage: "give a key a new secret; prints it alone on stdout, as create does", ArgsUsage: "KEY_ID",
				Description: examples("ringback keys rotate rbk_x", "ringback keys rotate rbk_x --overlap 0"),
				Flags: append(redisFlags(where),
					&cli.DurationFlag{Name: "overlap", Value: 24 * time.Hour, Usage: "let the secret before work for this `DURATION`, at most 168h; 0 ends all others at once"},
				),
				Action: rotateKey,
			},
			{
				Name: "revoke", Usage: "make a key worthless within a second, with all its secrets", ArgsUsage: "KEY_ID",
				Description: examples("ringback keys revoke rbk_x"),
				Flags:       redisFlags(where), Action: onRedis(revokeKey, "KEY_ID"),
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
	terms, err := keyTerms(c)
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
	secret, key, err := registry.NewKeys(rdb).CreateBound(c.Context, role, company, terms)
	if err != nil {
		return fmt.Errorf("storing the key: %w", err)
	}
	return printKey(c, secret, key)
}

// keyTerms are the bounds of a key that the flags ask for.
func keyTerms(c *cli.Context) (terms registry.Terms, err error) {
	if terms.ExpiresIn = c.Duration("expires-in"); c.IsSet("expires-in") && terms.ExpiresIn <= 0 {
		return terms, usagef("--expires-in takes a duration such as 720h, from a minute to ten years; leave it out for a key that does not expire")
	}
	if c.IsSet("rate-limit") {
		terms.RateLimit = new(c.Float64("rate-limit"))
	}
	if err := terms.Check(); err != nil {
		return terms, usagef("%s", strings.NewReplacer("expires_in", "--expires-in", "rate_limit", "--rate-limit").Replace(err.Error()))
	}
	return terms, nil
}

// printKey shows a new secret, this once.
func printKey(c *cli.Context, secret string, key registry.Key) error {
	out := newPrinter(c)
	if out.json {
		shown := keyJSON(key)
		shown["key"] = secret
		return out.value(shown)
	}
	until := ""
	if !key.ExpiresAt.IsZero() {
		until = ", until " + clock(key.ExpiresAt)
	}
	_, _ = fmt.Fprintf(c.App.ErrWriter, "API key %s, %s for %s%s; shown this once:\n", key.ID, key.Role, scopeWords(key.Company), until)
	return out.line("%s", secret)
}

func rotateKey(c *cli.Context) error {
	args, err := arguments(c, "KEY_ID")
	if err != nil {
		return err
	}
	overlap := c.Duration("overlap")
	if overlap < 0 || overlap > registry.MaxOverlap {
		return usagef("--overlap takes a duration from 0 to %s", registry.MaxOverlap)
	}
	rdb, err := redisFromFlags(c)
	if err != nil {
		return err
	}
	defer func() { _ = rdb.Close() }()
	if err := checkModel(c.Context, rdb); err != nil {
		return err
	}
	secret, key, err := registry.NewKeys(rdb).Rotate(c.Context, args[0], overlap)
	if two, ok := errors.AsType[*registry.TwoSecretsError](err); ok {
		return fmt.Errorf("%s has two live secrets already, and the older one ends at %s: rotate it after that, or with --overlap 0, which ends both at once", two.ID, clock(two.Until))
	}
	if errors.Is(err, registry.ErrNotFound) {
		return noSuchKey(args[0])
	}
	if err != nil {
		return fmt.Errorf("rotating the key: %w", err)
	}
	if overlap > 0 {
		_, _ = fmt.Fprintf(c.App.ErrWriter, "The secret before works for %s more, and no longer than it would have.\n", overlap)
	}
	return printKey(c, secret, key)
}

func noSuchKey(id string) error {
	return fmt.Errorf("no key has the id %q: `ringback keys list` shows the ids", id)
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
		return "", "", usagef("--company takes 1 to 64 letters, digits, dots, underscores and hyphens, but not . or .. alone, or '*' for all")
	}
	return role, company, nil
}

func scopeWords(company string) string {
	if company == registry.AllCompanies {
		return "all companies"
	}
	return "company " + company
}

func listKeys(c *cli.Context, rdb redis.UniversalClient, _ []string) error {
	keys, err := registry.NewKeys(rdb).List(c.Context)
	if err != nil {
		return fmt.Errorf("reading the keys: %w", err)
	}
	out := newPrinter(c)
	if out.json {
		list := make([]map[string]any, 0, len(keys))
		for _, k := range keys {
			list = append(list, keyJSON(k))
		}
		return out.value(map[string]any{"keys": list})
	}
	var rows [][]string
	for _, k := range keys {
		secret := "current"
		if k.Replaced {
			secret = "replaced"
		}
		expires, used, limit := "never", "never", "none"
		if !k.ExpiresAt.IsZero() {
			expires = moment(k.ExpiresAt)
		}
		if k.LastUsed > 0 {
			used = moment(time.Unix(k.LastUsed, 0))
		}
		if k.Limit() > 0 {
			limit = fmt.Sprintf("%g/s", k.Limit())
		}
		rows = append(rows, []string{k.ID, string(k.Role), k.Company, secret, moment(k.CreatedAt), expires, used, limit})
	}
	return out.grid([]tableColumn{
		ids("ID"), words("ROLE"), words("COMPANY"), words("SECRET").dropped(2), times("CREATED").dropped(1), times("EXPIRES").dropped(4), times("LAST USED"),
		words("LIMIT").dropped(3),
	}, rows)
}

// keyJSON is how a key is shown: without a rate limit if it has none, and without times that there are not.
func keyJSON(k registry.Key) map[string]any {
	shown := map[string]any{"id": k.ID, "role": k.Role, "company": k.Company, "created_at": k.CreatedAt}
	if k.Replaced {
		shown["replaced"] = true
	}
	if !k.ExpiresAt.IsZero() {
		shown["expires_at"] = k.ExpiresAt
	}
	if k.LastUsed > 0 {
		shown["last_used_at"] = time.Unix(k.LastUsed, 0).UTC()
	}
	if k.Limit() > 0 {
		shown["rate_limit"] = k.Limit()
	}
	return shown
}

func revokeKey(c *cli.Context, rdb redis.UniversalClient, args []string) error {
	if err := registry.NewKeys(rdb).Revoke(c.Context, args[0]); err != nil {
		if errors.Is(err, registry.ErrNotFound) {
			return noSuchKey(args[0])
		}
		return fmt.Errorf("revoking the key: %w", err)
	}
	_, _ = fmt.Fprintf(c.App.ErrWriter, "API key %s is revoked; servers notice within a second\n", args[0])
	return nil
}
