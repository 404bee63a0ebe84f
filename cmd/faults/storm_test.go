package faults

import (
	"strings"
	"time"
)

// Everything at once.

var stormFaults = []fault{
	{"storm-small", "a small storm: whatever there is is killed every second or so, AOF everysec", true, true, storm},
	{"storm-1", "a storm: workers, API and Redis (between two writes of its AOF, synced every second) are killed every few seconds", false, true, storm},
	{"storm-2", "the same with other numbers", false, true, storm},
	{"storm-batches", "a storm over deliveries that travel in batches of up to 50: workers, API and Redis are killed every two seconds", false, true, storm},
	{"storm-3", "the same with other numbers again", false, true, storm},
}

func storm(s *scene) {
	small := strings.HasSuffix(s.row.name, "small")
	events, clients, every := suite.events, 64, 3*time.Second
	if small {
		events, clients, every = 600, 16, time.Second
	}
	in := setup{redisArgs: []string{"--appendfsync", "everysec"}, apis: 2, workers: 2, callbacks: 1}
	if strings.HasSuffix(s.row.name, "batches") {
		events, clients, every = suite.events/10, 16, 2*time.Second
		s.together = 50
		in.options = map[string]any{"timeout": "2s", "batch": map[string]any{"max_events": s.together, "max_wait": "200ms", "element": "envelope"}}
	}
	s.open(in)
	s.partner.handle(slow(5 * time.Millisecond))
	if s.together > 1 {
		s.partner.handle(slow(150 * time.Millisecond)) // else there is hardly a request to be killed in
	}
	l := load{events: events, clients: clients, giveUp: 10 * time.Minute}
	switch {
	case small:
		l.rate = 120
	case s.together > 1:
		l.rate = 300
	}
	sending := s.send(l)
	kills := make(map[string]int)
	for step, blown := 0, false; !blown; step++ {
		select {
		case <-sending.finished:
			blown = true
			continue
		case <-time.After(s.between(every/2, every*3/2)):
		}
		worker, api, redis := s.rand.IntN(2) == 0, s.rand.IntN(3) == 0, s.rand.IntN(3) == 0
		switch step { // each at least once
		case 0:
			redis = true
		case 1:
			worker = true
		case 2:
			api = true
		}
		var victims []*process
		if worker {
			victims = append(victims, s.workers[s.rand.IntN(len(s.workers))])
			kills["worker"]++
		}
		if api {
			victims = append(victims, s.apis[s.rand.IntN(len(s.apis))])
			kills["API"]++
		}
		if redis {
			kills["Redis"]++
			s.killWrittenRedis()
		}
		s.kill(victims...)
		<-time.After(s.between(0, every/3))
		if redis {
			s.redis.Restart()
		}
		s.again(victims...)
	}
	sending.wait()
	s.injected("kill -9 of workers (%d), APIs (%d) and Redis (%d) in %d events from %d producers", kills["worker"], kills["API"], kills["Redis"],
		events, clients)
	s.settle(180 * time.Second)
	s.verify()
}
