package ledger

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Key names one of a company's keys. The braces make the company the hash tag: all its keys share a slot of a Redis Cluster,
// so a script may touch any of them.
func Key(company, name string) string { return "{" + company + "}:" + name }

// declared are the keys that a script on a company's keys declares, of which due is the first.
//
// While a Redis Cluster moves a slot, it runs a script by the keys that the script declares, on the node that has these, and the rest of the company may
// be on the other. So a script also declares a key that there never is. Then Redis answers TRYAGAIN on both nodes until the slot has moved: no script ever
// sees half a company.
func declared(rdb redis.UniversalClient, due string) []string {
	if _, ok := rdb.(*redis.ClusterClient); !ok {
		return []string{due}
	}
	return []string{due, due + ":whole"}
}

// EventKey is the key of an event's hash.
func EventKey(company, event string) string { return Key(company, "ev:"+event) }

// RecordField is the field of that hash that has a delivery's record.
func RecordField(callback int64) string { return "d" + strconv.FormatInt(callback, 10) }

// A Ref names a delivery: one event of one company on its way to one callback.
type Ref struct {
	Company  string
	Event    string
	Callback int64
}

// Member is the delivery's name in its company's sets. Event ids hold no slash, so the last one splits it.
func (r Ref) Member() string { return r.Event + "/" + strconv.FormatInt(r.Callback, 10) }

// ParseMember is the inverse of [Ref.Member].
func ParseMember(company, member string) (Ref, bool) {
	event, cb, ok := CutLast(member, '/')
	if !ok {
		return Ref{}, false
	}
	id, err := strconv.ParseInt(cb, 10, 64)
	return Ref{company, event, id}, err == nil
}

// CutLast is strings.Cut at the last sep.
func CutLast(s string, sep byte) (before, after string, found bool) {
	if i := strings.LastIndexByte(s, sep); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return "", s, false
}

// batchMark begins the name that a batch has where a delivery has its event's id. No event's id has it.
const batchMark = "~"

// IsBatch reports whether it names a batch: deliveries to one callback that travel in one request. To a lane, and to the steps of an attempt, a batch is a
// delivery like any other.
func (r Ref) IsBatch() bool { return strings.HasPrefix(r.Event, batchMark) }

const (
	// DeliveryPrefix begins each delivery's public id.
	DeliveryPrefix = "dlv_"
	companyTagSize = 6
)

// DeliveryID is the delivery's public id, and its webhook-id: dlv_ and base64url of callback id (uvarint), six bytes of the
// company's SHA-256, and event id. It can be read back, so no look-up key is kept; the company in it keeps ids apart at a receiver
// that serves several companies, whose event ids may be equal. Its alphabet has no full stop, which Standard Webhooks forbids in ids.
func (r Ref) DeliveryID() string {
	b := binary.AppendUvarint(make([]byte, 0, 16+len(r.Event)), uint64(r.Callback)) //nolint:gosec // ids count up from 1
	tag := companyTag(r.Company)
	b = append(append(b, tag[:]...), r.Event...)
	return DeliveryPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// ParseDeliveryID is the inverse of DeliveryID for a delivery of company. A batch has such an id for its tasks alone.
func ParseDeliveryID(company, id string) (Ref, bool) {
	text, ok := strings.CutPrefix(id, DeliveryPrefix)
	if !ok || len(text) > 256 {
		return Ref{}, false
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return Ref{}, false
	}
	cb, n := binary.Uvarint(b)
	if n <= 0 || cb > 1<<62 || len(b) <= n+companyTagSize {
		return Ref{}, false
	}
	r := Ref{company, string(b[n+companyTagSize:]), int64(cb)}
	return r, !r.IsBatch() && r.DeliveryID() == id
}

func companyTag(company string) [companyTagSize]byte {
	sum := sha256.Sum256([]byte(company))
	return [companyTagSize]byte(sum[:companyTagSize])
}
