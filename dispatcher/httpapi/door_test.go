package httpapi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/semaphore"
)

// pipes is a listener without a network, for a bubble.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (p pipes) Close() error { close(p); return nil }

func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p pipes) dial() net.Conn {
	client, server := net.Pipe()
	p <- server
	return client
}

// A body that does not end is given up: the caller hears so, and its connection is closed, whatever it was promised. The server's end waits
// for no such body longer than that.
func TestABodyThatNeverEnds(t *testing.T) {
	for name, c := range map[string]struct {
		head  string
		sends int // bytes
		after time.Duration
	}{
		"a byte":               {"Content-Length: 1000", 1, bodyTimeout},
		"nothing":              {"Content-Length: 1000", 0, bodyTimeout},
		"no chunk":             {"Transfer-Encoding: chunked", 0, bodyTimeout},
		"three MiB of sixteen": {"Content-Length: 16777216", 3<<20 + 1, bodyTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{door: newDoorway(DefaultMaxInflight), Config: Config{Logger: slog.New(slog.DiscardHandler)}}
				listener := make(pipes)
				web := &http.Server{Handler: Linger(readsBodies(t, s), nil), ReadTimeout: 15 * time.Second}
				var serving sync.WaitGroup
				serving.Go(func() { _ = web.Serve(listener) })

				conn := listener.dial()
				began := time.Now()
				go func() {
					_, _ = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", c.head)
					_, _ = io.CopyN(conn, zeros{}, int64(c.sends))
				}()
				answers := bufio.NewReader(conn)
				resp, err := http.ReadResponse(answers, nil)
				if err != nil {
					t.Fatal(err)
				}
				if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusRequestTimeout || !resp.Close {
					t.Errorf("%d, close %v: %s %v", resp.StatusCode, resp.Close, body, err)
				}
				_ = resp.Body.Close()
				if took := time.Since(began); took != c.after {
					t.Errorf("answered after %v, want %v", took, c.after)
				}
				ended := make(chan struct{})
				go func() {
					_ = web.Shutdown(context.Background())
					close(ended)
				}()
				if _, err := answers.ReadByte(); err != io.EOF {
					t.Errorf("the connection is not closed: %v", err)
				}
				if took := time.Since(began) - c.after; took > lingerStall+time.Second {
					t.Errorf("closed %v after the answer", took)
				}
				<-ended
				serving.Wait()
				if s.door.bytes != 0 || len(s.door.keys) != 0 {
					t.Errorf("%d bytes, %d keys are still held", s.door.bytes, len(s.door.keys))
				}
			})
		})
	}
}

// readsBodies is a handler that reads a body of up to 16 MiB and answers nothing else.
func readsBodies(t *testing.T, s *server) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := s.door.enter("key")
		if err != nil {
			t.Error(err)
			return
		}
		defer v.leave()
		if _, err := (body{limit: 16 << 20}).read(w, r, v); err != nil {
			s.refuse(w, r, err)
		}
	})
}

