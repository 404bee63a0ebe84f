package httpapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/lua"
	"github.com/ringback/ringback/registry"
)

// losing is a Redis to which no answer gets to be kept, while on is set: so a process that is killed after it acted leaves it.
type losing struct {
	on      atomic.Bool
	scripts []string // what Redis calls those that do not come to run
}

// loses is what that of a killed process does not come to.
func loses(more ...string) *losing {
	return &losing{scripts: append(more, lua.Script("answered").Hash())}
}

func (l *losing) DialHook(next redis.DialHook) redis.DialHook { return next }

func (l *losing) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (l *losing) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if args := cmd.Args(); l.on.Load() && len(args) > 1 && slices.ContainsFunc(l.scripts, func(hash string) bool { return args[1] == hash }) {
			err := errors.New("the process is gone")
			cmd.SetErr(err)
			return err
		}
		return next(ctx, cmd)
	}
}

// claims are the keys of all claims.
func (h *house) claims() []string {
	h.t.Helper()
	keys, err := h.rdb.Keys(h.t.Context(), "*:idem:*").Result()
	h.must(err)
	return keys
}

// endLeases has the time pass that requests may be under way.
func (h *house) endLeases() {
	h.t.Helper()
	for _, key := range h.claims() {
		h.must(h.rdb.HSet(h.t.Context(), key, "u", "0").Err())
	}
}

// steps are the steps that acted, as the one claim there is notes them.
func (h *house) steps() (steps []string) {
	h.t.Helper()
	keys := h.claims()
	if len(keys) != 1 {
		h.t.Fatalf("there are the claims %q, want one", keys)
	}
	fields, err := h.rdb.HKeys(h.t.Context(), keys[0]).Result()
	h.must(err)
	for _, field := range fields {
		if step, ok := strings.CutPrefix(field, "r:"); ok {
			steps = append(steps, step)
		}
	}
	return steps
}

func (a answer) same(b answer) {
	a.t.Helper()
	if a.status != b.status || string(a.body) != string(b.body) || a.header.Get("Location") != b.header.Get("Location") || a.header.Get("Content-Type") != b.header.Get("Content-Type") {
		a.t.Errorf("the answers are %d %q %s\nand %d %q %s", a.status, a.header.Get("Location"), a.body, b.status, b.header.Get("Location"), b.body)
	}
}

// prepared makes what a POST needs to change something.
func (h *house) prepared(op *opDoc, n int) request {
	h.t.Helper()
	h.afresh()
	if left := h.claims(); len(left) > 0 { // those of all companies
		h.must(h.rdb.Del(h.t.Context(), left...).Err())
	}
	r := h.request(op, n)
	switch op.OperationID {
	case "resume-callback":
		h.call("operator", "POST", strings.Replace(r.path, "/resume", "/pause", 1), "").want(http.StatusOK)
	case "resume-egress":
		h.call("operator", "POST", "/egress/pause", "").want(http.StatusOK)
	}
	return r
}

// TestEveryPostIsDoneOnce walks the POSTs of the API's description. One that is new needs no line here, and fails until it takes the header: its script has to be
// one that acts (package once).
func TestEveryPostIsDoneOnce(t *testing.T) {
	h := newHouse(t)
	redis := loses()
	h.rdb.AddHook(redis)
	n := 5000
	for _, op := range h.operations() {
		if op.method != "post" {
			continue
		}
		t.Run(op.OperationID, func(t *testing.T) {
			h := h.in(t)
			n++
			switch op.OperationID {
			case "send-event":
				return // TestAnIdempotencyKeyIsTheEventsID
			case "send-events", "monitoring-login", "monitoring-logout": // a line is an event; and pages' forms answer with cookies
				h.call("operator", "POST", strings.Replace(op.path, "{company}", "acme", 1), "", header{"Idempotency-Key": "k"}).wantFault("header.Idempotency-Key")
				return
			case "test-callback", "dry-run", "dry-run-callback": // nothing is kept of them
				r := h.prepared(op, n)
				for range 2 {
					if a := r.do(h, "operator", header{"Idempotency-Key": "k"}); a.status >= 300 || a.header.Get("Idempotent-Replayed") != "" || len(h.claims()) != 0 {
						t.Errorf("answered %d %v %s", a.status, a.header, a.body)
					}
				}
				return
			}
			h.wantOnce(h.prepared(op, n))
			h.wantOnceDespiteKill(redis, h.prepared(op, n+1000))
		})
	}
}

