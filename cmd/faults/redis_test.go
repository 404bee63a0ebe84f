package faults

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// Redis that ends, forgets, hangs or is full.

var redisFaults = []fault{
	{"F6-kill-redis-everysec", "Redis is killed under load between two writes of its AOF, synced every second", true, false, func(s *scene) { killRedisUnderLoad(s, "everysec", true) }},
	{"F6-kill-redis-always", "Redis is killed under load, with an AOF synced at every write", true, false, func(s *scene) { killRedisUnderLoad(s, "always", false) }},
	{"F6-kill-redis-busy-disk", "Redis is killed under load at any moment, with an AOF synced every second: it may have put off up to 2 s of writes", false, false, func(s *scene) { killRedisUnderLoad(s, "everysec", false) }},
	{"F7-power-loss-everysec", "power fails: Redis's AOF, synced every second, loses its end", false, false, losePower},
	{"F7-power-loss-always", "power fails in the middle of a write, with an AOF synced at every write", false, false, tearWrite},
	{"F8-redis-hangs-5s", "Redis stands still for 5 s", false, false, func(s *scene) { hangRedis(s, 5*time.Second) }},
	{"F8-redis-hangs-40s", "Redis stands still for 40 s, which is longer than asynq's leases", false, false, func(s *scene) { hangRedis(s, 40*time.Second) }},
	{"F9-redis-full", "more events come than Redis has memory for", false, false, fillRedis},
	{"F9-redis-overfull", "something else fills Redis to its limit, so that it refuses every write", false, false, overfillRedis},
	{"F14-flushall", "somebody empties Redis under running processes", false, false, flushRedis},
	{"F14-old-copy", "Redis comes back with an older copy of its data, under running processes", false, false, restoreCopy},
	{"F15-old-leases", "asynq's clocks are wrong: its leases look lapsed and its retries due", false, false, ageLeases},
	{"F15-redis-clock-back", "Redis's clock is set back by 2 min and by 1 h", true, false, func(s *scene) { stepClock(s, -2*time.Minute, -time.Hour) }},
	{"F15-redis-clock-forward", "Redis's clock is set forward by 2 min and by 1 h", true, false, func(s *scene) { stepClock(s, 2*time.Minute, time.Hour) }},
	{"F34-disk-full", "Redis cannot write its AOF any more", true, false, fillDisk},
}

func killRedisUnderLoad(s *scene, fsync string, written bool) {
	s.open(setup{redisArgs: []string{"--appendfsync", fsync}, callbacks: 2})
	s.partner.handle(slow(20 * time.Millisecond))
	sending := s.send(load{events: s.pick(400, 5000), clients: 16, rate: float64(s.pick(150, 500))})
	kills := s.pick(2, 6)
	for i := range kills {
		s.partner.await(i*s.pick(200, 1200)+100, 60*time.Second)
		if written {
			s.killWrittenRedis()
		} else {
			s.killRedis()
		}
		<-time.After(s.between(0, time.Second))
		s.redis.Restart()
	}
	s.injected("%d times kill -9 and restart of Redis (appendfsync %s)", kills, fsync)
	sending.wait()
	s.settle(90 * time.Second)
	s.verify()
	if s.row.forgotten > 0 {
		s.found("lost with it: %d deliveries of events accepted in the last %s, which it had answered and put off writing", s.row.forgotten, s.row.oldest.Round(10*time.Millisecond))
	}
}

// appendOnly is the file that Redis appends to at the moment.
func (s *scene) appendOnly() string {
	s.t.Helper()
	for _, pattern := range []string{"appendonlydir/*.incr.aof", "appendonly.aof"} {
		files, err := filepath.Glob(filepath.Join(s.redis.Dir(), pattern))
		s.must(err)
		if len(files) > 0 {
			slices.Sort(files)
			return files[len(files)-1]
		}
	}
	s.t.Fatal("Redis has no append-only file")
	return ""
}

