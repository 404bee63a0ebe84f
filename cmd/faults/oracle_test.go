package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// The oracle holds three books against each other: what producers sent and what was acknowledged (ledger), what arrived and how it was
// answered (partner), and what our API says. After each fault:
//
//	I1  each acknowledged event is listed, and each of its deliveries was answered well or is in the dead-letter book: lost 0
//	I2  what came again after an attempt whose outcome we should have known was under way at a hit, and at each hit no more than can have been
//	I3  under the same webhook-id, with the same bytes, which are the producer's, under a signature that verifies
//	I4  nothing comes after a final state
//	I5  our list of attempts and the partner's books agree, attempts of unknown outcome aside
//	I6  nothing is left in due, ready, rooms, retries, or asynq's lanes
//	I9  no secret in a log, in metrics, or in Redis's files
//
// I8, what a process holds, is looked at by the faults that are about it ([scene.measure]). I7 is package egress's.

// justBefore is how long before a hit an answer may have gone out whose outcome was not written down yet: a round trip to Redis, on a
// machine that does much else.
const justBefore = 500 * time.Millisecond

// outcomeWithin is how long a worker repeats the recording of an outcome while Redis fails: so long before a hit a request may have been
// answered that our own books then have as unknown.
const outcomeWithin = 10 * time.Second

// readWithin is how long after a hit the partner may first see a request that was sent before it: until then it is in the sockets.
const readWithin = 5 * time.Second

// tasksWithin is how long asynq may keep a task whose worker is gone, on a machine that does much else: 127 s for its lease to run out and
// be looked at, and then it has to be taken and found to be served.
const tasksWithin = 200 * time.Second

// settle waits until no delivery is under way any more, and measures how long that took since the last hit. In a full run it waits for
// asynq to be empty as well: what a worker held when it was killed stays there until its lease has run out, 66 to 127 s.
func (s *scene) settle(within time.Duration) {
	s.t.Helper()
	last := time.Now()
	if len(s.hits) > 0 {
		last = s.hits[len(s.hits)-1].to
	}
	var left string
	s.eventually(within, func() bool { left = s.underWay(); return left == "" }, func() string { return "there is still " + left })
	s.row.recovery = time.Since(last)
	if s.release != nil {
		s.release()
		s.release = nil
	}
	if s.full {
		s.eventually(tasksWithin, func() bool { left = s.tasks(); return left == "" }, func() string { return "asynq still holds " + left })
	}
}

// underWay names what our indexes in Redis hold of unfinished deliveries, "" if that is nothing.
func (s *scene) underWay() string {
	ctx := s.t.Context()
	pipe := s.direct.Pipeline()
	counts := make(map[string]interface{ Val() int64 })
	for _, name := range s.companies {
		counts["{"+name+"}:due"] = pipe.ZCard(ctx, "{"+name+"}:due")
	}
	for _, cb := range s.callbacks {
		for _, kind := range []string{"ready", "room", "retry", "behind", "heads"} {
			key := fmt.Sprintf("{%s}:%s:%d", cb.company, kind, cb.ID)
			if kind == "ready" {
				counts[key] = pipe.SCard(ctx, key)
			} else {
				counts[key] = pipe.ZCard(ctx, key)
			}
		}
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return err.Error()
	}
	var left []string
	for name, n := range counts {
		if n.Val() > 0 {
			left = append(left, fmt.Sprintf("%d in %s", n.Val(), name))
		}
	}
	return strings.Join(left, ", ")
}

// tasks names what asynq holds, "" if that is nothing.
func (s *scene) tasks() string {
	ctx := s.t.Context()
	names, err := s.scan("asynq:{ringback-*}:t:*")
	if err != nil {
		return err.Error()
	}
	n := len(names)
	if n == 0 {
		return ""
	}
	one := names[0]
	state, _ := s.direct.HGet(ctx, one, "state").Result()
	lane, id, _ := strings.Cut(one, ":t:")
	lease, err := s.direct.ZScore(ctx, lane+":lease", id).Result()
	return fmt.Sprintf("%d tasks, such as %s (%s; leased until %.0f, %v; it is %d)", n, one, state, lease, err, time.Now().Unix())
}

// scan lists the keys of a pattern.
func (s *scene) scan(pattern string) (keys []string, err error) {
	var mu sync.Mutex
	each := func(ctx context.Context, rdb redis.Cmdable) error {
		iter := rdb.Scan(ctx, 0, pattern, 1000).Iterator()
		for iter.Next(ctx) {
			mu.Lock()
			keys = append(keys, iter.Val())
			mu.Unlock()
		}
		return iter.Err()
	}
	if cluster, ok := s.direct.(*redis.ClusterClient); ok {
		err = cluster.ForEachMaster(s.t.Context(), func(ctx context.Context, node *redis.Client) error { return each(ctx, node) })
		return keys, err
	}
	err = each(s.t.Context(), s.direct)
	return keys, err
}

