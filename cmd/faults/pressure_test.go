package faults

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hibiken/asynq"
)

// Backlogs, herds, asynq's lists in disorder, and processes that are told to end.

var pressureFaults = []fault{
	{"F26-backlog", "a partner comes back after an outage, and finds a backlog", false, true, backlog},
	{"F27-herd", "retries that are all due in the same second, of a callback with a rate limit and of one without", false, true, herd},
	{"F28-one-hangs", "one callback hangs, and its share of 50 events a second piles up", true, true, oneHangs},
	{"F30-asynq-lists", "asynq's lists are in disorder: everything archived, a queue deleted, names without content, old entries", true, false, disorder},
	{"F32-sigterm", "the worker is told to end while partners take their time", true, false, func(s *scene) { terminate(s, false) }},
	{"F32-sigterm-twice", "the worker is told to end twice", false, false, func(s *scene) { terminate(s, true) }},
	{"F32-rolling", "three workers are restarted one after the other under load", true, false, rolling},
	{"pause-resume", "a callback is paused, and resumed when thousands of events wait for it", true, true, func(s *scene) { pauseResume(s, 0, 0) }},
	{"pause-resume-rate", "the same with a rate limit", false, true, func(s *scene) { pauseResume(s, 500, 50) }},
}

// limit gives a callback a rate limit.
func (s *scene) limit(cb callback, perSecond float64, burst int) {
	s.t.Helper()
	body := map[string]any{"rate_limit": map[string]any{"per_second": perSecond, "burst": burst}}
	status, err := s.patiently(http.MethodPatch, fmt.Sprintf("/companies/%s/config/callbacks/%d", company, cb.ID), body, nil)
	if err != nil || status != http.StatusOK {
		s.t.Fatalf("limiting: %d, %v", status, err)
	}
}

// arrivalsAt are the times of requests at a path, in order.
func (s *scene) arrivalsAt(path string) []time.Time {
	var out []time.Time
	for _, a := range s.partner.books() {
		if a.path == path {
			out = append(out, a.start)
		}
	}
	return out
}

// fullest is how many of the times lie in the fullest span of that length.
func fullest(times []time.Time, span time.Duration) int {
	most, from := 0, 0
	for to := range times {
		for times[to].Sub(times[from]) >= span {
			from++
		}
		most = max(most, to-from+1)
	}
	return most
}

// catchUp is for how long what has left for the lanes, with its token, may stand there on a busy machine: it comes late, close to what follows.
const catchUp = 500 * time.Millisecond

// paced verifies that requests kept a rate limit, over any second and any five.
func (s *scene) paced(times []time.Time, perSecond float64, burst int) {
	s.t.Helper()
	for _, span := range []time.Duration{time.Second, 5 * time.Second} {
		if n := fullest(times, span); float64(n) > float64(burst)+perSecond*(span+catchUp).Seconds() {
			s.t.Errorf("%d requests within %s, the limit is %g/s and a burst of %d", n, span, perSecond, burst)
		}
	}
}

// atOnce is how many requests at a path were open at the same time, at most.
func (s *scene) atOnce(path string) int {
	type edge struct {
		at time.Time
		by int
	}
	var edges []edge
	for _, a := range s.partner.books() {
		if a.path == path && !a.end.IsZero() {
			edges = append(edges, edge{a.start, 1}, edge{a.end, -1})
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return a.at.Compare(b.at) })
	now, most := 0, 0
	for _, e := range edges {
		now += e.by
		most = max(most, now)
	}
	return most
}

// capPerWorker is how many attempts a worker with the default concurrency has under way to one callback.
const capPerWorker = 50

