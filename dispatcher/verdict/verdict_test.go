package verdict

import (
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/payloads"
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
				want := Judgement{Verdict: Retry, Reason: StatusReason(status), Status: status}
				switch {
				case rule == payloads.AnyResponse,
					rule == payloads.Any2xx && status/100 == 2,
					rule == payloads.JSON200Or204 && (status == 204 || status == 200 && isJSON):
					want = Judgement{Verdict: Delivered, Status: status}
				case status == 410:
					want = Judgement{Verdict: Gone, Reason: ReasonGone, Status: status}
				case status == 200:
					want = Judgement{Verdict: Retry, Reason: ReasonWrongContentType, Status: status, ContentType: contentType}
				}
				got := Judge(rule, Outcome{Status: status, Header: http.Header{"Content-Type": {contentType}}}, time.Now())
				if got != want {
					t.Errorf("%s, %d %q: %+v, want %+v", rule, status, contentType, got, want)
				}
				if s := (Account{Judgement: got}).Sentence(); !strings.HasPrefix(s, fmt.Sprintf("answered %d", status)) || !strings.Contains(s, ": ") {
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
		want := Judgement{Verdict: Retry, Reason: Reason(reason), Note: "said"}
		switch reason {
		case egress.BlockedAddress:
			want.Verdict = Dead
		case egress.Canceled:
			want.Reason = ReasonUnknown
		case egress.DNS, egress.Refused, egress.Unreachable, egress.Network, egress.EgressProxy:
			want.Unconnected = true
		}
		got := Judge(payloads.AnyResponse, Outcome{Err: fmt.Errorf("wrapped: %w", &egress.Error{Reason: reason, Detail: "said"})}, time.Now())
		if got != want {
			t.Errorf("%s: %+v, want %+v", reason, got, want)
		}
		if s := (Account{Judgement: got}).Sentence(); len(s) < 20 {
			t.Errorf("%s: no sentence: %q", reason, s)
		}
		if _, ok := networkAdvice[reason]; !ok && reason != egress.Canceled {
			t.Errorf("%s has no sentence of its own", reason)
		}
	}
	if got := Judge(payloads.AnyResponse, Outcome{Err: errors.New("novel")}, time.Now()); got.Verdict != Retry || got.Reason != "network" {
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
		got := Judge(payloads.JSON200Or204, Outcome{Status: tc.status, Header: http.Header{"Retry-After": {tc.value}}}, now).RetryAfter
		if got != tc.want {
			t.Errorf("%d, Retry-After: %s: %s, want %s", tc.status, tc.value, got, tc.want)
		}
	}
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
		got := retryAfter(Outcome{Status: status, Header: http.Header{"Retry-After": {value}}}, now)
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
