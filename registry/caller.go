package registry

import "context"

// A Caller is who a request comes from, after somebody has looked: the owner of an API key, or of a session.
type Caller struct {
	// Key says what the caller may do and see. That of a portal link's session stands for no API key.
	Key Key

	// Holds asks again whether the key or the session is still good. It returns ErrUnauthorized if it is not, and nil if it is or if Redis
	// does not answer: as for [Keys.Authenticate], what was good is good for a while then. What takes long, such as a stream, asks it once a
	// second.
	Holds func(context.Context) error
}

type callerKey struct{}

// WithCaller says who a request comes from. Only what has authenticated the caller may say so: the API takes such a request as it is, and asks for
// no key.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerOf is the caller that [WithCaller] named.
func CallerOf(ctx context.Context) (Caller, bool) {
	c, ok := ctx.Value(callerKey{}).(Caller)
	return c, ok
}
