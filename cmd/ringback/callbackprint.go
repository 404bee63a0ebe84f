package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/client"
)

// showCallback prints the callback that a call answers with.
func showCallback(c *cli.Context) func(*client.Callback, error) error {
	return func(cb *client.Callback, err error) error {
		if err != nil {
			return err
		}
		out := newPrinter(c)
		if out.json {
			return out.raw(cb.Raw)
		}
		return printCallback(out, cb)
	}
}

// printCallback shows every setting that is set, and the callback's health. It shows of a secret only that it is there.
func printCallback(out printer, cb *client.Callback) error {
	auth, trace := "", ""
	if cb.Auth != nil {
		auth = cb.Auth.Type
		if cb.Auth.Username != "" {
			auth += " as " + cb.Auth.Username
		}
		if cb.Auth.TokenURL != "" {
			auth += " as " + cb.Auth.ClientID + ", token from " + cb.Auth.TokenURL
		}
	}
	if cb.Trace {
		trace = "sends traceparent"
	}
	dead := ""
	if cb.Dead > 0 {
		dead = fmt.Sprintf("%d; `ringback callbacks replay %d` sends them again", cb.Dead, cb.CallbackID)
	}
	return out.pairs(slices.Concat([][2]string{
		{"callback", fmt.Sprint(cb.CallbackID)},
		{"type", cb.CallbackType},
		{"match", match(cb)},
		{"destination", destinationOf(cb.Destination)},
		{"content type", cb.Destination.ContentType},
		{"auth", auth},
	}, tlsPairs(cb.TLS, time.Now()), [][2]string{
		{"headers", strings.Join(slices.Sorted(maps.Keys(cb.Headers)), ", ")},
		{"header style", cb.HeaderStyle},
		{"success", cb.Success},
		{"trace", trace},
		{"timeout", brief(cb.Timeout)},
		{"retry", retryOf(cb.Retry)},
		{"rate limit", rateOf(cb)},
		{"ordering", orderOf(cb)},
		{"filter", filterText(cb.Filter)},
		{"template", string(cb.Template)},
		{"envelope", cb.Envelope},
		{"body", cb.Body},
		{"batch", batchOf(cb)},
	}, keyPairs(cb), [][2]string{
		{"start date", clock(cb.StartDate)},
		{"description", cb.Description},
		{"status", cb.Status},
		{"because", cmp.Or(cb.DisabledReason, unverified(cb))},
		{"since", clock(cb.StatusAt)},
		{"health", healthOf(cb)},
		{"breaker", breakerOf(cb)},
		{"pending", some(cb.Pending)},
		{"held", some(cb.Held)},
		{"oldest waits since", clock(cb.OldestWaitingAt)},
		{"dead", dead},
		{"last success", clock(cb.LastSuccessAt)},
		{"last failure", failure(cb.LastFailure)},
		{"last without token", failure(cb.LastTokenFailure)},
	})...)
}

// healthOf says in words how a callback does.
func healthOf(cb *client.Callback) string {
	failed := cmp.Or(cb.LastFailure, cb.LastTokenFailure)
	switch {
	case cb.Destination.Pull && cb.LastSuccessAt.IsZero():
		return "nothing was acknowledged yet"
	case cb.Destination.Pull:
		return "its partner fetches, and acknowledged last at " + clock(cb.LastSuccessAt)
	case cb.ConsecutiveFailures == 1:
		return "failing: its last attempt was no success"
	case cb.ConsecutiveFailures > 1:
		return fmt.Sprintf("failing: its last %d attempts were no success", cb.ConsecutiveFailures)
	case cb.LastSuccessAt.IsZero() && failed == nil:
		return "not called yet"
	case failed != nil && failed.At.After(cb.LastSuccessAt):
		return "unclear: its last attempt was no success, for a reason that says nothing about the partner"
	}
	return "well: its last attempt was a success"
}

// breakerOf says in words what a callback's breaker does.
func breakerOf(cb *client.Callback) string {
	if cb.Destination.Pull {
		return "" // nothing is sent
	}
	switch cb.Breaker {
	case "open":
		said := "open: what is for it is held, and tried a few at a time until one is delivered"
		if !cb.PausedUntil.IsZero() {
			said += "; the next from " + clock(cb.PausedUntil) + " on"
		}
		return said
	case "half_open":
		return "half open: it delivers again, and what was held goes out, more at a time with each success"
	case "closed":
		return "closed: it is called as deliveries come"
	}
	return cb.Breaker
}