func backlog(s *scene) {
	s.open(setup{callbacks: -1})
	s.audiences("ill", "fresh")
	s.audience("ill", map[string]any{"retry": map[string]any{"initial_interval": "5s", "max_interval": "10s", "max_attempts": 100}})
	s.audience("fresh", nil)
	s.audience("fresh", nil)
	var back atomic.Bool
	s.partner.handle(func(w http.ResponseWriter, r *http.Request, a *arrival) {
		switch {
		case a.path == "/1" && !back.Load():
			<-r.Context().Done()
		case a.path == "/1":
			slow(10*time.Millisecond)(w, r, a)
		}
	})
	events := s.pick(2000, 20_000)
	calm := s.send(load{events: s.pick(100, 200), rate: 20, to: []string{"fresh"}})
	calm.wait()
	s.send(load{events: events, clients: 16, to: []string{"ill"}}).wait()
	fresh := s.send(load{events: s.pick(300, 800), rate: 20, to: []string{"fresh"}})
	back.Store(true)
	from := time.Now()
	s.partner.await(s.pick(200, 400)+1, 40*time.Second)
	s.settleOnly("1", 3*time.Minute)
	until := time.Now()
	fresh.wait()
	s.settle(60 * time.Second)
	good := s.arrivalsAt("/1")
	good = slices.DeleteFunc(good, func(t time.Time) bool { return t.Before(from) })
	s.injected("%d events for a partner that did not answer; then it did, within 10 ms", events)
	if len(good) < events {
		s.t.Errorf("%d of %d came after the partner was back", len(good), events)
	}
	drain := good[len(good)-1].Sub(good[0])
	s.found("the first went out %s after it was back, all within %s of that: %.0f/s", good[0].Sub(from).Round(10*time.Millisecond), drain.Round(10*time.Millisecond),
		float64(len(good))/drain.Seconds())
	most := s.atOnce("/1")
	before := s.latencies(calm, "/2", "/3")
	during := s.latencies(fresh, "/2", "/3")
	s.found("at most %d at once; p99 of fresh events for two others %s before, %s while it drained (%s)", most, round(quantile(before, 0.99)), round(quantile(during, 0.99)),
		until.Sub(from).Round(time.Second))
	if most > capPerWorker {
		s.t.Errorf("%d requests at once, the cap is %d", most, capPerWorker)
	}
	if p99 := quantile(during, 0.99); p99 > 2*time.Second {
		s.t.Errorf("fresh events for others waited %s (p99)", p99)
	}
	s.verify()
	s.verifyAudiences()
	s.noDuplicates()
}

// settleOnly waits until one callback has nothing under way any more.
func (s *scene) settleOnly(callback string, within time.Duration) {
	s.t.Helper()
	ctx := s.t.Context()
	left := int64(0)
	s.eventually(within, func() bool {
		pipe := s.direct.Pipeline()
		counts := []interface{ Val() int64 }{
			pipe.SCard(ctx, "{"+company+"}:ready:"+callback), pipe.ZCard(ctx, "{"+company+"}:room:"+callback), pipe.ZCard(ctx, "{"+company+"}:retry:"+callback),
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return false
		}
		left = 0
		for _, n := range counts {
			left += n.Val()
		}
		return left == 0
	}, func() string { return fmt.Sprintf("callback %s has still %d under way", callback, left) })
}

func (s *scene) noDuplicates() {
	s.t.Helper()
	if s.row.duplicates > 0 {
		s.t.Errorf("%d duplicates, though nothing was cut off", s.row.duplicates)
	}
}