// losePower kills Redis and takes from its AOF what it had written within a second or so: what a machine without power has not on its disk.
func losePower(s *scene) {
	s.open(setup{callbacks: 2})
	s.partner.handle(slow(20 * time.Millisecond))
	file := s.appendOnly()
	type sample struct {
		at   time.Time
		size int64
	}
	const losses = 3
	for range losses {
		sending := s.send(load{events: 1500, clients: 16, rate: 250})
		var samples []sample
		for end := time.Now().Add(s.between(3*time.Second, 5*time.Second)); time.Now().Before(end); <-time.After(10 * time.Millisecond) {
			at := time.Now()
			info, err := os.Stat(file)
			s.must(err)
			samples = append(samples, sample{at, info.Size()})
		}
		window := s.between(300*time.Millisecond, 1500*time.Millisecond)
		from := time.Now()
		s.redis.Kill()
		i, _ := slices.BinarySearchFunc(samples, from.Add(-window), func(a sample, t time.Time) int { return a.at.Compare(t) })
		cut := samples[max(0, i-1)]
		s.must(os.Truncate(file, cut.size))
		s.redis.Restart()
		s.forget(from, from.Sub(cut.at)+everysecForgets) // it may have put off writing besides
		sending.wait()
	}
	s.injected("%d times kill -9 of Redis and its AOF (appendfsync everysec) cut back by 0.3 to 1.5 s of writes", losses)
	s.settle(120 * time.Second)
	s.verify()
	s.found("lost with it: %d deliveries of events accepted in the last %s before; none older", s.row.forgotten, s.row.oldest.Round(10*time.Millisecond))
}

// tearWrite: with appendfsync always, what was answered is on the disk; power that fails leaves half of what was not.
func tearWrite(s *scene) {
	s.open(setup{redisArgs: []string{"--appendfsync", "always"}, callbacks: 2})
	s.partner.handle(slow(20 * time.Millisecond))
	file := s.appendOnly()
	const tears = 3
	for i := range tears {
		sending := s.send(load{events: 800, clients: 16, rate: 200})
		s.partner.await(i*1600+400, 60*time.Second)
		s.killRedis()
		out, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
		s.must(err)
		_, err = out.WriteString("*5\r\n$4\r\nHSET\r\n$16\r\n{acme}:ev:e")
		s.must(err)
		s.must(out.Close())
		s.redis.Restart()
		sending.wait()
	}
	s.injected("%d times kill -9 of Redis (appendfsync always) and half a write at the end of its AOF", tears)
	s.settle(120 * time.Second)
	s.verify()
}

func hangRedis(s *scene, lasts time.Duration) {
	s.open(setup{callbacks: 2})
	s.partner.handle(slow(50 * time.Millisecond))
	warm := s.send(load{events: 500, clients: 16})
	warm.wait()
	s.settle(30 * time.Second)
	s.measure()
	s.ledger.refusals()
	sending := s.send(load{events: 1500, clients: 16, rate: 150})
	s.partner.await(1200, 30*time.Second)
	from := time.Now()
	s.redis.Stop()
	peaks := s.watchWhile(lasts)
	s.redis.Cont()
	s.hit(from)
	sending.wait()
	refused, slowest := s.ledger.refusals()
	s.injected("SIGSTOP of Redis for %s under 150 events/s", lasts)
	s.found("ingest answered 503 to %d requests, the slowest after %s; at most %s", refused[http.StatusServiceUnavailable], slowest.Round(10*time.Millisecond), peaks)
	if refused[0] > 0 || refused[http.StatusServiceUnavailable] == 0 {
		s.t.Errorf("while Redis hangs, producers have to be told 503: %v", refused)
	}
	if slowest > 4*time.Second { // 2 s, on a machine that does much else
		s.t.Errorf("a refusal took %s", slowest)
	}
	s.settle(150 * time.Second)
	s.verify()
	s.verifyMeasures()
}

// watchWhile looks at what the processes hold, for so long, and says what the most was. It fails if that is a pile.
func (s *scene) watchWhile(lasts time.Duration) string {
	s.t.Helper()
	var descriptors int
	var resident float64
	for end := time.Now().Add(lasts); time.Now().Before(end); <-time.After(200 * time.Millisecond) {
		for _, p := range s.processes() {
			fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.pid()))
			s.must(err)
			statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.pid()))
			s.must(err)
			pages, _ := strconv.ParseFloat(strings.Fields(string(statm))[1], 64)
			descriptors, resident = max(descriptors, len(fds)), max(resident, pages*float64(os.Getpagesize()))
		}
	}
	if descriptors > 1200 || resident > 600<<20 {
		s.t.Errorf("a process held %d file descriptors and %.0f MB", descriptors, resident/(1<<20))
	}
	return fmt.Sprintf("%d file descriptors and %.0f MB a process", descriptors, resident/(1<<20))
}

