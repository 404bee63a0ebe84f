package registry

import (
	"context"
	"time"
)

// recentFor is how old an answer may be by which something goes on that takes long: so with what asks every 400 ms it ends within a second of its
// key's revocation.
const recentFor = 400 * time.Millisecond

type recentKey struct{}

// recently returns a context for questions that an older answer will not do for.
func recently(ctx context.Context) context.Context { return context.WithValue(ctx, recentKey{}, true) }
