package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// ErrLinkUsed is ErrUnauthorized for a portal link that was opened before.
var ErrLinkUsed = fmt.Errorf("%w: the link was used before", ErrUnauthorized)

// redeemLink opens link ARGV[1], whose token has the digest ARGV[2], with a session whose token has the digest ARGV[3], and writes line ARGV[5] of the audit
// trail. ARGV[4] is now (ms). It returns how that went, the link, and what became of it.
var redeemLink = redis.NewScript(AuditLua + linksLua + `
local links, id, now = KEYS[1], ARGV[1], tonumber(ARGV[4])
local text = redis.call('HGET', links, id)
local link = text and cjson.decode(text)
if not link or link.t ~= ARGV[2] then return {'unknown', '', ''} end
local _, session = used(links, id)
if session == ARGV[3] then return {'opened', text, redis.call('HGET', links, id .. '` + usedSuffix + `')} end -- an earlier run's answer was lost
if session then return {'used', text, ''} end
if now >= tonumber(link.ends) then return {'expired', text, ''} end
local became = string.format('%.0f %s %.0f', now, ARGV[3], now + tonumber(link.life))
redis.call('HSET', links, id .. '` + usedSuffix + `', became)
audit(KEYS[2], ARGV[5])
return {'opened', text, became}`)

// Redeem opens a portal link: it uses its token up and begins its session, in one step. The session's token is for the person's cookie: it is not
// stored, and this is the only time it is seen. If the answer is lost, so is the session, and the person needs another link.
//
// Errors: ErrUnauthorized, if there is no such link, or no longer. [ErrLinkUsed]. ErrExpired. Others are Redis's.
func (ss *Sessions) Redeem(ctx context.Context, token string) (session string, s Session, err error) {
	id, company := linkInToken(linkPrefix, token)
	if id == "" {
		ss.keys.opened.add(ctx, "unknown", 1)
		return "", Session{}, ErrUnauthorized
	}
	now, err := timeBy(ctx, ss.keys.redis, ss.keys.clock)
	if err != nil {
		return "", Session{}, fmt.Errorf("registry: open a portal link: %w", err)
	}
	session = newToken(linkSessionPrefix, id+"."+company)
	line := AuditLine(WithActor(ctx, id), company, "portal_link.use", linkObject(id))
	answer, err := redeemLink.Run(ctx, ss.keys.redis, linkKeys(company), id, tokenField(token), tokenField(session), now.UnixMilli(), line).StringSlice()
	if err != nil {
		return "", Session{}, fmt.Errorf("registry: open a portal link: %w", err)
	}
	ss.keys.opened.add(ctx, answer[0], 1)
	if answer[0] == "unknown" {
		return "", Session{}, ErrUnauthorized
	}
	_, l, err := readLink(company, id, answer[1], answer[2])
	switch {
	case err != nil:
		return "", Session{}, err
	case answer[0] == "used":
		return "", Session{}, ErrLinkUsed
	case answer[0] == "expired":
		return "", Session{}, fmt.Errorf("%w: the link could be opened until %s", ErrExpired, l.ExpiresAt.Format(time.RFC3339))
	}
	return session, sessionOf(l, session), nil
}

// ofLink returns the session of a portal link with that token.
func (ss *Sessions) ofLink(ctx context.Context, token string) (Session, error) {
	id, company := linkInToken(linkSessionPrefix, token)
	if id == "" {
		return Session{}, ErrUnauthorized
	}
	found, err := ss.keys.redis.HMGet(ctx, linksKey(company), id, id+usedSuffix).Result()
	if err != nil {
		return Session{}, fmt.Errorf("registry: look up a portal link's session: %w", err)
	}
	text, _ := found[0].(string)
	used, _ := found[1].(string)
	if text == "" || !strings.Contains(used, " "+tokenField(token)+" ") {
		return Session{}, ErrUnauthorized
	}
	_, l, err := readLink(company, id, text, used)
	if err != nil {
		return Session{}, err
	}
	now, err := timeBy(ctx, ss.keys.redis, ss.keys.clock)
	if err != nil {
		return Session{}, fmt.Errorf("registry: look up a portal link's session: %w", err)
	}
	if !now.Before(l.SessionEndsAt) {
		return Session{}, errSessionOver(l.SessionEndsAt)
	}
	return sessionOf(l, token), nil
}

func sessionOf(l Link, token string) Session {
	return Session{Key: l.key(), Place: PlacePortal, BeganAt: l.UsedAt, ExpiresAt: l.SessionEndsAt, CSRF: csrfOf(token)}
}

// leaveLink ends link ARGV[1]'s session, if its token has the digest ARGV[2], at ARGV[3] (ms).
var leaveLink = redis.NewScript(linksLua + `
local at, session = used(KEYS[1], ARGV[1])
if session == ARGV[2] then redis.call('HSET', KEYS[1], ARGV[1] .. '` + usedSuffix + `', at .. ' - ' .. ARGV[3]) end`)

// leave ends the session of a portal link with that token. The link stays used.
func (ss *Sessions) leave(ctx context.Context, token string) error {
	id, company := linkInToken(linkSessionPrefix, token)
	if id == "" {
		return nil
	}
	now, err := timeBy(ctx, ss.keys.redis, ss.keys.clock)
	if err == nil {
		err = leaveLink.Run(ctx, ss.keys.redis, []string{linksKey(company)}, id, tokenField(token), now.UnixMilli()).Err()
	}
	if err != nil && !errors.Is(err, redis.Nil) {
		return fmt.Errorf("registry: end a portal link's session: %w", err)
	}
	return nil
}