// wantOnce has a request repeated: with the same key, with another body, and as somebody else.
func (h *house) wantOnce(r request) {
	h.t.Helper()
	r.do(h, "operator", header{"Idempotency-Key": ""}).wantFault("header.Idempotency-Key")
	key := header{"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}
	var first answer
	lines := h.during(func() { first = r.do(h, "operator", key) })
	if first.status >= 300 || first.header.Get("Idempotent-Replayed") != "" {
		h.t.Fatalf("answered %d: %s", first.status, first.body)
	}
	h.steps() // of the one claim, which has its answer by now
	again := h.during(func() {
		a := r.do(h, "operator", key)
		a.same(first)
		if a.header.Get("Idempotent-Replayed") != "true" {
			h.t.Errorf("answered anew: %v", a.header)
		}
		if r.RequestBody != nil {
			other := r
			other.body += " "
			other.do(h, "operator", key).wantFault("header.Idempotency-Key")
		}
	})
	if len(again) != 0 {
		h.t.Errorf("done once more: %+v, first %+v", again, lines)
	}
	if a := r.do(h, "acme operator", key); a.header.Get("Idempotent-Replayed") != "" {
		h.t.Errorf("somebody else's request has this one's answer: %s", a.body)
	}
}

// wantOnceDespiteKill has a request repeated whose process was killed between what it did and its answer.
func (h *house) wantOnceDespiteKill(redis *losing, r request) {
	h.t.Helper()
	key := header{"Idempotency-Key": `"killed"`}
	var first answer
	redis.on.Store(true)
	h.during(func() { first = r.do(h, "operator", key) })
	redis.on.Store(false)
	if steps := h.steps(); len(steps) == 0 {
		h.t.Errorf("no script noted in the request's claim that it acted: have it be one of lua.Acting or once.New, in the place that operation.repeats says")
	}
	if r.do(h, "operator", key).wantProblem(http.StatusConflict); h.t.Failed() {
		return
	}
	h.endLeases()
	again := h.during(func() { r.do(h, "operator", key).same(first) })
	if len(again) != 0 {
		h.t.Errorf("done once more: %+v", again)
	}
	if a := r.do(h, "operator", key); a.header.Get("Idempotent-Replayed") != "true" {
		h.t.Errorf("its answer was not kept then: %v", a.header)
	}
}

// TestOnlyOneOfManyActs: of requests at the same time with one key, one acts, and the others hear its answer or that it is under way.
func TestOnlyOneOfManyActs(t *testing.T) {
	h := newHouse(t)
	const path = "/companies/acme/config/callbacks"
	answers := make([]answer, 20)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() { answers[i] = h.call("partner", "POST", path, hook, header{"Idempotency-Key": "one"}) })
	}
	all.Wait()
	secrets := map[any]bool{}
	for _, a := range answers {
		if a.status == http.StatusConflict {
			if a.wantProblem(http.StatusConflict); a.header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			continue
		}
		secrets[a.want(http.StatusCreated).json()["secret"]] = true
	}
	if list := h.call("partner", "GET", path, "").json()["callbacks"].([]any); len(list) != 1 || len(secrets) != 1 {
		t.Errorf("%d callbacks and %d secrets, want one each", len(list), len(secrets))
	}
}

