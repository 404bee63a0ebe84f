package faults

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// What a bad callback costs its neighbours. Nothing else runs beside these.

var isolationFaults = []fault{
	{
		"isolation", "one callback hangs and one answers 500 among ten, at 50 events a second; with 20,000 queued for the hanging one, and while they are", false, true,
		isolation,
	},
}

// audienceType is the type of events that go to audiences: callbacks that are registered for one.
const audienceType = "beat"

// audiences registers the type.
func (s *scene) audiences(names ...string) {
	s.t.Helper()
	match, example := make(map[string]string), map[string]string{"requestId": "1"}
	for _, name := range names {
		match[name], example[name] = "/"+name, "yes"
	}
	body := map[string]any{
		"description": "Goes to the audiences that it names.", "schema": map[string]any{"type": "object"}, "example": example, "match": match,
	}
	status, err := s.call(http.MethodPut, "/callback-types/"+audienceType, body, nil)
	if err != nil || status/100 != 2 {
		s.t.Fatalf("registering a type: %d, %v", status, err)
	}
}

// audience registers one more callback, which gets the events that are sent to a name.
func (s *scene) audience(name string, options map[string]any) callback {
	s.t.Helper()
	s.callbacksVary = true
	all := map[string]any{"callback_type": audienceType, audienceType: map[string]string{name: "yes"}}
	maps.Copy(all, options)
	cb := s.register(all)
	if s.members == nil {
		s.members = make(map[string]int)
	}
	s.members[name]++
	return cb
}

// verifyAudiences verifies that each event was accepted for the audiences it names, and no others.
func (s *scene) verifyAudiences() {
	s.t.Helper()
	for _, e := range s.ledger.acked() {
		want := 0
		for _, name := range e.to {
			want += s.members[name]
		}
		if len(e.deliveries) != want {
			s.t.Errorf("%s, to %v, was accepted for %d callbacks, want %d", e.id, e.to, len(e.deliveries), want)
		}
	}
}

// latencies are how long after their first sending a sending's events arrived first, at any of the paths.
func (s *scene) latencies(g *sending, paths ...string) []time.Duration {
	s.t.Helper()
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	var out []time.Duration
	for _, a := range s.partner.books() {
		if a.attempt != 1 || !slices.Contains(paths, a.path) {
			continue
		}
		if e := s.ledger.events[a.event]; e != nil && e.batch == g.prefix {
			out = append(out, a.start.Sub(e.begun))
		}
	}
	return out
}

func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(d))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func median(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(d))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

// What neighbours may suffer: their p99 is at most bound times what it is without the bad two, or little longer. A few milliseconds are many times
// very few, and what 1,000 events a second cost on two cores, whoever they are for.
const (
	bound  = 1.5
	little = 10 * time.Millisecond
)

// quiet is how much of a core others may use during a phase that counts. Where the machine does something else, a p99 says nothing about
// Ringback. So many such phases are needed of each kind.
const (
	quiet  = 0.3
	enough = 3
)

// A phase is one stretch of the measurement.
type phase struct {
	name   string
	p99    time.Duration
	others float64 // cores that were busy with something else
}

// isolation alternates phases with and without the bad two in one run, and compares the medians of the phases' p99.
func isolation(s *scene) {
	const (
		rate   = 50.0
		lasts  = 10 * time.Second
		rounds = 5 // at most: until enough phases of each kind were quiet
		queue  = 20_000
		within = 20 * time.Second // they are queued
	)
	s.open(setup{callbacks: -1})
	// After every so many writes, whoever makes them, Redis writes its file anew, in a process that takes one of two cores. That is not what
	// a bad callback costs its neighbours.
	s.must(s.redis.Client().ConfigSet(s.t.Context(), "auto-aof-rewrite-percentage", "0").Err())
	s.audiences("eight", "failing", "hanging")
	var healthy []string
	for range 8 {
		s.audience("eight", nil)
		healthy = append(healthy, fmt.Sprintf("/%d", len(s.callbacks)))
	}
	retry := map[string]any{"initial_interval": "5s", "max_interval": "15s", "max_attempts": 100} // the default's beginning
	s.audience("failing", map[string]any{"retry": retry})
	s.audience("hanging", map[string]any{"timeout": "15s", "retry": retry})
	var cured atomic.Pointer[chan struct{}]
	fallIll := func() {
		c := make(chan struct{})
		cured.Store(&c)
	}
	fallIll()
	s.partner.handle(func(w http.ResponseWriter, r *http.Request, a *arrival) {
		switch well := *cured.Load(); a.path {
		case "/9":
			select {
			case <-well:
			default:
				w.WriteHeader(http.StatusInternalServerError)
			}
		case "/10":
			select {
			case <-well:
			case <-r.Context().Done():
			}
		}
	})
	var phases []phase
	measure := func(name string, lasts time.Duration, to []string, beside string) {
		<-time.After(time.Second)
		others := s.others()
		events := int(rate * lasts.Seconds())
		sending := s.send(load{events: events, rate: rate, to: to})
		if beside != "" {
			s.send(load{events: queue, batch: 50, rate: queue / lasts.Seconds(), to: []string{beside}}).wait()
		}
		sending.wait()
		p := phase{name: name, others: others()}
		var d []time.Duration
		s.eventually(60*time.Second, func() bool { d = s.latencies(sending, healthy...); return len(d) == 8*events }, func() string {
			return fmt.Sprintf("%s: %d of %d arrived at healthy callbacks", name, len(d), 8*events)
		})
		p.p99 = quantile(d, 0.99)
		phases = append(phases, p)
		s.t.Logf("%-8s p50 %s, p90 %s, p99 %s, longest %s; others used %.2f cores", name, round(quantile(d, 0.5)), round(quantile(d, 0.9)), round(p.p99),
			round(quantile(d, 1)), p.others)
	}
	cure := func() {
		close(*cured.Load())
		s.settleBooks(120 * time.Second)
		fallIll()
	}
	all := []string{"eight", "failing", "hanging"}
	measure("warm", lasts, all, "")
	cure()
	round := 0
	for ; round < rounds && !told(phases); round++ {
		measure("without", lasts, []string{"eight"}, "")
		measure("with", lasts, all, "")
		cure()
		measure("without", lasts, []string{"eight"}, "")
		measure("queuing", within, all, "hanging")
		measure("queued", lasts, all, "")
		cure()
	}
	s.injected("%d rounds: without the bad two, with them, without, while %d are queued for the one that hangs, and once they are", round, queue)
	s.judge(phases)
	s.settle(60 * time.Second)
	s.verify()
	s.verifyAudiences()
}

