package redistest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// watched is what the sentinels call the master.
	watched = "main"

	// downAfter is after how many milliseconds of silence a sentinel takes the master for down while a test waits for that.
	downAfter = 1000

	replicasOfWatched, watchers, quorum = 2, 3, 2
)

// Sentinels are a master with two replicas of one test, and three sentinels that watch
// them. Their methods fail the test instead of returning errors, and are for the test's
// own goroutine.
type Sentinels struct {
	t        testing.TB
	nodes    []*Server // the first master is the first
	watchers []*Server
}

// StartSentinels starts them all, and returns once the sentinels know each other and the
// replicas, and those have caught up. args are added to the command line of the master and
// of the replicas.
func StartSentinels(t testing.TB, args ...string) *Sentinels {
	t.Helper()
	s := &Sentinels{t: t}
	args = append([]string{"--repl-diskless-sync-delay", "0"}, args...)
	master := start(t, single, nil, args)
	s.nodes = append(s.nodes, master)
	port := strconv.Itoa(master.port)
	for range replicasOfWatched {
		s.nodes = append(s.nodes, start(t, single, nil, append(slices.Clone(args), "--replicaof", "127.0.0.1 "+port)))
	}
	for range watchers {
		s.watchers = append(s.watchers, start(t, sentinel, nil, []string{
			"sentinel monitor " + watched + " 127.0.0.1 " + port + " " + strconv.Itoa(quorum),
			"sentinel down-after-milliseconds " + watched + " " + strconv.Itoa(downAfter),
			"sentinel failover-timeout " + watched + " 10000",
		}))
	}
	s.AwaitWhole()
	return s
}

// Nodes are the master and the replicas, in the order of their start.
func (s *Sentinels) Nodes() []*Server { return s.nodes }

// Watchers are the sentinels.
func (s *Sentinels) Watchers() []*Server { return s.watchers }

// URL is their address as --redis takes it.
func (s *Sentinels) URL() string {
	return "redis+sentinel://" + strings.Join(s.addrs(), ",") + "/" + watched
}

func (s *Sentinels) addrs() (addrs []string) {
	for _, w := range s.watchers {
		addrs = append(addrs, w.Addr())
	}
	return addrs
}

// Client returns a new client of the master, whichever that is. It is closed when the test
// ends.
func (s *Sentinels) Client() *redis.Client {
	client := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: watched, SentinelAddrs: s.addrs(), ContextTimeoutEnabled: true, Protocol: 2,
		DialTimeout: time.Second, ReadTimeout: time.Second, // else one that stands still is waited for
	})
	s.t.Cleanup(func() { _ = client.Close() })
	return client
}

// Master is the one that the first sentinel that runs names. The others may name another
// until AwaitWhole has returned.
func (s *Sentinels) Master() *Server {
	s.t.Helper()
	for _, w := range running(s.watchers) {
		if master := s.namedBy(w); master != nil {
			return master
		}
	}
	s.t.Fatal("redistest: no sentinel names a master")
	return nil
}

// AwaitFailover returns as soon as a sentinel names another master than the one that is
// gone.
func (s *Sentinels) AwaitFailover(gone *Server) {
	s.t.Helper()
	s.patience(downAfter)
	s.await("put another in its place", func() bool {
		return slices.ContainsFunc(running(s.watchers), func(w *Server) bool {
			master := s.namedBy(w)
			return master != nil && master != gone
		})
	})
	s.patience(restTimeout)
}

// patience is after how many milliseconds of silence the sentinels that run take a node for down from now on.
func (s *Sentinels) patience(milliseconds int) {
	s.t.Helper()
	for _, w := range running(s.watchers) {
		if _, err := w.ask("SENTINEL", "SET", watched, "down-after-milliseconds", milliseconds); err != nil {
			s.t.Fatalf("redistest: %v", err)
		}
	}
}

