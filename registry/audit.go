package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// An AuditEntry is a line of the audit trail: the actor, the change and the time.
type AuditEntry struct {
	ID      string        `json:"id"` // unique, and the same whenever it is read
	At      time.Time     `json:"at"` // by Redis's clock
	Company string        `json:"company,omitempty"`
	Actor   string        `json:"actor"`  // an API key's id, [ActorEngine] or [ActorCLI]
	Action  string        `json:"action"` // such as callback.update
	Object  string        `json:"object"` // such as callbacks/2
	Changes []AuditChange `json:"changes"`
	// Sealed says that there are changes, sealed with a key that the keyset does not have.
	Sealed bool `json:"sealed,omitempty"`
}

// An AuditQuery selects lines of the audit trail. The zero value selects all.
type AuditQuery struct {
	Company string    // lines about it; empty: all lines
	Since   time.Time // at this time or later
	Until   time.Time // before this time
	Limit   int       // at most this many, 1 to MaxLimit; 0: DefaultLimit
	Cursor  string    // from the page before; empty: the newest
}

// Audit returns lines of the audit trail, newest first. next is the cursor of the page that follows, empty on the last. If many lines are about
// other companies, a page may have fewer lines than it might, or none, and be followed by another: that bounds the work for one page. A cursor
// that no page gave gives an *payloads.InvalidError.
func (r *Registry) Audit(ctx context.Context, q AuditQuery) (page []AuditEntry, next string, err error) {
	if q.Limit == 0 {
		q.Limit = DefaultLimit
	}
	trail, err := r.openTrail(ctx, q)
	if err != nil {
		return nil, "", err
	}
	for last := ""; ; {
		s, err := trail.first(ctx)
		switch {
		case err != nil || s == nil:
			return page, "", err
		case len(page) == q.Limit:
			return page, last, nil
		case len(s.read) == 0: // more was skipped than one page may
			return page, s.place.cursor(), nil
		}
		var e AuditEntry
		e, last = trail.take(s)
		page = append(page, e)
	}
}

// A trail merges streams.
type trail struct {
	redis   redis.UniversalClient
	keyset  *Keyset
	sources []*source
	peek    int // how many lines are read of each stream at first
	skipped int // lines that were read and are not asked for
}

// A source is one stream on its way from the newest line to the oldest.
type source struct {
	stream   string
	company  string // whose stream it is; empty: the installation's
	only     string // lines about this company; empty: all
	from, to string // what is not read yet
	read     []redis.XMessage
	place    linePlace // of the next line in read; if there is none, of the last line that was read
	fills    int
	ended    bool
}

// maxSkipped is how many lines about others a page reads before it is given up for the next one.
const maxSkipped = 1000

