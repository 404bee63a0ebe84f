package registry

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// AuditKept is how long a line of the audit trail is kept.
const AuditKept = 90 * 24 * time.Hour

// Who acts where no API key does.
const (
	// ActorEngine is Ringback itself.
	ActorEngine = "engine"
	// ActorCLI is a command that talks to Redis, such as `ringback keys create`.
	ActorCLI = "cli"
)

type actorKey struct{}

// WithActor says on whose behalf the calls with that context act: the id of an API key, or [ActorCLI].
func WithActor(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, actorKey{}, id)
}

// Actor is who acts: what [WithActor] said, else [ActorEngine].
func Actor(ctx context.Context) string {
	if id, ok := ctx.Value(actorKey{}).(string); ok && id != "" {
		return id
	}
	return ActorEngine
}

var (
	auditOfAll = []string{AuditKeyOfAll, auditKeysKey, auditTypesKey, auditCompaniesKey}
	// auditOfCompanies are those of them that have lines about a company.
	auditOfCompanies = []string{auditKeysKey, auditCompaniesKey}
)

// AuditLua defines the function that writes a line of the audit trail, for the scripts that make the changes: audit(stream, line, more). line
// is what [AuditLine] made, and more a list of further changes {field =, old =, new =} that only the script knows, or nil.
var AuditLua = fmt.Sprintf(`
local function audit(stream, line, more)
  local t = redis.call('TIME')
  local oldest = math.max(0, tonumber(t[1]) * 1000 - %d)
  return redis.call('XADD', stream, 'MINID', '~', string.format('%%.0f', oldest), '*', 'l', line, 'x', more and cjson.encode(more) or '')
end
`, AuditKept.Milliseconds())

// An AuditChange is what became of one field. Secrets are [Masked], URLs are without their query.
type AuditChange struct {
	Field string `json:"field"`
	Old   any    `json:"old,omitempty"` // nil: there was none
	New   any    `json:"new,omitempty"` // nil: there is none
}

// An AuditEntry is a line of the audit trail: who changed what, and when.
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

// storedLine is an AuditEntry as a script gets it. Id and time are the stream's.
type storedLine struct {
	Company string        `json:"c,omitempty"`
	Actor   string        `json:"by"`
	Action  string        `json:"do"`
	Object  string        `json:"of"`
	Changes []AuditChange `json:"ch,omitempty"`
	Sealed  []byte        `json:"s,omitempty"` // changes that are not to be read in Redis
	Unique  string        `json:"k,omitempty"`
}

// AuditLine is a line for [AuditLua]: who acts with ctx does that to the object. An empty company is all of them.
func AuditLine(ctx context.Context, company, action, object string, changes ...AuditChange) string {
	return storedLine{Company: company, Actor: Actor(ctx), Action: action, Object: object, Changes: changes}.String()
}

// UniqueAuditLine is an AuditLine that is like no other, for scripts that tell by it whether they ran before.
func UniqueAuditLine(ctx context.Context, company, action, object string) string {
	return storedLine{Company: company, Actor: Actor(ctx), Action: action, Object: object, Unique: rand.Text()}.String()
}

func (l storedLine) String() string {
	text, _ := json.Marshal(l) // plain values always encode
	return string(text)
}

// callbackLine is a line about what a callback holds. That is sealed, as the callback is.
func (r *Registry) callbackLine(ctx context.Context, action string, old, next *Callback) (string, error) {
	plain, err := json.Marshal(changesOf(old, next))
	if err != nil {
		return "", fmt.Errorf("registry: write a line of the audit trail: %w", err)
	}
	sealed, err := r.keyset.seal(plain, auditPlace(next.Company))
	if err != nil {
		return "", err
	}
	return storedLine{Company: next.Company, Actor: Actor(ctx), Action: action, Object: CallbackObject(next.ID), Sealed: sealed}.String(), nil
}

func auditPlace(company string) string { return company + "/audit" }

