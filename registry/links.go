package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry/once"
)

// ErrTooManyLinks says that a company has as many portal links as it may, and none of them has ended.
var ErrTooManyLinks = fmt.Errorf("the company has %d portal links that can still be opened or whose sessions last: revoke some first", MaxLinks)

// A storedLink is a link as it stands in Redis, under its id. It does not change.
type storedLink struct {
	Token     string  `json:"t"` // the digest of the link's token
	Made      int64   `json:"at"`
	By        string  `json:"by"`
	Ends      int64   `json:"ends"`         // ms, the installation's time, as all of them
	Life      int64   `json:"life"`         // ms, of its session
	Callbacks []int64 `json:"cb,omitempty"` // absent: all
	ReadOnly  bool    `json:"ro,omitempty"`
}

// noteLink is the note of a link that is made.
const noteLink = "link"

type linkNote struct {
	Token string
	Link  Link
}

// usedSuffix ends the field of what became of a link: when it was opened (ms), its session's digest, - once somebody logged out, and when that ends (ms).
const usedSuffix = "/used"

// linksLua reads what became of a link. ended(links, id, link) is when it ended or will.
const linksLua = `
local function used(links, id)
  local at, session, ends = string.match(redis.call('HGET', links, id .. '` + usedSuffix + `') or '', '^(%d+) (%S+) (%d+)$')
  return at, session, tonumber(ends)
end
local function ended(links, id, link)
  local _, _, ends = used(links, id)
  return ends or tonumber(link.ends)
end
`

// createLink notes link ARGV[2] under ARGV[1], and writes line ARGV[3] of the audit trail. ARGV[4] is now (ms). What ended ARGV[6] ms ago or earlier goes.
// If ARGV[5] are left, the one goes that ended first. If none has ended, the answer is 0.
var createLink = once.New("link", AuditLua+linksLua+`
local links, now, most, kept = KEYS[1], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
if redis.call('HGET', links, ARGV[1]) == ARGV[2] then return 1 end -- an earlier run's answer was lost
local function drop(id) redis.call('HDEL', links, id, id .. '`+usedSuffix+`') end
local left, first, id = 0, now
for _, field in ipairs(redis.call('HKEYS', links)) do
  if not string.find(field, '/', 1, true) then
    local readable, link = pcall(cjson.decode, redis.call('HGET', links, field))
    local over = readable and ended(links, field, link) or 0
    if over + kept <= now then
      drop(field)
    else
      left = left + 1
      if over <= first then first, id = over, field end
    end
  end
end
if left >= most and not id then return 0 end
if left >= most then drop(id) end
redis.call('HSET', links, ARGV[1], ARGV[2])
audit(KEYS[2], ARGV[3])
return 1`, `reply == 1`)

// CreateLink makes a portal link of a company. The token belongs into the link's address: it is not stored, and this is the only time it is seen.
//
// Errors: an *payloads.InvalidError. [ErrTooManyLinks]. While a process is alive that would leave links in an erased company, an *OldProcessError.
func (r *Registry) CreateLink(ctx context.Context, company string, terms LinkTerms) (token string, l Link, err error) {
	var made linkNote
	if found, err := once.Noted(ctx, noteLink, &made); found || err != nil {
		return made.Token, made.Link, err
	}
	if terms, err = r.checkTerms(ctx, company, terms); err != nil {
		return "", Link{}, err
	}
	if err := r.KnownEverywhere(ctx, "a portal link", linksLevel); err != nil {
		return "", Link{}, err
	}
	now, err := timeBy(ctx, r.redis, r.clock)
	if err != nil {
		return "", Link{}, fmt.Errorf("registry: make a portal link: %w", err)
	}
	now = now.UTC().Truncate(timeGrain)
	l = Link{ID: newLinkID(), Company: company, CreatedAt: now, CreatedBy: Actor(ctx), ExpiresAt: now.Add(terms.ExpiresIn), LinkTerms: terms}
	token = newToken(linkPrefix, l.ID+"."+company)
	text, err := json.Marshal(storedLink{
		Token: tokenField(token), Made: now.UnixMilli(), By: l.CreatedBy, Ends: l.ExpiresAt.UnixMilli(), Life: terms.SessionExpiresIn.Milliseconds(),
		Callbacks: terms.Callbacks, ReadOnly: terms.ReadOnly,
	})
	if err != nil {
		return "", Link{}, fmt.Errorf("registry: make a portal link: %w", err)
	}
	if err := once.Note(ctx, noteLink, linkNote{token, l}); err != nil {
		return "", Link{}, err
	}
	if err := r.note(ctx, company); err != nil { // so that whoever erases the company finds it
		return "", Link{}, err
	}
	line := AuditLine(ctx, company, "portal_link.create", linkObject(l.ID), linkChanges(l)...)
	switch made, err := createLink.Run(ctx, r.redis, linkKeys(company), l.ID, text, line, now.UnixMilli(), MaxLinks, linkKept.Milliseconds()).Int(); {
	case err != nil:
		return "", Link{}, fmt.Errorf("registry: make a portal link: %w", err)
	case made == 0:
		return "", Link{}, ErrTooManyLinks
	}
	return token, l, nil
}

