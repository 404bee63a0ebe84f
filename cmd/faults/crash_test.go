package faults

import (
	"net/http"
	"syscall"
	"time"
)

// Processes of Ringback that end without notice.

var crashFaults = []fault{
	{"F0-calm", "nothing breaks: what all the others are measured by", true, false, calm},
	{"F1-kill-worker", "the only worker is killed while the partner holds requests", true, false, killWorker},
	{"F2-kill-last-attempt", "the worker is killed during attempts that are the last of their budget", false, false, killLastAttempt},
	{"F3-kill-api", "the API is killed again and again while eight producers send", true, false, killAPI},
	{"F4-kill-before-enqueue", "the API is killed when Redis has accepted an event and before its task is enqueued", false, false, killBeforeEnqueue},
	{"F5-kill-before-outcome", "the worker is killed when the partner has answered well and before that is written down", true, false, killBeforeOutcome},
	{"F5-kill-at-random", "the worker is killed at random microseconds after a request has come or gone", false, false, killAtRandom},
}

func calm(s *scene) {
	s.open(setup{callbacks: 2, options: patientOptions})
	s.send(load{events: s.pick(200, 5000)}).wait()
	s.injected("nothing")
	s.settle(60 * time.Second)
	s.sendAgain(20)
	s.settle(10 * time.Second)
	s.verify()
	if requests, _, _ := s.partner.counts(); requests != s.row.delivered || s.row.unknown > 0 {
		s.t.Errorf("%d requests for %d deliveries, %d attempts of unknown outcome", requests, s.row.delivered, s.row.unknown)
	}
}

func killWorker(s *scene) {
	s.open(setup{callbacks: 2})
	s.partner.handle(slow(time.Minute))
	sending := s.send(load{events: s.pick(100, 1000)})
	s.partner.awaitOpen(s.pick(40, 80), 30*time.Second)
	_, open, _ := s.partner.counts()
	s.injected("kill -9 of the worker while some %d requests were open", open)
	s.kill(s.workers[0])
	s.partner.handle(nil)
	s.again(s.workers[0])
	sending.wait()
	s.settle(90 * time.Second)
	s.verify()
}

// killLastAttempt: an attempt whose outcome is unknown does not eat the budget, so there is one more, and what it says counts.
func killLastAttempt(s *scene) {
	s.open(setup{callbacks: 6, options: map[string]any{"retry": map[string]any{"initial_interval": "1s", "max_attempts": 2}}})
	s.partner.handle(func(w http.ResponseWriter, r *http.Request, a *arrival) {
		if a.attempt == 1 {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		slow(time.Minute)(w, r, a)
	})
	s.send(load{events: 9}).wait() // nine failures in a row of each callback: one more, and it would be called one at a time
	s.partner.awaitOpen(45, 30*time.Second)
	_, open, _ := s.partner.counts()
	s.kill(s.workers[0])
	s.injected("kill -9 of the worker during %d second attempts of two", open)
	s.partner.handle(func(w http.ResponseWriter, _ *http.Request, a *arrival) {
		if a.event[len(a.event)-1]%2 == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		} else {
			w.WriteHeader(http.StatusNoContent)
		}
	})
	s.again(s.workers[0])
	s.settle(120 * time.Second)
	s.verify()
	var book struct{ Deliveries []*delivery }
	status, err := s.call(http.MethodGet, "/companies/"+company+"/deliveries?state=dead&limit=500", nil, &book)
	if err != nil || status != http.StatusOK || len(book.Deliveries) != s.row.dead || s.row.dead == 0 {
		s.t.Errorf("%d are dead, and the dead-letter book lists %d (%d, %v)", s.row.dead, len(book.Deliveries), status, err)
	}
}

