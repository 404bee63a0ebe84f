package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/redis/go-redis/v9"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// ErrSealed says that something in Redis does not open with the keyset at hand:
// it was sealed with another keyset, moved or damaged.
var ErrSealed = errors.New("registry: stored data does not open with this keyset")

// Keyset seals what the registry stores. It is a Tink keyset of AEAD keys: the
// primary key seals, every key opens. To replace a key, first give all processes
// a keyset that also holds the new key (WithKey), then one in which it is primary
// (WithPrimary). Then Reseal moves the callbacks to it, and at last ForgetKey and
// Without retire the old one.
//
// Whoever has the keyset and the Redis can read all secrets; without the keyset
// nobody can, so it belongs in the backup, apart from Redis.
type Keyset struct {
	handle *keyset.Handle
	aead   tink.AEAD
}

// NewKeyset returns a keyset with one fresh XChaCha20-Poly1305 key.
func NewKeyset() (*Keyset, error) {
	handle, err := keyset.NewHandle(aead.XChaCha20Poly1305KeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("registry: make a keyset: %w", err)
	}
	return fromHandle(handle)
}

// ParseKeyset reads a keyset in Tink's cleartext JSON format, as Marshal and
// Tink's own tool write it. Its errors do not repeat the input.
func ParseKeyset(data []byte) (*Keyset, error) {
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(data)))
	if err != nil {
		// Not wrapped: a parser may quote what it could not read.
		return nil, errors.New("registry: this is no keyset: a Tink AEAD keyset in cleartext JSON is expected")
	}
	return fromHandle(handle)
}

func fromHandle(handle *keyset.Handle) (*Keyset, error) {
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, errors.New("registry: the keyset holds keys of another kind: it must hold AEAD keys only, such as XCHACHA20_POLY1305 or AES256_GCM")
	}
	return &Keyset{handle: handle, aead: primitive}, nil
}

// Marshal writes the keyset as ParseKeyset reads it. The result is secret.
func (k *Keyset) Marshal() ([]byte, error) {
	var buf bytes.Buffer
	if err := insecurecleartextkeyset.Write(k.handle, keyset.NewJSONWriter(&buf)); err != nil {
		return nil, fmt.Errorf("registry: write the keyset: %w", err)
	}
	return buf.Bytes(), nil
}

// String says which key is primary, and nothing secret.
func (k *Keyset) String() string {
	return fmt.Sprintf("keyset of %d keys, primary %s", k.handle.Len(), k.PrimaryID())
}

// LogValue says which key is primary, and nothing secret.
func (k *Keyset) LogValue() slog.Value { return slog.StringValue(k.String()) }

// seal encrypts plain for one place: what is sealed for one does not open in another.
func (k *Keyset) seal(plain []byte, place string) ([]byte, error) {
	sealed, err := k.aead.Encrypt(plain, []byte(place))
	if err != nil {
		return nil, fmt.Errorf("registry: seal: %w", err)
	}
	return sealed, nil
}

func (k *Keyset) open(sealed []byte, place string) ([]byte, error) {
	plain, err := k.aead.Decrypt(sealed, []byte(place))
	if err != nil {
		return nil, ErrSealed
	}
	return plain, nil
}

// LoadOrCreateKeyset reads the keyset in the file at path, or creates that file,
// for its owner only, with a fresh keyset; created tells which. Processes that
// race for the same path agree on one keyset: the file appears whole or not at
// all, and the first one stays. The directory must exist.
func LoadOrCreateKeyset(path string) (k *Keyset, created bool, err error) {
	k, err = loadKeyset(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, false, err
	}
	if k, err = NewKeyset(); err != nil {
		return nil, false, err
	}
	data, err := k.Marshal()
	if err != nil {
		return nil, false, err
	}
	switch err := writeOnce(path, data); {
	case errors.Is(err, fs.ErrExist):
		k, err = loadKeyset(path) // another process was first
		return k, false, err
	case err != nil:
		return nil, false, fmt.Errorf("registry: create the keyset: %w", err)
	}
	return k, true, nil
}

func loadKeyset(path string) (*Keyset, error) {
	data, err := os.ReadFile(path) //nolint:gosec // the operator's own choice of a file
	if err != nil {
		return nil, fmt.Errorf("registry: read the keyset: %w", err)
	}
	k, err := ParseKeyset(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// writeOnce creates the file at path with data on disk, or returns fs.ErrExist
// and leaves what is there.
func writeOnce(path string, data []byte) (err error) {
	temp, err := os.CreateTemp(filepath.Dir(path), ".keyset-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(temp.Name())) }()
	_, err = temp.Write(data)
	if err = errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err := os.Link(temp.Name(), path); err != nil { // unlike a rename it never replaces
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

const (
	keysetProof = "opened with the keyset this Redis was written with"
)

// claimKeyset remembers the first keyset and returns what is remembered.
var claimKeyset = redis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 0 then
	redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
return redis.call('HGETALL', KEYS[1])`)

// Sealed reports whether this Redis was written with a keyset.
func Sealed(ctx context.Context, rdb redis.UniversalClient) (bool, error) {
	n, err := rdb.HLen(ctx, keysetKey).Result()
	if err != nil {
		return false, fmt.Errorf("registry: look for the keyset: %w", err)
	}
	return n > 0, nil
}

// CheckKeyset makes sure that the keyset opens what this Redis holds: call it
// before the first use. The first keyset that meets an empty Redis is remembered,
// with every later primary key; one that lacks a remembered key is refused with
// an error that is ErrSealed and says what to do.
func (r *Registry) CheckKeyset(ctx context.Context) error {
	primary := r.keyset.PrimaryID()
	proof, err := r.keyset.seal([]byte(keysetProof), keysetKey+"/"+primary)
	if err != nil {
		return err
	}
	flat, err := claimKeyset.Run(ctx, r.redis, []string{keysetKey}, primary, proof).StringSlice()
	if err != nil {
		return fmt.Errorf("registry: check the keyset: %w", err)
	}
	var missing []string
	for pair := range slices.Chunk(flat, 2) {
		if plain, err := r.keyset.open([]byte(pair[1]), keysetKey+"/"+pair[0]); err != nil || string(plain) != keysetProof {
			missing = append(missing, pair[0])
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return fmt.Errorf("%w: this Redis holds registrations sealed with key %v, and the keyset given has %v as its primary key and cannot open them; "+
			"start with the keyset of the processes that wrote them, or with one to which the missing key was added "+
			"(if nothing sealed with a key is left, remove its field from the hash %s)", ErrSealed, missing, primary, keysetKey)
	}
	if err := r.redis.HSetNX(ctx, keysetKey, primary, proof).Err(); err != nil {
		return fmt.Errorf("registry: remember the keyset: %w", err)
	}
	return nil
}
