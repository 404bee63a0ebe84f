package dispatcher

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/registry"
)

// wantSentence wants a sentence word for word.
func wantSentence(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("said\n\t%s\nwant\n\t%s", got, want)
	}
}

// TestWhoIsToBlame: what is ours is told first and in the order in which it is mended, what partners have to mend is not ours, and what is paused is late by
// nobody's fault.
func TestWhoIsToBlame(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	reason := func(side verdict.Side) []FailingReason {
		return []FailingReason{{Reason: "timeout", Callbacks: 2, Side: side, Detail: "no answer came"}}
	}
	for name, c := range map[string]struct {
		o            Overview
		full         int64
		side         string
		ours, theirs []string // how each begins
		sentence     string   // a part of it
	}{
		"well":   {side: "nobody", sentence: "All is well"},
		"unwell": {o: Overview{Worst: WorstPart{Of: 1}}, side: "nobody", sentence: "was paused, or failed before"},
		"paused": {
			o: Overview{Egress: EgressPart{Sentence: "Nothing goes out.", Egress: Egress{Status: EgressPaused}}, Workers: WorkersPart{Workers: 1, OverdueMS: 3600_000}}, side: "ours",
			ours: []string{"Nothing goes out."}, sentence: "It is us. Nothing goes out.",
		},
		"an outage": {
			o:    Overview{AsOf: now, Verdict: OverallVerdict{Outages: []Outage{{"web-7:1", now.Add(-3 * time.Minute), 10, 9}}}},
			side: "ours", ours: []string{"Process web-7:1 cannot reach 9 of the 10 destinations that it tried in the last minute, for 3 minutes now"},
		},
		"no worker":             {o: Overview{Waiting: WaitingPart{Total: 1}}, side: "ours", ours: []string{"No worker runs, and 1 delivery waits"}},
		"no worker, no work":    {side: "nobody"},
		"workers that are late": {o: Overview{Workers: WorkersPart{Workers: 1, OverdueMS: 60_000}}, side: "ours", ours: []string{"The workers are behind: a delivery has waited 1m for"}},
		"a little late":         {o: Overview{Workers: WorkersPart{Workers: 1, OverdueMS: 59_000}}, side: "nobody"},
		"workers not known":     {o: Overview{Workers: WorkersPart{Workers: -1}, Waiting: WaitingPart{Total: 1}}, side: "nobody"},
		"full":                  {full: 93, side: "ours", ours: []string{"Redis is 93 % full"}},
		"a certificate that has expired": {
			o: Overview{Certificates: CertificatesPart{Of: 2, Expired: 1, Sentence: "1 client certificate has expired."}}, side: "ours", ours: []string{"1 client certificate has expired."},
		},
		"a certificate that expires": {
			o: Overview{Certificates: CertificatesPart{Of: 1, Sentence: "1 client certificate expires."}}, side: "nobody", sentence: "All is well: nothing fails, here or there. But: 1 client certificate expires.",
		},
		"Redis": {
			o: Overview{Redis: Posture{Faults: 1, Sentence: "Redis: no disk."}}, side: "ours", ours: []string{"Redis: no disk."},
		},
		"them":    {o: Overview{Worst: WorstPart{Of: 2, Reasons: reason(verdict.Theirs)}}, side: "theirs", theirs: []string{"2 callbacks failed last with timeout: no answer came."}, sentence: "It is them, not us. 2 callbacks"},
		"our end": {o: Overview{Worst: WorstPart{Of: 2, Reasons: reason(verdict.Ours)}}, side: "ours", ours: []string{"2 callbacks failed last with timeout"}},
		"both": {
			o: Overview{Worst: WorstPart{Of: 2, Reasons: reason(verdict.Theirs)}}, full: 93, side: "both", ours: []string{"Redis is 93 %"}, theirs: []string{"2 callbacks"},
			sentence: "It is us, and some partners fail as well. Ours first: Redis is 93 %",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.o.judge(c.full)
			v := c.o.Verdict
			begins := func(got, want []string) bool { return slices.EqualFunc(got, want, strings.HasPrefix) }
			if v.Side != c.side || !strings.Contains(v.Sentence, c.sentence) || !begins(v.Ours, c.ours) || !begins(v.Theirs, c.theirs) {
				t.Errorf("%+v", v)
			}
		})
	}
}

