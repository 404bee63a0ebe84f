package registry

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/payloads"
)

const (
	// DefaultLimit is the size of a page of a list that asks for none.
	DefaultLimit = 50

	// MaxLimit is the size of the largest page that a list may ask for.
	MaxLimit = 500

	// MaxOverlap is the longest a replaced signing secret may go on signing.
	MaxOverlap = 7 * 24 * time.Hour

	maxSecrets = 5            // live at once; each adds a signature to every request
	gateChunk  = 2 * MaxLimit // gates read at once by List
)

// Config is what a Registry needs.
type Config struct {
	// Redis holds everything. Required.
	Redis redis.UniversalClient

	// Catalogue holds the callback types that Ringback comes with. Required.
	Catalogue *payloads.Catalogue

	// Keyset seals what is stored. Required, and the same in all processes.
	Keyset *Keyset

	// CheckURL says whether requests may go to a URL, and if not what to do
	// instead, without repeating it. Nil: any absolute http or https URL.
	CheckURL func(string) error

	// VerifyDestinations makes each new callback [Unverified], and each whose url
	// or token_url changes: what is for it is held until its endpoint has answered
	// a challenge, as [Registry.Verified] is told.
	VerifyDestinations bool

	// Logger gets one line per change. Nil: nothing is logged.
	Logger *slog.Logger
}

// Registry keeps the callbacks of all companies. Safe for concurrent use; it has
// no goroutines of its own and needs no closing.
//
// Its methods return an *payloads.InvalidError for a company that cannot be one,
// and a wrapped error of Redis when Redis could not be asked or did not answer.
type Registry struct {
	redis    redis.UniversalClient
	types    *Types
	keyset   *Keyset
	checkURL func(string) error
	verify   bool
	log      *slog.Logger

	companies sync.Map // company's name -> *company
	presence  presence
}

// New returns a registry on the given Redis. It does not talk to it yet: call
// [Registry.CheckKeyset] once before use.
func New(cfg Config) (*Registry, error) {
	switch {
	case cfg.Redis == nil:
		return nil, errors.New("registry: Config.Redis is missing")
	case cfg.Catalogue == nil:
		return nil, errors.New("registry: Config.Catalogue is missing")
	case cfg.Keyset == nil:
		return nil, errors.New("registry: Config.Keyset is missing")
	}
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	types := newTypes(cfg.Redis, cfg.Catalogue, log)
	return &Registry{redis: cfg.Redis, types: types, keyset: cfg.Keyset, checkURL: cfg.CheckURL, verify: cfg.VerifyDestinations, log: log}, nil
}

// Types are the callback types there are.
func (r *Registry) Types() *Types { return r.types }

// save stores callback ARGV[1] as ARGV[2], which no two seals share, so finding it
// there means that an earlier run's answer was lost. ARGV[3] is the version it
// must still have, or empty for a new one; ARGV[4] its rate limit, or empty;
// ARGV[5] how many callbacks a company may have that has no quota of its own;
// ARGV[6] the line of the audit trail; ARGV[7] the name of its host; ARGV[8] the
// anchor of its seal, or empty; ARGV[9] the gate of a callback whose endpoint has
// yet to prove itself, or empty to leave the gate alone. What closed it before
// closes it afterwards. ARGV[10] is 1 if it goes elsewhere than before: what failed
// there says nothing about the new place.
var save = redis.NewScript(AuditLua + `
local now = redis.call('HGET', KEYS[3], ARGV[1])
local at = redis.call('ZSCORE', KEYS[2], ARGV[1])
if now == ARGV[2] then return {'saved', at} end
if ARGV[3] == '' then
	if at then return {'taken'} end
	local most = tonumber(redis.call('HGET', KEYS[5], 'callbacks') or ARGV[5])
	local there = redis.call('HLEN', KEYS[3])
	if there >= most then return {'quota', string.format('%.0f', most), tostring(there)} end
else
	if not now then return {'gone'} end
	if tonumber(at) ~= tonumber(ARGV[3]) then return {'raced'} end
end
redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
if ARGV[4] == '' then redis.call('DEL', KEYS[4]) else redis.call('SET', KEYS[4], ARGV[4]) end
redis.call('HSET', KEYS[7], 'hn', ARGV[7])
if ARGV[10] == '1' then redis.call('HDEL', KEYS[7], 'fs', 'fl', 'fo', 'fn', 'w') end
if ARGV[8] == '' then redis.call('HDEL', KEYS[8], ARGV[1]) else redis.call('HSET', KEYS[8], ARGV[1], ARGV[8]) end
` + nextVersion + `
local changes
if ARGV[9] ~= '' then
	local new, old = cjson.decode(ARGV[9]), redis.call('GET', KEYS[9])
	if old then
		old = cjson.decode(old)
		if old.status == 'unverified' then new['then'] = old['then'] else new['then'] = old end
	end
	redis.call('SET', KEYS[9], cjson.encode(new))
	if not old or old.status ~= 'unverified' then
		changes = {{field = 'status', new = 'unverified'}}
		if at then changes[1].old = old and old.status or 'enabled' end
	end
end
audit(KEYS[6], ARGV[6], changes)
return {'saved', v}`)