// usedMemory is how full Redis is, in percent.
func (s *scene) usedMemory() float64 {
	s.t.Helper()
	info, err := s.direct.InfoMap(s.t.Context(), "memory").Result()
	s.must(err)
	used, _ := strconv.ParseFloat(info["Memory"]["used_memory"], 64)
	limit, _ := strconv.ParseFloat(info["Memory"]["maxmemory"], 64)
	return used * 100 / limit
}

// said counts what the processes wrote to their logs.
func (s *scene) said(text string) (n int) {
	s.t.Helper()
	for _, p := range s.processes() {
		log, err := os.ReadFile(p.log)
		s.must(err)
		n += bytes.Count(log, []byte(text))
	}
	return n
}

// pause and resume steer the first callback.
func (s *scene) steer(verb string) {
	s.t.Helper()
	status, err := s.call(http.MethodPost, fmt.Sprintf("/companies/%s/config/callbacks/%d/%s", company, s.callbacks[0].ID, verb), map[string]any{}, nil)
	if err != nil || status != http.StatusOK {
		s.t.Fatalf("%s: %d, %v", verb, status, err)
	}
}

// fillRedis holds events until ingest sheds, lets them go while producers keep asking, and expects room to come back by itself: what is
// finished is kept for a second only.
func fillRedis(s *scene) {
	s.open(setup{redisArgs: []string{"--maxmemory", "30mb"}, args: []string{"--retention", "1s"}})
	s.ages = true
	s.steer("pause")
	sending := s.send(load{events: 4000, clients: 8, payload: 14_000}) // three quarters of that when it is compressed
	var most float64
	s.eventually(60*time.Second, func() bool {
		most = max(most, s.usedMemory())
		s.ledger.mu.Lock()
		defer s.ledger.mu.Unlock()
		return s.ledger.refused[http.StatusServiceUnavailable] > 50
	}, func() string { return fmt.Sprintf("nothing was refused, and Redis is %.0f %% full", s.usedMemory()) })
	taken := len(s.ledger.acked())
	most = max(most, s.usedMemory())
	from := time.Now()
	s.steer("resume")
	sending.wait()
	s.injected("40 MB of events into a Redis of 30 MB, the callback paused until it refused")
	s.found("the first 503 came after %d events, with Redis %.0f %% full; all the rest was taken within %s of resuming", taken, most, time.Since(from).Round(100*time.Millisecond))
	if n := s.said("OOM command not allowed"); n > 0 || most > 90 {
		s.t.Errorf("Redis was %.0f %% full, and refused %d writes itself", most, n)
	}
	s.settle(90 * time.Second)
	s.verify()
	if s.row.duplicates > 0 {
		s.t.Errorf("%d duplicates, though nothing was cut off", s.row.duplicates)
	}
}

// overfillRedis takes the memory away that the workers need to go on.
func overfillRedis(s *scene) {
	s.open(setup{redisArgs: []string{"--maxmemory", "30mb"}})
	s.partner.handle(slow(100 * time.Millisecond))
	sending := s.send(load{events: 1200, rate: 150})
	s.partner.await(200, 30*time.Second)
	from := time.Now()
	ballast := strings.Repeat("x", 1<<20)
	for i := range 40 {
		if err := s.direct.Set(s.t.Context(), fmt.Sprintf("ballast:%d", i), ballast, 0).Err(); err != nil {
			ballast = ballast[:len(ballast)/2]
		}
	}
	full := s.usedMemory()
	<-time.After(12 * time.Second)
	requests, _, _ := s.partner.counts()
	<-time.After(2 * time.Second)
	still, _, _ := s.partner.counts()
	s.must(s.direct.Eval(s.t.Context(), "for _, k in ipairs(redis.call('KEYS', 'ballast:*')) do redis.call('DEL', k) end return 1", nil).Err())
	s.hit(from)
	sending.wait()
	s.injected("Redis of 30 MB filled to %.0f %% with something else for 14 s", full)
	s.found("%d requests in the last 2 s of it", still-requests)
	s.settle(150 * time.Second)
	s.verify()
}

