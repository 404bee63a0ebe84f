package dispatcher

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"strings"
)

// keyOf names one of a company's keys. The braces make the company the hash tag: all its keys share a slot of a Redis Cluster,
// so a script may touch any of them.
func keyOf(company, name string) string { return "{" + company + "}:" + name }

func eventKey(company, event string) string { return keyOf(company, "ev:"+event) }

func recordField(callback int64) string { return "d" + strconv.FormatInt(callback, 10) }

// A ref names a delivery: one event of one company on its way to one callback.
type ref struct {
	company  string
	event    string
	callback int64
}

// member is the delivery's name in its company's sets. Event ids hold no slash, so the last one splits it.
func (r ref) member() string { return r.event + "/" + strconv.FormatInt(r.callback, 10) }

func parseMember(company, member string) (ref, bool) {
	event, cb, ok := cutLast(member, '/')
	if !ok {
		return ref{}, false
	}
	id, err := strconv.ParseInt(cb, 10, 64)
	return ref{company, event, id}, err == nil
}

func cutLast(s string, sep byte) (before, after string, found bool) {
	if i := strings.LastIndexByte(s, sep); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return "", s, false
}

const (
	deliveryPrefix = "dlv_"
	companyTagSize = 6
)

// deliveryID is the delivery's public id, and its webhook-id: dlv_ and base64url of callback id (uvarint), six bytes of the
// company's SHA-256, and event id. It can be read back, so no look-up key is kept; the company in it keeps ids apart at a receiver
// that serves several companies, whose event ids may be equal. Its alphabet has no full stop, which Standard Webhooks forbids in ids.
func (r ref) deliveryID() string {
	b := binary.AppendUvarint(make([]byte, 0, 16+len(r.event)), uint64(r.callback)) //nolint:gosec // ids count up from 1
	tag := companyTag(r.company)
	b = append(append(b, tag[:]...), r.event...)
	return deliveryPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// parseDeliveryID is the inverse of deliveryID for a delivery of company.
func parseDeliveryID(company, id string) (ref, bool) {
	text, ok := strings.CutPrefix(id, deliveryPrefix)
	if !ok || len(text) > 256 {
		return ref{}, false
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return ref{}, false
	}
	cb, n := binary.Uvarint(b)
	if n <= 0 || cb > 1<<62 || len(b) <= n+companyTagSize {
		return ref{}, false
	}
	r := ref{company, string(b[n+companyTagSize:]), int64(cb)}
	return r, r.deliveryID() == id
}

func companyTag(company string) [companyTagSize]byte {
	sum := sha256.Sum256([]byte(company))
	return [companyTagSize]byte(sum[:companyTagSize])
}