// remove deletes callback ARGV[1] and closes its gate as ARGV[2], which tells its
// own earlier run from another's, with line ARGV[3] of the audit trail. It returns
// 0 where there is nothing to delete.
var remove = redis.NewScript(AuditLua + `
if redis.call('HDEL', KEYS[3], ARGV[1]) == 0 then
	return redis.call('GET', KEYS[4]) == ARGV[2] and 1 or 0
end
redis.call('SET', KEYS[4], ARGV[2])
redis.call('DEL', KEYS[6])
redis.call('HDEL', KEYS[8], ARGV[1])
` + nextVersion + `
redis.call('ZADD', KEYS[5], string.format('%.0f', ms), ARGV[1])
audit(KEYS[7], ARGV[3])
return 1`)

// read returns callback ARGV[1]: sealed, version, gate, the seal's anchor.
var read = redis.NewScript(`
return {redis.call('HGET', KEYS[1], ARGV[1]), redis.call('ZSCORE', KEYS[2], ARGV[1]), redis.call('GET', KEYS[3]), redis.call('HGET', KEYS[6], ARGV[1])}`)

// Create registers a callback from the JSON of a registration and returns it with
// a fresh signing secret; [Callback.WithSecret] shows that. Once it has returned,
// every event accepted from then on, by any process, is matched against it.
//
// A body that is no JSON gives ErrBadJSON; one that does not fit gives an
// *payloads.InvalidError that lists every fault. A company that has as many as its
// quota allows gives a *QuotaError.
func (r *Registry) Create(ctx context.Context, company string, body []byte) (*Callback, error) {
	if err := checkCompany(company); err != nil {
		return nil, err
	}
	types, err := r.types.Fresh(ctx)
	if err != nil {
		return nil, err
	}
	cb, err := decode(types, r.checkURL, body, nil)
	if err != nil {
		return nil, err
	}
	cb.Company = company
	cb.CreatedAt = now()
	cb.UpdatedAt = cb.CreatedAt
	if !cb.StartDateGiven {
		cb.StartDate = cb.CreatedAt
	}
	cb.Secrets = []SigningSecret{{Secret: payloads.NewSecret()}}
	cb.Status = Enabled
	var gate Gate
	if r.verify {
		if gate, err = r.unverified(ctx, cb); err != nil {
			return nil, err
		}
	}

	if err := r.note(ctx, company); err != nil { // it may have been erased since this process did last
		return nil, err
	}
	for range tries {
		if cb.ID, err = r.redis.Incr(ctx, sequenceKey(company)).Result(); err != nil {
			return nil, fmt.Errorf("registry: number a callback of company %s: %w", company, err)
		}
		line, err := callbackLine(ctx, r.keyset, "callback.create", nil, cb)
		if err != nil {
			return nil, err
		}
		answer, err := r.save(ctx, cb, "", line, gate, false)
		if err != nil {
			return nil, err
		}
		if answer == "saved" {
			r.log.InfoContext(ctx, "callback created", "callback", cb)
			return cb, nil
		}
		// The number is taken: Redis lost its count, but not the callback.
	}
	return nil, fmt.Errorf("registry: no free number for a callback of company %s after %d tries", company, tries)
}

