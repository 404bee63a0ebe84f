// Package client talks to a Ringback server over HTTP. It is the way for Go programs to hand over events and to look after callbacks,
// deliveries and callback types; only programs that run in Ringback's own process, on its Redis, use dispatcher.Client instead.
//
//	ringback, err := client.New(client.Config{Server: "https://ringback.example", Key: os.Getenv("RINGBACK_KEY")})
//	…
//	receipt, err := ringback.Send(ctx, "acme", client.Event{Type: "payment_proof", Payload: proof})
//
// Once Send has returned a receipt the event is durable: it will be delivered to every callback that matches.
//
// # What is repeated
//
// Reading, and handing over events, is repeated on its own when the server cannot be reached, an answer breaks off, or the status is 429,
// 502, 503 or 504: with growing pauses, never sooner than Retry-After asks, until the context ends or [Config].MaxElapsed is over.
// Repeating an event is safe because it has an id: of events with the same id and content the server takes one, and Send makes up
// an id where there is none. Everything else (registering, replaying, …) is asked once, for the first try may have worked; but a 429 with
// Retry-After says that the server did nothing because of a limit on what the key may do at a time, and all but decisions is repeated after that.
// With [WithIdempotencyKey] a repeat is safe, and done, for them, too.
//
// # Changing what others change
//
// A callback and a callback type have an ETag, which every change gives another one. With [WithIfMatch] a change is made only to what has that ETag still:
//
//	callback, err := ringback.Callback(ctx, "acme", 12)
//	…
//	_, err = ringback.PatchCallback(client.WithIfMatch(ctx, callback.ETag), "acme", 12, patch) // an *APIError of 412: somebody was faster
//
// # Errors
//
// What the server refused is an [*APIError] with its status, its sentence and the fields at fault. A server that cannot be
// reached is an [*UnreachableError]. A context that ended is its own error, to be found with errors.Is.
//
// The package needs nothing but the standard library and a backoff. It follows no redirects, so the key goes to Config.Server only.
package client