// Memory is taken for what is there: a promise of a MiB costs what a promise of nothing does.
func TestAPromisedBodyTakesNoMemory(t *testing.T) {
	d := newDoorway(DefaultMaxInflight)
	v, err := d.enter("key")
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const rounds = 100
	for range rounds {
		r := httptest.NewRequest(http.MethodPost, "/", io.MultiReader(strings.NewReader("{"), broken{}))
		r.ContentLength = DefaultMaxBody
		if _, err := (body{limit: DefaultMaxBody}).read(w, r, v); err == nil {
			t.Fatal("a broken body was read")
		}
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / rounds; each > 32<<10 {
		t.Errorf("%d bytes for a body of one", each)
	}
	if d.bytes != 0 {
		t.Errorf("%d bytes are held", d.bytes)
	}
}

// Bodies together hold no more than they may, those of one key half as much, and small ones always come through.
func TestBytesInFlightAreBounded(t *testing.T) {
	h := newHouse(t, func(cfg *Config) { cfg.MaxBody = 64 << 10 }) // so that 4 MiB may be held
	h.register("acme")
	enter := func(key string, bytes int64) *visit {
		t.Helper()
		v, err := h.api.door.enter(key)
		h.must(err)
		h.must(v.hold(int(bytes/copies + freeBytes)))
		return v
	}
	long := func(id string) string { return strings.Replace(event(id), "{", "{"+strings.Repeat(" ", 60<<10), 1) }
	half := h.api.MaxInflight / 2

	id := func(actor string) string {
		key, err := h.api.Keys.Authenticate(t.Context(), h.keys[actor])
		h.must(err)
		return key.ID
	}
	own := enter(id("producer"), half)
	p := h.call("producer", "POST", "/companies/acme/events", long("e1"))
	if problem := p.wantProblem(http.StatusTooManyRequests); !strings.Contains(problem.Detail, fmt.Sprint(half)) || p.header.Get("Retry-After") == "" {
		t.Errorf("%+v, Retry-After %q", problem, p.header.Get("Retry-After"))
	}
	h.call("all producer", "POST", "/companies/acme/events", long("e2")).want(http.StatusAccepted)
	other := enter("another", half)
	p = h.call("all producer", "POST", "/companies/acme/events", long("e3"))
	if problem := p.wantProblem(http.StatusServiceUnavailable); !strings.Contains(problem.Detail, fmt.Sprint(h.api.MaxInflight)) || p.header.Get("Retry-After") == "" {
		t.Errorf("%+v, Retry-After %q", problem, p.header.Get("Retry-After"))
	}
	h.call("all producer", "POST", "/companies/acme/events", event("e4")).want(http.StatusAccepted)
	own.leave()
	other.leave()
	h.call("producer", "POST", "/companies/acme/events", long("e1")).want(http.StatusAccepted)
	h.call("all producer", "POST", "/companies/acme/events", long("e3")).want(http.StatusAccepted)
	if h.api.door.bytes != 0 || len(h.api.door.keys) != 0 {
		t.Errorf("%d bytes, %d keys are still held", h.api.door.bytes, len(h.api.door.keys))
	}
	if log := h.log.String(); strings.Count(log, "turned away") != 1 || strings.Contains(log, "request failed") {
		t.Errorf("logged: %s", log)
	}
}

// One key has so many requests under way and no more, and other keys' do not count.
func TestRequestsOfAKeyAreBounded(t *testing.T) {
	h := newHouse(t)
	key, err := h.api.Keys.Authenticate(t.Context(), h.keys["producer"])
	h.must(err)
	var all []*visit
	for range keyRequests {
		v, err := h.api.door.enter(key.ID)
		h.must(err)
		all = append(all, v)
	}
	a := h.call("producer", "POST", "/companies/acme/events", event("e"))
	if p := a.wantProblem(http.StatusTooManyRequests); !strings.Contains(p.Detail, fmt.Sprint(keyRequests)) || a.header.Get("Retry-After") == "" {
		t.Errorf("%+v, Retry-After %q", p, a.header.Get("Retry-After"))
	}
	h.call("all producer", "POST", "/companies/acme/events", event("e")).want(http.StatusAccepted)
	all[0].leave()
	h.call("producer", "POST", "/companies/acme/events", event("e")).want(http.StatusOK)
	if log := h.log.String(); strings.Count(log, "turned away") != 1 || !strings.Contains(log, errKeyRequests.detail) {
		t.Errorf("logged: %s", log)
	}
}

// Whoever hangs up while it waits for a place was not turned away, and the log counts nobody.
func TestWhoHangsUpIsNotTurnedAway(t *testing.T) {
	h := newHouse(t)
	cb := h.register("acme")
	if !h.api.door.places.TryAcquire(Places) || !h.api.door.long.TryAcquire(longPlaces) {
		t.Fatal("places are taken")
	}
	before := h.snapshot("acme")
	for _, c := range [][2]string{
		{"/companies/acme/events", event("e")},
		{"/companies/acme/events/batch", event("b")},
		{cb + "/replay", `{"dry_run":true}`},
		{cb + "/resume", `{"skip_held":true}`},
	} {
		ctx, hangUp := context.WithCancel(t.Context())
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, c[0], strings.NewReader(c[1]))
		r.Header.Set("Authorization", "Bearer "+h.keys["operator"])
		time.AfterFunc(placeTimeout/10, hangUp)
		if a := h.do(r); a.status != http.StatusServiceUnavailable && !strings.Contains(string(a.body), `"status":503`) {
			t.Errorf("%s did not wait: %d %s", c[0], a.status, a.body)
		}
	}
	h.wantUnchanged("acme", before)
	if log := h.log.String(); strings.Contains(log, "turned away") || strings.Contains(log, "request failed") {
		t.Errorf("logged: %s", log)
	}
}

