package registry

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/ringback/ringback/registry/once"
)

// save stores callback ARGV[1] as ARGV[2]. No two seals are the same: if ARGV[2] is
// there already, an earlier run's answer was lost. The others are:
//
//   - ARGV[3] is the version that the callback must still have, empty for a new one.
//   - ARGV[4] is its rate limit, or empty.
//   - ARGV[5] is how many callbacks a company without a quota of its own may have.
//   - ARGV[6] is the line of the audit trail.
//   - ARGV[7] is the name of its host.
//   - ARGV[8] is the anchor of its seal, or empty.
//   - ARGV[9] is the gate of a callback whose endpoint has yet to prove itself, or
//     whose partner fetches, or empty to leave the gate alone. The gate from before
//     closes it afterwards.
//   - ARGV[10] is 1 if it goes elsewhere than before: failures at the old place say
//     nothing about the new one.
//   - ARGV[11] is how its deliveries travel, empty if one by one.
//   - ARGV[12] is how many callbacks of the company may have an ordering, empty if this one has none.
var save = once.New("save", AuditLua+AwakeLua+awakeHere+`
local now = redis.call('HGET', KEYS[3], ARGV[1])
local at = redis.call('ZSCORE', KEYS[2], ARGV[1])
if now == ARGV[2] then return {'saved', at} end
if ARGV[12] ~= '' and redis.call('SISMEMBER', KEYS[11], ARGV[1]) == 0 and redis.call('SCARD', KEYS[11]) >= tonumber(ARGV[12]) then return {'ordered'} end
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
if ARGV[7] ~= '' then redis.call('HSET', KEYS[7], 'hn', ARGV[7]) end
if ARGV[11] == '' then
	redis.call('HDEL', KEYS[7], 'by')
else
	redis.call('HSET', KEYS[7], 'by', ARGV[11])
	redis.call('SET', KEYS[10], 1)
end
if ARGV[12] == '' then redis.call('SREM', KEYS[11], ARGV[1]) else redis.call('SADD', KEYS[11], ARGV[1]) end
if ARGV[10] == '1' then redis.call('HDEL', KEYS[7], 'fs', 'fl', 'fo', 'fn', 'w') end
if ARGV[8] == '' then redis.call('HDEL', KEYS[8], ARGV[1]) else redis.call('HSET', KEYS[8], ARGV[1], ARGV[8]) end
`+nextVersion+`
local changes
if ARGV[9] ~= '' then
	local new, old = cjson.decode(ARGV[9]), redis.call('GET', KEYS[9])
	if old then
		old = cjson.decode(old)
		if old.status == 'unverified' then new['then'] = old['then'] else new['then'] = old end
	end
	redis.call('SET', KEYS[9], cjson.encode(new))
	if new.status == 'unverified' and (not old or old.status ~= 'unverified') then
		changes = {{field = 'status', new = 'unverified'}}
		if at then changes[1].old = old and old.status or 'enabled' end
	end
end
audit(KEYS[6], ARGV[6], changes)
return {'saved', v}`, `reply[1] == 'saved'`)

// save seals and stores cb, with a line of the audit trail. Unless gate is zero, it
// closes the gate of cb. If the answer is "saved", cb.Version is set.
func (r *Registry) save(ctx context.Context, cb *Callback, expected, line string, gate Gate, moved bool) (answer string, err error) {
	anchor, err := r.newAnchor(ctx)
	if err != nil {
		return "", err
	}
	sealed, err := r.keyset.sealCallback(cb, anchor)
	if err != nil {
		return "", err
	}
	if err := noteSave(ctx, cb, sealed, anchor); err != nil {
		return "", err
	}
	closed := ""
	if gate.Status != "" {
		closed = gate.String()
	}
	keys := []string{
		VersionKey(cb.Company), changesKey(cb.Company), callbacksKey(cb.Company), RateKey(cb.Company, cb.ID), QuotaKey(cb.Company), AuditKey(cb.Company),
		HealthKey(cb.Company, cb.ID), anchorsKey(cb.Company), GateKey(cb.Company, cb.ID),
		SpecialKey(cb.Company), orderedKey(cb.Company),
	}
	ordered := ""
	if cb.Ordering != nil {
		ordered = strconv.Itoa(MaxOrdered)
	}
	reply, err := r.whileAwake(ctx, save, cb.Company, keys, cb.ID, sealed, expected, cb.RateLimit.String(), DefaultCallbacks, line, cb.Destination.Host(), anchor, closed, moved, cmp.Or(cb.Batch.String(), cb.Ordering.String()), ordered).StringSlice()
	if err != nil {
		return "", fmt.Errorf("registry: store %v: %w", cb, err)
	}
	switch reply[0] {
	case "saved":
		if cb.Version, err = parseVersion(reply[1]); err != nil {
			return "", err
		}
	case "ordered":
		return "", errTooManyOrdered
	case "quota":
		return "", ReadQuota(QuotaCallbacks, cb.Company, reply)
	}
	return reply[0], nil
}

// newAnchor is an anchor for a row that is sealed now. While a process is alive that
// knows no anchors, and could not open the row, it is empty.
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

// noteSaved is the note of a callback that is saved.
const noteSaved = "saved"

// savedNote is a callback as it is noted: its row, and what is not in that.
type savedNote struct {
	ID               int64
	Row              []byte
	Anchor           string
	Status           Status
	StatusAt         time.Time
	DisabledReason   string
	UnverifiedReason string
	SecretGiven      bool
	Moved            bool
}

// noteSave notes a callback that is about to be saved.
func noteSave(ctx context.Context, cb *Callback, row []byte, anchor string) error {
	return once.Note(ctx, noteSaved, savedNote{
		cb.ID, row, anchor, cb.Status, cb.StatusAt, cb.DisabledReason, cb.UnverifiedReason, cb.SecretGiven, cb.Moved,
	})
}

// savedBefore is the callback that a request saved that is repeated, as it left it; nil if it is no such repeat.
func (r *Registry) savedBefore(ctx context.Context, company string) (*Callback, error) {
	var n savedNote
	if found, err := once.Noted(ctx, noteSaved, &n); err != nil || !found {
		return nil, err
	}
	reply, err := save.Run(ctx, r.redis, nil).StringSlice() // which says what it said then
	if err != nil {
		return nil, err
	}
	if len(reply) != 2 {
		return nil, errors.New("registry: what was said of a saved callback is not readable")
	}
	cb, err := r.keyset.openCallback(company, n.ID, n.Row, n.Anchor, reply[1])
	if err != nil {
		return nil, err
	}
	cb.Status, cb.StatusAt, cb.DisabledReason, cb.UnverifiedReason, cb.SecretGiven, cb.Moved = n.Status, n.StatusAt, n.DisabledReason, n.UnverifiedReason, n.SecretGiven, n.Moved
	return cb, nil
}