// save seals and stores cb, with a line of the audit trail, and closes its gate
// unless gate is zero; when the answer is "saved" cb.Version is set.
func (r *Registry) save(ctx context.Context, cb *Callback, expected, line string, gate Gate, moved bool) (answer string, err error) {
	anchor, err := r.newAnchor(ctx)
	if err != nil {
		return "", err
	}
	sealed, err := r.keyset.sealCallback(cb, anchor)
	if err != nil {
		return "", err
	}
	closed := ""
	if gate.Status != "" {
		closed = gate.String()
	}
	keys := []string{
		VersionKey(cb.Company), changesKey(cb.Company), callbacksKey(cb.Company), RateKey(cb.Company, cb.ID), QuotaKey(cb.Company), AuditKey(cb.Company),
		HealthKey(cb.Company, cb.ID), anchorsKey(cb.Company), GateKey(cb.Company, cb.ID),
	}
	reply, err := save.Run(ctx, r.redis, keys, cb.ID, sealed, expected, cb.RateLimit.String(), DefaultCallbacks, line, cb.Destination.Host(), anchor, closed, moved).StringSlice()
	if err != nil {
		return "", fmt.Errorf("registry: store %v: %w", cb, err)
	}
	switch reply[0] {
	case "saved":
		if cb.Version, err = parseVersion(reply[1]); err != nil {
			return "", err
		}
	case "quota":
		return "", ReadQuota(QuotaCallbacks, cb.Company, reply)
	}
	return reply[0], nil
}

// Get returns a callback as it is in Redis, with its status, or ErrNotFound.
func (r *Registry) Get(ctx context.Context, company string, id int64) (*Callback, error) {
	return r.runOnOne(ctx, read, company, id, "read")
}

// runOnOne runs a script that returns one callback as read does.
func (r *Registry) runOnOne(ctx context.Context, script *redis.Script, company string, id int64, verb string, args ...any) (*Callback, error) {
	if err := checkCompany(company); err != nil {
		return nil, err
	}
	keys := []string{callbacksKey(company), changesKey(company), GateKey(company, id), RoomsKey(company), AuditKey(company), anchorsKey(company)}
	row, err := script.Run(ctx, r.redis, keys, append([]any{id}, args...)...).Slice()
	if err != nil {
		return nil, fmt.Errorf("registry: %s callback %d of company %s: %w", verb, id, company, err)
	}
	sealed, _ := row[0].(string)
	version, _ := row[1].(string)
	gate, _ := row[2].(string)
	anchor, _ := row[3].(string)
	if sealed == "" {
		return nil, ErrNotFound
	}
	cb, err := r.keyset.openCallback(company, id, []byte(sealed), anchor, version)
	if err != nil {
		return nil, err
	}
	if err := cb.setGate(gate); err != nil {
		return nil, err
	}
	if done, ok := map[string]string{"pause": "paused", "resume": "resumed", "verify": "challenged"}[verb]; ok {
		r.log.InfoContext(ctx, "callback "+done, "callback", cb, "status", cb.Status)
	}
	return cb, nil
}

// Patch changes a callback by a merge patch (RFC 7396) of its JSON. "***" leaves
// a secret as it is, and members that are not the client's to change may only
// repeat what is there. Of concurrent patches each sees the one before. It
// returns the callback as it then is, ErrNotFound if there is none, and for the
// patch the errors of Create.
func (r *Registry) Patch(ctx context.Context, company string, id int64, mergePatch []byte) (*Callback, error) {
	types, err := r.types.Fresh(ctx)
	if err != nil {
		return nil, err
	}
	return r.update(ctx, company, id, func(cb *Callback) (*Callback, string, error) {
		next, err := applyPatch(types, r.checkURL, cb, mergePatch)
		if err != nil {
			return nil, "", err
		}
		line, err := callbackLine(ctx, r.keyset, "callback.update", cb, next)
		return next, line, err
	})
}

// RotateSecret gives a callback a new signing secret, which [Callback.WithSecret]
// shows. Until overlap has passed, from 0 to MaxOverlap, requests are signed with
// the secrets it had as well.
func (r *Registry) RotateSecret(ctx context.Context, company string, id int64, overlap time.Duration) (*Callback, error) {
	if overlap < 0 || overlap > MaxOverlap {
		return nil, invalid("body.overlap", "must be a duration from 0s to "+formatDuration(MaxOverlap), nil)
	}
	line := AuditLine(ctx, company, "callback.rotate_secret", CallbackObject(id), AuditChange{"secret", Masked, Masked}, AuditChange{Field: "overlap", New: formatDuration(overlap)})
	return r.update(ctx, company, id, func(cb *Callback) (*Callback, string, error) {
		next := *cb
		at := now()
		next.Secrets = []SigningSecret{{Secret: payloads.NewSecret()}}
		for _, s := range cb.Secrets {
			if end := at.Add(overlap); s.ExpiresAt.IsZero() || end.Before(s.ExpiresAt) {
				s.ExpiresAt = end
			}
			if at.Before(s.ExpiresAt) {
				next.Secrets = append(next.Secrets, s)
			}
		}
		if len(next.Secrets) > maxSecrets {
			return nil, "", invalid("body.overlap", fmt.Sprintf("must be shorter: %d signing secrets would be live at once; with \"0s\" the earlier ones end now", len(next.Secrets)), nil)
		}
		return &next, line, nil
	})
}