// TestSentencesOfTheOverview: each says what its figures say, and what could not be read is not said to be well.
func TestSentencesOfTheOverview(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	worst := WorstPart{Of: 1200, Callbacks: []WorstCallback{{Company: "acme", CallbackID: 7, Host: "a.example", Words: "breaker open", Waiting: 12345, Dead: 3, LastFailure: &Failure{Detail: "no answer came"}}}}
	worst.say()
	wantSentence(t, worst.Sentence, "1,200 callbacks are not well. The worst is callback 7 of acme (a.example): breaker open, 12,345 waiting, 3 dead. Its last failure: no answer came.")
	for age, want := range map[time.Duration]string{
		-time.Second: "0 seconds", time.Second: "1 second", 119 * time.Second: "119 seconds", 2 * time.Minute: "2 minutes", 2 * time.Hour: "2 hours", 47 * time.Hour: "47 hours", 49 * time.Hour: "2 days",
	} {
		w := WaitingPart{Total: 4, Held: 1, Retrying: 2, Pending: 1, OldestAt: now.Add(-age), Company: "acme", CallbackID: 7}
		w.say(now)
		wantSentence(t, w.Sentence, "4 deliveries wait: 1 held, 2 waiting for a retry, 1 on the way. The oldest was accepted "+want+" ago, for callback 7 of acme.")
	}
	dead := DeadPart{Total: 1234567, Counted: 2000, Reasons: []DeadReason{{Reason: "gone", Dead: 1500}, {Reason: "timeout", Dead: 300}, {Dead: 150}, {Reason: "x", Dead: 50}}}
	dead.say()
	wantSentence(t, dead.Sentence, "1,234,567 deliveries are dead. Of the newest 2,000: 1,500 by gone, 300 by timeout, 150 by a reason that was not recorded, the rest by 1 other reason.")
	dead = DeadPart{Total: 1, Counted: 1, Reasons: []DeadReason{{Reason: "gone", Dead: 1}}}
	dead.say()
	wantSentence(t, dead.Sentence, "1 delivery is dead: 1 by gone.")

	for _, c := range []struct {
		w    WavePart
		want string
	}{
		{WavePart{Minutes: []int64{0, 2, 5, 5}, DueNow: 3, Later: 4}, "12 retries are due within the next hour, most of them (5) in the minute from 03:04 UTC on; 3 due now, 4 later."},
		{WavePart{Minutes: []int64{0, 2}}, "2 retries are due within the next hour, all in the minute from 03:03 UTC on; 0 due now, 0 later."},
		{WavePart{Minutes: []int64{0, 0}, DueNow: 1}, "No retry is due within the next hour; 1 due now, 0 later."},
		{WavePart{Minutes: []int64{0, 0}, Later: 1}, "No retry is due within the next hour; 0 due now, 1 later."},
		{WavePart{}, "No retry is due."},
	} {
		c.w.say(now)
		wantSentence(t, c.w.Sentence, c.want)
	}
	rates := RatesPart{Minutes: []Minute{{Accepted: 900, Failed: 900}, {Accepted: 90}, {Accepted: 1}, {Accepted: 2}, {Delivered: 3}, {Failed: 4}, {Accepted: 5}}, First50: 12, First95: 12345}
	rates.say()
	wantSentence(t, rates.Sentence, "In the last 5 minutes: 8 events accepted, 3 delivered, 4 failed attempts. Half of what a first attempt delivered was there within 12ms, 95 % within 12s.")

	callbacks := CallbacksPart{Enabled: 5, Paused: 4, Disabled: 3, Unverified: 2, Open: 1, HalfOpen: 6}
	callbacks.say()
	wantSentence(t, callbacks.Sentence, "14 callbacks: 5 enabled, 4 paused, 3 disabled, 2 unverified; breakers: 1 open, 6 widening.")
	for status, want := range map[string]string{
		EgressRunning: "Everything goes out.", EgressPaused: "Nothing goes out, or not everything: it was paused 2 minutes ago. `ringback egress resume` lets it go on.",
		egressUnknown: "It is not known whether everything goes out.",
	} {
		e := EgressPart{Egress: Egress{Status: status, Since: now.Add(-2 * time.Minute)}}
		e.say(now)
		wantSentence(t, e.Sentence, want)
	}
	for want, w := range map[string]WorkersPart{
		"1 worker is at work.":                 {Workers: 1, OverdueMS: 4999},
		"0 workers are at work.":               {},
		"It is not known which processes run.": {Workers: -1},
		"2 workers are at work. The delivery that is most overdue has waited 5s for its attempt.": {Workers: 2, OverdueMS: 5000},
	} {
		w.say()
		wantSentence(t, w.Sentence, want)
	}
	warn, fault := Finding{Level: "warn", Found: "no maxmemory"}, Finding{Node: "b:6379", Level: "fault", Found: "no disk"}
	for want, p := range map[string]Posture{
		"Redis: b:6379: no disk (and 1 more).":                 {Faults: 2, Warnings: 1, Findings: []Finding{warn, fault, fault}},
		"Redis is well, but: no maxmemory.":                    {Warnings: 1, Findings: []Finding{warn}},
		"Redis was not examined here: `ringback doctor` does.": {},
		"Redis is well.": {Findings: []Finding{{Level: "ok"}}},
	} {
		p.say()
		wantSentence(t, p.Sentence, want)
	}
	gate := &registry.Gate{Status: registry.Paused, At: now}
	for want, s := range map[string]ledger.Standing{
		"paused since 2026-05-04T03:02:01Z": {Gate: gate, Breaker: ledger.BreakerOpen}, "delivers again, more with each success": {Breaker: ledger.BreakerHalfOpen, Failures: 3},
		"breaker open: 3 failures in a row, tried carefully": {Breaker: ledger.BreakerOpen, Failures: 3}, "1 failure in a row": {Failures: 1, Held: 1}, "delivers, and has a backlog": {Held: 1}, "delivers": {},
	} {
		wantSentence(t, standingWords(&s), want)
	}
}