func (r *Registry) openTrail(ctx context.Context, q AuditQuery) (*trail, error) {
	from, to := "+", "-"
	if !q.Until.IsZero() {
		from = "(" + strconv.FormatInt(ceilMilli(q.Until), 10) + "-0"
	}
	if !q.Since.IsZero() {
		to = strconv.FormatInt(ceilMilli(q.Since), 10) + "-0"
	}
	var after linePlace
	if q.Cursor != "" {
		var ok bool
		if after, ok = decodePlace(q.Cursor); !ok {
			return nil, invalid("query.cursor", "must be the next_cursor of the page before", nil)
		}
	}
	companies := []string{q.Company}
	if q.Company == "" {
		var err error
		if companies, err = r.Companies(ctx); err != nil {
			return nil, err
		}
	} else if err := checkCompany(q.Company); err != nil {
		return nil, err
	}
	t := &trail{redis: r.redis, keyset: r.keyset}
	streams := auditOfAll
	if q.Company != "" {
		streams = auditOfCompanies
	}
	for _, stream := range streams {
		t.sources = append(t.sources, &source{stream: stream, only: q.Company, from: from, to: to})
	}
	for _, company := range companies {
		t.sources = append(t.sources, &source{stream: AuditKey(company), company: company, from: from, to: to})
	}
	if q.Cursor != "" {
		for _, s := range t.sources {
			if s.from = after.id(); s.stream <= after.stream {
				s.from = "(" + s.from
			}
		}
	}
	t.peek = 2 + 2*q.Limit/len(t.sources) // most streams have no more than their share in a page
	for part := range slices.Chunk(t.sources, trailPipe) {
		if err := t.fill(ctx, part); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// ceilMilli is the first millisecond that is not before t.
func ceilMilli(t time.Time) int64 {
	return t.Add(time.Millisecond - time.Nanosecond).UnixMilli()
}

// first is the source of the newest line that was not told yet, nil at the end. If the source has no line in memory, its next one may be the
// newest, and too many were skipped to look.
func (t *trail) first(ctx context.Context) (*source, error) {
	for {
		var best *source
		for _, s := range t.sources {
			if (len(s.read) > 0 || !s.ended) && (best == nil || s.place.before(best.place)) {
				best = s
			}
		}
		if best == nil || len(best.read) > 0 || t.skipped >= maxSkipped {
			return best, nil
		}
		if err := t.fill(ctx, []*source{best}); err != nil {
			return nil, err
		}
	}
}

// take takes the next line of a source, and the cursor of what follows it.
func (t *trail) take(s *source) (e AuditEntry, cursor string) {
	e, cursor = t.entry(s, s.read[0]), s.place.cursor()
	if s.read = s.read[1:]; len(s.read) > 0 {
		s.place = placeOf(s.read[0], s.stream)
	}
	return e, cursor
}

// fill reads on in streams.
func (t *trail) fill(ctx context.Context, sources []*source) error {
	reads := make([]*redis.XMessageSliceCmd, len(sources))
	if _, err := t.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, s := range sources {
			reads[i] = p.XRevRangeN(ctx, s.stream, s.from, s.to, t.page(s))
		}
		return nil
	}); err != nil {
		return fmt.Errorf("registry: read the audit trail: %w", err)
	}
	for i, s := range sources {
		messages := reads[i].Val()
		s.ended = int64(len(messages)) < t.page(s)
		s.fills++
		for _, m := range messages {
			s.from, s.place = "("+m.ID, placeOf(m, s.stream)
			if s.only == "" || lineOf(m).Company == s.only {
				s.read = append(s.read, m)
			} else {
				t.skipped++
			}
		}
		if len(s.read) > 0 {
			s.place = placeOf(s.read[0], s.stream)
		}
	}
	return nil
}

// page is how many lines of a source are read next: twice as many each time, since it has more of what is wanted than others.
func (t *trail) page(s *source) int64 {
	if s.only != "" {
		return trailPage
	}
	return int64(min(trailPage, t.peek<<min(s.fills, 8)))
}

// entry reads a line. One that cannot be read is shown as far as it can.
func (t *trail) entry(s *source, m redis.XMessage) AuditEntry {
	line := lineOf(m)
	more, _ := m.Values["x"].(string)
	var further []AuditChange
	_ = json.Unmarshal([]byte(more), &further)
	company := s.company
	if company == "" {
		company = line.Company
	}
	id := base64.RawURLEncoding.EncodeToString([]byte(m.ID + " " + s.stream))
	var sealed []AuditChange
	closed := false
	if len(line.Sealed) > 0 {
		plain, err := t.keyset.open(line.Sealed, auditPlace(company))
		closed = err != nil || json.Unmarshal(plain, &sealed) != nil
	}
	return AuditEntry{
		ID: id, At: time.UnixMilli(placeOf(m, s.stream).ms).UTC(), Company: company, Actor: line.Actor, Action: line.Action, Object: line.Object,
		Changes: slices.Concat([]AuditChange{}, line.Changes, sealed, further), Sealed: closed,
	}
}