// update applies change, which also tells the audit trail's line, to a callback
// until nobody else has changed it meanwhile.
func (r *Registry) update(ctx context.Context, company string, id int64, change func(*Callback) (*Callback, string, error)) (*Callback, error) {
	for range tries {
		cb, err := r.Get(ctx, company, id)
		if err != nil {
			return nil, err
		}
		next, line, err := change(cb)
		if err != nil {
			return nil, err
		}
		next.Version, next.UpdatedAt = cb.Version, cb.UpdatedAt
		next.Status, next.StatusAt, next.DisabledReason, next.UnverifiedReason = cb.Status, cb.StatusAt, cb.DisabledReason, cb.UnverifiedReason
		if reflect.DeepEqual(cb, next) {
			// The call before this one may have ended before the endpoint was challenged.
			cb.Moved = r.verify && cb.Status == Unverified && cb.UnverifiedReason == ""
			return cb, nil
		}
		next.UpdatedAt = now()
		var gate Gate
		moved := next.goesElsewhere(cb)
		if r.verify && moved {
			if gate, err = r.unverified(ctx, next); err != nil {
				return nil, err
			}
		}
		answer, err := r.save(ctx, next, strconv.FormatInt(cb.Version, 10), line, gate, moved)
		switch {
		case err != nil:
			return nil, err
		case answer == "saved":
			r.log.InfoContext(ctx, "callback changed", "callback", next)
			return next, nil
		case answer == "gone":
			return nil, ErrNotFound
		}
	}
	return nil, fmt.Errorf("%w: callback %d of company %s", ErrBusy, id, company)
}

// Delete removes a callback, or returns ErrNotFound. No event accepted afterwards
// matches it; its gate says Deleted, and its room is put up to be cleared.
func (r *Registry) Delete(ctx context.Context, company string, id int64) error {
	if err := checkCompany(company); err != nil {
		return err
	}
	keys := []string{VersionKey(company), changesKey(company), callbacksKey(company), GateKey(company, id), RoomsKey(company), RateKey(company, id), AuditKey(company), anchorsKey(company)}
	gate := Gate{Status: Deleted, At: time.Now().UTC()} // to the nanosecond: it tells this call from others
	removed, err := remove.Run(ctx, r.redis, keys, id, gate.String(), AuditLine(ctx, company, "callback.delete", CallbackObject(id))).Int()
	if err != nil {
		return fmt.Errorf("registry: delete callback %d of company %s: %w", id, company, err)
	}
	if removed == 0 {
		return ErrNotFound
	}
	r.log.InfoContext(ctx, "callback deleted", "callback", slog.GroupValue(slog.String("company", company), slog.Int64("callback", id)))
	return nil
}

// Filter says which callbacks List returns.
type Filter struct {
	Type   string // exactly this callback_type; empty: any
	Status Status // empty: any
	Limit  int    // at most this many, 1 to MaxLimit; 0: DefaultLimit
	Cursor string // from the page before; empty: from the start
}

// List returns the callbacks of a company that f asks for, with their status, by
// ascending id. next is the cursor of the page that follows, empty on the last.
// It includes every registration that had returned before the call.
func (r *Registry) List(ctx context.Context, company string, f Filter) (page []*Callback, next string, err error) {
	if err := checkCompany(company); err != nil {
		return nil, "", err
	}
	after, err := f.check()
	if err != nil {
		return nil, "", err
	}
	snap, err := r.fresh(ctx, company, nil)
	if err != nil {
		return nil, "", err
	}
	candidates := snap.after(after, f.Type)
	for chunk := range slices.Chunk(candidates, gateChunk) {
		keys := make([]string, len(chunk))
		for i, cb := range chunk {
			keys[i] = GateKey(company, cb.ID)
		}
		gates, err := r.gates(ctx, company, keys)
		if err != nil {
			return nil, "", err
		}
		for i, cb := range chunk {
			shown := *cb // the snapshot's own has no status
			if err := shown.setGate(gates[i]); err != nil {
				return nil, "", err
			}
			if f.Status != "" && f.Status != shown.Status {
				continue
			}
			if len(page) == f.Limit {
				return page, encodeCursor(page[len(page)-1].ID), nil
			}
			page = append(page, &shown)
		}
	}
	return page, "", nil
}

