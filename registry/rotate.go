package registry

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
)

// resealChunk is how many rows are read and sealed anew at a time.
const resealChunk = 100

// KeyIDs are the public ids of the keyset's keys, in the order of the file.
func (k *Keyset) KeyIDs() []string {
	var ids []string
	for _, info := range k.handle.KeysetInfo().GetKeyInfo() {
		ids = append(ids, keyID(info.GetKeyId()))
	}
	return ids
}

// PrimaryID is the public id of the key that seals.
func (k *Keyset) PrimaryID() string { return keyID(k.handle.KeysetInfo().GetPrimaryKeyId()) }

func keyID(id uint32) string { return strconv.FormatUint(uint64(id), 10) }

// WithKey returns the keyset with a fresh XChaCha20-Poly1305 key more, which is not primary, and that key's id.
func (k *Keyset) WithKey() (next *Keyset, id string, err error) {
	next, err = k.change(func(m *keyset.Manager) error {
		added, err := m.Add(aead.XChaCha20Poly1305KeyTemplate())
		id = keyID(added)
		return err
	})
	return next, id, err
}

// WithPrimary returns the keyset with that key as the one that seals. ErrNotFound: it has no such key.
func (k *Keyset) WithPrimary(id string) (*Keyset, error) {
	found, err := k.find(id)
	if err != nil {
		return nil, err
	}
	return k.change(func(m *keyset.Manager) error { return m.SetPrimary(found.GetKeyId()) })
}

// Without returns the keyset without that key. ErrNotFound: it has no such key. It refuses the primary key, and a key whose
// ciphertexts do not bear its id (Tink's output prefix RAW): of it nobody can tell what it sealed.
func (k *Keyset) Without(id string) (*Keyset, error) {
	found, err := k.find(id)
	switch {
	case err != nil:
		return nil, err
	case id == k.PrimaryID():
		return nil, fmt.Errorf("registry: key %s is the primary key, which seals: promote another one first", id)
	case found.GetOutputPrefixType() != tinkpb.OutputPrefixType_TINK:
		return nil, fmt.Errorf("registry: what key %s sealed does not bear its id (its output prefix is not TINK), so nobody can tell what still needs it: leave it in the keyset", id)
	}
	return k.change(func(m *keyset.Manager) error { return m.Delete(found.GetKeyId()) })
}

func (k *Keyset) find(id string) (*tinkpb.KeysetInfo_KeyInfo, error) {
	for _, info := range k.handle.KeysetInfo().GetKeyInfo() {
		if keyID(info.GetKeyId()) == id {
			return info, nil
		}
	}
	return nil, fmt.Errorf("%w: the keyset has no key %q", ErrNotFound, id)
}

func (k *Keyset) change(apply func(*keyset.Manager) error) (*Keyset, error) {
	m := keyset.NewManagerFromHandle(k.handle)
	if err := apply(m); err != nil {
		return nil, fmt.Errorf("registry: change the keyset: %w", err)
	}
	handle, err := m.Handle()
	if err != nil {
		return nil, fmt.Errorf("registry: change the keyset: %w", err)
	}
	return fromHandle(handle)
}

// UpdateKeyset replaces the keyset in the file at path by what change makes of it. The file changes at once and whole, and keeps its mode
// and its owner. Of calls that race each sees what the one before wrote. If change fails the file stays as it is.
func UpdateKeyset(path string, change func(*Keyset) (*Keyset, error)) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("registry: read the keyset: %w", err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("registry: replace the keyset: %w", err)
	}
	defer func() { _ = dir.Close() }() // unlocks it
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("registry: lock the keyset's folder: %w", err)
	}
	k, err := loadKeyset(path)
	if err != nil {
		return err
	}
	next, err := change(k)
	if err != nil {
		return err
	}
	data, err := next.Marshal()
	if err != nil {
		return err
	}
	if err := replaceFile(path, data); err != nil {
		return fmt.Errorf("registry: replace the keyset: %w", err)
	}
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("registry: replace the keyset: %w", err)
	}
	return nil
}

