package registry

import "context"

// KeepsAnswers returns an *OldProcessError while a process is alive that does not know requests with an Idempotency-Key: it would act once more, and leave
// what is kept of them in a company that it erases.
func (r *Registry) KeepsAnswers(ctx context.Context) error {
	return r.KnownEverywhere(ctx, "an Idempotency-Key on anything but an event", wireLevel)
}

// SealAnswer seals what is kept of a request with an Idempotency-Key, for one place. It is not sealed anew as callbacks are: once the key is retired, nobody
// can read it.
func (r *Registry) SealAnswer(place string, plain []byte) ([]byte, error) {
	return r.keyset.seal(plain, answerPlace+place)
}

// OpenAnswer opens what SealAnswer sealed for that place. Error: [ErrSealed].
func (r *Registry) OpenAnswer(place string, sealed []byte) ([]byte, error) {
	return r.keyset.open(sealed, answerPlace+place)
}

// answerPlace begins the places of what is kept of requests: no company's name has a space.
const answerPlace = "answer "
