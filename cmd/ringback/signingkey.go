package main

import (
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/client"
)

func rotateKeyCommand() *cli.Command {
	return &cli.Command{
		Name:  "rotate-key",
		Usage: "announce a new key pair, which signs later, along with the one before at first", ArgsUsage: callbackArg,
		Description: examples("ringback callbacks rotate-key 12", "ringback callbacks rotate-key 12 --announce 6m --overlap 1h") +
			"\n\nFor a callback with --signature ed25519 or rfc9421. The new public key stands in the company's key set at once, for receivers to fetch.",
		Flags: []cli.Flag{
			companyFlag(),
			&cli.DurationFlag{Name: "announce", Usage: "for how `LONG` the new key is published before it signs, 6m to 720h", Value: client.DefaultAnnounce, Action: notNegative("announce")},
			&cli.DurationFlag{Name: "overlap", Usage: "for how `LONG` the key before signs along with the new one, up to 168h", Value: client.DefaultOverlap, Action: notNegative("overlap")},
			onceFlag(),
		},
		Action: rotateSigningKey,
	}
}

func notNegative(flag string) func(*cli.Context, time.Duration) error {
	return func(_ *cli.Context, d time.Duration) error {
		if d < 0 {
			return usagef("--%s is a duration such as 24h, and not negative", flag)
		}
		return nil
	}
}

func rotateSigningKey(c *cli.Context) error {
	api, company, id, err := oneCallback(c)
	if err != nil {
		return err
	}
	cb, err := api.RotateKey(c.Context, company, id, c.Duration("announce"), c.Duration("overlap"))
	if err != nil {
		return err
	}
	out := newPrinter(c)
	if out.json {
		return out.raw(cb.Raw)
	}
	return out.pairs(keyPairs(cb)...)
}
