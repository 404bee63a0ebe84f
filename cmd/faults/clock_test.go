package faults

import (
	"net/http"
	"time"
)

// stepClock moves Redis's clock under load, with retries waiting and deliveries held, and kills the worker after the first step. What waits for its
// time comes at that time by the partner's clock, and nothing ages by the step.
func stepClock(s *scene, steps ...time.Duration) {
	const delay, spread = 10 * time.Second, 2 * time.Second // a fifth more or less
	s.open(setup{
		clock: true, callbacks: 2, args: []string{"--hold-max-age", "30m", "--disable-after", "30m", "--retention", "30m"},
		options: map[string]any{"timeout": "15s", "retry": map[string]any{"initial_interval": delay.String(), "multiplier": 1}},
	})
	s.partner.handle(func(w http.ResponseWriter, _ *http.Request, a *arrival) {
		if a.attempt == 1 && a.event[len(a.event)-1]%4 == 0 {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	held := s.callbacks[1]
	s.door(held, "pause")
	sending := s.send(load{events: s.pick(200, 600), rate: 20})
	for i, ahead := range append(steps, 0) {
		<-time.After(time.Duration(s.pick(3, 10)) * time.Second)
		s.clock.Set(ahead)
		if i == 0 {
			<-time.After(time.Second)
			s.kill(s.workers...)
			s.again(s.workers...)
		}
	}
	s.injected("steps of %v and back to the right time, and kill -9 of the worker a second after the first", steps)
	sending.wait()
	s.door(held, "resume")
	s.settle(90 * time.Second)
	s.verify()
	before, latest := make(map[string]arrival), time.Duration(0)
	for _, a := range s.partner.books() {
		last, again := before[a.delivery]
		before[a.delivery] = a
		if !again || last.status != http.StatusInternalServerError || len(s.hits) > 0 && last.start.Before(s.hits[0].to) && a.start.After(s.hits[0].from) {
			continue // an attempt that a kill cut off begins anew later
		}
		gap := a.start.Sub(last.end)
		latest = max(latest, gap-delay)
		if gap < delay-spread-time.Second || gap > delay+spread+time.Duration(s.pick(60, 10))*time.Second {
			s.t.Errorf("a retry that was due in %v ± %v came after %v", delay, spread, gap)
		}
	}
	s.found("no retry came more than %s after its time", max(0, latest-spread).Round(100*time.Millisecond))
}