// replaceFile puts data, on disk, in the place of the file at path.
func replaceFile(path string, data []byte) (err error) {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".keyset-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temp.Name()))
		}
	}()
	_, err = temp.Write(data)
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && err == nil && int(owner.Uid) != os.Geteuid() {
		err = temp.Chown(int(owner.Uid), int(owner.Gid)) // root changes a file that a service reads
	}
	if err = errors.Join(err, temp.Chmod(info.Mode().Perm()), temp.Sync(), temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}

// sealedBy is the id of the key that sealed this, which Tink puts in front of a ciphertext: 0x01, then the id, big endian
// (https://developers.google.com/tink/wire-format). Empty: it does not say.
func sealedBy(sealed []byte) string {
	if len(sealed) < 5 || sealed[0] != 1 {
		return ""
	}
	return keyID(binary.BigEndian.Uint32(sealed[1:5]))
}

// Seals says how much in Redis is sealed with one key.
type Seals struct {
	Callbacks  int
	AuditLines int       // none that is older than AuditKept
	LastLine   time.Time // of the newest of them
}

// Seals counts what is sealed in Redis by the ids of the keys, without opening it. The empty id has what does not say.
func (r *Registry) Seals(ctx context.Context) (map[string]Seals, error) {
	companies, err := r.Companies(ctx)
	if err != nil {
		return nil, err
	}
	at, err := r.redis.Time(ctx).Result()
	if err != nil {
		return nil, fmt.Errorf("registry: ask for the time: %w", err)
	}
	seals := map[string]Seals{}
	for _, company := range companies {
		if err := r.rows(ctx, company, func(rows []row) error {
			for _, row := range rows {
				s := seals[sealedBy(row.sealed)]
				s.Callbacks++
				seals[sealedBy(row.sealed)] = s
			}
			return nil
		}); err != nil {
			return nil, err
		}
		if err := r.countLines(ctx, company, at.Add(-AuditKept), seals); err != nil {
			return nil, err
		}
	}
	return seals, nil
}

// countLines counts the sealed lines of a company's audit trail.
func (r *Registry) countLines(ctx context.Context, company string, since time.Time, seals map[string]Seals) error {
	for from := strconv.FormatInt(since.UnixMilli(), 10); ; {
		page, err := r.redis.XRangeN(ctx, AuditKey(company), from, "+", trailPage).Result()
		if err != nil {
			return fmt.Errorf("registry: read the audit trail of company %s: %w", company, err)
		}
		for _, m := range page {
			from = "(" + m.ID
			var line storedLine
			text, _ := m.Values["l"].(string)
			if json.Unmarshal([]byte(text), &line) != nil || len(line.Sealed) == 0 {
				continue
			}
			s := seals[sealedBy(line.Sealed)]
			s.AuditLines++
			if p, ok := parsePlace(m.ID, ""); ok && time.UnixMilli(p.ms).After(s.LastLine) {
				s.LastLine = time.UnixMilli(p.ms).UTC()
			}
			seals[sealedBy(line.Sealed)] = s
		}
		if len(page) < trailPage {
			return nil
		}
	}
}

// A row is a callback as it stands in Redis.
type row struct {
	id     int64
	sealed []byte
	anchor string // of its seal; empty: it has none
}

// rows gives a company's callbacks to visit, some at a time.
func (r *Registry) rows(ctx context.Context, company string, visit func([]row) error) error {
	ids, err := r.IDs(ctx, company, false)
	if err != nil {
		return err
	}
	slices.Sort(ids)
	for chunk := range slices.Chunk(ids, resealChunk) {
		fields := make([]string, len(chunk))
		for i, id := range chunk {
			fields[i] = strconv.FormatInt(id, 10)
		}
		var values, anchors *redis.SliceCmd
		if _, err := r.redis.TxPipelined(ctx, func(p redis.Pipeliner) error { // at one moment
			values, anchors = p.HMGet(ctx, callbacksKey(company), fields...), p.HMGet(ctx, anchorsKey(company), fields...)
			return nil
		}); err != nil {
			return fmt.Errorf("registry: read the callbacks of company %s: %w", company, err)
		}
		var there []row
		for i, value := range values.Val() {
			if text, ok := value.(string); ok { // else it was deleted meanwhile
				anchor, _ := anchors.Val()[i].(string)
				there = append(there, row{chunk[i], []byte(text), anchor})
			}
		}
		if err := visit(there); err != nil {
			return err
		}
	}
	return nil
}