// herd: a third of the first attempts is told to come back at one and the same moment.
func herd(s *scene) {
	const perSecond, burst = 100, 20
	s.open(setup{callbacks: 2, options: map[string]any{"retry": map[string]any{"initial_interval": "1s", "max_attempts": 20}}})
	s.limit(s.callbacks[1], perSecond, burst)
	events := s.pick(600, 3000)
	due := time.Now().Add(time.Duration(events/perSecond)*time.Second + 10*time.Second).Truncate(time.Second)
	s.partner.handle(func(w http.ResponseWriter, r *http.Request, a *arrival) {
		if k, _ := strconv.Atoi(a.event[strings.LastIndexByte(a.event, '-')+1:]); a.attempt == 1 && k%3 == 0 {
			w.Header().Set("Retry-After", due.UTC().Format(http.TimeFormat))
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		slow(5*time.Millisecond)(w, r, a)
	})
	s.send(load{events: events, clients: 16}).wait()
	s.injected("%d retries of each of two callbacks were told to come at the same second", events/3)
	s.settle(120 * time.Second)
	for i, path := range []string{"/1", "/2"} {
		all := s.arrivalsAt(path)
		after := slices.DeleteFunc(slices.Clone(all), func(t time.Time) bool { return t.Before(due.Add(-500 * time.Millisecond)) })
		early := 0
		for _, a := range s.partner.books() {
			if a.path == path && a.attempt > 1 && a.start.Before(due) {
				early++
			}
		}
		if len(after) < events/4 {
			s.t.Errorf("%d retries at %s once they were due: this tried too little", len(after), path)
			continue
		}
		if early > 0 {
			s.t.Errorf("%d retries came to %s before their time", early, path)
		}
		second, most := fullest(all, time.Second), s.atOnce(path)
		s.found("%s: %d came within %s, at most %d in 100 ms, %d in a second, %d at once", []string{"without a limit", "with 100/s"}[i], len(after),
			after[len(after)-1].Sub(after[0]).Round(10*time.Millisecond), fullest(after, 100*time.Millisecond), second, most)
		if most > capPerWorker {
			s.t.Errorf("%d requests at once to %s, the cap is %d", most, path, capPerWorker)
		}
		if i == 1 {
			s.paced(all, perSecond, burst)
		}
	}
	s.verify()
	s.noDuplicates()
}

// oneHangs is the quick sibling of the isolation row: it would notice a callback that starves the others, not one that slows them down.
func oneHangs(s *scene) {
	s.open(setup{callbacks: 10, options: map[string]any{"timeout": "5s"}})
	var paths []string
	for i := 2; i <= 10; i++ {
		paths = append(paths, fmt.Sprintf("/%d", i))
	}
	rate := float64(s.pick(50, 20)) // in a full run others need the machine, too
	calm := s.send(load{events: 50, rate: rate})
	calm.wait()
	left := ""
	s.eventually(30*time.Second, func() bool { left = s.underWay(); return left == "" }, func() string { return "there is still " + left })
	before := quantile(s.latencies(calm, paths...), 0.99)
	cured := make(chan struct{})
	s.partner.handle(func(_ http.ResponseWriter, r *http.Request, a *arrival) {
		if a.path == "/1" {
			select {
			case <-cured:
			case <-r.Context().Done():
			}
		}
	})
	const events = 400
	sending := s.send(load{events: events, rate: rate})
	sending.wait()
	var d []time.Duration
	s.eventually(30*time.Second, func() bool {
		d = s.latencies(sending, paths...)
		return len(d) == 9*events
	}, func() string { return fmt.Sprintf("the others got %d of %d", len(d), 9*events) })
	s.injected("one of ten callbacks hangs (timeout 5 s), %d events/s", s.pick(50, 20))
	p99 := quantile(d, 0.99)
	s.found("the others' p50 %s, p99 %s (%s while all answered)", round(quantile(d, 0.5)), round(p99), round(before))
	// 4 s is less than the timeout of the one that hangs. A busy machine is slow to all; if they waited their turn behind that one it would be half a minute.
	if p99 > max(time.Duration(s.pick(15, 4))*time.Second, 5*before) {
		s.t.Errorf("the others waited %s (p99), and %s while all answered", p99, before)
	}
	close(cured)
	s.settle(60 * time.Second)
	s.verify()
	s.noDuplicates()
}

// disorder: asynq's tasks are hints, so whatever somebody does to them costs time and nothing else.
func disorder(s *scene) {
	s.open(setup{callbacks: 8, options: map[string]any{"retry": map[string]any{"initial_interval": "1s", "max_attempts": 2}}})
	var well atomic.Bool
	s.partner.handle(func(w http.ResponseWriter, _ *http.Request, a *arrival) {
		switch {
		case well.Load() || a.path > "/4":
		case a.path == "/1":
			w.WriteHeader(http.StatusInternalServerError)
		default: // these wait for their retry in asynq
			w.Header().Set("Retry-After", "20")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	s.send(load{events: 5}).wait()
	s.settleOnly("1", 60*time.Second)
	dead := s.deadLetters()
	if code := s.terminate(s.workers[0]); code != 0 {
		s.t.Errorf("SIGTERM: exit %d", code)
	}
	waiting := s.send(load{events: s.pick(60, 300)})
	waiting.wait()
	well.Store(true)
	opt := asynq.RedisClientOpt{Network: "unix", Addr: s.redis.Socket()}
	inspector := asynq.NewInspector(opt)
	s.t.Cleanup(func() { _ = inspector.Close() })
	queues, err := inspector.Queues()
	s.must(err)
	slices.Sort(queues)
	if len(queues) < 4 {
		s.t.Fatalf("queues %v: want four to break", queues)
	}
	archived, phantoms := 0, 0
	for i, queue := range queues {
		switch i % 4 {
		case 0, 1:
			pending, err := inspector.ArchiveAllPendingTasks(queue)
			s.must(err)
			retrying, err := inspector.ArchiveAllRetryTasks(queue)
			s.must(err)
			archived += pending + retrying
		case 2:
			s.must(inspector.DeleteQueue(queue, true))
		case 3: // the content goes, the names stay
			keys, err := s.direct.Keys(s.t.Context(), "asynq:{"+queue+"}:t:*").Result()
			s.must(err)
			for _, key := range keys {
				s.must(s.direct.Del(s.t.Context(), key).Err())
			}
			phantoms += len(keys)
		}
	}
	old := s.pick(500, 9000)
	s.oldArchive(asynq.NewClient(opt), inspector, queues[0], old)
	s.injected("%d tasks archived, a queue deleted, the content of %d tasks deleted and their names left, %d foreign archive entries 100 days old", archived, phantoms, old)
	from := time.Now()
	s.again(s.workers[0])
	s.settleBooks(130 * time.Second)
	s.found("all was delivered after %s", time.Since(from).Round(100*time.Millisecond))
	s.eventually(10*time.Second, func() bool {
		known, err := inspector.Queues()
		slices.Sort(known)
		return err == nil && slices.Equal(known, queues)
	}, func() string { return "the queues are not registered again" })
	if now := s.deadLetters(); !slices.Equal(now, dead) {
		s.t.Errorf("%d are in the dead-letter book, %d were: %v", len(now), len(dead), now)
	}
	for _, queue := range queues { // what an operator would clear away
		_, _ = inspector.DeleteAllArchivedTasks(queue)
		keys, err := s.direct.LRange(s.t.Context(), "asynq:{"+queue+"}:active", 0, -1).Result()
		s.must(err)
		for _, id := range keys {
			if n, err := s.direct.HExists(s.t.Context(), "asynq:{"+queue+"}:t:"+id, "msg").Result(); err == nil && !n {
				s.must(s.direct.Del(s.t.Context(), "asynq:{"+queue+"}:t:"+id).Err())
			}
		}
	}
	s.direct.Del(s.t.Context(), "asynq:{"+queues[0]+"}:archived")
	keys, err := s.direct.Keys(s.t.Context(), "asynq:{"+queues[0]+"}:t:old-*").Result()
	s.must(err)
	if len(keys) > 0 {
		s.must(s.direct.Del(s.t.Context(), keys...).Err())
	}
	s.settle(60 * time.Second)
	s.row.recovery = time.Since(from)
	s.verify()
	s.noDuplicates()
	if s.row.dead != len(dead) || len(dead) == 0 {
		s.t.Errorf("%d are dead, %d were before", s.row.dead, len(dead))
	}
}

// deadLetters are the ids in the dead-letter book.
func (s *scene) deadLetters() []string {
	s.t.Helper()
	var ids []string
	for id, d := range s.list() {
		if d.State == "dead" {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// oldArchive fills a queue's archive with so many entries of a hundred days ago.
func (s *scene) oldArchive(client *asynq.Client, inspector *asynq.Inspector, queue string, n int) {
	s.t.Helper()
	defer func() { _ = client.Close() }()
	var wg sync.WaitGroup
	for part := range 8 {
		wg.Go(func() {
			for i := part; i < n; i += 8 {
				_, _ = client.Enqueue(asynq.NewTask("foreign", nil), asynq.TaskID(fmt.Sprintf("old-%d", i)), asynq.Queue(queue), asynq.ProcessIn(24*time.Hour))
			}
		})
	}
	wg.Wait()
	moved, err := inspector.ArchiveAllScheduledTasks(queue)
	s.must(err)
	if moved < n {
		s.t.Fatalf("%d of %d are archived", moved, n)
	}
	ctx, key := s.t.Context(), "asynq:{"+queue+"}:archived"
	entries, err := s.direct.ZRange(ctx, key, 0, -1).Result()
	s.must(err)
	pipe := s.direct.Pipeline()
	for _, id := range entries {
		if strings.HasPrefix(id, "old-") {
			pipe.ZIncrBy(ctx, key, -100*24*3600, id)
		}
	}
	_, err = pipe.Exec(ctx)
	s.must(err)
}

// terminate sends SIGTERM and returns the exit code.
func (s *scene) terminate(p *process) int {
	s.t.Helper()
	p.end(syscall.SIGTERM)
	return p.cmd.ProcessState.ExitCode()
}

func terminate(s *scene, twice bool) {
	s.open(setup{callbacks: 2, options: map[string]any{"timeout": "10s"}})
	s.partner.handle(slow(4 * time.Second))
	sending := s.send(load{events: s.pick(60, 200)})
	s.partner.awaitOpen(60, 30*time.Second)
	_, open, _ := s.partner.counts()
	worker, from := s.workers[0], time.Now()
	if twice {
		s.must(worker.cmd.Process.Signal(syscall.SIGTERM))
		<-time.After(time.Second)
		s.injected("SIGTERM twice, a second apart, while some %d requests of 4 s were open", open)
		worker.end(syscall.SIGTERM)
		s.hit(from)
		if took := time.Since(from); took > 3*time.Second {
			s.t.Errorf("after the second SIGTERM it took %s", took)
		}
	} else {
		s.injected("SIGTERM while some %d requests of 4 s were open", open)
		if code := s.terminate(worker); code != 0 {
			s.t.Errorf("exit %d, want 0", code)
		}
		took := time.Since(from)
		s.found("it ended after %s", took.Round(10*time.Millisecond))
		if took > atLeast(15*time.Second) {
			s.t.Errorf("it took %s to end, the requests 4 s", took)
		}
		if _, open, _ := s.partner.counts(); open > 0 {
			s.t.Errorf("%d requests are open after the end", open)
		}
	}
	s.partner.handle(nil)
	s.again(worker)
	sending.wait()
	s.settle(90 * time.Second)
	s.verify()
	if !twice {
		s.noDuplicates()
		if s.row.unknown > 0 {
			s.t.Errorf("%d attempts have no outcome, though each had time to end", s.row.unknown)
		}
	}
}

func rolling(s *scene) {
	s.open(setup{workers: 3, callbacks: 3})
	s.partner.handle(slow(300 * time.Millisecond))
	sending := s.send(load{events: s.pick(600, 4000), clients: 16, rate: float64(s.pick(60, 100)), giveUp: time.Minute})
	rounds := s.pick(1, 3)
	for range rounds {
		for _, worker := range s.workers {
			<-time.After(s.between(500*time.Millisecond, 1500*time.Millisecond))
			if code := s.terminate(worker); code != 0 {
				log, _ := os.ReadFile(worker.log)
				s.t.Errorf("exit %d, want 0:\n%s", code, log)
			}
			s.again(worker)
		}
	}
	s.injected("%d times SIGTERM and restart of one of three workers", 3*rounds)
	sending.wait()
	s.settle(90 * time.Second)
	s.verify()
	s.noDuplicates()
	if s.row.unknown > 0 {
		s.t.Errorf("%d attempts have no outcome, though each had time to end", s.row.unknown)
	}
}

// pauseResume pauses, sends, resumes: delivered once each, oldest first, at the callback's pace.
func pauseResume(s *scene, perSecond float64, burst int) {
	s.open(setup{})
	cb := s.callbacks[0]
	if perSecond > 0 {
		s.limit(cb, perSecond, burst)
	}
	s.partner.handle(slow(5 * time.Millisecond))
	s.door(cb, "pause")
	events := s.pick(1000, 10_000)
	s.send(load{events: events, clients: 16}).wait()
	if requests, _, _ := s.partner.counts(); requests > 0 {
		s.t.Errorf("%d requests to a paused callback", requests)
	}
	order := s.order()
	from := time.Now()
	s.door(cb, "resume")
	s.settle(3 * time.Minute)
	s.injected("%d events while paused, then resumed", events)
	s.verify()
	s.noDuplicates()
	books := s.partner.books()
	if len(books) != events {
		s.t.Errorf("%d requests for %d events", len(books), events)
	}
	furthest := 0
	for i, a := range books {
		furthest = max(furthest, i-order[a.delivery], order[a.delivery]-i)
	}
	times := s.arrivalsAt("/1")
	took := times[len(times)-1].Sub(times[0])
	s.found("the first after %s, all within %s (%.0f/s), at most %d in a second, %d at once; out of order by %d at most", times[0].Sub(from).Round(time.Millisecond),
		took.Round(10*time.Millisecond), float64(events)/took.Seconds(), fullest(times, time.Second), s.atOnce("/1"), furthest)
	if most := s.atOnce("/1"); most > capPerWorker {
		s.t.Errorf("%d requests at once, the cap is %d", most, capPerWorker)
	}
	if furthest > 600 { // at random it would be about all of them; what stands in the lanes is overtaken by what attempts that end let out
		s.t.Errorf("out of order by %d", furthest)
	}
	firstAnswer := slices.MinFunc(books, func(a, b arrival) int { return a.end.Compare(b.end) }).end
	few := 0
	for _, at := range times {
		if at.Before(firstAnswer) {
			few++
		}
	}
	if few > 8 {
		s.t.Errorf("%d requests before any was answered: a resume is to begin with 8", few)
	}
	if perSecond == 0 {
		return
	}
	s.paced(times, perSecond, burst)
	if least := time.Duration(float64(events-burst) / perSecond * float64(time.Second)); took < least*95/100 || took > least*3/2+5*time.Second {
		s.t.Errorf("it took %s at %g/s, want %s or little more", took, perSecond, least)
	}
}

// door pauses or resumes a callback.
func (s *scene) door(cb callback, what string) {
	s.t.Helper()
	status, err := s.patiently(http.MethodPost, fmt.Sprintf("/companies/%s/config/callbacks/%d/%s", cb.company, cb.ID, what), nil, nil)
	if err != nil || status != http.StatusOK {
		s.t.Fatalf("%s: %d, %v", what, status, err)
	}
}

// order is each delivery's place in the order of acceptance.
func (s *scene) order() map[string]int {
	s.t.Helper()
	var newest []string
	for cursor := ""; ; {
		var page struct {
			Deliveries []*delivery `json:"deliveries"`
			Next       string      `json:"next_cursor"`
		}
		status, err := s.patiently(http.MethodGet, "/companies/"+company+"/deliveries?limit=500&cursor="+cursor, nil, &page)
		if err != nil || status != http.StatusOK {
			s.t.Fatalf("listing deliveries: %d, %v", status, err)
		}
		for _, d := range page.Deliveries {
			newest = append(newest, d.ID)
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	places := make(map[string]int, len(newest))
	for i, id := range newest {
		places[id] = len(newest) - 1 - i
	}
	return places
}
