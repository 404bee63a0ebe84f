package httpapi

import (
	"context"
	"fmt"
	"time"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/registry"
)

// Tests and challenges send one request to a callback's endpoint while the caller waits. To the keys a challenge is a test, too.

// testPatience is how long the answer to a test may take: the longest timeout of a callback, and some.
const testPatience = 75 * time.Second

// challengePatience is how long the answer to a change may take, if a challenge may follow on the change.
func (s *server) challengePatience() time.Duration {
	if !s.Registry.VerifiesDestinations() {
		return 0
	}
	return testPatience
}

// challenged challenges a callback that has just moved, and returns it as it is then. The challenge is one of the tests that a key may have
// under way: names are many, and may all lead to one victim. If the challenge cannot be sent, the change holds all the same: the caller can ask
// for another challenge.
func (s *server) challenged(ctx context.Context, cb *registry.Callback) *registry.Callback {
	if !cb.Moved {
		return cb
	}
	result, err := s.verify(ctx, cb.Company, cb.ID)
	if err != nil {
		s.Logger.WarnContext(ctx, "callback not challenged", "callback", cb, "error", err)
		return cb
	}
	now := *result.Callback
	now.Secrets = cb.Secrets // as the change left them: the answer is about the change
	return &now
}

// verify challenges a callback.
func (s *server) verify(ctx context.Context, company string, callbackID int64) (result *dispatcher.ChallengeResult, err error) {
	err = s.asTest(ctx, func() (err error) {
		result, err = s.Client.Verify(ctx, company, callbackID)
		return err
	})
	return result, err
}

// asTest runs test as one of those that a key may have under way.
func (s *server) asTest(ctx context.Context, test func() error) error {
	end, ok, err := s.Keys.BeginTest(ctx, keyOf(ctx), testPatience)
	if err != nil {
		return err
	}
	if !ok {
		return tooOften(time.Second, fmt.Sprintf("this API key has %d tests under way, which are all that it may have", registry.MaxTests))
	}
	defer end()
	return test()
}
