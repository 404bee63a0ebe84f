package ledger

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/dispatcher/verdict"
)

// sentBy is what an attempt sent, of a body.
func sentBy(number int, payload, body string) (*Sent, []byte) {
	s := &Sent{
		Number: number, At: 1_764_000_000_000 + int64(number), Method: "PUT", URL: []byte("\x01sealed\n" + destination), Headers: []string{":s", fmt.Sprintf("v1,%d", number)},
		Timing: []int64{900, 800}, Reused: true,
	}
	var other []byte
	s.Body, other = EditOf([]byte(payload), []byte(body))
	return s, other
}

// finishSent records how an attempt ended, and what it sent.
func (d *desk) finishSent(a *owned, how ending, s *Sent, other []byte) Finished {
	d.t.Helper()
	f := finishOf(a, how)
	f.Sent, f.Other = s, other
	done, err := d.ledger.Finish(d.t.Context(), f)
	d.must(err)
	return done
}

func (d *desk) exchanges(event string, cb int64) Exchanges {
	d.t.Helper()
	x, err := d.ledger.Exchanges(d.t.Context(), d.ref(event, cb))
	d.must(err)
	return x
}

// TestTheBodyThatWasSent is what comes of the payload and the change that is kept, or is said not to be kept: never another one.
func TestTheBodyThatWasSent(t *testing.T) {
	long := strings.Repeat("x", 100)
	for name, tt := range map[string]struct {
		payload, body string
		change        *Edit
	}{
		"the payload":         {payload: `{"a":1}`, body: `{"a":1}`},
		"a time written anew": {`{"a":1,"t":"2026-11-30T01:00:00Z"}`, `{"a":1,"t":"2026-11-30T02:00:01Z"}`, &Edit{Begin: 24, End: 3, Middle: "2:00:01"}},
		"a member added":      {`{"a":1}`, `{"a":1,"t":"x"}`, &Edit{Begin: 6, End: 1, Middle: `,"t":"x"`}},
		"a member twice":      {`{"aa":1,"aa":1}`, `{"aa":1}`, &Edit{Begin: 7, End: 1}},
		"a form":              {`{"a":1}`, `a=1`, &Edit{Other: digest([]byte("a=1"))}},
		"two places":          {`{"a":1,` + long + `,"a":1}`, `{"a":2,` + long + `,"a":2}`, &Edit{Other: digest([]byte(`{"a":2,` + long + `,"a":2}`))}},
		"half a character":    {"{\"é\"}", "{\"\xc3\"}", &Edit{Begin: 3, End: 2}},
		"no text":             {"{\"é\"}", "{\"\xe9\"}", &Edit{Other: digest([]byte("{\"\xe9\"}"))}},
	} {
		change, other := EditOf([]byte(tt.payload), []byte(tt.body))
		if diff := cmp.Diff(tt.change, change); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		kept := map[string][]byte{}
		if change != nil && change.Other != "" {
			kept[change.Other] = other
		}
		if got := change.Apply([]byte(tt.payload), kept); string(got) != tt.body {
			t.Errorf("%s: %q", name, got)
		}
		if change != nil && change.Other != "" && change.Apply([]byte(tt.payload), nil) != nil {
			t.Errorf("%s: it is another body, which is gone, and something is shown", name)
		}
	}
	if got := (&Edit{Begin: 5, End: 5, Middle: "x"}).Apply([]byte("short"), nil); got != nil {
		t.Errorf("of another payload: %q", got)
	}
}

func FuzzTheBodyThatWasSent(f *testing.F) {
	f.Add([]byte(`{"t":"1"}`), []byte(`{"t":"2"}`))
	f.Add([]byte(`aaaa`), []byte(`aaa`))
	f.Fuzz(func(t *testing.T, payload, body []byte) {
		change, other := EditOf(payload, body)
		kept := map[string][]byte{}
		if change != nil && change.Other != "" {
			kept[change.Other] = other
		}
		if got := change.Apply(payload, kept); !bytes.Equal(got, body) {
			t.Errorf("%q and %q: %+v makes %q", payload, body, change, got)
		}
	})
}

