package dispatcher

import (
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// TestJudgeEveryStatus is the table of the contracts, over every status a server can send, each rule and each kind of content type.
func TestJudgeEveryStatus(t *testing.T) {
	contentTypes := map[string]bool{ // whether a 200 with it is JSON
		"application/json": true, "application/json; charset=utf-8": true, "Application/JSON": true, "application/json;charset=": true,
		"application/json ; x": true, "text/html": false, "": false, "application/problem+json": false, "text/json": false,
		"application/jsonx": false, "application/json, text/html": false, "json": false,
	}
	for status := 100; status <= 999; status++ {
		for contentType, isJSON := range contentTypes {
			for _, rule := range []payloads.SuccessRule{payloads.JSON200Or204, payloads.Any2xx, payloads.AnyResponse} {
				want := judgement{verdict: VerdictRetry, reason: statusReason(status)}
				switch {
				case rule == payloads.AnyResponse,
					rule == payloads.Any2xx && status/100 == 2,
					rule == payloads.JSON200Or204 && (status == 204 || status == 200 && isJSON):
					want = judgement{verdict: VerdictDelivered}
				case status == 410:
					want = judgement{verdict: VerdictGone, reason: ReasonGone}
				case status == 200:
					want = judgement{verdict: VerdictRetry, reason: ReasonWrongContentType, contentType: contentType}
				}
				got := judge(rule, outcome{status: status, header: http.Header{"Content-Type": {contentType}}}, time.Now())
				if got != want {
					t.Errorf("%s, %d %q: %+v, want %+v", rule, status, contentType, got, want)
				}
				e := entry{Status: status, Verdict: got.verdict, Reason: got.reason, ContentType: got.contentType}
				if s := detail(e); !strings.HasPrefix(s, fmt.Sprintf("answered %d", status)) || !strings.Contains(s, ": ") {
					t.Errorf("%d: no sentence to act on: %q", status, s)
				}
			}
		}
	}
}

func TestJudgeErrors(t *testing.T) {
	for _, reason := range []egress.Reason{
		egress.Timeout, egress.DNS, egress.Refused, egress.Reset, egress.Unreachable, egress.TLS, egress.BadResponse,
		egress.ConnectionClosed, egress.Network, egress.BadRequest, egress.BlockedAddress, egress.NameNotAllowed, egress.EgressProxy, egress.Canceled, egress.OAuth,
	} {
		want := judgement{verdict: VerdictRetry, reason: Reason(reason), note: "said"}
		switch reason {
		case egress.BlockedAddress:
			want.verdict = VerdictDead
		case egress.Canceled:
			want.reason = ReasonUnknown
		}
		got := judge(payloads.AnyResponse, outcome{err: fmt.Errorf("wrapped: %w", &egress.Error{Reason: reason, Detail: "said"})}, time.Now())
		if got != want {
			t.Errorf("%s: %+v, want %+v", reason, got, want)
		}
		if s := detail(entry{Verdict: got.verdict, Reason: got.reason, Note: got.note}); len(s) < 20 {
			t.Errorf("%s: no sentence: %q", reason, s)
		}
		if _, ok := networkAdvice[reason]; !ok && reason != egress.Canceled {
			t.Errorf("%s has no sentence of its own", reason)
		}
	}
	if got := judge(payloads.AnyResponse, outcome{err: errors.New("novel")}, time.Now()); got.verdict != VerdictRetry || got.reason != "network" {
		t.Errorf("an unknown error is temporary: %+v", got)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	for _, tc := range []struct {
		status int
		value  string
		want   time.Duration
	}{
		{429, "120", 2 * time.Minute},
		{503, "120", 2 * time.Minute},
		{503, " 7 ", 7 * time.Second},
		{500, "120", 0},
		{200, "120", 0},
		{429, "", 0},
		{429, "-5", 0},
		{429, "1e99", 0},
		{429, "1.5", 0},
		{429, "86401", 24 * time.Hour},
		{429, "99999999999999999999999999", 24 * time.Hour},
		{429, now.Add(time.Hour).Format(http.TimeFormat), time.Hour},
		{429, now.Add(-time.Hour).Format(http.TimeFormat), 0},
		{429, now.Add(1000 * time.Hour).Format(http.TimeFormat), 24 * time.Hour},
		{429, now.Add(time.Hour).Format(time.RFC850), time.Hour},
		{429, now.Add(time.Hour).Format(time.ANSIC), time.Hour},
	} {
		got := judge(payloads.JSON200Or204, outcome{status: tc.status, header: http.Header{"Retry-After": {tc.value}}}, now).retryAfter
		if got != tc.want {
			t.Errorf("%d, Retry-After: %s: %s, want %s", tc.status, tc.value, got, tc.want)
		}
	}
}

// TestTheDefaultSchedule: 15 attempts over about 57 hours, the first retry after 5 s, times 2.5, at most 12 h apart, ±20 %.
func TestTheDefaultSchedule(t *testing.T) {
	retry := registry.Retry{InitialInterval: 5 * time.Second, Multiplier: 2.5, MaxInterval: 12 * time.Hour, MaxAttempts: 15}
	interval, total := float64(5*time.Second), time.Duration(0)
	for n := 1; n < retry.MaxAttempts; n++ {
		want := min(time.Duration(interval), retry.MaxInterval)
		total += want
		interval *= 2.5
		for range 200 {
			wait, least, exhausted := next(retry, n, judgement{})
			if low, high := want*8/10, want*12/10+time.Millisecond; exhausted || wait < low-1 || wait > high || least > wait || least < low-time.Millisecond {
				t.Fatalf("after attempt %d: %s, at least %s, %t; want %s to %s", n, wait, least, exhausted, low, high)
			}
		}
	}
	if total < 56*time.Hour || total > 59*time.Hour {
		t.Errorf("the schedule spans %s", total)
	}
	if _, _, exhausted := next(retry, retry.MaxAttempts, judgement{}); !exhausted {
		t.Error("it never ends")
	}
	if wait, least, _ := next(retry, 1, judgement{retryAfter: time.Hour}); wait != time.Hour || least != time.Hour {
		t.Errorf("Retry-After: %s, at least %s", wait, least)
	}
}

func TestRecordsRoundTrip(t *testing.T) {
	text := "R 3 7 5 1731234567890 tok.en\n" + entry{Number: 7, Started: 1, Status: 503, Verdict: VerdictRetry, Reason: "status_503", Body: "a\nb"}.line()
	r, err := parseRecord(text)
	if err != nil {
		t.Fatal(err)
	}
	want := record{state: 'R', generation: 3, number: 7, spent: 5, at: 1731234567890, token: "tok.en", attempts: text[strings.Index(text, "\n"):]}
	if diff := cmp.Diff(want, r, cmp.AllowUnexported(record{})); diff != "" {
		t.Error(diff)
	}
	if e := parseEntries(r.attempts); len(e) != 1 || e[0].Body != "a\nb" {
		t.Errorf("entries: %+v", e)
	}
	for _, bad := range []string{"", "R", "R 1 2 3", "\n{}"} {
		if _, err := parseRecord(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestOnlyTheLastAnswersAreKept(t *testing.T) {
	log := ""
	for n := 1; n <= 150; n++ {
		log = appendEntry(log, entry{Number: n, Verdict: VerdictRetry, Reason: "status_500", Body: "sorry", Headers: map[string]string{"Server": "x"}})
	}
	entries := parseEntries(log)
	if len(entries) != keptEntries || entries[len(entries)-1].Number != 150 {
		t.Fatalf("%d entries, last %d", len(entries), entries[len(entries)-1].Number)
	}
	for i, e := range entries {
		if kept := e.Body != "" && e.Headers != nil; kept != (i >= len(entries)-keptAnswers) {
			t.Errorf("entry %d of %d: answer kept %t", i, len(entries), kept)
		}
	}
}

func TestWhatIsKeptOfAnAnswer(t *testing.T) {
	headers, body := keepAnswer(&egress.Response{Header: http.Header{
		"Content-Type": {"text/html"}, "Set-Cookie": {"session=canary"}, "Location": {"https://login.example/?token=canary"},
		"Server":           {strings.Repeat("s", 5000)},
		"Www-Authenticate": {`Bearer error="canary-token"`},
	}, Body: []byte("you sent canary-token" + strings.Repeat("\xff", 2000))}, blotter{"canary-token"})
	size := len(body)
	if strings.Contains(body, "canary") || !strings.HasPrefix(body, "you sent ***") {
		t.Errorf("the body keeps a secret: %s", body)
	}
	for name, value := range headers {
		size += len(name) + len(value)
		if strings.Contains(value, "canary") {
			t.Errorf("%s keeps a secret: %s", name, value)
		}
	}
	if headers["Content-Type"] != "text/html" || headers["Location"] != "https://login.example/" || headers["Set-Cookie"] != "" {
		t.Errorf("headers: %v", headers)
	}
	if size > answerSize {
		t.Errorf("%d bytes are kept", size)
	}
}

func FuzzDeliveryID(f *testing.F) {
	f.Add("acme", "evt_1", int64(1))
	f.Add("a.b-c_d", "order:2026.11:7", int64(1)<<40)
	f.Fuzz(func(t *testing.T, company, event string, callback int64) {
		if !payloads.ValidCompany(company) || !payloads.ValidEventID(event) || callback < 1 || callback >= 1<<62 {
			return
		}
		r := ref{company, event, callback}
		id := r.deliveryID()
		if strings.ContainsAny(id, "./ ~:") {
			t.Errorf("%s holds what an id must not", id)
		}
		back, ok := parseDeliveryID(company, id)
		if !ok || back != r {
			t.Errorf("%s reads as %+v, %t", id, back, ok)
		}
		if _, ok := parseDeliveryID(company+"x", id); ok {
			t.Errorf("%s is another company's too", id)
		}
		if back, ok := parseMember(company, r.member()); !ok || back != r {
			t.Errorf("%s reads as %+v", r.member(), back)
		}
	})
}

func FuzzParseDeliveryID(f *testing.F) {
	f.Add("dlv_AQ")
	f.Fuzz(func(t *testing.T, id string) {
		if r, ok := parseDeliveryID("acme", id); ok && r.deliveryID() != id {
			t.Errorf("%s is read as %s", id, r.deliveryID())
		}
	})
}

// FuzzRetryAfter: what a partner may answer never makes a wait that is negative or beyond a day, nor one that is shorter than asked within that.
func FuzzRetryAfter(f *testing.F) {
	for _, value := range []string{
		"", "0", "120", " 7 ", "-1", "1.5", "86400", "86401", "18446744073709551615", "18446744074", "99999999999999999999", "184474407674407370955CC", "0x10", "1e3",
		"Fri, 31 Dec 9999 23:59:59 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "Thursday, 01-Jan-70 00:00:00 GMT", "Thu Jan  1 00:00:30 1970",
	} {
		f.Add(http.StatusTooManyRequests, value, int64(0))
		f.Add(http.StatusServiceUnavailable, value, int64(999_999_999))
	}
	f.Add(http.StatusOK, "120", int64(0))
	f.Fuzz(func(t *testing.T, status int, value string, unixNano int64) {
		now := time.Unix(0, unixNano)
		got := retryAfter(outcome{status: status, header: http.Header{"Retry-After": {value}}}, now)
		if got < 0 || got > maxRetryAfter {
			t.Fatalf("%q: %v", value, got)
		}
		if status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
			if got != 0 {
				t.Errorf("status %d: %v", status, got)
			}
			return
		}
		value = strings.TrimSpace(value)
		if value != "" && strings.Trim(value, "0123456789") == "" {
			seconds, _ := new(big.Int).SetString(value, 10)
			most := big.NewInt(int64(maxRetryAfter / time.Second))
			if seconds.Cmp(most) > 0 {
				seconds = most
			}
			if want := time.Duration(seconds.Int64()) * time.Second; got != want {
				t.Errorf("%q: %v, want %v", value, got, want)
			}
			return
		}
		at, err := http.ParseTime(value)
		if err != nil {
			if got != 0 {
				t.Errorf("%q is neither a number nor a date: %v", value, got)
			}
			return
		}
		if until := now.Add(got); until.Before(at) && got != maxRetryAfter || until.After(at) && got != 0 {
			t.Errorf("%q at %v: %v", value, now, got)
		}
	})
}
