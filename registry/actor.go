package registry

import "context"

// The actors that are no API keys.
const (
	// ActorEngine is Ringback itself.
	ActorEngine = "engine"
	// ActorCLI is a command that talks to Redis, such as `ringback keys create`.
	ActorCLI = "cli"
)

type actorKey struct{}

// WithActor says on whose behalf the calls with that context act: the id of an API key, or [ActorCLI].
func WithActor(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, actorKey{}, id)
}

// Actor is the actor that [WithActor] named, else [ActorEngine].
func Actor(ctx context.Context) string {
	if id, ok := ctx.Value(actorKey{}).(string); ok && id != "" {
		return id
	}
	return ActorEngine
}
