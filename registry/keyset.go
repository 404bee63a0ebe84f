package registry

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strconv"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
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
// The keyset and the Redis together tell all secrets. Without the keyset nobody can
// read them, so it belongs in the backup, apart from Redis.
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

// Without returns the keyset without that key. ErrNotFound: it has no such key. It refuses the primary key. It also refuses a key whose
// ciphertexts do not bear its id, which has Tink's output prefix RAW: nobody can tell what such a key sealed.
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

// seal encrypts plain for one place. It does not open in another.
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

// sealedBy is the id of the key that sealed this, which Tink puts in front of a ciphertext: 0x01, then the id, big endian
// (https://developers.google.com/tink/wire-format). Empty: it does not say.
func sealedBy(sealed []byte) string {
	if len(sealed) < 5 || sealed[0] != 1 {
		return ""
	}
	return keyID(binary.BigEndian.Uint32(sealed[1:5]))
}