// TestAKeyIsFreeUntilSomethingWasDone: a refusal is not kept, and what is kept is kept for a day, sealed, and goes with its company.
func TestAKeyIsFreeUntilSomethingWasDone(t *testing.T) {
	h := newHouse(t)
	const path = "/companies/acme/config/callbacks"
	key := header{"Idempotency-Key": "the-key-of-this-test"}
	h.call("partner", "POST", path, `{"callback_type":"nonsense"}`, key).wantProblem(http.StatusUnprocessableEntity)
	if left := h.claims(); len(left) != 0 {
		t.Errorf("a refusal left %q", left)
	}
	made := h.call("partner", "POST", path, hook, key).want(http.StatusCreated)
	h.call("partner", "POST", path, hook, header{"Idempotency-Key": `"the-key-of-this-test"`}).want(http.StatusCreated).same(made)
	secret := made.json()["secret"].(string)
	for _, claim := range h.claims() {
		fields, err := h.rdb.HGetAll(t.Context(), claim).Result()
		h.must(err)
		for field, value := range fields {
			if strings.Contains(value, secret) || strings.Contains(value, "callback") || strings.Contains(value, "the-key-of") {
				t.Errorf("%s %s says %q", claim, field, value)
			}
		}
		if left := h.rdb.PTTL(t.Context(), claim).Val(); left < registry.MaxLinkLife/2 {
			t.Errorf("%s is Redis's to end in %s: a step of its clock would do it", claim, left)
		}
	}
	if made := h.call("operator", "POST", "/companies/acme/replays", "{}", key).want(http.StatusAccepted); made.header.Get("Location") == "" {
		t.Error("no replay")
	}
	h.call("partner", "POST", "/companies/acme/portal-links", "", key).want(http.StatusCreated)
	// A day later the key is free.
	for _, claim := range h.claims() {
		h.must(h.rdb.HSet(t.Context(), claim, "x", "1").Err())
	}
	if next := h.call("partner", "POST", path, hook, key).want(http.StatusCreated).json()["secret"]; next == secret {
		t.Error("a key is kept for longer than a day")
	}
	h.call("operator", "DELETE", "/companies/acme?confirm=acme", "").want(http.StatusOK)
	if left, err := h.rdb.Keys(t.Context(), "*:idem*").Result(); err != nil || len(left) != 0 {
		t.Errorf("the erased company left %q, %v", left, err)
	}
}

// A silent Redis does what scripts under a claim ask of it, and loses its answer, while on is set.
type silent struct {
	losing

	lost int // how many answers were
}

func (s *silent) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		underClaim := func(arg any) bool {
			text, ok := arg.(string)
			return ok && strings.Contains(text, ":idem:")
		}
		if args := cmd.Args(); s.on.Load() && err == nil && len(args) > 2 && slices.ContainsFunc(args[2:], underClaim) { // behind the script's text
			s.lost++
			err = io.EOF
			cmd.SetErr(err)
		}
		return err
	}
}

// TestAFailureOfOurOwnIsNoAnswer: where Redis did what was asked, and its answer was lost, the request is answered 503. A repeat is not: it hears at once what was
// done, which is not done again.
func TestAFailureOfOurOwnIsNoAnswer(t *testing.T) {
	h := newHouse(t)
	h.register("acme") // so that the company is awake, and the first answer is that it was done
	redis := &silent{}
	h.rdb.AddHook(redis)
	const path = "/companies/acme/config/callbacks"
	create := func() answer { return h.call("partner", "POST", path, hook, header{"Idempotency-Key": "k"}) }
	redis.on.Store(true)
	create().wantProblem(http.StatusServiceUnavailable)
	redis.on.Store(false)
	if steps := h.steps(); redis.lost != 1 || len(steps) != 1 {
		t.Fatalf("%d answers were lost, of the steps %q; want one", redis.lost, steps)
	}
	made := create().want(http.StatusCreated)
	if made.header.Get("Idempotent-Replayed") != "" || made.json()["secret"] == nil {
		t.Errorf("the repeat is answered %v %s", made.header, made.body)
	}
	again := create().want(http.StatusCreated)
	again.same(made)
	if again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("its answer was not kept: %v", again.header)
	}
	if list := h.call("partner", "GET", path, "").json()["callbacks"].([]any); len(list) != 2 {
		t.Errorf("%d callbacks, want the one of before and this", len(list))
	}
}

