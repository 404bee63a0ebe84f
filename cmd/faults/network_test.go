package faults

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// What happens between the processes and Redis.

var networkFaults = []fault{
	{"F11-bad-network", "the network between the worker and Redis is slow, breaks, swallows and is deaf on one ear", false, false, badNetwork},
	{"F12-lost-replies", "Redis carries a command out and its reply is lost, for each kind of command that matters", true, false, func(s *scene) { lostReplies(s, false) }},
	{"F12-late-replies", "the same, and the connection stays open: the reply just never comes", false, false, func(s *scene) { lostReplies(s, true) }},
	{"F13-partition", "one of two workers is cut off from Redis with requests in its hands", false, false, partition},
}

// newProxy starts a proxy that can be given toxics.
func (s *scene) newProxy(upstream string) *toxiproxy.Proxy {
	s.t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	proxy := toxiproxy.NewProxy(server, "redis", "127.0.0.1:0", upstream)
	s.must(proxy.Start())
	s.t.Cleanup(proxy.Stop)
	return proxy
}

// poison adds a toxic to a proxy for so long, and notes the time.
func (s *scene) poison(proxy *toxiproxy.Proxy, kind, stream string, attributes map[string]int, lasts time.Duration) {
	s.t.Helper()
	from := time.Now()
	text, err := json.Marshal(map[string]any{"name": "toxic", "type": kind, "stream": stream, "attributes": attributes})
	s.must(err)
	_, err = proxy.Toxics.AddToxicJson(bytes.NewReader(text))
	s.must(err)
	<-time.After(lasts)
	s.must(proxy.Toxics.RemoveToxic(s.t.Context(), "toxic"))
	s.hit(from)
}

func badNetwork(s *scene) {
	var proxy *toxiproxy.Proxy
	s.open(setup{callbacks: 2, via: func(role, redis string) string {
		if role == "api" {
			return redis
		}
		proxy = s.newProxy(redis)
		return proxy.Listen
	}})
	s.partner.handle(slow(20 * time.Millisecond))
	warm := s.send(load{events: 300, clients: 16})
	warm.wait()
	s.measure()
	for _, toxic := range []struct {
		what, kind, stream string
		attributes         map[string]int
		lasts              time.Duration
	}{
		{"300 ms later", "latency", "downstream", map[string]int{"latency": 300}, 8 * time.Second},
		{"0 to 400 ms later", "latency", "downstream", map[string]int{"latency": 200, "jitter": 200}, 8 * time.Second},
		{"reset after up to 500 ms", "reset_peer", "downstream", map[string]int{"timeout": 500}, 5 * time.Second},
		{"swallows everything", "timeout", "upstream", map[string]int{"timeout": 0}, 10 * time.Second},
		{"half-open: commands arrive, replies do not", "timeout", "downstream", map[string]int{"timeout": 0}, 10 * time.Second},
	} {
		sending := s.send(load{events: 300, rate: 60})
		<-time.After(2 * time.Second)
		s.poison(proxy, toxic.kind, toxic.stream, toxic.attributes, toxic.lasts)
		sending.wait()
		s.injected("%s %s", toxic.lasts, toxic.what)
	}
	s.settle(120 * time.Second)
	s.verify()
	s.verifyMeasures()
}

// partition: the rest takes over what the lonely worker cannot record, so a delivery may come a second time, and never a third.
func partition(s *scene) {
	var proxies []*toxiproxy.Proxy
	s.open(setup{workers: 2, callbacks: 2, via: func(role, redis string) string {
		if role == "api" || len(proxies) > 0 {
			return redis
		}
		proxies = append(proxies, s.newProxy(redis))
		return proxies[0].Listen
	}})
	s.partner.handle(slow(time.Second))
	sending := s.send(load{events: 800, rate: 40})
	s.partner.awaitOpen(30, 30*time.Second)
	s.poison(proxies[0], "timeout", "upstream", map[string]int{"timeout": 0}, 40*time.Second)
	s.injected("one of two workers cut off from Redis for 40 s")
	sending.wait()
	s.settle(120 * time.Second)
	s.verify()
	times := make(map[string]int)
	for _, a := range s.partner.books() {
		if times[a.delivery]++; times[a.delivery] > 2 {
			s.t.Errorf("%s came %d times", a.delivery, times[a.delivery])
		}
	}
}

// lostReplies: what our scripts decide, and asynq's conflict of ids, have to bear being asked twice. Nothing is under way when a reply is
// lost that was not before: so nothing may come twice.
func lostReplies(s *scene, silent bool) {
	var p *tap
	s.open(setup{via: func(_, redis string) string {
		if p == nil {
			p = newTap(s.t, redis)
		}
		return p.addr()
	}})
	warm := s.send(load{events: 5})
	warm.wait()
	s.partner.await(5, 20*time.Second)
	scripts := []string{"accept", "asynq enqueue", "asynq dequeue", "begin", "finish", "asynq done"}
	for range s.pick(1, 5) {
		var armed []*strike
		for _, script := range scripts {
			armed = append(armed, p.strike(strike{script: script, nth: 1 + s.rand.IntN(20), silent: silent}))
		}
		s.send(load{events: 60, clients: 4, rate: 60}).wait()
		// What waited for a lost reply travels together: there may be fewer runs than events.
		for more := 0; more < 10 && slices.ContainsFunc(armed, (*strike).pending); more++ {
			s.send(load{events: 20, clients: 4, rate: 60}).wait()
		}
		for _, strike := range armed {
			p.await(strike, 60*time.Second)
		}
	}
	how := "and the connection closed"
	if silent {
		how = "and the connection left open"
	}
	s.injected("the reply of a random %s dropped %s, %d times each", strings.Join(scripts, ", "), how, s.pick(1, 5))
	s.settle(90 * time.Second)
	s.verify()
	if s.row.duplicates > 0 {
		s.t.Error(fmt.Sprint(s.row.duplicates, " duplicates, though nothing was cut off"))
	}
}