// CallbackObject is what the audit trail calls a callback.
func CallbackObject(id int64) string { return "callbacks/" + strconv.FormatInt(id, 10) }

// changesOf compares two callbacks, either of which may be nil, as the audit trail shows them. That a secret changed is seen, and not what it is.
func changesOf(old, next *Callback) []AuditChange {
	return diff(auditFields(old), auditFields(next))
}

// A field is what of a value is compared, and what is shown.
type auditField struct{ real, shown any }

func diff(old, next map[string]auditField) []AuditChange {
	names := slices.Collect(maps.Keys(next))
	for name := range old {
		if _, both := next[name]; !both {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var changes []AuditChange
	for _, name := range names {
		if !reflect.DeepEqual(old[name].real, next[name].real) {
			changes = append(changes, AuditChange{name, old[name].shown, next[name].shown})
		}
	}
	return changes
}

// auditFields are the settings of a callback by their paths.
func auditFields(cb *Callback) map[string]auditField {
	fields := map[string]auditField{}
	if cb == nil {
		return fields
	}
	doc, err := cb.editable()
	if err != nil { // a year beyond 9999
		return fields
	}
	flatten(fields, "", parseAny(doc))
	hide := func(name, real, shown string) {
		if _, there := fields[name]; there {
			fields[name] = auditField{real, shown}
		}
	}
	for name, value := range cb.Headers {
		hide("headers."+name, value, Masked)
	}
	hide("destination.url", cb.Destination.URL, withoutQuery(cb.Destination.URL))
	if cb.Auth != nil {
		hide("auth.token", cb.Auth.Token, Masked)
		hide("auth.password", cb.Auth.Password, Masked)
		hide("auth.client_secret", cb.Auth.ClientSecret, Masked)
		hide("auth.token_url", cb.Auth.TokenURL, withoutQuery(cb.Auth.TokenURL))
	}
	return fields
}

// flatten puts the leaves of a JSON value under their paths. Lists are leaves.
func flatten(fields map[string]auditField, path string, v any) {
	members, ok := v.(map[string]any)
	if !ok {
		shown := v
		if text, ok := v.(string); ok && len(text) > maxShown {
			shown = strings.ToValidUTF8(text[:maxShown], "") + "…"
		}
		fields[path] = auditField{v, shown}
		return
	}
	for name, member := range members {
		flatten(fields, strings.TrimPrefix(path+"."+name, "."), member)
	}
}

// maxShown is how much of a text the audit trail keeps, in bytes.
const maxShown = 256

func withoutQuery(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return Masked
	}
	u.RawQuery, u.ForceQuery, u.Fragment, u.User = "", false, "", nil
	return u.String()
}

// An AuditQuery selects lines of the audit trail. The zero value selects all.
type AuditQuery struct {
	Company string    // lines about it; empty: all lines
	Since   time.Time // at this time or later
	Until   time.Time // before this time
	Limit   int       // at most this many, 1 to MaxLimit; 0: DefaultLimit
	Cursor  string    // from the page before; empty: the newest
}

// Audit returns lines of the audit trail, newest first. next is the cursor of the page that follows, empty on the last. A page may have fewer lines
// than it might, or none, and be followed by another: where many lines are about other companies, that bounds the work for one. A cursor that
// no page gave gives an *payloads.InvalidError.
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

// A linePlace orders lines: newest first, and those of the same moment by stream.
type linePlace struct {
	ms, seq int64
	stream  string
}

func (p linePlace) before(q linePlace) bool {
	switch {
	case p.ms != q.ms:
		return p.ms > q.ms
	case p.seq != q.seq:
		return p.seq > q.seq
	}
	return p.stream < q.stream
}

func (p linePlace) id() string { return fmt.Sprintf("%d-%d", p.ms, p.seq) }

func (p linePlace) cursor() string {
	return base64.RawURLEncoding.EncodeToString([]byte("line:" + p.id() + " " + p.stream))
}

func parsePlace(id, stream string) (p linePlace, ok bool) {
	ms, seq, _ := strings.Cut(id, "-")
	p.stream = stream
	var errMS, errSeq error
	p.ms, errMS = strconv.ParseInt(ms, 10, 64)
	p.seq, errSeq = strconv.ParseInt(seq, 10, 64)
	return p, errMS == nil && errSeq == nil
}

func decodePlace(cursor string) (p linePlace, ok bool) {
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	rest, isLine := strings.CutPrefix(string(text), "line:")
	id, stream, _ := strings.Cut(rest, " ")
	if err != nil || !isLine {
		return p, false
	}
	return parsePlace(id, stream)
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
	place    linePlace // of the next line, or of the last that was read if that was the last
	fills    int
	ended    bool
}

const (
	// trailPage is how many lines of a stream are read at once at most.
	trailPage = 100
	// trailPipe is how many streams are asked in one round trip.
	trailPipe = 500
	// maxSkipped is how many lines about others a page reads before it is given up for the next one.
	maxSkipped = 1000
)

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

// first is the source of the newest line that was not told yet, nil at the end. If it has none in memory, its next line may be the newest, and too
// many were skipped to look.
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

func placeOf(m redis.XMessage, stream string) linePlace {
	place, _ := parsePlace(m.ID, stream) // Redis numbers them so
	return place
}

func lineOf(m redis.XMessage) (line storedLine) {
	text, _ := m.Values["l"].(string)
	_ = json.Unmarshal([]byte(text), &line)
	return line
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

var writeLine = redis.NewScript(AuditLua + `return audit(KEYS[1], ARGV[1])`)

// WriteAudit writes a line by itself, where the change cannot share a script with it.
func WriteAudit(ctx context.Context, rdb redis.UniversalClient, stream, line string) error {
	if err := writeLine.Run(ctx, rdb, []string{stream}, line).Err(); err != nil {
		return fmt.Errorf("registry: write a line of the audit trail: %w", err)
	}
	return nil
}

// TrimAudit removes what is older than [AuditKept] from the trails of these companies and of the installation. at is Redis's time.
func (r *Registry) TrimAudit(ctx context.Context, companies []string, at time.Time) error {
	streams := slices.Clone(auditOfAll)
	for _, company := range companies {
		streams = append(streams, AuditKey(company))
	}
	oldest := strconv.FormatInt(at.Add(-AuditKept).UnixMilli(), 10)
	for part := range slices.Chunk(streams, trailPipe) {
		if _, err := r.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, stream := range part {
				p.XTrimMinID(ctx, stream, oldest)
			}
			return nil
		}); err != nil {
			return fmt.Errorf("registry: trim the audit trail: %w", err)
		}
	}
	return nil
}