// TestWhatAKilledProcessNotedIsSealed: between what it did and its answer, Redis holds what it made up, and nothing of that can be read there.
func TestWhatAKilledProcessNotedIsSealed(t *testing.T) {
	h := newHouse(t)
	redis := loses()
	h.rdb.AddHook(redis)
	key := header{"Idempotency-Key": "k"}
	redis.on.Store(true)
	secret := h.call("partner", "POST", "/companies/acme/config/callbacks", hook, key).want(http.StatusCreated).json()["secret"].(string)
	link := h.call("partner", "POST", "/companies/acme/portal-links", "", key).want(http.StatusCreated).json()["url"].(string)
	redis.on.Store(false)
	bodies := []byte(nil) // their digests, by which a short body could be guessed
	for _, body := range []string{hook, ""} {
		digest := sha256.Sum256([]byte("\n" + body))
		bodies = append(bodies, digest[:]...)
	}
	noted := 0
	for _, claim := range h.claims() {
		fields, err := h.rdb.HGetAll(t.Context(), claim).Result()
		h.must(err)
		if fields["n"] != "" {
			noted++
		}
		if f := fields["f"]; len(f) <= sha256.Size || bytes.Contains(bodies, []byte(f)) {
			t.Errorf("the body's digest can be read in %s: %x", claim, f)
		}
		for field, value := range fields {
			for _, made := range []string{secret, strings.TrimPrefix(secret, "whsec_"), link[strings.LastIndexAny(link, "/#=")+1:], "payment_proof", "https://"} {
				if strings.Contains(value, made) {
					t.Errorf("%s says %q in %s", field, made, claim)
				}
			}
		}
	}
	if noted != 2 {
		t.Errorf("%d requests noted what they made up", noted)
	}
}

// TestAKeyWaitsForOldProcesses: one that does not know the header would act once more.
func TestAKeyWaitsForOldProcesses(t *testing.T) {
	h := newHouse(t)
	old, err := json.Marshal(registry.Process{Level: 5, Roles: "api", Host: "old", PID: 1})
	h.must(err)
	now, err := h.rdb.Time(t.Context()).Result()
	h.must(err)
	h.must(h.rdb.ZAdd(t.Context(), "ringback:processes", redis.Z{Score: float64(now.UnixMilli()), Member: old}).Err())
	p := h.call("partner", "POST", "/companies/acme/config/callbacks", hook, header{"Idempotency-Key": "k"}).wantProblem(http.StatusConflict)
	if !strings.Contains(p.Detail, "Idempotency-Key") || !strings.Contains(p.Detail, "older version") {
		t.Errorf("%q", p.Detail)
	}
	h.call("partner", "POST", "/companies/acme/config/callbacks", hook).want(http.StatusCreated)
}

// TestADecisionIsAskedOnce: a partner is not asked again by a repeat, and what it said is told again. If the process was killed before that was written down,
// it is unknown, and stays so.
func TestADecisionIsAskedOnce(t *testing.T) {
	h := newDecisionHouse(t)
	redis := loses()
	h.rdb.AddHook(redis)
	var asked atomic.Int64
	h.reply.Store(new(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"decision":"let in"}`))
	})))
	h.registerDecider()
	ask := func(key string) answer {
		return h.call("producer", "POST", "/companies/acme/decisions", `{"event_type":"entry_code.verify","payload":{"entryCode":"4711"}}`, header{"Idempotency-Key": key})
	}
	killed := func(key string) answer {
		redis.on.Store(true)
		first := ask(key)
		redis.on.Store(false)
		h.endLeases()
		return first
	}
	ask("whole").want(http.StatusOK).same(ask("whole"))
	first := killed("recorded").want(http.StatusOK)
	ask("recorded").same(first)
	if n := asked.Load(); n != 2 {
		t.Errorf("asked %d times", n)
	}

	redis.scripts = append(redis.scripts, lua.Acting("answer", "true").HashUnderClaim())
	id := killed("unknown").want(http.StatusOK).json()["decision_id"]
	for range 2 {
		m := ask("unknown").want(http.StatusBadGateway).json()
		if m["decision_id"] != id || m["reason"] != "unknown" || m["callback_id"] != float64(1) || !strings.Contains(m["detail"].(string), "wrote down") {
			t.Errorf("%v, want decision %v", m, id)
		}
	}
	if n := asked.Load(); n != 3 {
		t.Errorf("asked %d times", n)
	}
}
