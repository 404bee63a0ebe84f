package main

import (
	"context"
	"strings"

	"github.com/redis/go-redis/v9"
)

// unquotedHook takes a command's arguments out of its error. If Redis, or a proxy before it, does not know a command, its error quotes them.
// Errors go to logs and callers, and the arguments of AUTH are a user and a password.
type unquotedHook struct{}

// DialHook changes nothing.
func (unquotedHook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook changes a command's error.
func (unquotedHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		cmd.SetErr(unquoted(cmd.Err()))
		return unquoted(err)
	}
}

// ProcessPipelineHook changes the errors of a pipeline's commands.
func (unquotedHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		for _, cmd := range cmds {
			cmd.SetErr(unquoted(cmd.Err()))
		}
		return unquoted(err)
	}
}

// redisError is an error that Redis answered with, as go-redis has them.
type redisError string

func (e redisError) Error() string { return string(e) }

// RedisError implements [redis.Error].
func (redisError) RedisError() {}

func unquoted(err error) error {
	if err == nil {
		return nil
	}
	if said, _, quotes := strings.Cut(err.Error(), ", with args beginning with"); quotes {
		return redisError(said)
	}
	return err
}
