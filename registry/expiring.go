package registry

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// A client certificate is filed in [certificatesKey] before it is stored with its callback or company, and again afterwards. Whoever takes one out looks afterwards
// whether it is in use, and files it again if so. So none that is in use is missing, and some are filed that nobody has any more: whoever reads the file
// asks the callback. What is filed never changes, so a late writer puts nothing wrong. If a process is killed between the two steps, the next attempt under the
// certificate files it.

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
	return company + "/" + strconv.FormatInt(callback, 10) + "/" + c.Short()
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

// Unfile takes certificates out that are no longer in use. One that is again by now it files once more.
func (r *Registry) Unfile(ctx context.Context, all ...Filed) error {
	members := make([]any, len(all))
	for i, f := range all {
		members[i] = f.member
	}
	failed := []error{r.unfile(ctx, members...)}
	for _, f := range all {
		_, c, err := r.InUse(ctx, f)
		if c != nil {
			err = r.FileCertificate(ctx, f.Company, f.Callback, c)
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
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

// InUse returns the certificate that was filed, if its callback, or its company, has it still, and else nil. cb is the callback; if the certificate is the
// company's, it has no more than a company.
func (r *Registry) InUse(ctx context.Context, f Filed) (cb *Callback, c *Certificate, err error) {
	if f.Callback == 0 {
		cb = &Callback{Company: f.Company, Status: Enabled}
		cb.TLS, err = r.CompanyTLS(ctx, f.Company)
	} else {
		cb, err = r.Get(ctx, f.Company, f.Callback)
	}
	if errors.Is(err, ErrNotFound) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if c = cb.Certificate(); !f.Is(c) {
		return nil, nil, nil
	}
	return cb, c, nil
}

// certify files the client certificate c that a callback is about to be stored with, or a company if callback is 0, unless before is the same. Both may be nil.
func (r *Registry) certify(ctx context.Context, company string, callback int64, c, before *Certificate) error {
	if c == nil || c.is(before) {
		return nil
	}
	return r.FileCertificate(ctx, company, callback, c)
}

// certified files it again once it is stored, for a reader may have taken it out meanwhile as one that nobody has, and takes the one from before out. If
// that fails, it is stored all the same: an attempt files it again, and readers take out what nobody has.
func (r *Registry) certified(ctx context.Context, company string, callback int64, c, before *Certificate) {
	err := r.certify(ctx, company, callback, c, before)
	if before != nil && !before.is(c) && err == nil {
		err = r.Unfile(ctx, Filed{Company: company, Callback: callback, NotAfter: before.NotAfter, member: before.member(company, callback)})
	}
	if err != nil {
		r.log.WarnContext(ctx, "a client certificate was not filed again", "company", company, "callback", callback, "error", err)
	}
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
