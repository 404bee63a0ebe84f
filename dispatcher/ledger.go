package dispatcher

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/registry"
)

// Limits of the lists, by the HTTP API.
const (
	DefaultLimit = 50
	MaxLimit     = 500
)

// Event reads an event and all its deliveries. Errors: [ErrNotFound], [ErrUnavailable].
func (c *Client) Event(ctx context.Context, company, eventID string) (*EventRecord, error) {
	fields, err := c.eventFields(ctx, company, eventID)
	if err != nil {
		return nil, err
	}
	v, err := c.newView(ctx, company)
	if err != nil {
		return nil, err
	}
	return v.event(ctx, eventID, fields)
}

// eventFields reads an event's hash without its body.
func (c *Client) eventFields(ctx context.Context, company, eventID string) (map[string]string, error) {
	key := eventKey(company, eventID)
	names, err := c.rdb.HKeys(ctx, key).Result()
	if err != nil {
		return nil, unavailable(ctx, c, "reading the event", err)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name == "b" })
	if len(names) == 0 {
		return nil, ErrNotFound
	}
	fields := make(map[string]string, len(names))
	for page := range slices.Chunk(names, glancePage) {
		values, err := c.rdb.HMGet(ctx, key, page...).Result()
		if err != nil {
			return nil, unavailable(ctx, c, "reading the event", err)
		}
		for i, value := range values[:min(len(values), len(page))] {
			if text, ok := value.(string); ok {
				fields[page[i]] = text
			}
		}
	}
	if fields["m"] == "" {
		return nil, ErrNotFound // it aged away between the two reads
	}
	return fields, nil
}

// A view turns records into deliveries: it knows which of the company's gates are closed, looking each up once.
type view struct {
	c       *Client
	company string
	now     time.Time
	gates   map[int64]*registry.Gate
	paces   map[int64]pace
	bars    map[int64]bool
	stopped func() map[string]time.Time // the lanes that are paused
}

// A pace is what holds back a callback's deliveries where its gate is open.
type pace struct {
	failures int
	narrowed bool      // the breaker is not closed
	before   time.Time // nothing goes out until then, by the breaker
	limited  bool      // it has a rate limit
	host     hostPace
}

// A hostPace is what holds back all deliveries of a company to one host.
type hostPace struct {
	failures int
	narrowed bool
	before   time.Time // nothing goes out until then
}

// hostPace reads it. name is as in the callback's health; empty if nobody noted it yet.
func (v *view) hostPace(ctx context.Context, name string) (hostPace, error) {
	if name == "" {
		return hostPace{}, nil
	}
	text, err := v.c.rdb.HGet(ctx, keyOf(v.company, "hosts"), name).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return hostPace{}, unavailable(ctx, v.c, "reading the host's pace", err)
	}
	var h hostPace
	var probes, before, since, callback, at int64
	if n, _ := fmt.Sscan(text, &h.failures, &probes, &before, &since, &callback, &at); n < 6 || v.now.Sub(fromMS(at)) > hostMemory {
		return hostPace{}, nil
	}
	h.narrowed, h.before = since > 0, fromMS(before)
	return h, nil
}

// hostMemory is lua/record.lua's HOST_MEMORY.
const hostMemory = time.Hour

// pace reads it, looking each callback up once.
func (v *view) pace(ctx context.Context, callback int64) (pace, error) {
	if p, ok := v.paces[callback]; ok {
		return p, nil
	}
	pipe := v.c.rdb.Pipeline()
	health := pipe.HMGet(ctx, keyOf(v.company, "health:"+strconv.FormatInt(callback, 10)), "f", "l", "o", "hn")
	rate := pipe.Exists(ctx, registry.RateKey(v.company, callback))
	err := execute(ctx, pipe)
	h, short := atLeast(4, ledger.Strings(health.Val()))
	if err = cmp.Or(err, short); err != nil {
		return pace{}, unavailable(ctx, v.c, "reading the callback's pace", err)
	}
	p := pace{narrowed: h[1] != "", limited: rate.Val() > 0}
	p.failures, _ = strconv.Atoi(h[0])
	before, _ := strconv.ParseInt(h[2], 10, 64)
	p.before = fromMS(before)
	if p.host, err = v.hostPace(ctx, h[3]); err != nil {
		return pace{}, err
	}
	v.paces[callback] = p
	return p, nil
}

