package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// A twin is one of two companies that go through the same: one step by step, the other with its steps together.
type twin struct {
	h       *house
	company string
}

// call is a step of the company's.
func (w twin) call(script *redis.Script, args ...any) *ledger.Call {
	return &ledger.Call{Script: script, Key: ledger.Key(w.company, "due"), Deliveries: 1, Args: args}
}

// answer is what a step answered, without what differs between twins, or its error.
func (w twin) answer(call *ledger.Call) string {
	answer, err := call.Answer()
	if err != nil {
		return err.Error()
	}
	return w.neutral(strings.Join(answer, "|"))
}

var (
	times  = regexp.MustCompile(`\d{13,}(-\d+)?|\d{4}-\d\d-\d\dT[\d:.]+Z`)
	waits  = regexp.MustCompile(`^(ok\|\w\|)-?\d+\|\d+|^(held\|)\d+|^(early\|)\d+|(lost\|\w?\|\d+\|)-?\d+`)
	tokens = regexp.MustCompile(`^\d+\.\d+$`)
)

// neutral is a text without the company's name, times, and what is counted from them.
func (w twin) neutral(text string) string {
	text = strings.ReplaceAll(text, "{"+w.company+"}", "{c}")
	text = waits.ReplaceAllString(text, "$1$2$3$4T")
	return times.ReplaceAllString(text, "T")
}

// keys are all that Redis holds of the company, a line for each key and field.
func (w twin) keys() []string {
	w.h.t.Helper()
	keys, err := w.h.rdb.Keys(w.h.t.Context(), "{"+w.company+"}:*").Result()
	w.h.must(err)
	slices.Sort(keys)
	var lines []string
	for _, key := range keys {
		if strings.HasSuffix(key, ":cb") || strings.HasSuffix(key, ":cbseal") || strings.HasSuffix(key, ":audit") || strings.Contains(key, ":busy:") ||
			key == registry.AwakeKey(w.company) { // sealed, told by time, or an epoch
			continue
		}
		kind, err := w.h.rdb.Type(w.h.t.Context(), key).Result()
		w.h.must(err)
		for _, line := range w.contents(kind, key) {
			lines = append(lines, kind+" "+w.neutral(key)+" "+w.neutral(line))
		}
	}
	return lines
}

func (w twin) contents(kind, key string) (lines []string) {
	ctx, rdb := w.h.t.Context(), w.h.rdb
	switch kind {
	case "string":
		lines = []string{rdb.Get(ctx, key).Val()}
	case "hash":
		fields := rdb.HGetAll(ctx, key).Val()
		for _, field := range slices.Sorted(maps.Keys(fields)) {
			value := fields[field]
			if tokens.MatchString(value) {
				value, _, _ = strings.Cut(value, ".")
			}
			lines = append(lines, field+" = "+value)
		}
		if rdb.TTL(ctx, key).Val() > 0 {
			lines = append(lines, "ages")
		}
	case "set":
		lines = rdb.SMembers(ctx, key).Val()
		slices.Sort(lines)
	case "zset":
		lines = rdb.ZRange(ctx, key, 0, -1).Val() // in the order of their scores
		if !strings.Contains(key, ":room:") {
			slices.Sort(lines) // steps of one moment have the same
		}
	case "stream":
		for _, entry := range rdb.XRange(ctx, key, "-", "+").Val() {
			lines = append(lines, fmt.Sprint(entry.Values["e"]))
		}
	}
	return lines
}

// records are the company's deliveries by member.
func (w twin) records() map[string]ledger.Record {
	w.h.t.Helper()
	all := make(map[string]ledger.Record)
	keys, err := w.h.rdb.Keys(w.h.t.Context(), "{"+w.company+"}:ev:*").Result()
	w.h.must(err)
	for _, key := range keys {
		for field, value := range w.h.rdb.HGetAll(w.h.t.Context(), key).Val() {
			if id, ok := strings.CutPrefix(field, "d"); ok {
				rec, err := ledger.ParseRecord(value)
				w.h.must(err)
				all[strings.TrimPrefix(key, "{"+w.company+"}:ev:")+"/"+id] = rec
			}
		}
	}
	return all
}

// A stepMaker makes the same step for either twin.
type stepMaker func(w twin) *ledger.Call