// TestFailingCallbacks: one fails whose last attempt did, while something waits for it or within the hour. The name server, the firewall and the network are ours
// while most destinations cannot be reached; an answer of the partner is the partner's all the same.
func TestFailingCallbacks(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	failed := func(ago time.Duration, status int, reason Reason) *ledger.Failure {
		return &ledger.Failure{Entry: ledger.Entry{Started: now.Add(-ago).UnixMilli(), Status: status, Reason: reason}}
	}
	for name, c := range map[string]struct {
		s       ledger.Standing
		outages bool
		fails   bool
		side    verdict.Side
		reason  Reason
	}{
		"lately":          {s: ledger.Standing{LastFailure: failed(time.Minute, 500, "status_500")}, fails: true, side: verdict.Theirs, reason: "status_500"},
		"long ago":        {s: ledger.Standing{LastFailure: failed(2*time.Hour, 500, "status_500")}, side: verdict.Theirs, reason: "status_500"},
		"something waits": {s: ledger.Standing{Held: 1, LastFailure: failed(2*time.Hour, 500, "status_500")}, fails: true, side: verdict.Theirs, reason: "status_500"},
		"delivered since": {s: ledger.Standing{Held: 1, LastFailure: failed(time.Minute, 500, "status_500"), LastSuccess: now}, side: verdict.Theirs, reason: "status_500"},
		"never":           {s: ledger.Standing{Held: 1}, side: verdict.Unclear},
		"unreached":       {s: ledger.Standing{LastFailure: failed(time.Minute, 0, "timeout")}, fails: true, side: verdict.Theirs, reason: "timeout"},
		"nobody reached":  {s: ledger.Standing{LastFailure: failed(time.Minute, 0, "timeout")}, outages: true, fails: true, side: verdict.Ours, reason: "timeout"},
		"an answer":       {s: ledger.Standing{LastFailure: failed(time.Minute, 500, "status_500")}, outages: true, fails: true, side: verdict.Theirs, reason: "status_500"},
		"a newer token":   {s: ledger.Standing{LastFailure: failed(time.Minute, 500, "status_500"), TokenFailure: failed(time.Second, 401, "status_401")}, fails: true, side: verdict.Theirs, reason: "status_401"},
		"an older token":  {s: ledger.Standing{LastFailure: failed(time.Minute, 500, "status_500"), TokenFailure: failed(time.Hour, 401, "status_401")}, fails: true, side: verdict.Theirs, reason: "status_500"},
		"a mended token":  {s: ledger.Standing{TokenFailure: failed(time.Minute, 401, "status_401"), LastSuccess: now}, side: verdict.Unclear},
	} {
		t.Run(name, func(t *testing.T) {
			l := &lookout{now: now, o: &Overview{}}
			if c.outages {
				l.o.Verdict.Outages = []Outage{{Process: "web-7:1"}}
			}
			w := l.shown(t.Context(), "acme", &c.s)
			reason := Reason("")
			if w.LastFailure != nil {
				reason = w.LastFailure.Reason
			}
			if l.fails(&w) != c.fails || w.Side != c.side || reason != c.reason {
				t.Errorf("fails: %t, %s, by %s", l.fails(&w), w.Side, reason)
			}
		})
	}
}

