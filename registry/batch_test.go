package registry

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/payloads"
)

// TestBatchIsRead: what is left out has a default, and each fault is reported where it is.
func TestBatchIsRead(t *testing.T) {
	standard := Batch{DefaultBatchEvents, DefaultBatchBytes, DefaultBatchWait, ElementPayload, false, RateOfRequests}
	with := func(change func(*Batch)) *Batch { b := standard; change(&b); return &b }
	for text, want := range map[string]*Batch{
		`null`:                                 nil,
		`{}`:                                   &standard,
		`{"max_events": 1000}`:                 with(func(b *Batch) { b.MaxEvents = 1000 }),
		`{"max_bytes": 1024}`:                  with(func(b *Batch) { b.MaxBytes = 1024 }),
		`{"max_wait": "0s"}`:                   with(func(b *Batch) { b.MaxWait = 0 }),
		`{"max_wait": "60s"}`:                  with(func(b *Batch) { b.MaxWait = time.Minute }),
		`{"element": "envelope"}`:              with(func(b *Batch) { b.Element = ElementEnvelope }),
		`{"results": true, "max_events": 500}`: with(func(b *Batch) { b.Results, b.MaxEvents = true, 500 }),
		`{"rate_limit": "requests"}`:           &standard,
		`{"rate_limit": "events"}`:             with(func(b *Batch) { b.RateLimit = RateOfEvents }),
	} {
		cb, err := decode(payloads.Builtin(), refusing(""), batched(text), nil)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, cb.Batch); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
	for text, location := range map[string]string{
		`true`:                                 "body.batch",
		`{"max_events": 0}`:                    "body.batch.max_events",
		`{"max_events": 1001}`:                 "body.batch.max_events",
		`{"max_events": 1.5}`:                  "body.batch.max_events",
		`{"max_events": 501, "results": true}`: "body.batch.max_events",
		`{"max_bytes": 1023}`:                  "body.batch.max_bytes",
		`{"max_bytes": 1048577}`:               "body.batch.max_bytes",
		`{"max_wait": "61s"}`:                  "body.batch.max_wait",
		`{"element": "xml"}`:                   "body.batch.element",
		`{"results": 1}`:                       "body.batch.results",
		`{"rate_limit": "bytes"}`:              "body.batch.rate_limit",
		`{"size": 1}`:                          "body.batch.size",
	} {
		_, err := decode(payloads.Builtin(), refusing(""), batched(text), nil)
		invalid, ok := errors.AsType[*payloads.InvalidError](err)
		if !ok || len(invalid.Fields) != 1 || invalid.Fields[0].Location != location {
			t.Errorf("%s: %v, want a fault at %s", text, err, location)
		}
	}
}

func batched(text string) []byte {
	return fmt.Appendf(nil, `{"callback_type": "payment_proof", "destination": {"url": "https://partner.example/hook"}, "batch": %s}`, text)
}

// TestWhatABatchIsInRedis: the dispatcher's scripts find it where the callback's health is, for as long as the callback has it.
func TestWhatABatchIsInRedis(t *testing.T) {
	var none *Batch
	if none.String() != "" {
		t.Errorf("no batch is %q", none)
	}
	if got := (&Batch{100, 2048, 1500 * time.Millisecond, ElementEnvelope, true, RateOfRequests}).String(); got != "batch 100 2048 1500 envelope" {
		t.Errorf("it is %q", got)
	}
	if got := (&Batch{100, 2048, 0, ElementPayload, false, RateOfEvents}).String(); got != "batch 100 2048 0 payload events" {
		t.Errorf("it is %q", got)
	}
}
