package faults

import (
	"fmt"
	"time"

	"github.com/ringback/ringback/registry/redistest"
)

// A master that sentinels watch: it ends, it stands still, or the sentinels end.

var sentinelFaults = []fault{
	{"sentinel-kill-masters", "the master that sentinels watch is killed under load, comes back as a replica, and the next one is killed", false, false, func(s *scene) { killWatched(s, false) }},
	{"sentinel-kill-masters-wait", "the same with --wait-replicas 1", true, false, func(s *scene) { killWatched(s, true) }},
	{"sentinel-master-hangs", "the master that sentinels watch stands still until another is in its place, and goes on later", false, false, func(s *scene) { hangWatched(s, false) }},
	{"sentinel-master-hangs-wait", "the same with --wait-replicas 1", false, false, func(s *scene) { hangWatched(s, true) }},
	{"sentinel-watchers", "one of three sentinels is killed, then another, while the master is well, and a process is started anew", false, false, func(s *scene) { killWatchers(s, false) }},
	{"sentinel-watchers-wait", "the same with --wait-replicas 1", false, false, func(s *scene) { killWatchers(s, true) }},
}

// openWatched starts a master, two replicas and three sentinels, and two processes with both roles.
func (s *scene) openWatched(confirmed bool) {
	s.t.Helper()
	in := setup{sentinel: true, both: 2}
	if confirmed {
		in.args = []string{"--wait-replicas", "1"}
	}
	s.open(in)
	s.partner.handle(slow(10 * time.Millisecond))
}

// behindBy is how long the replicas have got nothing when their master is killed.
const behindBy = 300 * time.Millisecond

// cutReplicas takes the replicas away from their master, and returns when they are behind it. The sentinels do not mind within seconds.
func (s *scene) cutReplicas(master *redistest.Server) {
	s.t.Helper()
	for _, node := range s.watched.Nodes() {
		if node != master {
			s.must(node.Client().Do(s.t.Context(), "REPLICAOF", "127.0.0.1", "1").Err())
		}
	}
	<-time.After(behindBy)
}

// lostToReplicas says what a failover cost, which is nothing where replicas had confirmed it.
func (s *scene) lostToReplicas(confirmed bool) {
	s.t.Helper()
	switch {
	case !confirmed:
		s.found("lost with it, since Redis replicates after it has answered: %d deliveries, of events acknowledged up to %s before; none older", s.row.forgotten, s.row.oldest.Round(10*time.Millisecond))
	case s.row.forgotten > 0:
		s.t.Errorf("%d acknowledged deliveries are lost, though a replica had confirmed them", s.row.forgotten)
	}
}

func killWatched(s *scene, confirmed bool) {
	s.openWatched(confirmed)
	held := s.callbacks[0] // what is for it is in Redis alone, until it is resumed
	s.door(held, "pause")
	stop := s.loadAll()
	var worst, failover time.Duration
	followed := ""
	kills := s.pick(1, 2)
	for range kills {
		master := s.watched.Master()
		s.cutReplicas(master)
		from := time.Now()
		master.Kill()
		s.watched.AwaitFailover(master)
		failover = max(failover, time.Since(from))
		if confirmed { // nobody can confirm anything before
			s.watched.AwaitReplica(master)
			followed = ", and a replica followed it,"
		}
		over := time.Now()
		s.forget(from, behindBy+200*time.Millisecond) // what its replicas did not have
		s.acceptedAgain(over, acceptedWithin, &worst)
		master.Restart()
		s.watched.AwaitWhole()
	}
	stop()
	s.injected("%d times kill -9 of the master (down-after-milliseconds 1000), whose replicas had got nothing for %s, restarted after the failover; two processes%s", kills, behindBy, confirming(confirmed))
	s.door(held, "resume")
	s.found("a failover took up to %s; %s after a sentinel had named the new master%s all were accepted again", failover.Round(100*time.Millisecond), worst.Round(10*time.Millisecond), followed)
	s.settle(120 * time.Second)
	s.verify()
	s.lostToReplicas(confirmed)
}

func confirming(confirmed bool) string {
	if confirmed {
		return ", --wait-replicas 1"
	}
	return "; no --wait-replicas"
}

func hangWatched(s *scene, confirmed bool) {
	s.openWatched(confirmed)
	stop := s.loadAll()
	var worst time.Duration
	master := s.watched.Master()
	from := time.Now()
	master.Stop()
	s.watched.AwaitFailover(master)
	over := time.Now()
	s.forget(from, everysecForgets)
	s.acceptedAgain(over, acceptedWithin, &worst)
	woken := time.Now()
	master.Cont() // it takes itself for the master until a sentinel tells it
	s.watched.AwaitWhole()
	var after time.Duration
	s.acceptedAgain(woken, acceptedWithin, &after)
	stop()
	s.injected("SIGSTOP of the master until a sentinel named another, %s later; SIGCONT %s after that; two processes%s", over.Sub(from).Round(100*time.Millisecond),
		woken.Sub(over).Round(100*time.Millisecond), confirming(confirmed))
	s.found("%s after a sentinel had named the new master all were accepted again, and %s after the old one went on", worst.Round(10*time.Millisecond), after.Round(10*time.Millisecond))
	s.settle(120 * time.Second)
	s.verify()
	s.lostToReplicas(confirmed)
}

func killWatchers(s *scene, confirmed bool) {
	const each = 8 * time.Second
	s.openWatched(confirmed)
	stop := s.loadAll()
	s.ledger.refusals()
	from := time.Now()
	watchers := s.watched.Watchers()
	for _, w := range watchers[:2] {
		w.Kill()
		<-time.After(each)
	}
	refused, _ := s.ledger.refusals()
	gap := s.longestGap(s.companies, from, time.Now())
	if code := s.terminate(s.workers[1]); code != 0 {
		s.t.Errorf("a process that was told to end ended with %d", code)
	}
	begun := time.Now()
	s.again(s.workers[1])
	ready := time.Since(begun)
	for _, w := range watchers[:2] {
		w.Restart()
	}
	s.watched.AwaitWhole()
	stop()
	s.injected("kill -9 of one sentinel, and of another %s later, which both came back after %s more; with one left, one of two processes was ended and started anew%s", each, each, confirming(confirmed))
	s.found("nobody was refused, and a company waited %s at most for an acknowledgement; the process was ready %s after its start", gap.Round(10*time.Millisecond), ready.Round(10*time.Millisecond))
	if fmt.Sprint(refused) != "map[]" || gap > time.Second {
		s.t.Errorf("while the master was well, companies were refused (%v) or waited %s", refused, gap)
	}
	s.settle(120 * time.Second)
	s.verify()
	if s.row.duplicates > 0 {
		s.t.Errorf("%d duplicates, though nothing was cut off", s.row.duplicates)
	}
}