// checkTerms completes a link's terms, and wants its callbacks to be there.
func (r *Registry) checkTerms(ctx context.Context, company string, terms LinkTerms) (LinkTerms, error) {
	if err := checkCompany(company); err != nil {
		return terms, err
	}
	terms, err := terms.complete()
	if err != nil || terms.Callbacks == nil {
		return terms, err
	}
	there, err := r.IDs(ctx, company, false)
	if err != nil {
		return terms, err
	}
	for _, id := range terms.Callbacks {
		if !slices.Contains(there, id) {
			return terms, invalid("body.callback_ids", fmt.Sprintf("names callback %d, which there is not in this company", id), nil)
		}
	}
	return terms, nil
}

// Links returns a company's portal links, the newest first: those that can be opened or whose sessions last, and those that ended within a week. It also
// returns the installation's time, by which they have their states.
func (r *Registry) Links(ctx context.Context, company string) (links []Link, at time.Time, err error) {
	if err := checkCompany(company); err != nil {
		return nil, at, err
	}
	stored, err := r.redis.HGetAll(ctx, linksKey(company)).Result()
	if err == nil {
		at, err = timeBy(ctx, r.redis, r.clock)
	}
	if err != nil {
		return nil, at, fmt.Errorf("registry: list the portal links of company %s: %w", company, err)
	}
	for id, text := range stored {
		if strings.HasSuffix(id, usedSuffix) {
			continue
		}
		_, l, err := readLink(company, id, text, stored[id+usedSuffix])
		if err != nil {
			return nil, at, err
		}
		if l.endsAt().Add(linkKept).After(at) {
			links = append(links, l)
		}
	}
	slices.SortFunc(links, func(a, b Link) int { return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(b.ID, a.ID)) })
	return links, at, nil
}

// Link returns one of [Registry.Links], or ErrNotFound.
func (r *Registry) Link(ctx context.Context, company, id string) (l Link, at time.Time, err error) {
	links, at, err := r.Links(ctx, company)
	if err != nil {
		return Link{}, at, err
	}
	if i := slices.IndexFunc(links, func(l Link) bool { return l.ID == id }); i >= 0 {
		return links[i], at, nil
	}
	return Link{}, at, ErrNotFound
}

// revokeLink takes a link away, and writes line ARGV[2] of the audit trail. The line is of this revocation only: so a run whose answer was lost is known.
var revokeLink = redis.NewScript(AuditLua + `
if redis.call('HDEL', KEYS[1], ARGV[1], ARGV[1] .. '` + usedSuffix + `') == 0 then
  local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
  return last and last[2][2] == ARGV[2] and 1 or 0
end
audit(KEYS[2], ARGV[2])
return 1`)

// RevokeLink takes a portal link away, with its session, which ends at once on all processes. It returns ErrNotFound if there is no such link.
func (r *Registry) RevokeLink(ctx context.Context, company, id string) error {
	if err := checkCompany(company); err != nil {
		return err
	}
	line := UniqueAuditLine(ctx, company, "portal_link.revoke", linkObject(id))
	switch revoked, err := revokeLink.Run(ctx, r.redis, linkKeys(company), id, line).Int(); {
	case err != nil:
		return fmt.Errorf("registry: revoke a portal link: %w", err)
	case revoked == 0:
		return ErrNotFound
	}
	return nil
}

// ForgetLinks takes all portal links of a company away, with their sessions. It is for a company's erasure, whose line of the audit trail tells of it.
func (r *Registry) ForgetLinks(ctx context.Context, company string) error {
	if err := r.redis.Del(ctx, linksKey(company)).Err(); err != nil {
		return fmt.Errorf("registry: forget the portal links of company %s: %w", company, err)
	}
	return nil
}

// endsAt is when a link, or its session, ended or will.
func (l Link) endsAt() time.Time {
	if l.UsedAt.IsZero() {
		return l.ExpiresAt
	}
	return l.SessionEndsAt
}

// readLink reads a link as it stands in Redis, and what became of it, as [usedSuffix] has it.
func readLink(company, id, text, used string) (stored storedLink, l Link, err error) {
	if err := json.Unmarshal([]byte(text), &stored); err != nil {
		return stored, l, fmt.Errorf("registry: portal link %s of company %s is not readable: %w", id, company, err)
	}
	l = Link{
		ID: id, Company: company, CreatedAt: milli(stored.Made), CreatedBy: stored.By, ExpiresAt: milli(stored.Ends),
		LinkTerms: LinkTerms{
			ExpiresIn: time.Duration(stored.Ends-stored.Made) * time.Millisecond, SessionExpiresIn: time.Duration(stored.Life) * time.Millisecond,
			Callbacks: stored.Callbacks, ReadOnly: stored.ReadOnly,
		},
	}
	if used == "" {
		return stored, l, nil
	}
	words := strings.Split(used, " ")
	if len(words) != 3 {
		return stored, l, fmt.Errorf("registry: the use of portal link %s of company %s is not readable", id, company)
	}
	at, errAt := strconv.ParseInt(words[0], 10, 64)
	ends, errEnds := strconv.ParseInt(words[2], 10, 64)
	l.UsedAt, l.SessionEndsAt = milli(at), milli(ends)
	return stored, l, errors.Join(errAt, errEnds)
}

func milli(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// linkObject is what the audit trail calls a link.
func linkObject(id string) string { return "portal-links/" + id }

// linkKeys are what the scripts about a company's links touch.
func linkKeys(company string) []string { return []string{linksKey(company), AuditKey(company)} }