// A delivery is one as our API shows it.
type delivery struct {
	ID       string    `json:"delivery_id"`
	Event    string    `json:"event_id"`
	Callback int64     `json:"callback_id"`
	State    string    `json:"state"`
	Attempts []attempt `json:"attempts"`
}

type attempt struct {
	Number  int    `json:"number"`
	TookMS  int64  `json:"duration_ms"`
	Status  int    `json:"status_code"`
	Verdict string `json:"verdict"`
	Reason  string `json:"reason"`
}

// list reads all deliveries from the API.
func (s *scene) list() map[string]*delivery {
	s.t.Helper()
	all := make(map[string]*delivery)
	for _, name := range s.companies {
		s.listOf(name, all)
	}
	return all
}

func (s *scene) listOf(name string, all map[string]*delivery) {
	s.t.Helper()
	for cursor := ""; ; {
		var page struct {
			Deliveries []*delivery `json:"deliveries"`
			Next       string      `json:"next_cursor"`
		}
		status, err := s.patiently(http.MethodGet, "/companies/"+name+"/deliveries?limit=500&cursor="+cursor, nil, &page)
		if err != nil || status != http.StatusOK {
			s.t.Fatalf("listing deliveries: %d, %v", status, err)
		}
		for _, d := range page.Deliveries {
			if all[d.ID] != nil {
				s.t.Errorf("%s is listed twice", d.ID)
			}
			all[d.ID] = d
		}
		if cursor = page.Next; cursor == "" {
			return
		}
	}
}

// patiently asks the API, and comes again where it says that it has no time now: the machine may be busy with other faults.
func (s *scene) patiently(method, path string, body, into any) (status int, err error) {
	for range 10 {
		if status, err = s.call(method, path, body, into); err == nil && status != http.StatusServiceUnavailable {
			break
		}
		<-time.After(time.Second)
	}
	return status, err
}

// verify is the oracle. It fills the fault's row.
func (s *scene) verify() {
	s.t.Helper()
	listed, books := s.list(), s.partner.books()
	byDelivery := make(map[string][]arrival)
	for _, a := range books {
		byDelivery[a.delivery] = append(byDelivery[a.delivery], a)
	}
	s.verifyArrivals(books, listed)
	s.verifyAccepted(listed, byDelivery)
	for id, d := range listed {
		s.row.unknown += s.verifyDelivery(d, byDelivery[id])
	}
	s.verifyDuplicates(listed, byDelivery)
	s.verifyExplanations(20)
	s.verifySecrets()
}

// complain reports the first few of a kind, and counts them all.
func (s *scene) complain(complaints []string, what string) {
	s.t.Helper()
	if len(complaints) > 0 {
		slices.Sort(complaints)
		s.t.Errorf("%d %s:\n  %s", len(complaints), what, strings.Join(complaints[:min(5, len(complaints))], "\n  "))
	}
}

// verifyArrivals holds each request against what the producer sent.
func (s *scene) verifyArrivals(books []arrival, listed map[string]*delivery) {
	s.t.Helper()
	ids := make(map[string]string) // by event and path
	var wrong []string
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	for _, a := range books {
		e := s.ledger.events[a.event]
		key := a.event + a.path
		switch {
		case a.verified != nil:
			wrong = append(wrong, fmt.Sprintf("%s: the signature: %v", a.delivery, a.verified))
		case e == nil:
			wrong = append(wrong, fmt.Sprintf("%s: nobody sent event %q", a.delivery, a.event))
		case a.body != e.hash:
			wrong = append(wrong, fmt.Sprintf("%s: the body is not what was sent", a.delivery))
		case ids[key] != "" && ids[key] != a.delivery:
			wrong = append(wrong, fmt.Sprintf("event %s came to %s as %s and as %s", a.event, a.path, ids[key], a.delivery))
		case listed[a.delivery] == nil && !s.ages && !s.mayForget(a.start):
			wrong = append(wrong, fmt.Sprintf("%s arrived and is not listed", a.delivery))
		}
		ids[key] = a.delivery
	}
	s.complain(wrong, "requests are wrong")
}

// mayForget says whether Redis may have lost what it was told at that time.
func (s *scene) mayForget(at time.Time) bool {
	return slices.ContainsFunc(s.hits, func(h hit) bool {
		return h.forgets > 0 && at.After(h.from.Add(-h.forgets)) && at.Before(h.to.Add(time.Second))
	})
}

// age is how long before Redis forgot it was told.
func (s *scene) age(at time.Time) time.Duration {
	for _, h := range s.hits {
		if h.forgets > 0 && h.to.After(at) {
			return max(0, h.from.Sub(at))
		}
	}
	return 0
}