// TestCountingCompanies: what waits of all of them, the oldest of it, what is most overdue, and how many are dead. A company that cannot be read is said to be
// missing, and if none can be read, there is no overview.
func TestCountingCompanies(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	gone := errors.New("gone")
	l := &lookout{Client: &Client{log: slog.New(slog.DiscardHandler)}, now: now, o: &Overview{}, companies: []string{"a", "b", "c"}, dead: map[string]int64{"b": 90, "resting": 4}}
	l.surveys = []ledger.Survey{
		{Dead: 1, Enabled: 5, Due: now.Add(-time.Minute), Standings: []ledger.Standing{
			{Callback: 1, InLanes: 1, Retrying: 2, Held: 3, OldestWaiting: now.Add(-time.Hour), Breaker: ledger.BreakerOpen},
			{Callback: 2, Breaker: ledger.BreakerHalfOpen},
		}},
		{Dead: 2, Enabled: 6, Due: now.Add(-time.Hour), Standings: []ledger.Standing{{Callback: 3, Held: 4, OldestWaiting: now.Add(-2 * time.Hour), Gate: &registry.Gate{Status: registry.Paused}}}},
		{Err: gone, Dead: 100, Enabled: 100},
	}
	if err := l.count(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := WaitingPart{Total: 10, Pending: 1, Retrying: 2, Held: 7, OldestAt: now.Add(-2 * time.Hour), Company: "b", CallbackID: 3}
	if l.o.Waiting != want || l.o.Dead.Total != 7 || l.o.Workers.OverdueMS != 3600_000 {
		t.Errorf("waiting %+v, %d dead, %d ms late", l.o.Waiting, l.o.Dead.Total, l.o.Workers.OverdueMS)
	}
	if got := l.o.Callbacks; got != (CallbacksPart{Enabled: 11, Paused: 1, Open: 1, HalfOpen: 1}) {
		t.Errorf("callbacks: %+v", got)
	}
	if want := []string{"Not all could be read: 1 company of 3 companies."}; !slices.Equal(l.o.Unread, want) {
		t.Errorf("unread: %q", l.o.Unread)
	}
	l.surveys = l.surveys[2:]
	if err := l.count(t.Context()); !errors.Is(err, gone) {
		t.Errorf("nothing could be read: %v", err)
	}
	late := ledger.Standing{Breaker: ledger.BreakerClosed, InLanes: 1, OldestWaiting: now.Add(-backlogTells - 1)}
	soon := ledger.Standing{Breaker: ledger.BreakerClosed, InLanes: 1, OldestWaiting: now.Add(-backlogTells)}
	if !l.unwell(&late) || l.unwell(&soon) {
		t.Error("a backlog is told too soon, or too late")
	}
}