// barred reports whether the callback's host name is not allowed, looking each callback up once.
func (v *view) barred(ctx context.Context, callback int64) (bool, error) {
	if is, ok := v.bars[callback]; ok {
		return is, nil
	}
	cb, err := v.c.registry.Get(ctx, v.company, callback)
	if err != nil && !errors.Is(err, registry.ErrNotFound) {
		return false, unavailable(ctx, v.c, "reading the callback", err)
	}
	v.bars[callback] = err == nil && v.c.namesRefused(cb)
	return v.bars[callback], nil
}

func (c *Client) newView(ctx context.Context, company string) (*view, error) {
	now, err := c.rdb.Time(ctx).Result()
	if err != nil {
		return nil, unavailable(ctx, c, "reading the clock", err)
	}
	return &view{
		c: c, company: company, now: now, gates: make(map[int64]*registry.Gate), paces: make(map[int64]pace), bars: make(map[int64]bool),
		stopped: sync.OnceValue(func() map[string]time.Time { return c.stoppedLanes(ctx) }),
	}, nil
}

// gate is the callback's closed gate, or nil if it is open.
func (v *view) gate(ctx context.Context, callback int64) (*registry.Gate, error) {
	if err := v.lookUp(ctx, callback); err != nil {
		return nil, err
	}
	return v.gates[callback], nil
}

// lookUp reads the gates of callbacks that were not looked up yet, many in one command.
func (v *view) lookUp(ctx context.Context, callbacks ...int64) error {
	callbacks = slices.DeleteFunc(slices.Clone(callbacks), func(id int64) bool { _, known := v.gates[id]; return known })
	for page := range slices.Chunk(callbacks, glancePage) {
		keys := make([]string, len(page))
		for i, id := range page {
			keys[i] = registry.GateKey(v.company, id)
		}
		texts, err := v.c.rdb.MGet(ctx, keys...).Result()
		if err == nil && len(texts) != len(page) {
			err = errBadRecord
		}
		if err != nil {
			return unavailable(ctx, v.c, "reading the callbacks' gates", err)
		}
		for i, id := range page {
			v.gates[id] = nil // documented: open
			if text, ok := texts[i].(string); ok {
				g, err := registry.ParseGate(text)
				if err != nil {
					return err
				}
				v.gates[id] = &g
			}
		}
	}
	return nil
}

// head is an event without its deliveries.
func head(eventID string, fields map[string]string) (*EventRecord, error) {
	var m meta
	if err := json.Unmarshal([]byte(fields["m"]), &m); err != nil {
		return nil, fmt.Errorf("event %s: %w", eventID, errBadRecord)
	}
	return &EventRecord{
		EventID: eventID, EventType: m.Type, AcceptedAt: logTime(fields["a"]), OccurredAt: fromMS(m.Occurred), TraceID: traceID(m.TraceParent),
		Expanding: fields["e"] != "", Deliveries: []*Delivery{},
	}, nil
}

func (v *view) event(ctx context.Context, eventID string, fields map[string]string) (*EventRecord, error) {
	e, err := head(eventID, fields)
	if err != nil {
		return nil, err
	}
	ids := writtenTo(fields)
	if err := v.lookUp(ctx, ids...); err != nil {
		return nil, err
	}
	for _, id := range ids {
		d, err := v.delivery(ctx, ref{v.company, eventID, id}, e, fields[recordField(id)])
		if err != nil {
			return nil, err
		}
		e.Deliveries = append(e.Deliveries, d)
	}
	return e, nil
}