// A place is given up for one of two reasons, and each is told: the time is up, or the caller is gone.
func TestWhyThereIsNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoorway(DefaultMaxInflight)
		v, err := d.enter("key")
		if err != nil {
			t.Fatal(err)
		}
		for name, full := range map[string]*semaphore.Weighted{"the key's": v.share.places, "all": d.places} {
			if !full.TryAcquire(keyPlaces) || full == d.places && !full.TryAcquire(Places-keyPlaces) {
				t.Fatal("places are taken")
			}
			ctx, hangUp := context.WithCancel(t.Context())
			time.AfterFunc(placeTimeout/2, hangUp)
			if _, err := v.place(ctx, 0); !errors.Is(err, context.Canceled) || errors.Is(err, errNoPlace) {
				t.Errorf("%s: a caller that hung up: %v", name, err)
			}
			if _, err := v.place(t.Context(), 0); !errors.Is(err, errNoPlace) {
				t.Errorf("%s: the time is up: %v", name, err)
			}
			full.Release(keyPlaces)
			if full == d.places {
				full.Release(Places - keyPlaces)
			}
		}
		if !d.places.TryAcquire(Places) || !v.share.places.TryAcquire(keyPlaces) {
			t.Error("a place was lost")
		}
	})
}

// A key that takes all the places it may leaves others theirs. What waits too long is turned away, and what waits long enough goes, first
// come first served.
func TestPlacesAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoorway(DefaultMaxInflight)
		enter := func(key string) *visit {
			v, err := d.enter(key)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		greedy := enter("greedy")
		var releases []func()
		for range keyPlaces {
			release, err := greedy.place(t.Context(), 100)
			if err != nil {
				t.Fatal(err)
			}
			releases = append(releases, release)
		}
		began := time.Now()
		release, err := enter("modest").place(t.Context(), 100)
		if err != nil || time.Since(began) > 0 {
			t.Fatalf("another key waited %v: %v", time.Since(began), err)
		}
		release()
		if _, err := greedy.place(t.Context(), 100); !errors.Is(err, errNoPlace) || time.Since(began) != placeTimeout {
			t.Errorf("turned away after %v: %v", time.Since(began), err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			// Sixteen places: a long payload is more work.
			release, err := greedy.place(t.Context(), 15*placeBytes)
			if err != nil {
				t.Error(err)
				return
			}
			release()
		})
		synctest.Wait()
		for i := range 16 {
			if synctest.Wait(); d.places.TryAcquire(Places - keyPlaces + int64(i) + 1) {
				t.Fatal("a place was not held")
			}
			releases[i]()
		}
		wg.Wait()
	})
}

// A long request waits for no more than others are sure to have: else those behind it waited, too, while places are free.
func TestALongBodyHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoorway(DefaultMaxInflight)
		place := func(key string, bytes int64) {
			t.Helper()
			v, err := d.enter(key)
			if err == nil {
				_, err = v.place(t.Context(), bytes)
			}
			if err != nil {
				t.Error(err)
			}
		}
		began := time.Now()
		for range keyPlaces {
			place("greedy", 1)
		}
		var wg sync.WaitGroup
		wg.Go(func() { place("long", 64<<20) })
		synctest.Wait()
		if waited := time.Since(began); waited > 0 {
			t.Errorf("it waited %v", waited)
		}
		d.places.Release(1)
		place("short", 1)
		if waited := time.Since(began); waited > 0 {
			t.Errorf("what is short waited %v behind what is long", waited)
		}
		wg.Wait()
	})
}