// forgetful says whether Redis may have lost anything.
func (s *scene) forgetful() bool {
	return slices.ContainsFunc(s.hits, func(h hit) bool { return h.forgets > 0 })
}

// verifyAccepted looks for each acknowledged event's deliveries: I1.
func (s *scene) verifyAccepted(listed map[string]*delivery, byDelivery map[string][]arrival) {
	s.t.Helper()
	var lost, forgotten []string
	for _, e := range s.ledger.acked() {
		s.row.accepted++
		if all := len(s.callbacks) / len(s.companies); len(e.deliveries) != all && !s.callbacksVary {
			s.t.Errorf("%s was accepted for %d of %d callbacks", e.id, len(e.deliveries), all)
		}
		for _, r := range e.deliveries {
			good := slices.ContainsFunc(byDelivery[r.ID], func(a arrival) bool { return a.status/100 == 2 })
			d := listed[r.ID]
			switch {
			case good:
				s.row.delivered++
			case d != nil && d.State == "dead":
				s.row.dead++
			case d != nil && d.State == "cancelled" && s.mayCancel:
			case d == nil && s.mayForget(e.acked):
				forgotten = append(forgotten, r.ID)
				s.row.oldest = max(s.row.oldest, s.age(e.acked))
			default:
				lost = append(lost, r.ID)
			}
		}
	}
	s.row.lost, s.row.forgotten = len(lost), len(forgotten)
	s.complain(lost, "deliveries of acknowledged events are lost")
}

// verifyDelivery holds our list of a delivery's attempts against the partner's books: I5. It returns how many attempts' outcome is unknown.
func (s *scene) verifyDelivery(d *delivery, got []arrival) (unknown int) {
	s.t.Helper()
	if d.State != "delivered" && d.State != "dead" && (d.State != "cancelled" || !s.mayCancel) {
		s.t.Errorf("%s is %s", d.ID, d.State)
	}
	byNumber := make(map[int]attempt)
	for _, a := range d.Attempts {
		byNumber[a.Number] = a
		if a.Reason == "unknown" {
			unknown++
		}
	}
	if s.forgetful() {
		return unknown // attempts may be missing, and numbers given twice
	}
	good, seen := false, make(map[int]bool)
	for _, a := range got {
		ours, ok := byNumber[a.attempt]
		if !ok {
			s.t.Errorf("%s: the partner saw attempt %d, which is not listed", d.ID, a.attempt)
		}
		if seen[a.attempt] {
			s.t.Errorf("%s: the partner saw attempt %d twice", d.ID, a.attempt)
		}
		if ours.Status != 0 && ours.Status != a.status {
			s.t.Errorf("%s: attempt %d was answered %d, and is listed with %d", d.ID, a.attempt, a.status, ours.Status)
		}
		seen[a.attempt] = true
		good = good || a.status/100 == 2
	}
	for _, a := range d.Attempts {
		if a.Status != 0 && !seen[a.Number] {
			s.t.Errorf("%s: attempt %d is listed with %d, and the partner never saw it", d.ID, a.Number, a.Status)
		}
	}
	if d.State == "delivered" && !good {
		s.t.Errorf("%s is delivered, and was never answered well", d.ID)
	}
	return unknown
}

// verifyDuplicates counts what came although nothing had failed, and asks of each what hit explains it: I2, I4.
func (s *scene) verifyDuplicates(listed map[string]*delivery, byDelivery map[string][]arrival) {
	s.t.Helper()
	var unexplained []string
	byHit := make([]int, len(s.hits))
	for id, got := range byDelivery {
		for i, a := range got[1:] {
			before := got[i]
			if failed(listed[id], before.attempt) {
				continue
			}
			s.row.duplicates++
			if k := s.hitAt(listed[id], before); k >= 0 {
				byHit[k]++
			} else {
				unexplained = append(unexplained, fmt.Sprintf("%s: attempt %d at %s, after attempt %d at %s to %s, answered %d", id,
					a.attempt, clock(a.start), before.attempt, clock(before.start), clock(before.end), before.status))
			}
		}
	}
	most := capPerWorker * len(s.workers) * len(s.callbacks) * max(1, s.together)
	for k, h := range s.hits {
		for id, got := range byDelivery {
			for _, a := range got {
				if a.underWayAt(h) || s.hitAt(listed[id], a) == k {
					s.row.inFlight++
				}
			}
		}
		if byHit[k] > most && h.forgets == 0 {
			s.t.Errorf("%d duplicates after the hit at %s, and no more than %d attempts can have been under way", byHit[k], clock(h.from), most)
		}
	}
	s.complain(unexplained, "requests came again for no reason")
	if len(unexplained) > 0 {
		for _, h := range s.hits {
			s.t.Logf("hit at %s to %s", clock(h.from), clock(h.to))
		}
	}
	if s.row.duplicates > s.row.unknown && !s.forgetful() {
		s.t.Errorf("%d duplicates, and %d attempts whose outcome is unknown", s.row.duplicates, s.row.unknown)
	}
}