// someSteps are steps that may happen now: events that are new, known or known with other content; beginnings and ends of attempts, some of them a
// second time, by a stranger, or of an old generation.
func someSteps(w twin, random *rand.Rand, round int) []stepMaker {
	records := w.records()
	members := slices.Sorted(maps.Keys(records))
	var steps []stepMaker
	for n := range 2 + random.IntN(12) {
		choice, id := random.IntN(10), fmt.Sprintf("e-%d-%d", round, n)
		if choice < 4 || len(members) == 0 {
			if n > 0 && choice == 0 {
				id = fmt.Sprintf("e-%d-%d", round, n-1) // perhaps of this very flight
			}
			steps = append(steps, acceptStep(id, random.IntN(2), random.IntN(2) == 0))
			continue
		}
		member := members[random.IntN(len(members))]
		rec := records[member]
		if choice < 7 {
			steps = append(steps, beginStep(member, rec.Generation-int64(random.IntN(6)/5), "token-"+id, random.IntN(8) == 0))
			continue
		}
		token := rec.Token
		if random.IntN(6) == 0 {
			token = "strangers"
		}
		outcome := []string{"D", "D", "D", "R", "R", "X", "G"}[random.IntN(7)]
		next := []string{"", "next-" + id}[random.IntN(2)]
		steps = append(steps, finishStep(member, token, outcome, rec, next))
		if random.IntN(6) == 0 {
			steps = append(steps, finishStep(member, token, outcome, rec, next)) // the command is repeated
		}
	}
	return steps
}

func acceptStep(id string, content int, begins bool) stepMaker {
	start := ""
	if begins {
		start = "near-" + id + " 30000"
	}
	return func(w twin) *ledger.Call {
		version := w.h.rdb.Get(w.h.t.Context(), "{"+w.company+"}:ver").Val()
		return w.call(acceptScript, id, version, fmt.Sprintf(`{"t":"payment_proof","c":"%d"}`, content), `{"payload": true}`, "", 4, "",
			1, start, "", 2, "", "", 3, start, "", 4, "", "")
	}
}

func beginStep(member string, generation int64, token string, busy bool) stepMaker {
	return func(w twin) *ledger.Call {
		return w.call(beginScript, member, generation, token, 30_000, busy, false, 0)
	}
}

func finishStep(member, token, outcome string, rec ledger.Record, next string) stepMaker {
	return func(w twin) *ledger.Call {
		line := fmt.Sprintf(`{"n":%d,"v":"x"}`, rec.Number)
		health, breaker, run, host := "bad", "down", "count", "down"
		if outcome == "D" {
			health, breaker, run, host = "", "", "", "up"
		}
		_, cb, _ := ledger.CutLast(member, '/')
		version := w.h.rdb.ZScore(w.h.t.Context(), "{"+w.company+"}:cbver", cb).Val()
		return w.call(finishScript, member, token, outcome, line, rec.Attempts+"\n"+line, rec.Spent+1, 60_000, "2026-01-01T00:00:00Z", 60_000,
			health, breaker, 0, run, "payment_proof", "1-1", "partner"+cb+".example", host, int64(version), 50, next, 30_000)
	}
}

// TestTogetherIsAsOneByOne: steps that travel together leave the same keys, and have the same answers, as if each had gone alone. Time passes
// only between the rounds.
func TestTogetherIsAsOneByOne(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			inBubble(t, func(h *house) {
				twins := []twin{{h, "alone"}, {h, "together"}}
				for _, w := range twins {
					for _, more := range []string{"", `, "rate_limit": {"per_second": 0.01, "burst": 3}`, "", ""} {
						_, err := h.registry.Create(h.t.Context(), w.company, []byte(`{"callback_type": "payment_proof", "destination": {"url": "`+h.partner.url("x")+`"}`+more+`}`))
						h.must(err)
					}
					_, err := h.registry.Pause(h.t.Context(), w.company, 3)
					h.must(err)
				}
				random := rand.New(rand.NewPCG(seed, 7))
				for round := range 12 {
					if limit := random.IntN(4); limit > 1 { // a breaker that widens with each success
						for _, w := range twins {
							h.must(h.rdb.HSet(h.t.Context(), "{"+w.company+"}:health:1", "l", limit, "f", 0).Err())
						}
					}
					compareTwins(h.t, twins, someSteps(twins[0], random, round))
					if h.t.Failed() {
						h.t.Fatalf("in round %d", round)
					}
					time.Sleep(time.Duration(random.IntN(3000)) * time.Millisecond)
				}
			}, withWindow(6), func(c *Config) { c.DisableAfter = time.Second })
		})
	}
}