// quietOnes are the p99 of the phases that count, by kind.
func quietOnes(phases []phase) map[string][]time.Duration {
	byName := make(map[string][]time.Duration)
	for _, p := range phases {
		if p.others <= quiet {
			byName[p.name] = append(byName[p.name], p.p99)
		}
	}
	return byName
}

// told reports whether there are enough phases of each kind that count.
func told(phases []phase) bool {
	byName := quietOnes(phases)
	return min(len(byName["without"]), len(byName["with"]), len(byName["queuing"]), len(byName["queued"])) >= enough
}

// judge holds each kind of phase against those without the bad two.
func (s *scene) judge(phases []phase) {
	s.t.Helper()
	byName := quietOnes(phases)
	without := median(byName["without"])
	s.found("p99 of the healthy eight without the bad two: %v, median %s", rounded(byName["without"]), round(without))
	for _, name := range []string{"with", "queued", "queuing"} {
		if len(byName["without"]) < enough || len(byName[name]) < enough {
			s.t.Errorf("%s: the machine was too busy with something else to tell: fewer than %d phases in which that took at most %.1f cores", name, enough, quiet)
			continue
		}
		middle := median(byName[name])
		ratio := middle.Seconds() / without.Seconds()
		s.found("%s: %v, median %s, ratio %.2f", name, rounded(byName[name]), round(middle), ratio)
		if ratio > bound && middle > without+little {
			s.t.Errorf("%s: the healthy eight's p99 is %.2f times what it is without the bad two, want at most %.1f, or %s more", name, ratio, bound, little)
		}
	}
}

// others begins to measure, and returns what tells how many cores were busy with other things than this scene since.
func (s *scene) others() func() float64 {
	s.t.Helper()
	begun, busy, own := time.Now(), s.ticks("/proc/stat"), s.ownTicks()
	return func() float64 {
		const perSecond = 100 // USER_HZ, the same everywhere
		return float64((s.ticks("/proc/stat")-busy)-(s.ownTicks()-own)) / perSecond / time.Since(begun).Seconds()
	}
}

// ownTicks is the time on CPUs of this test, the processes it started, and Redis.
func (s *scene) ownTicks() int64 {
	s.t.Helper()
	info, err := s.direct.InfoMap(s.t.Context(), "server").Result()
	s.must(err)
	total := s.ticks("/proc/self/stat") + s.ticks("/proc/"+info["Server"]["process_id"]+"/stat")
	for _, p := range s.processes() {
		total += s.ticks(fmt.Sprintf("/proc/%d/stat", p.pid()))
	}
	return total
}

// ticks is the time on CPUs, in hundredths of a second, of a process or, from /proc/stat, of all.
func (s *scene) ticks(file string) int64 {
	s.t.Helper()
	text, err := os.ReadFile(file)
	s.must(err)
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	picked := []int{11, 12} // utime and stime, counted from behind the name
	if file == "/proc/stat" {
		picked = []int{1, 2, 3, 6, 7, 8} // user, nice, system, irq, softirq, steal
	}
	total := int64(0)
	for _, i := range picked {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		s.must(err)
		total += n
	}
	return total
}

func rounded(d []time.Duration) []time.Duration {
	out := make([]time.Duration, len(d))
	for i := range d {
		out[i] = round(d[i])
	}
	return out
}