// flushRedis: nothing is left to repair; but the processes go on, and what is registered and sent from then on works.
func flushRedis(s *scene) {
	s.open(setup{})
	s.send(load{events: 100}).wait()
	s.settle(30 * time.Second)
	s.verify()
	s.must(s.direct.FlushAll(s.t.Context()).Err())
	s.injected("FLUSHALL, then a new key, a new registration and new events, with the processes that were there")
	from := time.Now()
	s.hit(from)
	s.ledger = ledger{batches: 10}
	s.callbacks, *s.row = nil, row{fault: s.row.fault, injected: s.row.injected}
	s.key = s.makeKey()
	s.eventually(15*time.Second, func() bool {
		status, err := s.call(http.MethodGet, "/companies/"+company+"/config/callbacks", nil, nil)
		return err == nil && status == http.StatusOK
	}, func() string { return "the new key is not known" })
	s.partner.forget()
	s.register(nil)
	s.send(load{events: 200}).wait()
	s.settle(60 * time.Second)
	s.verify()
	s.alarmed()
}

// alarmed asks whether a process noticed that Redis forgot.
func (s *scene) alarmed() {
	s.t.Helper()
	n := s.said("Redis has forgotten changes")
	s.found("%d processes said that Redis has forgotten", n)
	if n == 0 {
		s.t.Error("no process said that Redis has forgotten something")
	}
}

// restoreCopy puts back what Redis held some seconds before: since then events were accepted and delivered, and a callback registered.
func restoreCopy(s *scene) {
	s.open(setup{callbacks: 1})
	s.callbacksVary = true
	s.partner.handle(slow(10 * time.Millisecond))
	sending := s.send(load{events: 1200, rate: 150})
	s.partner.await(200, 30*time.Second)
	ctx := s.t.Context()
	s.must(s.direct.Do(ctx, "CLIENT", "PAUSE", 200, "WRITE").Err())
	copied := time.Now()
	backup := filepath.Join(s.t.TempDir(), "copy")
	s.must(os.CopyFS(backup, os.DirFS(s.redis.Dir())))
	<-time.After(2 * time.Second)
	s.register(nil) // will be gone, and the API remembers it
	s.eventually(30*time.Second, func() bool {
		return slices.ContainsFunc(s.partner.books(), func(a arrival) bool { return a.path == "/2" })
	}, func() string { return "the new callback gets nothing" })
	from := time.Now()
	s.redis.Kill()
	s.must(os.RemoveAll(filepath.Join(s.redis.Dir(), "appendonlydir")))
	s.must(os.CopyFS(filepath.Join(s.redis.Dir(), "appendonlydir"), os.DirFS(filepath.Join(backup, "appendonlydir"))))
	s.redis.Restart()
	s.forget(from, from.Sub(copied)+everysecForgets)
	s.injected("kill -9 of Redis and a copy of its AOF put back that was %s old; a callback had been registered since", from.Sub(copied).Round(100*time.Millisecond))
	sending.wait()
	s.callbacks = s.callbacks[:1]
	begun := time.Now()
	s.send(load{events: 200}).wait()
	s.found("200 more events were taken in %s", time.Since(begun).Round(10*time.Millisecond))
	s.settle(120 * time.Second)
	s.verify()
	s.found("lost with it: %d deliveries of events accepted since it was made", s.row.forgotten)
	s.alarmed()
}