// compareTwins has one twin do the steps one by one, the other together. A flight keeps the order of the calls of each script.
func compareTwins(t *testing.T, twins []twin, steps []stepMaker) {
	t.Helper()
	var alone, together []*ledger.Call
	for _, step := range steps {
		alone, together = append(alone, step(twins[0])), append(together, step(twins[1]))
	}
	var scripts []*redis.Script
	for _, call := range alone {
		if !slices.Contains(scripts, call.Script) {
			scripts = append(scripts, call.Script)
		}
	}
	for _, script := range scripts {
		for _, call := range alone {
			if call.Script == script {
				twins[0].h.steps().Do(t.Context(), call)
				_, _ = call.Answer()
			}
		}
	}
	twins[1].h.steps().Do(t.Context(), together...)
	for i := range steps {
		if a, b := twins[0].answer(alone[i]), twins[1].answer(together[i]); a != b {
			t.Errorf("step %d, %v\nalone    %s\ntogether %s", i, alone[i].Args, a, b)
		}
	}
	if diff := cmp.Diff(twins[0].keys(), twins[1].keys()); diff != "" {
		t.Errorf("keys differ (-alone +together)\n%s", diff)
	}
}

// TestAMemberThatFailsKeepsItsNeighbours: of several events that are accepted together, one meets a key that is of another type, whichever it is. The
// others are accepted whole. Of the one that failed nothing is pending that nobody would look at, and once the key is mended it is accepted.
func TestAMemberThatFailsKeepsItsNeighbours(t *testing.T) {
	t.Parallel()
	h := newHouse(t, impatient)
	first, second := h.register("payment_proof", ""), h.register("wallet_item_install", "")
	install, _ := payloads.Builtin().Lookup("wallet_item_install")
	h.send(proof("warm"))
	h.drain()
	broken := func(id string) payloads.Event {
		return payloads.Event{Company: acme, ID: id, Type: install.Name, Payload: install.Example}
	}
	cb := strconv.FormatInt(second.ID, 10)
	for n, key := range []string{"gate:" + cb, "room:" + cb, "ready:" + cb, "health:" + cb, "rate:" + cb, "ev:broken-" + "5"} {
		id := fmt.Sprintf("broken-%d", n)
		name := ledger.Key(acme, key)
		saved, err := h.rdb.Dump(t.Context(), name).Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
		h.must(h.rdb.Del(t.Context(), name).Err())
		h.must(h.rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: name, Values: []string{"e", "x"}}).Err()) // no key of ours here is a stream
		events := []payloads.Event{proof("before-" + id), broken(id), proof("after-" + id)}
		sent := h.client.SendAll(t.Context(), events)
		for i, s := range sent {
			if failed := s.Err != nil; failed != (i == 1) {
				t.Errorf("%s is of another type: event %d: %v", key, i, s.Err)
			} else if !failed {
				h.ack(events[i])
			}
		}
		for field, value := range h.rdb.HGetAll(t.Context(), ledger.EventKey(acme, id)).Val() {
			if strings.HasPrefix(field, "d") && value[0] == 'P' {
				if h.rdb.ZScore(t.Context(), ledger.Key(acme, "due"), id+"/"+cb).Err() != nil {
					t.Errorf("%s is of another type: %s is pending, and nobody looks at it", key, id)
				}
			}
		}
		h.must(h.rdb.Del(t.Context(), name).Err())
		if saved != "" {
			h.must(h.rdb.Restore(t.Context(), name, 0, saved).Err())
		}
		h.send(broken(id))
	}
	_ = first
	h.work()
	h.awaitAll(patience + reconcileEvery + slack)
	h.check()
}

// TestAFlightFails: many callers' events go together, and the flight is lost, or its answer. Each of them learns it, and repeats.
func TestAFlightFails(t *testing.T) {
	bothWays(t, func(t *testing.T, h *house, stored bool) {
		h.register("payment_proof", "")
		h.work()
		h.breaks(isScript(acceptScript), stored, 1)
		var wg sync.WaitGroup
		failures := make(chan string, 40)
		for _, id := range eventIDs("p-", 40) {
			wg.Go(func() {
				_, err := h.client.Send(t.Context(), proof(id))
				if err != nil && !errors.Is(err, ErrUnavailable) {
					t.Errorf("%s: %v", id, err)
				}
				if err != nil {
					failures <- id
				}
				if _, err := h.client.Send(t.Context(), proof(id)); err != nil {
					t.Errorf("%s again: %v", id, err)
				}
				h.ack(proof(id))
			})
		}
		wg.Wait()
		if len(failures) == 0 {
			t.Error("nothing failed")
		}
		h.awaitAll(30 * time.Second)
		h.check()
	})
}

