package client

import "context"

type idempotencyKey struct{}

// WithIdempotencyKey has the one call that is made with the context, such as [Client.CreateCallback], be done once: key is a text that no other call of this API
// key has, such as a UUID. For 24 hours the same call with the same key gets the same answer, secrets included, also from another process. So it is repeated on
// its own as reading is, but for decisions. With other arguments the key is refused (422). The server must know the header: version 0.1 takes no notice of it.
//
// Only what is asked with POST takes it. Events have ids of their own.
func WithIdempotencyKey(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, idempotencyKey{}, key)
}
