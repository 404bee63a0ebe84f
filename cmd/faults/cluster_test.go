package faults

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/ringback/ringback/registry/redistest"
)

// A Redis Cluster that loses a master, gives slots to another, or grows.

var clusterFaults = []fault{
	{"cluster-kill-masters", "each master of a Redis Cluster is killed in turn under load, and comes back as a replica", false, false, killMasters},
	{"cluster-kill-masters-wait", "the same with --wait-replicas 1", true, false, killMastersConfirmed},
	{"cluster-master-hangs", "the master of the API keys stands still until the cluster has another, and goes on later", false, false, hangMaster},
	{"cluster-reshard", "a Redis Cluster gets a fourth master and gives it the slots of every company and of the API keys, under load", true, false, reshard},
}

// keysKey is where the API keys are, which every request needs.
const keysKey = "ringback:keys"

// acceptedWithin is how long after a cluster is well again, or sentinels name another master, a company may still be refused.
const acceptedWithin = 5 * time.Second

// companyRate is how many events a second each company sends.
const companyRate = 20

// lastRefusal is when one of the companies was refused last.
func (s *scene) lastRefusal(companies []string) (last time.Time) {
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	for _, name := range companies {
		if at := s.ledger.last[name]; at.After(last) {
			last = at
		}
	}
	return last
}

// firstAccepted is when the last of the companies had its first acknowledgement after a moment; zero if one had none.
func (s *scene) firstAccepted(companies []string, since time.Time) (last time.Time) {
	for _, name := range companies {
		var first time.Time
		for _, e := range s.ledger.acked() {
			if e.company == name && e.acked.After(since) && (first.IsZero() || e.acked.Before(first)) {
				first = e.acked
			}
		}
		if first.IsZero() {
			return first
		}
		if first.After(last) {
			last = first
		}
	}
	return last
}

// longestGap is how long a company waited for the next acknowledgement, of those that came between from and to.
func (s *scene) longestGap(companies []string, from, to time.Time) (longest time.Duration) {
	for _, name := range companies {
		times := []time.Time{from, to}
		for _, e := range s.ledger.acked() {
			if e.company == name && e.acked.After(from) && e.acked.Before(to) {
				times = append(times, e.acked)
			}
		}
		slices.SortFunc(times, time.Time.Compare)
		for i := range times[1:] {
			longest = max(longest, times[i+1].Sub(times[i]))
		}
	}
	return longest
}

// acknowledged counts the events of companies that were acknowledged between from and to.
func (s *scene) acknowledged(companies []string, from, to time.Time) (n int) {
	for _, e := range s.ledger.acked() {
		if slices.Contains(companies, e.company) && e.acked.After(from) && e.acked.Before(to) {
			n++
		}
	}
	return n
}

// on are the companies whose keys a node has.
func (s *scene) on(node *redistest.Server) (there, elsewhere []string) {
	for _, name := range s.companies {
		if s.nodes.MasterOf("{"+name+"}:ver") == node {
			there = append(there, name)
		} else {
			elsewhere = append(elsewhere, name)
		}
	}
	return there, elsewhere
}

// loadAll is events of all companies, each of which has its own producers, until stop.
func (s *scene) loadAll() (stop func()) {
	var all []*sending
	for _, name := range s.companies {
		all = append(all, s.send(load{events: 1 << 30, clients: 8, rate: companyRate, of: []string{name}}))
	}
	s.partner.await(200, 30*time.Second)
	return func() {
		for _, one := range all {
			one.stop()
		}
	}
}

// acceptedAgain notes how long after a moment the companies were all accepted again and refused no more, once the load has gone on for long enough to tell.
// Beside all the other tests of a busy machine that may take three times as long.
func (s *scene) acceptedAgain(since time.Time, within time.Duration, worst *time.Duration) {
	s.t.Helper()
	slack := time.Duration(s.pick(3, 1))
	<-time.After(time.Until(since.Add(within + time.Second)))
	first := s.firstAccepted(s.companies, since)
	if first.IsZero() && slack > 1 {
		<-time.After(time.Until(since.Add(slack * within)))
		first = s.firstAccepted(s.companies, since)
	}
	took := max(first.Sub(since), s.lastRefusal(s.companies).Sub(since))
	*worst = max(*worst, took)
	if first.IsZero() || took > slack*within {
		s.t.Errorf("a company was refused, or not accepted, %s after Redis was well", took)
	}
	if gap := s.longestGap(s.companies, since.Add(within), time.Now()); gap > slack*acceptedWithin {
		s.t.Errorf("a company waited %s for an acknowledgement while Redis is well", gap)
	}
}