// ageLeases makes asynq believe that each active task's worker is gone, and each retry due: the records know better.
func ageLeases(s *scene) {
	s.open(setup{workers: 2, callbacks: 6, options: map[string]any{"timeout": "60s", "retry": map[string]any{"initial_interval": "40s", "max_attempts": 3}}})
	s.partner.handle(func(w http.ResponseWriter, r *http.Request, a *arrival) {
		if a.attempt == 1 && a.event[len(a.event)-1]%2 == 0 {
			w.WriteHeader(http.StatusInternalServerError) // to be tried again in 32 to 48 s; a 503 would be the host's, which all callbacks share
			return
		}
		if a.attempt == 1 {
			slow(50*time.Second)(w, r, a) // with asynq's recoverer passing by meanwhile
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	s.send(load{events: 9}).wait() // too few failures in a row for a callback to be called one at a time
	s.partner.awaitOpen(25, 30*time.Second)
	ctx := s.t.Context()
	aged := 0
	for end := time.Now().Add(45 * time.Second); time.Now().Before(end); <-time.After(time.Second) {
		for lane := range 4 {
			for _, set := range []string{"lease", "retry"} {
				key := fmt.Sprintf("asynq:{ringback-%d}:%s", lane, set)
				members, err := s.direct.ZRange(ctx, key, 0, -1).Result()
				s.must(err)
				for _, m := range members {
					s.must(s.direct.ZAddXX(ctx, key, redis.Z{Score: float64(time.Now().Add(-2 * time.Minute).Unix()), Member: m}).Err())
					aged++
				}
			}
		}
	}
	s.injected("the scores of asynq's leases and retries set back by two minutes, every second for 45 s (%d of them)", aged)
	s.settle(150 * time.Second)
	s.verify()
	if s.row.duplicates > 0 {
		s.t.Errorf("%d duplicates, though nothing was cut off", s.row.duplicates)
	}
	first := make(map[string]arrival)
	for _, a := range s.partner.books() {
		before, again := first[a.delivery]
		first[a.delivery] = a
		if gap := a.start.Sub(before.end); again && before.status == http.StatusServiceUnavailable && (gap < 26*time.Second || gap > 90*time.Second) { // begin takes a task that comes up to 5 s early
			s.t.Errorf("%s was to be tried again after 32 to 48 s, and came after %s", a.delivery, gap)
		}
	}
}

// fillDisk lets Redis's files grow no further (RLIMIT_FSIZE): as with a full disk, Redis answers writes with MISCONF.
func fillDisk(s *scene) {
	ignoreFileSize()
	s.open(setup{})
	s.partner.handle(slow(20 * time.Millisecond))
	sending := s.send(load{events: s.pick(400, 2000), rate: float64(s.pick(80, 200)), clients: 16})
	s.partner.await(100, 30*time.Second)
	info, err := s.direct.InfoMap(s.t.Context(), "server").Result()
	s.must(err)
	pid := info["Server"]["process_id"]
	size, err := os.Stat(s.appendOnly())
	s.must(err)
	from := time.Now()
	s.limitFiles(pid, strconv.FormatInt(size.Size()+10_000, 10))
	s.eventually(20*time.Second, func() bool {
		return strings.HasPrefix(fmt.Sprint(s.direct.Set(s.t.Context(), "probe", "1", 0).Err()), "MISCONF")
	}, func() string { return "Redis writes on" })
	<-time.After(time.Second) // for answers that were on their way
	before := len(s.ledger.acked())
	s.ledger.refusals()
	lasts := time.Duration(s.pick(2, 13)) * time.Second
	<-time.After(lasts)
	after := len(s.ledger.acked())
	refused, _ := s.ledger.refusals()
	s.limitFiles(pid, "unlimited")
	s.hit(from)
	sending.wait()
	s.injected("no room for Redis's AOF for %s: MISCONF", lasts)
	s.found("%d requests were answered 503 meanwhile", refused[http.StatusServiceUnavailable])
	if after > before || refused[http.StatusServiceUnavailable] == 0 {
		s.t.Errorf("%d events were acknowledged by a Redis that cannot write; refused: %v", after-before, refused)
	}
	s.settle(120 * time.Second)
	s.verify()
}

func (s *scene) limitFiles(pid, bytes string) {
	s.t.Helper()
	out, err := exec.CommandContext(context.WithoutCancel(s.t.Context()), "prlimit", "--pid", pid, "--fsize="+bytes+":unlimited").CombinedOutput()
	if err != nil {
		s.t.Fatalf("prlimit (of util-linux): %v: %s", err, out)
	}
}

// ignoreFileSize makes children that this process starts from now on see an error where their files may not grow: by default they would end.
func ignoreFileSize() { signal.Ignore(syscall.SIGXFSZ) }