// TestWhatWasSentIsKept of the last three attempts: of the delivered ones, the failed ones, and one that was taken for lost. What begins the next
// attempt carries none of it. It takes four fields at most: some versions take an event with more than ten fields
// for one with several deliveries.
func TestWhatWasSentIsKept(t *testing.T) {
	t.Parallel()
	server := newDesk(t, standard)
	for name, tt := range map[string]struct {
		payload string
		body    func(n int) string
		others  int // bodies that are shown
		answer  string
	}{
		"the payload":     {`{"a":1}`, func(int) string { return `{"a":1}` }, 3, ""},
		"a stamp":         {`{"a":1,"t":"1"}`, func(n int) string { return fmt.Sprintf(`{"a":1,"t":"%d"}`, n+2) }, 3, ""},
		"a form":          {`{"a":1}`, func(int) string { return "a=1" }, 3, ""},
		"a stamped form":  {`{"a":1}`, func(n int) string { return fmt.Sprintf("a=%d", n) }, 1, ""},
		"a long form":     {`{"a":1}`, func(int) string { return "a=" + strings.Repeat("long+", 1000) }, 3, ""},
		"too long a form": {`{"a":1}`, func(int) string { return string(noise(mostOther + 1)) }, 0, ""},
		"a long answer":   {`{"a":1}`, func(int) string { return `{"a":1}` }, 3, strings.Repeat("<p>no\nline</p>", 1000)},
		"a short answer":  {`{"a":1}`, func(int) string { return `{"a":1}` }, 3, "a\nb"},
	} {
		t.Run(name, func(t *testing.T) {
			d := server.of(t, "c-"+strings.ReplaceAll(name, " ", "-"))
			cb := d.callback("")
			d.offer(tt.payload, "", []string{"e"}, cb)
			ticket := Ticket{Ref: d.ref("e", cb), Generation: 1}
			var want []*Sent
			const attempts = 5
			for n := 1; n <= attempts; n++ {
				c := d.claim(ticket)
				c.Early = hour
				a, why := d.begin(c)
				if a == nil {
					t.Fatalf("attempt %d does not begin: %+v", n, why)
				}
				if len(a.grant.Attempts) > 120*n {
					t.Errorf("attempt %d is told %d bytes: %s", n, len(a.grant.Attempts), a.grant.Attempts)
				}
				s, other := sentBy(n, tt.payload, tt.body(n))
				s.AnswerBody = tt.answer
				how := badly.retried(minute)
				if n == attempts {
					how = well
				}
				d.finishSent(a, how, s, other)
				want = append(want, s)
			}
			x := d.exchanges("e", cb)
			shown := 0
			for n := 1; n <= attempts; n++ {
				got := x.By[n]
				if n <= attempts-KeptSent {
					if got != nil {
						t.Errorf("attempt %d is still there: %+v", n, got)
					}
					continue
				}
				if got == nil {
					t.Errorf("attempt %d is gone", n)
					continue
				}
				if body := got.Body.Apply([]byte(tt.payload), x.Others); body != nil {
					if shown++; string(body) != tt.body(n) {
						t.Errorf("attempt %d sent %.50q, and shows %.50q", n, tt.body(n), body)
					}
				}
				if tt.answer != got.AnswerBody {
					t.Errorf("attempt %d was answered %d bytes, and shows %d", n, len(tt.answer), len(got.AnswerBody))
				}
				got.Body = want[n-1].Body
				if diff := cmp.Diff(want[n-1], got); diff != "" {
					t.Errorf("attempt %d (-want +got):\n%s", n, diff)
				}
			}
			if shown != tt.others {
				t.Errorf("%d bodies are shown, want %d", shown, tt.others)
			}
			fields := d.rdb.HKeys(t.Context(), EventKey(d.company, "e")).Val()
			if kept := slices.DeleteFunc(slices.Clone(fields), func(name string) bool { return name[0] != 'q' && name[0] != 'k' }); len(kept) > 4 {
				t.Errorf("its fields are %q", fields)
			}
		})
	}
}

// TestALateAttemptKeepsWhatItSent: its owner was taken for gone, and delivered. Who is told that the attempt is not theirs leaves nothing.
func TestALateAttemptKeepsWhatItSent(t *testing.T) {
	inBubble(t, standard, func(d *desk) {
		cb := d.callback("")
		d.accept([]string{"e"}, cb)
		late := d.beginLane()[0]
		time.Sleep(lease + standard.Patience)
		_, err := d.ledger.Overdue(d.t.Context(), d.company, 10)
		d.must(err)
		s, _ := sentBy(1, "{}", "{}")
		if done := d.finishSent(late, badly.retried(minute), s, nil); done.Outcome != NotOurs || len(d.exchanges("e", cb).By) != 0 {
			t.Errorf("%+v, kept %+v", done, d.exchanges("e", cb))
		}
		if done := d.finishSent(late, well, s, nil); done.Outcome != RecordedLate || d.exchanges("e", cb).By[1] == nil {
			t.Errorf("%+v, kept %+v", done, d.exchanges("e", cb))
		}
	})
}

