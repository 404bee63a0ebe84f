package registry

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// A client certificate is filed in [certificatesKey] before the callback that has it is stored, and again afterwards. So there is none that is missing, and some
// are filed that no callback has any more: whoever reads the file asks the callback. What is filed never changes, so a late writer puts nothing wrong.

// A Filed is a client certificate that is filed, and may no longer be in use.
type Filed struct {
	Company  string
	Callback int64 // 0: it is the company's, for callbacks that have none
	NotAfter time.Time

	member string
}

// Is reports whether the certificate, which may be nil, is the one that was filed.
func (f Filed) Is(c *Certificate) bool {
	return c != nil && f.member == c.member(f.Company, f.Callback)
}

// member is how a certificate is filed. The names of companies have no slash.
func (c *Certificate) member(company string, callback int64) string {
	return company + "/" + strconv.FormatInt(callback, 10) + "/" + c.Fingerprint[:min(32, len(c.Fingerprint))]
}

// FileCertificate files a callback's client certificate by its end.
func (r *Registry) FileCertificate(ctx context.Context, company string, callback int64, c *Certificate) error {
	if err := r.redis.ZAdd(ctx, certificatesKey, redis.Z{Score: float64(c.NotAfter.UnixMilli()), Member: c.member(company, callback)}).Err(); err != nil {
		return fmt.Errorf("registry: file the client certificate of callback %d of company %s: %w", callback, company, err)
	}
	return nil
}

// FiledUntil returns client certificates that end at or before a time, those that end first first: so many at most, from a place on.
func (r *Registry) FiledUntil(ctx context.Context, until time.Time, from, most int) ([]Filed, error) {
	rows, err := r.redis.ZRangeByScoreWithScores(ctx, certificatesKey, &redis.ZRangeBy{
		Min: "-inf", Max: strconv.FormatInt(until.UnixMilli(), 10), Offset: int64(from), Count: int64(most),
	}).Result()
	if err != nil {
		return nil, fmt.Errorf("registry: list the client certificates that expire: %w", err)
	}
	all := make([]Filed, 0, len(rows))
	for _, row := range rows {
		f := Filed{NotAfter: time.UnixMilli(int64(row.Score)).UTC()}
		f.member, _ = row.Member.(string)
		company, rest, _ := strings.Cut(f.member, "/")
		id, _, _ := strings.Cut(rest, "/")
		f.Company = company
		if f.Callback, err = strconv.ParseInt(id, 10, 64); err != nil {
			f.Callback = -1 // which there is not
		}
		all = append(all, f)
	}
	return all, nil
}

// Unfile takes certificates out that are no longer in use.
func (r *Registry) Unfile(ctx context.Context, all ...Filed) error {
	members := make([]any, len(all))
	for i, f := range all {
		members[i] = f.member
	}
	return r.unfile(ctx, members...)
}

func (r *Registry) unfile(ctx context.Context, members ...any) error {
	if len(members) == 0 {
		return nil
	}
	if err := r.redis.ZRem(ctx, certificatesKey, members...).Err(); err != nil {
		return fmt.Errorf("registry: take client certificates out of the file: %w", err)
	}
	return nil
}

// certify files the client certificate that a callback is about to be stored with, if it has another one than before. before may be nil.
func (r *Registry) certify(ctx context.Context, cb, before *Callback) error {
	c := cb.Certificate()
	if c == nil || before != nil && sameCertificate(cb, before) {
		return nil
	}
	return r.FileCertificate(ctx, cb.Company, cb.ID, c)
}

// certified files it again once the callback is stored, for a reader may have taken it out meanwhile as one that nobody has, and takes the one from before out. If
// that fails, the callback is stored all the same: an attempt files it again, and readers take out what nobody has.
func (r *Registry) certified(ctx context.Context, cb, before *Callback) {
	if before != nil && sameCertificate(cb, before) {
		return
	}
	err := r.certify(ctx, cb, before)
	if before != nil {
		if c := before.Certificate(); c != nil && err == nil {
			err = r.unfile(ctx, c.member(cb.Company, cb.ID))
		}
	}
	if err != nil {
		r.log.WarnContext(ctx, "a client certificate was not filed again", "callback", cb, "error", err)
	}
}

func sameCertificate(a, b *Callback) bool {
	one, other := "", ""
	if a.TLS != nil {
		one = a.TLS.ClientCertificate
	}
	if b.TLS != nil {
		other = b.TLS.ClientCertificate
	}
	return one == other
}

// unfilePage is how many certificates are looked at at once where those of a company are looked for.
const unfilePage = 1000

// unfileAll takes a company's certificates out.
func (r *Registry) unfileAll(ctx context.Context, company string) error {
	for from, more := uint64(0), true; more; more = from != 0 {
		pairs, next, err := r.redis.ZScan(ctx, certificatesKey, from, company+"/*", unfilePage).Result()
		if err != nil {
			return fmt.Errorf("registry: look for the client certificates of company %s: %w", company, err)
		}
		var members []any
		for i := 0; i < len(pairs); i += 2 {
			members = append(members, pairs[i])
		}
		if err := r.unfile(ctx, members...); err != nil {
			return err
		}
		from = next
	}
	return nil
}