// Resealed says how far Reseal is.
type Resealed struct {
	Companies int // done
	Of        int // companies there are
	Callbacks int // sealed with the primary key now
	Already   int // that were before
	Broken    int // that do not open with the keyset, and stay as they are
}

// replaceSeal puts ARGV[i+2], with anchor ARGV[i+3] or none, in the place of ARGV[i+1] for each callback ARGV[i] that nobody has changed
// since. It returns how many were replaced. What no two seals share was put there by an earlier run whose answer was lost.
var replaceSeal = redis.NewScript(`
local n = 0
for i = 1, #ARGV, 4 do
	local now = redis.call('HGET', KEYS[1], ARGV[i])
	if now == ARGV[i + 1] then
		redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
		if ARGV[i + 3] == '' then redis.call('HDEL', KEYS[2], ARGV[i]) else redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 3]) end
		n = n + 1
	elseif now == ARGV[i + 2] then
		n = n + 1
	end
end
return n`)

// Reseal seals every callback with the keyset's primary key that is sealed with another one, or was sealed by a process of level 1 and is
// bound to its place only. Versions and times of the callbacks stay as
// they are, and a change that comes at the same time wins. What was done stays done if it ends early: the next call goes on. tell hears
// after each company how far it is.
//
// It refuses until a process has started with this primary key, and while a live one announces a keyset without it ([Process.Keys]), for
// those that do not have it could not read their callbacks any more. An error
// that is ErrSealed says that callbacks do not open with the keyset; all others are done then. Lines of the audit trail stay as they are:
// a stream's entries do not change.
func (r *Registry) Reseal(ctx context.Context, tell func(Resealed)) (done Resealed, err error) {
	if err := r.inUse(ctx); err != nil {
		return done, err
	}
	companies, err := r.Companies(ctx)
	if err != nil {
		return done, err
	}
	done.Of = len(companies)
	var broken error
	for _, company := range companies {
		if err := r.resealCompany(ctx, company, &done, &broken); err != nil {
			return done, err
		}
		done.Companies++
		tell(done)
	}
	if done.Callbacks > 0 {
		line := AuditLine(ctx, "", "keyset.reseal", keysetObject(r.keyset.PrimaryID()), AuditChange{Field: "callbacks", New: done.Callbacks})
		if err := WriteAudit(ctx, r.redis, AuditKeyOfAll, line); err != nil {
			return done, err
		}
	}
	return done, broken
}

func keysetObject(id string) string { return "keyset/" + id }

// inUse refuses a primary key that no process has started with, or that a live process lacks.
func (r *Registry) inUse(ctx context.Context) error {
	primary := r.keyset.PrimaryID()
	known, err := r.redis.HExists(ctx, keysetKey, primary).Result()
	switch {
	case err != nil:
		return fmt.Errorf("registry: check the keyset: %w", err)
	case !known:
		return fmt.Errorf("registry: no process has started with key %s as its primary key yet: give all processes this keyset, restart them, and try again", primary)
	}
	announced, _, err := readAnnounced(ctx, r.redis)
	if err != nil {
		return err
	}
	for _, p := range announced {
		if p.Keys != nil && !slices.Contains(p.Keys, primary) {
			return fmt.Errorf("registry: a process does not have key %s and could not read what is sealed with it: %s; give it this keyset, restart it, and try again", primary, p)
		}
	}
	return nil
}