// sentFields is how many fields of a hash have what was sent.
func (d *desk) sentFields(key string) (n int) {
	d.t.Helper()
	for _, name := range d.rdb.HKeys(d.t.Context(), key).Val() {
		if name[0] == 'q' || name[0] == 'k' {
			n++
		}
	}
	return n
}

// TestWhatWasSentIsErasedWithItsEvent, of a large one page by page.
func TestWhatWasSentIsErasedWithItsEvent(t *testing.T) {
	t.Parallel()
	d := newDesk(t, standard)
	d.accept([]string{"small"}, d.callback(""))
	d.large("wide", 2)
	for cb := range int64(100) {
		d.lane = append(d.lane, Ticket{Ref: d.ref("wide", cb+1), Generation: 1})
	}
	for n, a := range d.beginLane() {
		s, other := sentBy(1, "{}", fmt.Sprintf("form=canary%d", n))
		s.AnswerBody = "canary answered"
		d.finishSent(a, well, s, other)
	}
	if found := d.traces("canary"); len(found) != 2 {
		t.Fatalf("it stands in %v", found)
	}
	for _, event := range []string{"small", "wide"} {
		before := d.sentFields(EventKey(d.company, event))
		for done := false; !done; {
			e, err := d.ledger.EraseEvent(t.Context(), d.company, event, `{"by":"me"}`)
			d.must(err)
			if done = e.Done; !done { // what was sent goes with its page
				if left := d.sentFields(Key(d.company, "gone:"+event)); left == before {
					t.Errorf("after a page all %d fields of it are left", left)
				}
			}
		}
		if x := d.exchanges(event, 1); len(x.By) != 0 || len(x.Others) != 0 {
			t.Errorf("of %s there is %+v", event, x)
		}
	}
	if found := d.traces("canary"); len(found) > 0 {
		t.Errorf("left in %v", found)
	}
}

// TestABodyThatWasSentLeaves with the event's own, and the rest of what was sent stays.
func TestABodyThatWasSentLeaves(t *testing.T) {
	inBubble(t, standard, func(d *desk) {
		d.keeps(hour)
		var callbacks []int64
		for range 30 {
			callbacks = append(callbacks, d.callback(""))
		}
		d.accept([]string{"e"}, callbacks...)
		for n, a := range d.beginLane() {
			s, other := sentBy(1, "{}", fmt.Sprintf("form=canary%d", n))
			d.finishSent(a, well, s, other)
		}
		if len(d.exchanges("e", callbacks[29]).Others) != 1 {
			t.Fatal("the body is not there")
		}
		if d.leaves("e").IsZero() {
			t.Fatal("the event's body stays")
		}
		if found := d.traces("canary"); len(found) > 0 {
			t.Errorf("left in %v", found)
		}
		for _, cb := range callbacks {
			if x := d.exchanges("e", cb); x.By[1] == nil || len(x.By[1].URL) == 0 || len(x.Others) != 0 {
				t.Errorf("of callback %d there is %+v", cb, x)
			}
		}
	})
}

// TestADecisionKeepsWhatItSent beside its line.
func TestADecisionKeepsWhatItSent(t *testing.T) {
	inBubble(t, standard, func(d *desk) {
		d.must(d.rdb.HSet(d.t.Context(), Key(d.company, "ask:dec_1"), "t", "entry_code.verify", "c", 1, "a", 1).Err())
		s, _ := sentBy(1, "{}", "{}")
		line := Entry{Number: 1, Verdict: verdict.Delivered}
		d.must(d.ledger.RecordDecision(d.t.Context(), d.company, "dec_1", line, s, ""))
		found, err := d.ledger.Decisions(d.t.Context(), d.company, []string{"dec_1"})
		d.must(err)
		if diff := cmp.Diff(s, found[0].Sent); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		d.must(d.ledger.RecordDecision(d.t.Context(), d.company, "dec_1", line, nil, ""))
	})
}
