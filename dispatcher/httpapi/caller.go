package httpapi

import (
	"context"

	"github.com/ringback/ringback/registry"
)

// callerKey is where an operation's context holds the [registry.Key] that it was called with.
type callerKey struct{}

// keyOf is the key that an operation was called with.
func keyOf(ctx context.Context) registry.Key {
	key, _ := ctx.Value(callerKey{}).(registry.Key)
	return key
}

// caller names who called, for the log.
func caller(ctx context.Context) string { return keyOf(ctx).ID }

// isOperator reports whether an operator of all companies called.
func isOperator(ctx context.Context) bool {
	key := keyOf(ctx)
	return key.Role == registry.Operator && key.Company == registry.AllCompanies
}
