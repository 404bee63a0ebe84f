package main

import (
	"errors"

	"github.com/redis/go-redis/v9"
	"github.com/urfave/cli/v2"
)

// redisFlags say which Redis; usage is of the URL.
func redisFlags(usage string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "redis", Usage: usage, EnvVars: []string{"RINGBACK_REDIS"}},
		redisPasswordFlag("RINGBACK_REDIS_PASSWORD_FILE"),
	}
}

func redisPasswordFlag(variable string) cli.Flag {
	return &cli.StringFlag{
		Name: "redis-password-file", Usage: "`FILE` of Redis's password, instead of one in the URL; read anew for each connection", EnvVars: []string{variable},
	}
}

// onRedis is a command that takes arguments of these names, and needs a few answers from the Redis that --redis names.
func onRedis(action func(c *cli.Context, rdb redis.UniversalClient, args []string) error, names ...string) cli.ActionFunc {
	return func(c *cli.Context) error {
		args, err := arguments(c, names...)
		if err != nil {
			return err
		}
		rdb, err := redisFromFlags(c)
		if err != nil {
			return err
		}
		defer func() { _ = rdb.Close() }()
		return action(c, rdb, args)
	}
}

// redisFromFlags opens the Redis that --redis names, for a command that needs a few answers from it.
func redisFromFlags(c *cli.Context) (redis.UniversalClient, error) {
	rawURL := c.String("redis")
	if rawURL == "" {
		return nil, usagef("which Redis? say so with --redis or RINGBACK_REDIS, as ringback serve does")
	}
	rdb, err := openRedis(rawURL, c.String("redis-password-file"), 4)
	if err != nil {
		return nil, err
	}
	if err := pingRedis(c.Context, rdb); err != nil {
		return nil, errors.Join(err, rdb.Close())
	}
	return rdb, nil
}
