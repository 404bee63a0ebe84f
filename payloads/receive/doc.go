// Package receive is the partner's side of a callback, for services written in Go: a handler that verifies what Ringback sends, hands each
// delivery over once, as a value of your own type, and answers so that Ringback knows what to do next.
//
//	hook, err := receive.New(receive.Config{Secrets: []string{os.Getenv("WEBHOOK_SECRET")}})
//	…
//	receive.On(hook, "payment_proof", func(ctx context.Context, d receive.Delivery, proof Proof) error { … })
//	http.Handle("POST /hook", hook)
//
// It imports the standard library and package payloads, and nothing of the server.
//
// # What it answers
//
//	204  the function that takes the type returned nil, now or for an earlier attempt
//	200  a challenge, which the endpoint says back to prove that it wants to be called
//	200  some of a batch were handled and some were not: the body says which
//	400  the body could not be read
//	401  the signature does not verify; the text says why
//	405  the method is not POST
//	410  the function returned an error that is [ErrUnsubscribe]: the callback is disabled
//	413  the body is longer than Config.MaxBody
//	500  the function returned another error, or panicked, or the payload does not fit its argument
//	501  no function takes events of this type
//	503  the public keys could not be fetched
//
// All but 200, 204 and 410 make Ringback try the delivery again by the callback's schedule. No answer repeats what a function's error says: that is
// logged.
//
// # Each delivery once
//
// A delivery arrives at least once, under the same webhook-id each time. [Once] keeps those that were handled from being handled again. A delivery
// counts as handled after its function returned nil, and never before: if the process dies meanwhile, the delivery comes again and is handled again.
// Only a Once that records the id in the same transaction as what the function changes closes that gap; its comment shows how. Two attempts of one
// delivery that arrive at once are handled one after the other, so that the second finds what became of the first.
//
// # Batches
//
// A callback with batch sends a JSON array of deliveries in one request. The request is verified and bounded as a whole. If its body is no such array, it
// is answered 400, and nothing of it is handed over. Else each delivery goes to the function that takes its type, one after the other, in their order. All
// of them together have the callback's timeout. What is known of a delivery depends on the callback's element:
//
//	envelope  Its type and its own id are known. By the id it is handled once, in whichever batches it comes.
//	payload   Neither is. It goes to the function for "*". Its id is the batch's webhook-id and its place in the batch: by that it is handled once in all
//	          attempts at the batch. After a 413, a cancellation or a replay it comes in a batch with another webhook-id, and is handled again.
//
// CloudEvents (envelope: cloudevents-structured) as payloads say their type and their event's id; for the rest they are like payloads. Register with
// element: envelope, unless the function finds an id of its own in the payload.
//
// The answer is 204 if all were handled. If a function returned [ErrUnsubscribe], it is 410: those behind are not handed over, and Ringback gives up all of
// the batch. If others failed, the answer is that of the first of them, and the batch comes again; what was handled of it is not handed over again. The
// answer speaks of each delivery (200) if the callback has results: true, some were handled, and they have names, as envelopes and CloudEvents do: then
// only those that failed come again. Ringback's headers say how elements are written and whether results are heard, so Config has nothing for either, and
// the callback may change.
//
// # What is verified
//
// A signature covers the webhook-id, the time and the body, by HMAC-SHA256 with one of Config.Secrets (v1) or by ed25519 with one of Config.Keys
// (v1a). One that matches is enough. The other headers are not covered: neither is the event's type, but for that in a batch's body. Take requests over
// TLS, where nobody on the way can change them.
package receive