func killAPI(s *scene) {
	s.open(setup{})
	sending := s.send(load{events: s.pick(400, 4000), clients: 8, rate: float64(s.pick(150, 400))})
	kills := s.pick(4, 12)
	for i := range kills {
		s.partner.await((i+1)*s.pick(60, 200), 30*time.Second)
		<-time.After(s.between(0, 3*time.Millisecond))
		s.kill(s.apis[0])
		s.again(s.apis[0])
	}
	sending.wait()
	refused, _ := s.ledger.refusals()
	s.injected("%d times kill -9 of the API while 8 clients sent; %d requests had no answer and were repeated", kills, refused[0])
	s.settle(60 * time.Second)
	s.sendAgain(s.pick(50, 500))
	s.settle(30 * time.Second)
	s.verify()
	if s.row.duplicates > 0 {
		s.t.Errorf("%d duplicates, though no worker was killed", s.row.duplicates)
	}
}

// killBeforeEnqueue holds the reply of accept until the API is dead. Half of the producers come again, the others never do.
func killBeforeEnqueue(s *scene) {
	var p *tap
	s.open(setup{via: func(role, redis string) string {
		if role != "api" {
			return redis
		}
		p = newTap(s.t, redis)
		return p.addr()
	}})
	const rounds = 6
	for round := range rounds {
		armed := p.strike(strike{script: "accept", nth: 3, act: func() { s.apis[0].end(syscall.SIGKILL) }})
		giveUp := time.Minute
		if round%2 == 0 {
			giveUp = time.Nanosecond
		}
		sending := s.send(load{events: 5, clients: 1, giveUp: giveUp})
		p.await(armed, 30*time.Second)
		s.again(s.apis[0])
		if round%2 == 0 {
			sending.stop()
		} else {
			sending.wait()
		}
	}
	s.injected("%d times kill -9 of the API between accept's reply and the enqueue; half of the producers never came again", rounds)
	s.settle(60 * time.Second)
	s.verify()
	if s.row.duplicates > 0 {
		s.t.Errorf("%d duplicates, though no worker was killed", s.row.duplicates)
	}
	if n, listed := s.row.accepted, len(s.list()); listed <= n {
		s.t.Errorf("%d deliveries, %d acknowledged: nothing was accepted without an acknowledgement, so this tried nothing", listed, n)
	}
}

// killBeforeOutcome holds finish until the worker is dead: what it would have written is lost, and comes once more.
func killBeforeOutcome(s *scene) {
	var p *tap
	s.open(setup{via: func(role, redis string) string {
		if role == "api" {
			return redis
		}
		p = newTap(s.t, redis)
		return p.addr()
	}})
	rounds := s.pick(2, 10)
	for range rounds {
		var from time.Time
		armed := p.strike(strike{script: "finish", nth: 2, before: true, act: func() { // ten outcomes may be written down in a few runs
			from = time.Now()
			s.workers[0].end(syscall.SIGKILL)
		}})
		sending := s.send(load{events: 10, clients: 1})
		p.await(armed, 60*time.Second)
		s.hit(from)
		s.again(s.workers[0])
		sending.wait()
	}
	s.injected("%d times kill -9 of the worker with an outcome on its lips", rounds)
	s.settle(90 * time.Second)
	s.verify()
	if s.row.duplicates < rounds {
		s.t.Errorf("%d duplicates of %d outcomes that were never written: this tried too little", s.row.duplicates, rounds)
	}
}

func killAtRandom(s *scene) {
	s.open(setup{workers: 2, callbacks: 2})
	rounds := 15
	for round := range rounds {
		s.partner.handle(slow(s.between(0, 10*time.Millisecond)))
		requests, _, _ := s.partner.counts()
		sending := s.send(load{events: 100, clients: 4})
		s.eventually(60*time.Second, func() bool { n, _, _ := s.partner.counts(); return n > requests+20 }, func() string { return "nothing arrives" })
		<-time.After(s.between(0, 20*time.Millisecond))
		victim := s.workers[round%2]
		if round%3 == 0 { // it stands still for a moment first, with whatever it has in hand
			_ = victim.cmd.Process.Signal(syscall.SIGSTOP)
			<-time.After(s.between(0, 50*time.Millisecond))
		}
		s.kill(victim)
		s.again(victim)
		sending.wait()
	}
	s.injected("%d times kill -9 of one of two workers", rounds)
	s.settle(90 * time.Second)
	s.verify()
}
