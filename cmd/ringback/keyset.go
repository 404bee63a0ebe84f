package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

func keysetCommand() *cli.Command {
	const where = "`URL` of the Redis that the servers use"
	return &cli.Command{
		Name:  "keyset",
		Usage: "replace the key that seals secrets in Redis",
		Description: "In this order: add a key, give all processes the file and restart them; promote the key, give all processes the file and restart\n" +
			"them; reseal; retire the old key, give all processes the file.\n\n" +
			"Where RINGBACK_KEYSET holds the keyset itself, add, promote and retire refuse: they change a file.",
		Before: func(c *cli.Context) error { // the audit trail says who did it
			c.Context = registry.WithActor(c.Context, registry.ActorCLI)
			return nil
		},
		Subcommands: []*cli.Command{
			{
				Name: "show", Usage: "list the keys' ids, which one is primary, and with --redis how much each has sealed; never a key",
				Description: examples("ringback keyset show --keyset-file keyset.json", "ringback keyset show --redis redis://127.0.0.1:6379"),
				Flags:       append(redisFlags(where+"; without it nothing is counted"), keysetFlag()), Action: showKeyset,
			},
			{
				Name: "add", Usage: "add a fresh key that is not primary; prints its id alone on stdout",
				Description: examples("ringback keyset add --keyset-file keyset.json"),
				Flags:       []cli.Flag{keysetFlag()}, Action: addToKeyset,
			},
			{
				Name: "promote", Usage: "make a key the primary one, which seals", ArgsUsage: "ID",
				Description: examples("ringback keyset promote 1234567890 --keyset-file keyset.json"),
				Flags:       []cli.Flag{keysetFlag()}, Action: promoteInKeyset,
			},
			{
				Name: "reseal", Usage: "seal all callbacks with the primary key",
				Description: examples("ringback keyset reseal --redis redis://127.0.0.1:6379 --keyset-file keyset.json") +
					"\n\nServers may run meanwhile. If it is interrupted, the same command again goes on from there.",
				Flags: append(redisFlags(where), keysetFlag()), Action: resealCallbacks,
			},
			{
				Name: "retire", Usage: "take a key out of the keyset that nothing in Redis is sealed with any more", ArgsUsage: "ID",
				Description: examples("ringback keyset retire 1234567890 --redis redis://127.0.0.1:6379 --keyset-file keyset.json"),
				Flags:       append(redisFlags(where), keysetFlag()), Action: onRedis(retireFromKeyset, "ID"),
			},
		},
	}
}

// changeKeyset replaces the keyset in its file.
func changeKeyset(c *cli.Context, change func(*registry.Keyset) (*registry.Keyset, error)) error {
	if os.Getenv("RINGBACK_KEYSET") != "" {
		return errors.New("RINGBACK_KEYSET holds the keyset itself, and this command changes a file: write it to a file of mode 0600, " +
			"call this again without RINGBACK_KEYSET and with --keyset-file FILE, and put the file's content where RINGBACK_KEYSET comes from")
	}
	file, err := keysetFile(c.String("keyset-file"))
	if err != nil {
		return err
	}
	if err := checkKeysetFile(c.Context, file, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	return keysetError(registry.UpdateKeyset(file, change))
}

// keysetError adds what to do to errors that do not say it.
func keysetError(err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("there is no keyset to change: name its file with --keyset-file, as ringback serve has it (%w)", err)
	case errors.Is(err, registry.ErrNotFound):
		return fmt.Errorf("no key of the keyset has this id: `ringback keyset show` lists them (%w)", err)
	}
	return err
}

// sealing is a registry for commands that have the keyset and nothing to do with callbacks' contents.
func sealing(rdb redis.UniversalClient, keyset *registry.Keyset) (*registry.Registry, error) {
	return registry.New(registry.Config{Redis: rdb, Catalogue: payloads.Builtin(), Keyset: keyset})
}

func showKeyset(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	keyset, err := readKeyset(c.String("keyset-file"))
	if err != nil {
		return err
	}
	var seals map[string]registry.Seals
	if c.String("redis") != "" {
		if seals, err = countSeals(c, keyset); err != nil {
			return err
		}
	}
	return printKeyset(newPrinter(c), keyset, seals)
}

func countSeals(c *cli.Context, keyset *registry.Keyset) (map[string]registry.Seals, error) {
	rdb, err := redisFromFlags(c)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rdb.Close() }()
	r, err := sealing(rdb, keyset)
	if err != nil {
		return nil, err
	}
	return r.Seals(c.Context)
}

// printKeyset shows the keys of the keyset, then those that sealed something and are not in it. Without seals nothing was counted.
func printKeyset(out printer, keyset *registry.Keyset, seals map[string]registry.Seals) error {
	ids := keyset.KeyIDs()
	var strangers []string
	for id := range seals {
		if !slices.Contains(ids, id) {
			strangers = append(strangers, id)
		}
	}
	slices.Sort(strangers)
	var rows [][]string
	list := []map[string]any{}
	for _, id := range slices.Concat(ids, strangers) {
		state := "opens"
		switch {
		case id == keyset.PrimaryID():
			state = "primary"
		case slices.Contains(strangers, id):
			state = "missing"
		}
		shown, row := map[string]any{"id": id, "state": state}, []string{id, state, "not counted", "not counted"}
		if seals != nil {
			shown["callbacks"], shown["audit_lines"] = seals[id].Callbacks, seals[id].AuditLines
			row[2], row[3] = fmt.Sprint(seals[id].Callbacks), fmt.Sprint(seals[id].AuditLines)
		}
		list, rows = append(list, shown), append(rows, row)
	}
	if out.json {
		return out.value(map[string]any{"keys": list})
	}
	return out.table([]string{"ID", "STATE", "CALLBACKS", "AUDIT LINES"}, rows)
}