// failed says whether our list has an attempt as one that failed, which is a reason to try again.
func failed(d *delivery, number int) bool {
	return d != nil && slices.ContainsFunc(d.Attempts, func(a attempt) bool {
		return a.Number == number && a.Verdict != "delivered" && a.Reason != "unknown"
	})
}

// underWayAt says whether the request may have been cut off from its outcome by a hit.
func (a arrival) underWayAt(h hit) bool {
	return !a.start.After(h.to) && (a.end.IsZero() || !a.end.Before(h.from.Add(-max(justBefore, h.forgets))))
}

// explains says whether our books know that they never heard of the attempt's outcome, and the hit was near enough to be why.
func (s *scene) explains(h hit, d *delivery, a arrival) bool {
	return !a.start.After(h.to.Add(readWithin)) && (a.end.IsZero() || a.end.After(h.from.Add(-outcomeWithin))) &&
		d != nil && slices.ContainsFunc(d.Attempts, func(b attempt) bool { return b.Number == a.attempt && b.Reason == "unknown" })
}

// hitAt is which hit cut the request off from its outcome: the last that it was under way at, else the last that explains it; -1 if none did.
func (s *scene) hitAt(d *delivery, a arrival) int {
	for k, h := range slices.Backward(s.hits) {
		if a.underWayAt(h) {
			return k
		}
	}
	for k, h := range slices.Backward(s.hits) {
		if s.explains(h, d, a) {
			return k
		}
	}
	return -1
}

func clock(t time.Time) string {
	if t.IsZero() {
		return "(open)"
	}
	return t.Format("15:04:05.000")
}

// verifyExplanations asks for some events by name.
func (s *scene) verifyExplanations(n int) {
	s.t.Helper()
	for i, e := range s.ledger.acked() {
		if i == n {
			return
		}
		if s.mayForget(e.acked) || s.ages {
			continue
		}
		var answer struct {
			Callbacks []struct {
				Decision string
				Delivery *delivery
			}
		}
		status, err := s.patiently(http.MethodGet, "/companies/"+e.company+"/events/"+e.id, nil, &answer)
		matched := 0
		for _, c := range answer.Callbacks {
			if c.Decision == "matched" && c.Delivery != nil {
				matched++
			}
		}
		if err != nil || status != http.StatusOK || matched != len(e.deliveries) {
			s.t.Errorf("the explanation of %s: %d, %v, %d of %d deliveries", e.id, status, err, matched, len(e.deliveries))
		}
	}
}

// verifySecrets looks for the canaries where none may be: I9.
func (s *scene) verifySecrets() {
	s.t.Helper()
	look := func(where string, text []byte) {
		for i, secret := range s.secrets {
			if bytes.Contains(text, []byte(secret)) {
				s.t.Errorf("secret %d is in %s", i, where)
			}
		}
	}
	for _, p := range s.processes() {
		text, err := os.ReadFile(p.log)
		s.must(err)
		look("the log of "+p.role, text)
		var metrics []byte
		if status, err := s.callAt(s.t.Context(), p.url(), http.MethodGet, "/metrics", nil, &metrics); err != nil || status != http.StatusOK {
			s.t.Errorf("/metrics of %s: %d, %v", p.role, status, err)
		}
		look("the metrics of "+p.role, metrics)
	}
	for _, dir := range s.redisDirs() {
		s.must(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) { // a replica's copy that has served
				return nil
			}
			look("Redis's "+d.Name(), text)
			return err
		}))
	}
}

// measure remembers what each process holds now, for [scene.verifyMeasures].
func (s *scene) measure() {
	s.t.Helper()
	for _, p := range s.processes() {
		var err error
		p.base, err = s.metrics(p)
		s.must(err)
	}
}

// verifyMeasures waits until each process holds no more than it did: goroutines, file descriptors, memory. It is given what may remain:
// connections stay in their pools.
func (s *scene) verifyMeasures() {
	s.t.Helper()
	limits := map[string]func(base float64) float64{
		"go_goroutines":                 func(b float64) float64 { return 2*b + 100 },
		"process_open_fds":              func(b float64) float64 { return b + 500 },
		"process_resident_memory_bytes": func(b float64) float64 { return b + 200<<20 },
	}
	for _, p := range s.processes() {
		var over string
		s.eventually(60*time.Second, func() bool {
			over = ""
			now, err := s.metrics(p)
			if err != nil {
				over = err.Error()
				return false
			}
			for name, limit := range limits {
				if now[name] > limit(p.base[name]) {
					over += fmt.Sprintf("%s of %s: %.0f, at first %.0f; ", name, p.role, now[name], p.base[name])
				}
			}
			return over == ""
		}, func() string { return over })
	}
}