// TestBeginsAndFinishesFail: the same for attempts: their beginnings or their ends are lost together, or the answers to them.
func TestBeginsAndFinishesFail(t *testing.T) {
	for name, script := range map[string]*redis.Script{"begin": beginScript, "finish": finishScript} {
		t.Run(name, func(t *testing.T) {
			bothWays(t, func(_ *testing.T, h *house, _ bool) {
				h.register("payment_proof", `"timeout": "1s"`)
				h.breaks(isScript(script), true, 3)
				h.work()
				h.sendAll(eventIDs("p-", 60))
				h.awaitAll(2*patience + ownerGrace + reconcileEvery + slack)
				h.check()
			}, impatient)
		})
	}
}

// TestABeginThatIsRepeatedBegins: go-redis repeats a command whose answer was lost. The attempt is this task's: it is told so again.
func TestABeginThatIsRepeatedBegins(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.register("payment_proof", "")
	h.send(proof("p-1"))
	var answers []string
	for range 2 {
		answer, err := h.step(t.Context(), beginScript, acme, "p-1/1", 1, "mine", 30_000, false, false, 0)
		h.must(err)
		answers = append(answers, strings.Join(slices.Delete(answer, 8, 9), "|")) // without the time
	}
	if answers[0] != answers[1] || !strings.HasPrefix(answers[0], "go|1|") {
		t.Errorf("begun twice: %q", answers)
	}
	if answer, err := h.step(t.Context(), beginScript, acme, "p-1/1", 1, "another's", 30_000, false, false, 0); err != nil || answer[0] != "busy" {
		t.Errorf("another task: %q, %v", answer, err)
	}
}

// TestABeginThatCannotBeReadIsTakenBack: whoever cannot read what an attempt is about leaves the delivery pending, and its number as it was.
func TestABeginThatCannotBeReadIsTakenBack(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.register("payment_proof", "")
	h.send(proof("p-1"))
	key := ledger.EventKey(acme, "p-1")
	whole, err := h.rdb.HGet(t.Context(), key, "m").Result()
	h.must(err)
	h.must(h.rdb.HSet(t.Context(), key, "m", "{").Err())
	if _, err := h.worker().begin(t.Context(), ticket("p-1", 1, 1), true, 0); !errors.Is(err, ledger.ErrBadRecord) {
		t.Errorf("begun with %v", err)
	}
	rec, err := ledger.ParseRecord(h.rdb.HGet(t.Context(), key, ledger.RecordField(1)).Val())
	if h.must(err); rec.State != 'P' || rec.Number != 0 {
		t.Fatalf("the record is %+v", rec)
	}
	h.must(h.rdb.HSet(t.Context(), key, "m", whole).Err())
	h.drain()
	h.check()
}

// TestLongBodiesDoNotTravelTogether: however many attempts begin at once, an answer has a mebibyte of payload or one payload. What it leaves out is
// read by itself, and each partner gets its own.
func TestLongBodiesDoNotTravelTogether(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	end, err := registry.Announce(t.Context(), h.rdb, nil, registry.Process{ID: "old", Level: registry.ModelLevel - 1}, testLog(t)) // none is compressed
	h.must(err)
	t.Cleanup(func() { _ = end(context.Background()) })
	h.register("payment_proof", "")
	long := func(id string, n int) payloads.Event {
		e := proof(id)
		e.Payload = fmt.Appendf(nil, `{"requestId": %q, "status": "OK", "issuerName": %q}`, id, strings.Repeat(id[len(id)-1:], n))
		return e
	}
	ids := eventIDs("p-", 6)
	var calls []*ledger.Call
	for _, id := range ids {
		h.send(long(id, 400_000))
		calls = append(calls, &ledger.Call{Script: beginScript, Key: ledger.Key(acme, "due"), Deliveries: 1, Args: []any{id + "/1", 1, "token-" + id, 1, false, false, 0}})
	}
	h.steps().Do(t.Context(), calls...)
	size, left := 0, 0
	for i, call := range calls {
		answer, err := call.Answer()
		h.must(err)
		switch body := answer[5]; {
		case body == "":
			left++
		case body != string(long(ids[i], 400_000).Payload):
			t.Errorf("%s has another's payload", ids[i])
		default:
			size += len(body)
		}
	}
	if size > 1<<20 || left != len(ids)-2 {
		t.Errorf("one answer has %d bytes of payload, and leaves out %d", size, left)
	}
	for i := range 12 {
		h.send(long(fmt.Sprintf("q-%c", 'a'+i), 300_000))
	}
	h.work() // the leases of those that were begun here are over
	h.awaitAll(30 * time.Second)
	for _, r := range h.partner.requests() {
		id := r.header.Get("Ringback-Event-Id")
		if want := string(h.acked[id].Payload); r.body != want {
			t.Errorf("%s arrived as %d bytes, not the %d that were sent", id, len(r.body), len(want))
		}
	}
	h.check()
}