// printKeyID shows the key that a command dealt with; next is what comes after that.
func printKeyID(c *cli.Context, id, next string) error {
	out := newPrinter(c)
	if out.json {
		return out.value(map[string]any{"id": id})
	}
	_, _ = fmt.Fprintln(c.App.ErrWriter, next)
	return out.line("%s", id)
}

func addToKeyset(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	var id string
	err := changeKeyset(c, func(k *registry.Keyset) (next *registry.Keyset, err error) {
		next, id, err = k.WithKey()
		return next, err
	})
	if err != nil {
		return err
	}
	return printKeyID(c, id, "A key was added. Back the file up, give it to all processes, restart them, and then: ringback keyset promote "+id)
}

func promoteInKeyset(c *cli.Context) error {
	args, err := arguments(c, "ID")
	if err != nil {
		return err
	}
	if err := changeKeyset(c, func(k *registry.Keyset) (*registry.Keyset, error) { return k.WithPrimary(args[0]) }); err != nil {
		return err
	}
	return printKeyID(c, args[0], "The key is primary. Back the file up, give it to all processes, restart them, and then: ringback keyset reseal")
}

func resealCallbacks(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	keyset, err := readKeyset(c.String("keyset-file"))
	if err != nil {
		return err
	}
	rdb, err := redisFromFlags(c)
	if err != nil {
		return err
	}
	defer func() { _ = rdb.Close() }()
	r, err := sealing(rdb, keyset)
	if err != nil {
		return err
	}
	tell, finish := resealProgress(c)
	done, err := r.Reseal(c.Context, tell)
	finish()
	if done.Of > 0 || err == nil { // else it did not begin
		if said := printResealed(newPrinter(c), keyset.PrimaryID(), done); said != nil {
			return said
		}
	}
	switch {
	case errors.Is(err, registry.ErrSealed):
		return fmt.Errorf("%d callbacks do not open with this keyset and stay as they are: add the key that sealed them, or delete them; the first: %w", done.Broken, err)
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted: the same command again goes on from there")
	}
	return err
}

func printResealed(out printer, primary string, done registry.Resealed) error {
	if out.json {
		return out.value(map[string]any{
			"primary": primary, "companies": done.Companies, "of_companies": done.Of,
			"resealed": done.Callbacks, "already": done.Already, "unreadable": done.Broken,
		})
	}
	return out.line("%d callbacks sealed with key %s, %d were already, %d do not open; %d of %d companies are done",
		done.Callbacks, primary, done.Already, done.Broken, done.Companies, done.Of)
}

// resealProgress tells on stderr how far it is: a bar on a terminal, else a line every few seconds.
func resealProgress(c *cli.Context) (tell func(registry.Resealed), finish func()) {
	w := c.App.ErrWriter
	if !isScreen(w) {
		said := time.Now()
		return func(done registry.Resealed) {
			if now := time.Now(); now.Sub(said) >= sayEvery {
				said = now
				_, _ = fmt.Fprintf(w, "%d of %d companies, %d callbacks sealed anew\n", done.Companies, done.Of, done.Callbacks)
			}
		}, func() {}
	}
	var bar *progressbar.ProgressBar
	return func(done registry.Resealed) {
			if bar == nil {
				bar = progressbar.NewOptions64(int64(done.Of), append(barOptions(c), progressbar.OptionSetDescription("resealing companies"), progressbar.OptionShowCount())...)
			}
			_ = bar.Set(done.Companies)
		}, func() {
			if bar != nil {
				_ = bar.Clear()
				_ = bar.Exit()
			}
		}
}

func retireFromKeyset(c *cli.Context, rdb redis.UniversalClient, args []string) error {
	err := changeKeyset(c, func(k *registry.Keyset) (*registry.Keyset, error) {
		r, err := sealing(rdb, k)
		if err != nil {
			return nil, err
		}
		if err := r.ForgetKey(c.Context, args[0]); err != nil {
			return nil, err
		}
		return k.Without(args[0])
	})
	if still, ok := errors.AsType[*registry.StillSealedError](err); ok && still.Callbacks > 0 {
		return fmt.Errorf("%d callbacks still need key %s: run `ringback keyset reseal` first", still.Callbacks, args[0])
	} else if ok {
		return fmt.Errorf("%d lines of the audit trail still need key %s, and the last of them is kept until %s: retire it after that",
			still.AuditLines, args[0], clock(still.Until()))
	}
	if err != nil {
		return err
	}
	return printKeyID(c, args[0], "The key is retired. Give the file to all processes at their next restart; a backup of Redis from before needs the old file.")
}