// All returns all of a company's callbacks by ascending id, as they are now but for their status, which is not read: it is empty.
func (r *Registry) All(ctx context.Context, company string) ([]*Callback, error) {
	if err := checkCompany(company); err != nil {
		return nil, err
	}
	snap, err := r.fresh(ctx, company, nil)
	if err != nil {
		return nil, err
	}
	return snap.after(0, ""), nil
}

// CountStatuses adds the number of a company's callbacks, by status, to counts.
// It reads no more than their numbers and gates.
func (r *Registry) CountStatuses(ctx context.Context, company string, counts map[Status]int64) error {
	ids, err := r.redis.HKeys(ctx, callbacksKey(company)).Result()
	if err != nil {
		return fmt.Errorf("registry: count the callbacks of company %s: %w", company, err)
	}
	for chunk := range slices.Chunk(ids, gateChunk) {
		keys := make([]string, len(chunk))
		for i, id := range chunk {
			keys[i] = gatePrefix(company) + id
		}
		gates, err := r.gates(ctx, company, keys)
		if err != nil {
			return err
		}
		for _, stored := range gates {
			gate, err := ParseGate(stored)
			if err != nil {
				return err
			}
			if gate.Status != Deleted { // just now
				counts[gate.Status]++
			}
		}
	}
	return nil
}

// check fills in the defaults and returns the id that the cursor stands for.
func (f *Filter) check() (after int64, err error) {
	var fields []payloads.FieldError
	if f.Limit == 0 {
		f.Limit = DefaultLimit
	}
	if f.Limit < 1 || f.Limit > MaxLimit {
		fields = append(fields, payloads.FieldError{Location: "query.limit", Message: fmt.Sprintf("must be from 1 to %d", MaxLimit), Value: f.Limit})
	}
	if f.Status != "" && f.Status != Enabled && f.Status != Paused && f.Status != Disabled && f.Status != Unverified {
		fields = append(fields, payloads.FieldError{Location: "query.status", Message: "must be enabled, paused, disabled or unverified", Value: short(string(f.Status))})
	}
	if after, err = decodeCursor(f.Cursor); err != nil {
		fields = append(fields, payloads.FieldError{Location: "query.cursor", Message: "must be the next_cursor of the page before"})
	}
	if len(fields) > 0 {
		return 0, &payloads.InvalidError{Fields: fields}
	}
	return after, nil
}

// encodeCursor is opaque to clients, so that it can change.
func encodeCursor(id int64) string {
	return base64.RawURLEncoding.EncodeToString([]byte("after:" + strconv.FormatInt(id, 10)))
}

func decodeCursor(cursor string) (id int64, err error) {
	if cursor == "" {
		return 0, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return 0, err
	}
	if len(text) < len("after:") || string(text[:len("after:")]) != "after:" {
		return 0, errors.New("not a cursor")
	}
	return strconv.ParseInt(string(text[len("after:"):]), 10, 64)
}

func (r *Registry) gates(ctx context.Context, company string, keys []string) ([]string, error) {
	values, err := r.redis.MGet(ctx, keys...).Result()
	if err != nil {
		return nil, fmt.Errorf("registry: read the gates of company %s: %w", company, err)
	}
	gates := make([]string, len(values))
	for i, v := range values {
		gates[i], _ = v.(string)
	}
	return gates, nil
}

// newAnchor is for a row that is sealed now: empty while a process is alive that
// knows no anchors and could not open the row.
func (r *Registry) newAnchor(ctx context.Context) (string, error) {
	err := r.KnownEverywhere(ctx, "an anchored seal", announcedLevel)
	if _, old := errors.AsType[*OldProcessError](err); old {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return rand.Text(), nil
}

// KnownEverywhere returns an *OldProcessError while a process of the installation is alive whose level is below needs, the level that
// brought what is asked for. Other errors are Redis's. It asks Redis at most once a second; call it before anything new is written.
func (r *Registry) KnownEverywhere(ctx context.Context, what string, needs int) error {
	seen, err := r.presence.look(ctx, r.redis)
	if err != nil {
		return err
	}
	return seen.know(what, needs)
}