// dropLines removes the lines about company ARGV[1] from stream KEYS[1], of a page of ARGV[2] lines from ARGV[3] on, but for those of its
// erasure. It returns where to go on, or an empty text.
var dropLines = redis.NewScript(`
local page = redis.call('XRANGE', KEYS[1], ARGV[3], '+', 'COUNT', ARGV[2])
for _, entry in ipairs(page) do
	local ok, line = pcall(cjson.decode, entry[2][2])
	if ok and line.c == ARGV[1] and line['do'] ~= '` + ActionEraseCompany + `' then redis.call('XDEL', KEYS[1], entry[1]) end
end
if #page < tonumber(ARGV[2]) then return '' end
return '(' .. page[#page][1]`)

// ActionEraseCompany is the action of the one line that an erased company leaves.
const ActionEraseCompany = "company.erase"

// eraseTrail removes the lines about a company that are not in its own stream, but for those of erasures.
func (r *Registry) eraseTrail(ctx context.Context, company string) error {
	for _, stream := range auditOfAll {
		for from := "-"; from != ""; {
			var err error
			if from, err = dropLines.Run(ctx, r.redis, []string{stream}, company, trailPage, from).Text(); err != nil {
				return fmt.Errorf("registry: erase the audit trail of company %s: %w", company, err)
			}
		}
	}
	return nil
}