// match is what a callback's block narrows the match to.
func match(cb *client.Callback) string {
	var pairs []string
	for _, attribute := range slices.Sorted(maps.Keys(cb.Match)) {
		pairs = append(pairs, attribute+"="+cb.Match[attribute])
	}
	return strings.Join(pairs, " ")
}

// brief is a duration without minutes and seconds that are zero: 1h, not 1h0m0s.
func brief(d client.Duration) string {
	s := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, zero) {
			s = strings.TrimSuffix(s, zero[1:])
		}
	}
	return s
}

// failure says when and how the last attempt failed, and of which delivery.
func failure(f *client.Failure) string {
	if f == nil {
		return ""
	}
	return strings.Join(slices.DeleteFunc([]string{clock(f.At), f.Detail, "(" + f.DeliveryID + ")"}, func(s string) bool { return s == "" || s == "()" }), " ")
}

// unverified says what to do about an unverified callback; empty: it is none.
func unverified(cb *client.Callback) string {
	if cb.Status != "unverified" {
		return ""
	}
	last := "its endpoint was not challenged yet"
	if cb.UnverifiedReason != "" {
		last = "its endpoint did not answer its challenge (" + cb.UnverifiedReason + ")"
	}
	return fmt.Sprintf("%s; `ringback callbacks verify %d` tries again", last, cb.CallbackID)
}

// printTest begins with the sentence that says how it went.
func printTest(out printer, r *client.TestResult) error {
	if out.json {
		return out.raw(r.Raw)
	}
	if err := out.say("%s", r.Detail); err != nil {
		return err
	}
	return printAnswer(out, r, [2]string{"type", r.EventType}, [2]string{"verdict", verdict(r.Verdict, r.Reason)})
}

// printAnswer shows what a partner answered, after some pairs.
func printAnswer(out printer, r *client.TestResult, pairs ...[2]string) error {
	status, answer := "", []string{}
	if r.StatusCode != 0 {
		status = fmt.Sprint(r.StatusCode)
	}
	for _, name := range slices.Sorted(maps.Keys(r.ResponseHeaders)) {
		answer = append(answer, name+": "+r.ResponseHeaders[name])
	}
	if err := out.pairs(slices.Concat([][2]string{{"delivery", r.DeliveryID}}, pairs, [][2]string{
		{"status", status},
		{"took", took(r.DurationMS)},
		{"answered", strings.Join(answer, ", ")},
	})...); err != nil || r.ResponseBody == "" {
		return err
	}
	return out.line("%s", printableText(r.ResponseBody))
}

// rateOf says how fast a callback may be called; empty: as fast as it goes.
func rateOf(cb *client.Callback) string {
	if l := cb.RateLimit; l != nil {
		return fmt.Sprintf("%g a second, up to %d at once", l.PerSecond, l.Burst)
	}
	return ""
}

// retryOf says when what fails is tried again.
func retryOf(r client.Retry) string {
	switch r.MaxAttempts {
	case 0:
		return ""
	case 1:
		return "never, there is one attempt"
	}
	return fmt.Sprintf("after %s, then ×%g, at most %s apart, %d attempts in all", brief(r.InitialInterval), r.Multiplier, brief(r.MaxInterval), r.MaxAttempts)
}

// batchOf says how a callback's deliveries travel together; empty: they do not.
func batchOf(cb *client.Callback) string {
	b := cb.Batch
	if b == nil {
		return ""
	}
	said := fmt.Sprintf("up to %d events or %d bytes, for up to %s; an element is the %s", b.MaxEvents, b.MaxBytes, brief(b.MaxWait), b.Element)
	if b.Results {
		said += ", and the answer speaks of each"
	}
	if b.RateLimit == "events" {
		said += "; an event takes a token of the rate limit"
	}
	return said
}

// orderOf says how a callback's deliveries are kept in order; empty: they are not.
func orderOf(cb *client.Callback) string {
	o := cb.Ordering
	if o == nil {
		return ""
	}
	if o.SkipAfter > 0 {
		return "by " + o.Key + "; the next waits for " + brief(o.SkipAfter) + " at most"
	}
	return "by " + o.Key
}
