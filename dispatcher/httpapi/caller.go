package httpapi

import (
	"context"

	"github.com/ringback/ringback/registry"
)

// keyOf is the key that an operation was called with. A session's caller has one, too.
func keyOf(ctx context.Context) registry.Key {
	c, _ := registry.CallerOf(ctx)
	return c.Key
}

// caller names who called, for the log.
func caller(ctx context.Context) string { return keyOf(ctx).ID }

// isOperator reports whether an operator of all companies called.
func isOperator(ctx context.Context) bool {
	key := keyOf(ctx)
	return key.Role == registry.Operator && key.Company == registry.AllCompanies
}