func killMasters(s *scene) {
	s.open(setup{cluster: true, workers: 2})
	s.partner.handle(slow(10 * time.Millisecond))
	stop := s.loadAll()
	var worst, failover, others time.Duration
	masters := s.nodes.Masters()
	for _, master := range masters {
		_, elsewhere := s.on(master)
		from := time.Now()
		master.Kill()
		s.nodes.AwaitFailover(master)
		over := time.Now()
		s.forget(from, everysecForgets) // what its replica did not have yet
		failover = max(failover, over.Sub(from))
		others = max(others, s.longestGap(elsewhere, from, over))
		s.acceptedAgain(over, acceptedWithin, &worst)
		master.Restart()
		s.nodes.AwaitWhole()
	}
	stop()
	s.injected("kill -9 of %d masters (cluster-node-timeout 1 s), each restarted after the failover; no --wait-replicas", len(masters))
	s.found("a failover took up to %s; %s after it nobody was refused any more; meanwhile companies on the other masters waited %s at most for an acknowledgement",
		failover.Round(100*time.Millisecond), worst.Round(10*time.Millisecond), others.Round(10*time.Millisecond))
	s.settle(120 * time.Second)
	s.verify()
	s.found("lost with it, since Redis replicates after it has answered: %d deliveries", s.row.forgotten)
	if others > acceptedWithin {
		s.t.Errorf("companies on other masters waited %s", others)
	}
}

// killMastersConfirmed: the only replica has what was acknowledged. While a master is without one, its companies are refused.
func killMastersConfirmed(s *scene) {
	s.open(setup{cluster: true, args: []string{"--wait-replicas", "1"}})
	s.partner.handle(slow(10 * time.Millisecond))
	stop := s.loadAll()
	var worst time.Duration
	masters := s.nodes.Masters()[:s.pick(1, 3)]
	for _, master := range masters {
		from := time.Now()
		master.Kill()
		s.nodes.AwaitFailover(master)
		s.forget(from, everysecForgets) // of what nobody was told: attempts
		master.Restart()
		s.nodes.AwaitWhole()
		s.acceptedAgain(time.Now(), acceptedWithin, &worst)
	}
	stop()
	s.injected("kill -9 of %d masters, each restarted after the failover; --wait-replicas 1", len(masters))
	s.found("%s after the replica was back nobody was refused any more", worst.Round(10*time.Millisecond))
	s.settle(120 * time.Second)
	s.verify()
	if s.row.forgotten > 0 {
		s.t.Errorf("%d acknowledged deliveries are lost, though a replica had confirmed them", s.row.forgotten)
	}
}

func hangMaster(s *scene) {
	s.open(setup{cluster: true, workers: 2, redisArgs: []string{"--cluster-node-timeout", "8000"}})
	s.partner.handle(slow(10 * time.Millisecond))
	stop := s.loadAll()
	master := s.nodes.MasterOf(keysKey)
	_, elsewhere := s.on(master)
	var worst time.Duration
	from := time.Now()
	master.Stop()
	s.nodes.AwaitFailover(master)
	over := time.Now()
	others := s.longestGap(elsewhere, from, over)
	s.acceptedAgain(over, 2*acceptedWithin, &worst) // what waits for it has to time out first
	master.Cont()
	s.nodes.AwaitWhole()
	s.forget(from, everysecForgets)
	stop()
	s.injected("SIGSTOP of the master of the API keys until another had its slots, %s later; SIGCONT %s after that", over.Sub(from).Round(100*time.Millisecond), 2*acceptedWithin+time.Second)
	share := float64(s.acknowledged(elsewhere, from, over)) / (over.Sub(from).Seconds() * companyRate * float64(len(elsewhere)))
	s.found("%s after the failover nobody was refused any more; meanwhile companies on the other masters waited %s at most for an acknowledgement, and had %.0f %% of their events taken",
		worst.Round(10*time.Millisecond), others.Round(10*time.Millisecond), 100*share)
	s.settle(120 * time.Second)
	s.verify()
	s.found("lost with it: %d deliveries", s.row.forgotten)
	if others > acceptedWithin || share < 0.5 {
		s.t.Errorf("companies on other masters waited %s, and had %.0f %% of their events taken", others, 100*share)
	}
}

func reshard(s *scene) {
	s.open(setup{cluster: true})
	s.partner.handle(slow(10 * time.Millisecond))
	stop := s.loadAll()
	added := s.nodes.Add()
	keys := []string{keysKey, "ringback:companies", "asynq:queues"}
	for _, name := range s.companies {
		keys = append(keys, "{"+name+"}:ver")
	}
	for lane := range 4 {
		keys = append(keys, fmt.Sprintf("asynq:{ringback-%d}:pending", lane))
	}
	s.ledger.refusals()
	from := time.Now()
	var longest, worst time.Duration
	for _, key := range keys {
		begun, slot := time.Now(), s.nodes.Slot(key)
		if owner := s.nodes.MasterOf(key); owner != added {
			s.nodes.Move(owner, added, slot, slot)
		}
		longest = max(longest, time.Since(begun))
	}
	moved := time.Now()
	s.acceptedAgain(moved, acceptedWithin, &worst)
	refused, _ := s.ledger.refusals()
	stop()
	s.injected("a fourth master, and the slots of %d companies, of the lanes and of the global keys moved to it within %s", len(s.companies), moved.Sub(from).Round(100*time.Millisecond))
	s.found("a slot took up to %s; %d requests were answered 503 meanwhile, none later than %s after", longest.Round(10*time.Millisecond), refused[http.StatusServiceUnavailable], worst.Round(10*time.Millisecond))
	s.hit(from)
	s.settle(90 * time.Second)
	s.verify()
	if refused[0] > 0 || strings.Contains(fmt.Sprint(refused), "500:") {
		s.t.Errorf("refused: %v", refused)
	}
}
