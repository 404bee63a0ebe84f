package main

import (
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/dispatcher/egress"
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "check Redis, clocks and the way out, and say how to cure what is wrong",
		Description: "Only looks: it changes nothing, in Redis or elsewhere, and sends no request to the URLs of --egress-check, it only connects.\n" +
			"Run it where ringback serve runs, with the same settings. Exit code 0: no fault, though there may be warnings; 1: a fault.\n\n" +
			examples(
				"ringback doctor --redis redis://127.0.0.1:6379 --egress-check https://partner.example/",
				"ringback doctor --redis redis://127.0.0.1:6379 --wait-replicas 1 -o json",
			),
		Flags: slices.Concat(redisFlags("`URL` of the Redis to check, as serve takes it"), []cli.Flag{
			&cli.IntFlag{Name: "wait-replicas", Usage: "check that `N` replicas of Redis can confirm each event, as serve --wait-replicas asks", EnvVars: []string{"RINGBACK_WAIT_REPLICAS"}},
			&cli.IntFlag{Name: "shed-at", Usage: "`PERCENT` of Redis's maxmemory from which on serve refuses events, as serve --shed-at says", Value: dispatcher.DefaultShedAt, EnvVars: []string{"RINGBACK_SHED_AT"}},
			&cli.StringSliceFlag{Name: "egress-check", Usage: "connect to `URL`, as a delivery would, without sending anything (repeatable)"},
			keysetFlag(),
		}, egressFlags()),
		Action: doctor,
	}
}

func doctor(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	rawURL, promised := c.String("redis"), promises{c.Int("wait-replicas"), c.Int("shed-at")}
	switch {
	case rawURL == "":
		return usagef("which Redis? say so with --redis or RINGBACK_REDIS, as ringback serve does")
	case promised.replicas < 0:
		return usagef("--wait-replicas must not be negative")
	case promised.shedAt < 1 || promised.shedAt > 100:
		return usagef("--shed-at is a percentage from 1 to 100")
	}
	cfg, err := egressConfig(c)
	if err != nil {
		return err
	}
	door, err := egress.New(cfg)
	if err != nil {
		return err
	}
	defer door.Close()
	rdb, err := openRedis(rawURL, c.String("redis-password-file"), 4)
	if err != nil {
		return err
	}
	defer func() { _ = rdb.Close() }()

	d := &diagnosis{Findings: []finding{}}
	d.examineRedis(c.Context, rdb, promised)
	d.examineCallbacks(c.Context, rdb, c.String("keyset-file"), door)
	if cfg.Proxy != nil {
		d.add(checkProxy(c.Context, cfg))
	}
	d.examineEgress(c.Context, door, cfg.Proxy != nil, commaSeparated(c.StringSlice("egress-check")))
	if err := d.print(newPrinter(c)); err != nil {
		return err
	}
	if d.Faults > 0 {
		return fmt.Errorf("%d of %d checks found a fault: cure what is marked so, and run doctor again", d.Faults, len(d.Findings))
	}
	return nil
}
