package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// Seals says how much in Redis is sealed with one key.
type Seals struct {
	Callbacks  int       // with the client certificates of companies
	AuditLines int       // none that is older than AuditKept
	LastLine   time.Time // of the newest of them
}

// Seals counts the seals in Redis by the ids of the keys, without opening any. The empty id has those that do not say which key it was.
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
		sealed, err := r.redis.HGet(ctx, companyTLSKey(company), tlsField).Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return nil, fmt.Errorf("registry: read the client certificate of company %s: %w", company, err)
		}
		if err == nil {
			s := seals[sealedBy([]byte(sealed))]
			s.Callbacks++
			seals[sealedBy([]byte(sealed))] = s
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

// StillSealedError says that a key cannot be retired, because things in Redis are sealed with it.
type StillSealedError struct {
	ID string
	Seals
}

func (e *StillSealedError) Error() string {
	if e.Callbacks > 0 {
		return fmt.Sprintf("registry: %d callbacks, and client certificates of companies, are still sealed with key %s, or do not say with which: reseal them first", e.Callbacks, e.ID)
	}
	return fmt.Sprintf("registry: %d lines of the audit trail are sealed with key %s, or do not say with which, and are kept until %s: retire it after that",
		e.AuditLines, e.ID, e.Until().Format(time.RFC3339))
}

// Until is when the last line of the audit trail that is sealed with the key is too old to be kept.
func (e *StillSealedError) Until() time.Time { return e.LastLine.Add(AuditKept) }

// ForgetKey makes Redis forget a key that nothing needs any more, so that processes start without it. Take it out of the keyset only then.
// While something is sealed with the key, there is a *StillSealedError. While no process has started with the keyset's primary key, there is an
// error that says so. The keyset's own primary key is refused.
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