// Nor does one key take all the places of what takes long, and one that is turned away holds none.
func TestPlacesOfWhatTakesLongAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoorway(DefaultMaxInflight)
		place := func(key string) (*visit, error) {
			v, err := d.enter(key)
			if err != nil {
				t.Fatal(err)
			}
			_, err = v.longPlace(t.Context())
			return v, err
		}
		for range keyLongPlaces {
			if _, err := place("greedy"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := place("greedy"); !errors.Is(err, errNoPlace) {
			t.Errorf("a key has more than its places: %v", err)
		}
		began := time.Now()
		for i := range longPlaces - keyLongPlaces {
			if _, err := place(fmt.Sprint("modest ", i)); err != nil || time.Since(began) > 0 {
				t.Fatalf("another key waited %v: %v", time.Since(began), err)
			}
		}
		v, err := place("late")
		if !errors.Is(err, errNoPlace) {
			t.Errorf("there are more places than there should be: %v", err)
		}
		if !v.share.long.TryAcquire(keyLongPlaces) {
			t.Error("a key that was turned away has lost places")
		}
	})
}

// What takes Redis many seconds leaves all other requests their places.
func TestWhatTakesLongHoldsNobodyUp(t *testing.T) {
	h := newHouse(t)
	cb := h.register("acme")
	if !h.api.door.places.TryAcquire(Places) { // it needs none of them
		t.Fatal("places are taken")
	}
	replay := cb + "/replay"
	h.call("partner", "POST", replay, `{"dry_run":true}`).want(http.StatusAccepted)
	h.api.door.places.Release(Places)
	if !h.api.door.long.TryAcquire(longPlaces) {
		t.Fatal("places are taken")
	}
	defer h.api.door.long.Release(longPlaces)
	h.call("producer", "POST", "/companies/acme/events", event("e")).want(http.StatusAccepted)
	h.call("partner", "POST", replay, `{"dry_run":true}`).wantProblem(http.StatusServiceUnavailable)
	h.call("partner", "POST", cb+"/resume", `{"skip_held":true}`).wantProblem(http.StatusServiceUnavailable)
	h.call("partner", "POST", cb+"/resume", "").want(http.StatusOK)
}

// Whoever has no place hears what is true of it, and nothing is done for it.
func TestWithoutAPlaceNothingIsDone(t *testing.T) {
	h := newHouse(t)
	h.register("acme")
	if !h.api.door.places.TryAcquire(Places) {
		t.Fatal("places are taken")
	}
	before := h.snapshot("acme")
	var wg sync.WaitGroup
	wg.Go(func() {
		a := h.call("producer", "POST", "/companies/acme/events", event("e"))
		if p := a.wantProblem(http.StatusServiceUnavailable); p.Detail != busyNow || a.header.Get("Retry-After") == "" {
			t.Errorf("%+v, Retry-After %q", p, a.header.Get("Retry-After"))
		}
	})
	wg.Go(func() {
		a := h.call("producer", "POST", "/companies/acme/events/batch", event("b1")+"\n"+event("b2")).want(http.StatusOK)
		if strings.Count(string(a.body), `"status":503`) != 2 || !strings.Contains(string(a.body), busyNow) {
			t.Errorf("a batch: %s", a.body)
		}
	})
	wg.Wait()
	h.wantUnchanged("acme", before)
	h.api.door.places.Release(Places)
	h.call("producer", "POST", "/companies/acme/events", event("e")).want(http.StatusAccepted)
}

// A byte order mark is named, wherever JSON comes in.
func TestAByteOrderMarkIsNamed(t *testing.T) {
	h := newHouse(t)
	const mark = "\ufeff"
	callback := h.register("acme")
	for _, c := range [][3]string{
		{"POST", "/companies/acme/events", event("e")},
		{"POST", "/companies/acme/config/callbacks", hook},
		{"PATCH", callback, `{"description":"x"}`},
		{"PUT", "/callback-types/t", `{}`},
		{"POST", callback + "/resume", `{}`},
		{"POST", "/companies/acme/decisions", `{"event_type":"entry_code.verify"}`},
	} {
		if p := h.call("operator", c[0], c[1], mark+c[2]).wantProblem(http.StatusBadRequest); !strings.Contains(p.Detail, "byte order mark (U+FEFF): send it without") {
			t.Errorf("%s %s: %+v", c[0], c[1], p)
		}
	}
	a := h.call("operator", "POST", "/companies/acme/events/batch", mark+event("b1")+"\n"+event("b2")+"\n"+mark+event("b3")).want(http.StatusOK)
	if strings.Count(string(a.body), `"status":400`) != 2 || strings.Count(string(a.body), "byte order mark (U+FEFF)") != 2 || strings.Count(string(a.body), `"status":202`) != 1 {
		t.Errorf("a batch: %s", a.body)
	}
}