// AwaitReplica returns once another node is a replica of the master that a sentinel names
// in the place of the one that is gone, and has caught up.
func (s *Sentinels) AwaitReplica(gone *Server) {
	s.t.Helper()
	s.await("have another follow it", func() bool {
		return slices.ContainsFunc(running(s.watchers), func(w *Server) bool {
			master := s.namedBy(w)
			return master != nil && master != gone && slices.ContainsFunc(running(s.nodes), func(n *Server) bool { return n != master && n != gone && follows(n, master) })
		})
	})
}

// AwaitWhole returns once all sentinels that run name the same master and take nobody for
// down that runs, and every other node that runs is its replica and has caught up.
func (s *Sentinels) AwaitWhole() {
	s.t.Helper()
	for _, w := range running(s.watchers) {
		// Else they look every 10 s at who is whose replica. Redis 6.2 has no such command.
		_, _ = w.ask("SENTINEL", "DEBUG", "info-period", "1000")
	}
	s.await("agree", func() bool {
		master := s.namedBy(running(s.watchers)[0])
		if master == nil || !master.runs() {
			return false
		}
		for _, w := range running(s.watchers) {
			if s.namedBy(w) != master || !s.atRest(w) {
				return false
			}
		}
		return !slices.ContainsFunc(running(s.nodes), func(n *Server) bool { return !follows(n, master) })
	})
	s.patience(restTimeout)
}

func running(servers []*Server) []*Server {
	return slices.DeleteFunc(slices.Clone(servers), func(s *Server) bool { return !s.runs() })
}

// namedBy is the master that a sentinel names; nil if it names none.
func (s *Sentinels) namedBy(w *Server) *Server {
	v, err := w.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", watched)
	addr, _ := v.([]any)
	if err != nil || len(addr) != 2 {
		return nil
	}
	return s.at(addr[0], addr[1])
}

func (s *Sentinels) at(host, port any) *Server {
	i := slices.IndexFunc(s.nodes, func(n *Server) bool { return n.Addr() == fmt.Sprintf("%v:%v", host, port) })
	if i < 0 {
		return nil
	}
	return s.nodes[i]
}

// atRest reports whether a sentinel is in no failover, takes none of the nodes that run for down, and knows all others that run.
func (s *Sentinels) atRest(w *Server) bool {
	master, err := w.ask("SENTINEL", "MASTER", watched)
	if about := fields(master); err != nil || about["flags"] != "master" || number(about["num-slaves"]) != len(s.nodes)-1 || number(about["num-other-sentinels"]) != watchers-1 {
		return false
	}
	replicas, err := w.ask("SENTINEL", "REPLICAS", watched)
	all, _ := replicas.([]any)
	if err != nil {
		return false
	}
	for _, one := range all {
		about := fields(one)
		if node := s.at(about["ip"], about["port"]); node != nil && node.runs() && about["flags"] != "slave" {
			return false
		}
	}
	return true
}

// follows reports whether a node is the master, or its replica and has caught up.
func follows(n, master *Server) bool {
	v, err := n.ask("INFO", "replication")
	text, _ := v.(string)
	if n == master {
		return err == nil && strings.Contains(text, "role:master")
	}
	return err == nil && strings.Contains(text, "master_port:"+strconv.Itoa(master.port)+"\r") && strings.Contains(text, "master_link_status:up")
}

// fields are a list of names, each followed by its value.
func fields(list any) map[string]string {
	all, _ := list.([]any)
	about := make(map[string]string)
	for i := 0; i+1 < len(all); i += 2 {
		about[fmt.Sprint(all[i])] = fmt.Sprint(all[i+1])
	}
	return about
}

func number(text string) int {
	n, _ := strconv.Atoi(text)
	return n
}

// await waits until it is so.
func (s *Sentinels) await(what string, reached func() bool) {
	s.t.Helper()
	for end := time.Now().Add(agreeTimeout); !reached(); pause() {
		if time.Now().After(end) {
			v, err := running(s.watchers)[0].ask("SENTINEL", "MASTER", watched)
			s.t.Fatalf("redistest: the sentinels do not %s within %s: %v, %v", what, agreeTimeout, v, err)
		}
	}
}