// resealCompany goes over a company's callbacks until nobody has changed one under it.
func (r *Registry) resealCompany(ctx context.Context, company string, done *Resealed, broken *error) error {
	for pass := range tries {
		var got Resealed
		tried := 0
		if err := r.rows(ctx, company, func(rows []row) error {
			asked, err := r.resealRows(ctx, company, rows, &got, broken)
			tried += asked
			return err
		}); err != nil {
			return err
		}
		done.Callbacks += got.Callbacks
		if pass == 0 { // what the first one did is no news to the next
			done.Already += got.Already
			done.Broken += got.Broken
		}
		if tried == got.Callbacks {
			return nil
		}
	}
	return fmt.Errorf("%w: the callbacks of company %s", ErrBusy, company)
}

// resealRows returns how many of the rows it tried to replace.
func (r *Registry) resealRows(ctx context.Context, company string, rows []row, got *Resealed, broken *error) (tried int, err error) {
	var args []any
	for _, row := range rows {
		anchor, err := r.newAnchor(ctx)
		if err != nil {
			return 0, err
		}
		if sealedBy(row.sealed) == r.keyset.PrimaryID() && (row.anchor != "" || anchor == "") {
			got.Already++
			continue
		}
		plain, err := r.openRow(company, row.id, row.sealed, row.anchor)
		if err != nil {
			got.Broken++
			if *broken == nil {
				*broken = err
			}
			continue
		}
		sealed, err := r.keyset.seal(plain, place(company, row.id, anchor))
		if err != nil {
			return 0, err
		}
		args = append(args, row.id, row.sealed, sealed, anchor)
		tried++
	}
	if tried == 0 {
		return 0, nil
	}
	replaced, err := replaceSeal.Run(ctx, r.redis, []string{callbacksKey(company), anchorsKey(company)}, args...).Int()
	if err != nil {
		return 0, fmt.Errorf("registry: seal the callbacks of company %s anew: %w", company, err)
	}
	got.Callbacks += replaced
	return tried, nil
}

// StillSealedError says that a key cannot be retired, because things in Redis are sealed with it.
type StillSealedError struct {
	ID string
	Seals
}

func (e *StillSealedError) Error() string {
	if e.Callbacks > 0 {
		return fmt.Sprintf("registry: %d callbacks are still sealed with key %s, or do not say with which: reseal them first", e.Callbacks, e.ID)
	}
	return fmt.Sprintf("registry: %d lines of the audit trail are sealed with key %s, or do not say with which, and are kept until %s: retire it after that",
		e.AuditLines, e.ID, e.Until().Format(time.RFC3339))
}

// Until is when the last line of the audit trail that is sealed with the key is too old to be kept.
func (e *StillSealedError) Until() time.Time { return e.LastLine.Add(AuditKept) }

// ForgetKey makes Redis forget a key that nothing needs any more, so that processes start without it; take it out of the keyset only then.
// While something is sealed with it there is a *StillSealedError, and while no process has started with the keyset's primary key an error
// that says so. The keyset's own primary key is refused.
func (r *Registry) ForgetKey(ctx context.Context, id string) error {
	if _, err := r.keyset.Without(id); err != nil {
		return err
	}
	if err := r.inUse(ctx); err != nil {
		return err
	}
	seals, err := r.Seals(ctx)
	if err != nil {
		return err
	}
	left, unsaid := seals[id], seals[""]
	left.Callbacks += unsaid.Callbacks
	left.AuditLines += unsaid.AuditLines
	if unsaid.LastLine.After(left.LastLine) {
		left.LastLine = unsaid.LastLine
	}
	if left.Callbacks+left.AuditLines > 0 {
		return &StillSealedError{id, left}
	}
	if err := r.redis.HDel(ctx, keysetKey, id).Err(); err != nil {
		return fmt.Errorf("registry: forget key %s: %w", id, err)
	}
	return WriteAudit(ctx, r.redis, AuditKeyOfAll, AuditLine(ctx, "", "keyset.retire", keysetObject(id)))
}
