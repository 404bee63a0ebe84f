package faults

import (
	"cmp"
	"hash/fnv"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Deliveries in order.

var orderFaults = []fault{
	{"order-kills", "workers, API and Redis (between two writes of its AOF) are killed in turn while deliveries come in order, customer by customer", true, true, killInOrder},
}

func killInOrder(s *scene) {
	s.open(setup{
		redisArgs: []string{"--appendfsync", "everysec"}, apis: 2, workers: 2, callbacks: 1,
		options: map[string]any{"ordering": map[string]string{"key": "/customerId"}, "retry": map[string]any{"initial_interval": "1s", "multiplier": 1}},
	})
	s.partner.handle(func(w http.ResponseWriter, r *http.Request, a *arrival) {
		h := fnv.New32()
		_, _ = h.Write([]byte(a.event))
		if a.attempt == 1 && h.Sum32()%25 == 0 { // keeps its customer waiting
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		slow(5*time.Millisecond)(w, r, a)
	})
	events := s.pick(500, 5000)
	sending := s.send(load{events: events, clients: 16, rate: float64(s.pick(150, 300))})
	kills := s.killInTurn(sending, func(n int) *process { return []*process{s.workers[s.rand.IntN(2)], s.apis[s.rand.IntN(2)], nil}[n%3] })
	sending.wait()
	s.settle(180 * time.Second)
	s.injected("%d times kill -9 of a worker, the API or Redis under %d events of %d customers from 16 producers; one in 25 was answered 503 first; no customer's came out of order",
		kills, events, customers)
	s.inOrder()
	s.verify()
}

// killInTurn kills one after the other, and has it come again, for as long as events are sent: a process, or Redis where victim says nil. It returns how often.
func (s *scene) killInTurn(sending *sending, victim func(n int) *process) (kills int) {
	s.t.Helper()
	for ; ; kills++ {
		select {
		case <-sending.finished:
			return kills
		case <-time.After(s.between(500*time.Millisecond, 1500*time.Millisecond)):
		}
		switch p := victim(kills); p {
		case nil:
			s.killWrittenRedis()
			<-time.After(s.between(0, 300*time.Millisecond))
			s.redis.Restart()
		default:
			s.kill(p)
			s.again(p)
		}
	}
}

// inOrder verifies that a customer's deliveries came one by one: each only after all with a lower number were answered well.
func (s *scene) inOrder() {
	s.t.Helper()
	books := s.partner.books()
	slices.SortStableFunc(books, func(a, b arrival) int { return cmp.Compare(a.start.UnixNano(), b.start.UnixNano()) })
	type line struct {
		last    int
		well    map[int]time.Time // when each number was first answered well
		numbers map[int]string    // whose they are
	}
	lines := make(map[string]*line)
	for _, a := range books {
		k, err := strconv.Atoi(a.event[strings.LastIndexFunc(a.event, func(r rune) bool { return r < '0' || r > '9' })+1:])
		if err != nil || a.sequence == 0 {
			s.t.Errorf("%s came with the number %d: %v", a.event, a.sequence, err)
			continue
		}
		key := a.path + " " + strconv.Itoa(k%customers)
		l := lines[key]
		if l == nil {
			l = &line{well: make(map[int]time.Time), numbers: make(map[int]string)}
			lines[key] = l
		}
		if of, known := l.numbers[a.sequence]; known && of != a.event {
			s.t.Errorf("%s and %s are both number %d of customer %s", of, a.event, a.sequence, key)
		}
		if l.numbers[a.sequence] == "" { // its first attempt
			if a.sequence < l.last {
				s.t.Errorf("number %d of customer %s came first after number %d", a.sequence, key, l.last)
			}
			for n := range l.numbers {
				if at, well := l.well[n]; !well || at.After(a.start) {
					s.t.Errorf("number %d of customer %s came before number %d was answered well", a.sequence, key, n)
				}
			}
			l.last, l.numbers[a.sequence] = max(l.last, a.sequence), a.event
		}
		if _, well := l.well[a.sequence]; !well && a.status/100 == 2 {
			l.well[a.sequence] = a.end
		}
	}
	if len(lines) != customers*len(s.callbacks) {
		s.t.Errorf("there were deliveries for %d customers, want %d", len(lines), customers)
	}
}
