package registry

import (
	"context"
	"errors"
	"strings"
)

// Get returns the session with that token, if it is good at the place. If there is none, the error is ErrUnauthorized; if it was good once,
// ErrExpired. Other errors say that Redis could not be asked. It knows at once that the session was ended or its portal link revoked, and within a
// second that its API key was.
func (ss *Sessions) Get(ctx context.Context, token string, place Place) (s Session, err error) {
	if strings.HasPrefix(token, linkSessionPrefix) {
		s, err = ss.ofLink(ctx, token)
	} else {
		s, err = ss.ofKey(ctx, token)
	}
	if err == nil && s.Place != place {
		return Session{}, ErrUnauthorized
	}
	return s, err
}

// Caller is the owner of a session, for requests that are made in its name.
func (ss *Sessions) Caller(s Session, token string) Caller {
	return Caller{Key: s.Key, Holds: func(ctx context.Context) error {
		if _, err := ss.Get(recently(ctx), token, s.Place); errors.Is(err, ErrUnauthorized) {
			return err
		}
		return nil
	}}
}

// End ends the session with that token. That there is none is fine.
func (ss *Sessions) End(ctx context.Context, token string) error {
	if strings.HasPrefix(token, linkSessionPrefix) {
		return ss.leave(ctx, token)
	}
	return ss.endOfKey(ctx, token)
}
