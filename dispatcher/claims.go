package dispatcher

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/registry/once"
)

// What is sealed of a claim is sealed for its place.
const (
	sealedContent = "/f"
	sealedNotes   = "/n"
	sealedAnswer  = "/a"
)

// claimTries is how often a claim is looked at that changes hands meanwhile.
const claimTries = 3

// A Repeatable is a request with an Idempotency-Key.
type Repeatable struct {
	Company string // empty: it is about all companies
	// Bulk says that it begins a replay over callbacks or companies, or is about all companies.
	Bulk bool
	// Caller, Method, Path and Key are what makes a request the same one.
	Caller, Method, Path, Key string
	// Content is what a repeat has to repeat.
	Content []byte
	// Lasts is how long it may be under way. A repeat that comes later takes it over.
	Lasts time.Duration
}

// hash names the request among all.
func (r Repeatable) hash() string {
	h := sha256.New()
	for _, part := range []string{r.Caller, r.Method, r.Path, r.Key} {
		_, _ = fmt.Fprintf(h, "%d:%s", len(part), part) // a hash takes all
	}
	return strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(h.Sum(nil)))
}

// ErrOtherRequest says that an Idempotency-Key came with another request before.
var ErrOtherRequest = errors.New("this Idempotency-Key came with another body before: give each request a key of its own, and repeat it with the very same body")

// ErrAnswerLost says that what is kept of a request cannot be opened.
var ErrAnswerLost = errors.New("what is kept of the request with this Idempotency-Key was sealed with a key that is gone: look whether it was done, and go on with another Idempotency-Key")

// An UnderWayError says that the same request is under way.
type UnderWayError struct{ Wait time.Duration }

func (e *UnderWayError) Error() string {
	return "the request with this Idempotency-Key is under way: repeat it in a moment for its answer"
}

// A ClaimsFullError says that as many requests with an Idempotency-Key are remembered as may be of their kind: of a company, of a company about several callbacks
// or companies, or about all companies.
type ClaimsFullError struct {
	Wait time.Duration
	Most int // how many those are
}

func (e *ClaimsFullError) Error() string {
	return fmt.Sprintf("as many requests like this with an Idempotency-Key are remembered as may be (%d, for 24 h each): wait, or leave the header out", e.Most)
}

// A Claim is a request's right to act, or the answer that it was given before.
type Claim struct {
	// Before is the answer of before, as [Claim.Answered] was given it. Nil: there is none, and the caller acts.
	Before []byte

	client *Client
	ref    ledger.ClaimRef
	act    *once.Claim
}

// Claim claims a request, so that it is done once. Whoever holds the claim acts with [Claim.Context], and then says what it answered.
//
// Errors: *[UnderWayError], [ErrOtherRequest], [ErrAnswerLost], *[ClaimsFullError], [ErrOverloaded], *registry.OldProcessError, [ErrUnavailable].
func (c *Client) Claim(ctx context.Context, r Repeatable) (*Claim, error) {
	if err := c.registry.KeepsAnswers(ctx); err != nil {
		return nil, err
	}
	if c.memory.overloaded(ctx) { // what is kept takes room
		c.metrics.shed.Add(ctx, 1)
		return nil, ErrOverloaded
	}
	ref := ledger.ClaimRef{Company: r.Company, Bulk: r.Bulk, Hash: r.hash()}
	content := sha256.Sum256(r.Content)
	fingerprint, err := c.registry.SealAnswer(ref.Key()+sealedContent, content[:])
	if err != nil {
		return nil, err
	}
	for range claimTries {
		token := rand.Text()
		found, err := c.ledger.Claim(ctx, ref, token, fingerprint, r.Lasts)
		switch {
		case err != nil:
			return nil, unavailable(ctx, c, "claiming a request", err)
		case found.New:
			return c.claimed(ref, token), nil
		case found.Full:
			return nil, &ClaimsFullError{found.Wait, found.Most}
		}
		claim, err := c.known(ref, token, found, content[:])
		if err != nil || claim.Before != nil {
			return claim, err
		}
		if found.Wait > 0 {
			return nil, &UnderWayError{found.Wait}
		}
		ok, err := c.ledger.Reclaim(ctx, ref, found, token, r.Lasts)
		if err != nil {
			return nil, unavailable(ctx, c, "claiming a request", err)
		}
		if ok {
			return claim, nil
		}
	}
	return nil, &UnderWayError{}
}

// known is a claim that was there, with the answer of before, or the notes.
func (c *Client) known(ref ledger.ClaimRef, token string, found ledger.ClaimFound, content []byte) (*Claim, error) {
	was, err := c.registry.OpenAnswer(ref.Key()+sealedContent, found.Fingerprint)
	if err != nil {
		return nil, ErrAnswerLost
	}
	if !bytes.Equal(was, content) {
		return nil, ErrOtherRequest
	}
	claim := c.claimed(ref, token)
	if len(found.Answer) > 0 {
		if claim.Before, err = c.registry.OpenAnswer(ref.Key()+sealedAnswer, found.Answer); err != nil {
			return nil, ErrAnswerLost
		}
		return claim, nil
	}
	if len(found.Notes) == 0 {
		return claim, nil
	}
	notes, err := c.registry.OpenAnswer(ref.Key()+sealedNotes, found.Notes)
	if err != nil {
		return nil, ErrAnswerLost
	}
	return claim, claim.act.Read(notes)
}

func (c *Client) claimed(ref ledger.ClaimRef, token string) *Claim {
	seal := func(plain []byte) ([]byte, error) { return c.registry.SealAnswer(ref.Key()+sealedNotes, plain) }
	return &Claim{client: c, ref: ref, act: &once.Claim{Key: ref.Key(), Token: token, Seal: seal}}
}

// Context is the context that the holder acts with.
func (c *Claim) Context(ctx context.Context) context.Context { return once.With(ctx, c.act) }

// Answered ends what is under way, and keeps the answer for repeats: always, or only if the request acted. Without an answer a repeat acts anew, or finds out
// anew what to answer if the request acted. Error: [ErrUnavailable]; then a repeat does the same as after a crash.
func (c *Claim) Answered(ctx context.Context, answer []byte, always bool) error {
	var sealed []byte
	if answer != nil {
		var err error
		if sealed, err = c.client.registry.SealAnswer(c.ref.Key()+sealedAnswer, answer); err != nil {
			return err
		}
	}
	c.client.at("answering")
	if err := c.client.ledger.Answered(ctx, c.ref, c.act.Token, sealed, always); err != nil {
		return unavailable(ctx, c.client, "keeping an answer", err)
	}
	return nil
}