// writtenTo are the callbacks for which an event has deliveries, by id.
func writtenTo(fields map[string]string) (ids []int64) {
	for name := range fields {
		if id, ok := callbackOf(name); ok {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// yetToWrite are the callbacks for which an event's deliveries are still to be written.
func yetToWrite(fields map[string]string) (ids []int64) {
	for name, csv := range fields {
		if number, ok := strings.CutPrefix(name, "e"); !ok || !digits(number) {
			continue
		}
		for text := range strings.SplitSeq(csv, ",") {
			if id, err := strconv.ParseInt(text, 10, 64); err == nil {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// traceID is the trace's part of a traceparent (W3C Trace Context), "" where there is none.
func traceID(parent string) string {
	if parts := strings.Split(parent, "-"); len(parts) == 4 {
		return parts[1]
	}
	return ""
}

func callbackOf(field string) (int64, bool) {
	text, ok := strings.CutPrefix(field, "d")
	if !ok {
		return 0, false
	}
	id, err := strconv.ParseInt(text, 10, 64)
	return id, err == nil
}

func (v *view) delivery(ctx context.Context, r ref, e *EventRecord, text string) (*Delivery, error) {
	rec, err := parseRecord(text)
	if err != nil {
		return nil, fmt.Errorf("delivery %s: %w", r.deliveryID(), err)
	}
	d := &Delivery{
		DeliveryID: r.deliveryID(), EventID: e.EventID, EventType: e.EventType, CallbackID: r.callback,
		AcceptedAt: e.AcceptedAt, Attempts: []Attempt{}, TraceID: e.TraceID,
	}
	for _, entry := range parseEntries(rec.attempts) {
		d.Attempts = append(d.Attempts, entry.forReader(ctx).attempt())
	}
	gate, err := v.gate(ctx, r.callback)
	if err != nil {
		return nil, err
	}
	d.State = rec.stateBehind(gate)
	switch d.State {
	case Retrying:
		d.NextAttemptAt = fromMS(rec.at)
	case Held:
		p, err := v.pace(ctx, r.callback)
		if err != nil {
			return nil, err
		}
		barred, err := v.barred(ctx, r.callback)
		if err != nil {
			return nil, err
		}
		d.HeldReason, d.held = v.held(gate, p, barred)
	case Dead:
		d.Reason = rec.reason(d.Attempts)
	}
	d.Summary = v.summary(d, rec, gate)
	if at := egressOf(v.stopped()).Since; !at.IsZero() && !d.State.Final() && d.State != Active {
		d.Summary += " Everything that goes out is paused since " + at.Format(time.RFC3339) + ": it waits until an operator resumes that."
	}
	return d, nil
}

// stateBehind is how a delivery stands behind a gate, or none. What waits behind a deleted callback's is as good as cancelled: whoever touches it next
// writes it down.
func (r record) stateBehind(gate *registry.Gate) State {
	state := stateOf[r.state]
	if gate != nil && gate.Status == registry.Deleted && !state.Final() && state != Active {
		return Cancelled
	}
	return state
}

// pruned reports whether a dead delivery has left the dead-letter book, and what buried it, if anything did; see lua/record.lua.
func (r record) pruned() (buried Reason, gone bool) {
	token, gone := strings.CutSuffix(r.token, "pruned")
	return Reason(strings.TrimSuffix(token, ".")), gone
}

// reason is why a dead delivery is dead: what buried it, or its last attempt.
func (r record) reason(attempts []Attempt) Reason {
	if buried, _ := r.pruned(); buried == verdict.ReasonHoldExpired || buried == verdict.ReasonHoldFull {
		return buried
	}
	if n := len(attempts); n > 0 {
		return attempts[n-1].Reason
	}
	return ""
}

// summary is the sentence for a delivery: what happened last, what comes next and when.
func (v *view) summary(d *Delivery, rec record, gate *registry.Gate) string {
	last := ""
	if n := len(d.Attempts); n > 0 {
		last = fmt.Sprintf("Attempt %d: %s. ", d.Attempts[n-1].Number, d.Attempts[n-1].Detail)
	}
	switch d.State {
	case Pending:
		return last + "The next attempt is due now."
	case Active:
		return last + fmt.Sprintf("Attempt %d is under way since %s.", rec.number, clock(rec.at))
	case Retrying:
		if wait := fromMS(rec.at).Sub(v.now); wait > 0 {
			return last + fmt.Sprintf("The next attempt is at %s, in %s.", clock(rec.at), verdict.InWords(wait.Round(time.Second)))
		}
		return last + "The next attempt is due now."
	case Held:
		return last + d.held
	case Delivered:
		by := rec.number
		for _, a := range d.Attempts {
			if a.Verdict == verdict.Delivered { // not always the last one begun
				by = a.Number
			}
		}
		return fmt.Sprintf("Delivered by attempt %d at %s.", by, clock(rec.at))
	case Dead:
		if gate != nil && gate.Status == registry.Deleted {
			return last + fmt.Sprintf("Given up at %s; the callback was deleted since, so it cannot be replayed.", clock(rec.at))
		}
		if _, gone := rec.pruned(); gone {
			return last + fmt.Sprintf("%s at %s; it is no longer kept, and goes with its event.", givenUp(d.Reason), clock(rec.at))
		}
		return last + fmt.Sprintf("%s at %s; it is kept, and can be replayed.", givenUp(d.Reason), clock(rec.at))
	default:
		if gate != nil && gate.Status == registry.Deleted {
			return last + "Cancelled: the callback was deleted."
		}
		return last + fmt.Sprintf("Cancelled at %s; it can be replayed.", clock(rec.at))
	}
}

// held says in one word and in one sentence why a delivery waits in its room. barred: the callback's host name is not allowed.
func (v *view) held(gate *registry.Gate, p pace, barred bool) (reason, sentence string) {
	switch {
	case gate != nil && gate.Status == registry.Paused:
		return "paused", "It is held: the callback is paused since " + gate.At.Format(time.RFC3339) + ". Resume it to send what waits."
	case gate != nil && gate.Status == registry.Unverified:
		last := ""
		if gate.Reason != "" {
			last = " (the last challenge ended with " + gate.Reason + ")"
		}
		return string(verdict.ReasonUnverified), "It is held: the callback's endpoint has not proved since " + gate.At.Format(time.RFC3339) + " that it wants to be called" + last + ". Verify the callback to send what waits."
	case gate != nil:
		return string(gate.Status), fmt.Sprintf("It is held: the callback is disabled (%s) since %s. Resume it to send what waits.", gate.Reason, gate.At.Format(time.RFC3339))
	case barred:
		return string(verdict.ReasonNameNotAllowed), "It is held: the callback's URL, or its token_url, has the host name of an internal network. It goes out once an operator allows that name, or the URL has another."
	case p.host.narrowed:
		sentence = "It is held: the last attempts to this callback's host, by all callbacks that go there, found nobody or were told to come later. " +
			"So one of them at a time is tried until one is answered"
		if wait := p.host.before.Sub(v.now); wait > 0 {
			sentence += ", next in " + verdict.InWords(max(time.Second, wait.Round(time.Second))) + " at the latest"
		}
		return "host", sentence + "."
	case p.narrowed && p.failures > 0:
		sentence = fmt.Sprintf("It is held: the last %d attempts to this callback failed, so it is tried carefully until one is delivered", p.failures)
		if wait := p.before.Sub(v.now); wait > 0 {
			sentence += ", next in " + verdict.InWords(max(time.Second, wait.Round(time.Second)))
		}
		return "breaker", sentence + "."
	case p.narrowed:
		return "breaker", "It waits for its turn: the callback delivers again, and what was held for it goes out, oldest first, more at a time with each success."
	case p.limited:
		return "rate_limit", "It waits for its turn: other deliveries are ahead of it, and the callback's rate limit paces them."
	default:
		return "window", "It waits for its turn: other deliveries to this callback are ahead of it."
	}
}

// givenUp begins the sentence about a dead delivery.
func givenUp(r Reason) string {
	switch r {
	case verdict.ReasonHoldExpired:
		return "Given up, since it was held for longer than deliveries may be,"
	case verdict.ReasonHoldFull:
		return "Given up, since newer deliveries needed its place among those held for this callback,"
	default:
		return "Given up"
	}
}

func clock(ms int64) string { return fromMS(ms).Format(time.RFC3339) }

// Delivery reads one delivery, or one decision. Where a large fan-out's is still to be written, it is first. Errors: [ErrNotFound], [ErrUnavailable].
func (c *Client) Delivery(ctx context.Context, company, deliveryID string) (*Delivery, error) {
	if strings.HasPrefix(deliveryID, decisionPrefix) {
		return c.decision(ctx, company, deliveryID)
	}
	r, ok := parseDeliveryID(company, deliveryID)
	if !ok {
		return nil, ErrNotFound
	}
	v, err := c.newView(ctx, company)
	if err != nil {
		return nil, err
	}
	found, err := v.deliveries(ctx, []ref{r})
	if err == nil && len(found) == 0 {
		if err = c.expandFor(ctx, r); err == nil {
			found, err = v.deliveries(ctx, []ref{r})
		}
	}
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, ErrNotFound
	}
	return found[0], nil
}

// deliveries reads several in one round trip, leaving out those that aged away.
func (v *view) deliveries(ctx context.Context, refs []ref) ([]*Delivery, error) {
	pipe := v.c.rdb.Pipeline()
	reads := make([]*redis.SliceCmd, len(refs))
	for i, r := range refs {
		reads[i] = pipe.HMGet(ctx, eventKey(r.company, r.event), "m", "a", recordField(r.callback))
	}
	if len(refs) == 0 {
		return nil, nil
	}
	if err := execute(ctx, pipe); err != nil {
		return nil, unavailable(ctx, v.c, "reading deliveries", err)
	}
	var found []*Delivery
	for i, r := range refs {
		values := ledger.Strings(reads[i].Val())
		if len(values) < 3 || values[0] == "" || values[2] == "" {
			continue
		}
		e, err := v.event(ctx, r.event, map[string]string{"m": values[0], "a": values[1], recordField(r.callback): values[2]})
		if err != nil {
			return nil, err
		}
		found = append(found, e.Deliveries...)
	}
	return found, nil
}

// Replay sends a delivery again, under the same webhook-id and with a fresh schedule: a delivered, dead or cancelled one, or at once a
// retrying one. Errors: [ErrNotFound], *[StateError] if it is on its way already or its callback was deleted, [ErrUnavailable].
func (c *Client) Replay(ctx context.Context, company, deliveryID string) (*Delivery, error) {
	if strings.HasPrefix(deliveryID, decisionPrefix) {
		return nil, c.notRepeated(ctx, company, deliveryID)
	}
	r, ok := parseDeliveryID(company, deliveryID)
	if !ok {
		return nil, ErrNotFound
	}
	answer, err := c.answer(ctx, 1, replayScript, company, r.member(), registry.AuditLine(ctx, company, "delivery.replay", "deliveries/"+deliveryID))
	if err == nil && (answer[0] == "ready" || answer[0] == "held") {
		answer, err = atLeast(3, answer)
	}
	if err != nil {
		return nil, unavailable(ctx, c, "replaying", err)
	}
	c.at("replayed")
	switch answer[0] {
	case "none", "waiting": // one that is still to be written is, first
		return nil, c.stateError(ctx, company, deliveryID, "this delivery is %s already: it goes out by itself, a held one once its callback is resumed")
	case "deleted":
		return nil, c.stateError(ctx, company, deliveryID, "this delivery is %s and its callback was deleted: register it again and send the event under a new event_id")
	case "full":
		return nil, c.stateError(ctx, company, deliveryID, "this delivery is %s, and as many are held for its callback as may be: replay it once some are delivered")
	case "ready":
		c.enqueueReleased(ctx, company, []string{r.member(), answer[1]})
		c.forget(ctx, r, answer[2])
	case "held": // the room lets it out
		c.forget(ctx, r, answer[2])
	}
	return c.Delivery(ctx, company, deliveryID)
}

// forget removes the task of an old generation from asynq's retries, for tidiness: should it run, it ends without an attempt.
func (c *Client) forget(ctx context.Context, r ref, generation string) {
	g, err := strconv.ParseInt(generation, 10, 64)
	if err != nil {
		return
	}
	for _, lane := range []string{r.queue(), slowLane} {
		err := c.inspector.DeleteTask(lane, taskID(r, g))
		if err != nil && !errors.Is(err, asynq.ErrTaskNotFound) && !errors.Is(err, asynq.ErrQueueNotFound) {
			c.log.DebugContext(ctx, "old task stays", "delivery", r.deliveryID(), "error", err)
		}
	}
}

// Cancel ends an unfinished delivery. An attempt under way finishes; it counts if it delivers.
// Errors: [ErrNotFound], *[StateError] if it is final, [ErrUnavailable].
func (c *Client) Cancel(ctx context.Context, company, deliveryID string) (*Delivery, error) {
	if strings.HasPrefix(deliveryID, decisionPrefix) {
		return nil, c.notRepeated(ctx, company, deliveryID)
	}
	r, ok := parseDeliveryID(company, deliveryID)
	if !ok {
		return nil, ErrNotFound
	}
	before, err := c.Delivery(ctx, company, deliveryID)
	if err != nil {
		return nil, err
	}
	answer, err := c.answer(ctx, 1, cancelScript, company, r.member(), registry.AuditLine(ctx, company, "delivery.cancel", "deliveries/"+deliveryID))
	if err != nil {
		return nil, unavailable(ctx, c, "cancelling", err)
	}
	switch answer[0] {
	case "none":
		return nil, ErrNotFound
	case "final":
		return nil, c.stateError(ctx, company, deliveryID, "this delivery is %s: there is nothing left to cancel")
	}
	if before.State == Retrying {
		text, err := c.rdb.HGet(ctx, eventKey(company, r.event), recordField(r.callback)).Result()
		if rec, bad := parseRecord(text); err == nil && bad == nil {
			c.forget(ctx, r, strconv.FormatInt(rec.generation, 10))
		}
	}
	return c.Delivery(ctx, company, deliveryID)
}

func (c *Client) stateError(ctx context.Context, company, deliveryID, format string) error {
	d, err := c.Delivery(ctx, company, deliveryID)
	if err != nil {
		return err
	}
	return &StateError{Delivery: d, Message: fmt.Sprintf(format, d.State)}
}
