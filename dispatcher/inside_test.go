package dispatcher

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/egress/egresstest"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/redistest"
)

// TestNamesNotAllowedAreHeld: a callback from before its name was refused loses nothing. What is for it waits, costs nothing, and goes out once
// an operator allows the name.
func TestNamesNotAllowedAreHeld(t *testing.T) {
	for name, more := range map[string]string{
		"url":       `"destination": {"url": "http://receiver/payment_proof"}`,
		"token_url": `"destination": {"url": "http://partner.example/"}, "auth": {"type": "oauth2", "token_url": "http://receiver/token", "client_id": "me", "client_secret": "s3cr3t"}`,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(h *house) {
				var allowed *egress.Client // as after a restart with --egress-allow-name
				cb, err := h.registry.Create(h.t.Context(), acme, []byte(`{"callback_type": "payment_proof", `+more+`}`))
				h.must(err)
				h.partner.knows(cb)
				stop := h.work()
				sent := []string{h.send(proof("p-1")).Deliveries[0].DeliveryID, h.send(proof("p-2")).Deliveries[0].DeliveryID}
				time.Sleep(150 * time.Second) // three looks at its room
				sent = append(sent, h.send(proof("p-3")).Deliveries[0].DeliveryID)
				time.Sleep(time.Minute)
				for _, id := range sent {
					d := h.delivery(id)
					if d.State != ledger.Held || d.HeldReason != "name_not_allowed" || len(d.Attempts) != 0 || !strings.Contains(d.Summary, "an operator allows that name") {
						h.t.Errorf("%s (%s), %d attempts: %s", d.State, d.HeldReason, len(d.Attempts), d.Summary)
					}
				}
				if health := h.health(cb.ID); health.Held != 3 || health.ConsecutiveFailures != 0 || health.Breaker != BreakerClosed || len(h.partner.requests()) != 0 {
					h.t.Errorf("%+v, %d requests; want nothing but three that are held", health, len(h.partner.requests()))
				}
				for _, id := range sent {
					r, _ := ledger.ParseDeliveryID(acme, id)
					text, err := h.rdb.HGet(h.t.Context(), ledger.EventKey(acme, r.Event), fmt.Sprintf("d%d", cb.ID)).Result()
					h.must(err)
					if rec, err := ledger.ParseRecord(text); err != nil || rec.Generation > 2 {
						h.t.Errorf("%s went in and out of its room %d times (%v)", id, rec.Generation, err)
					}
				}
				stop()
				allowed, err = egress.New(egress.Config{Dial: h.out.Dial, AllowNames: []string{"receiver"}})
				h.must(err)
				defer allowed.Close()
				h.client.sender.tokens.Close()
				h.client.sender.egress, h.client.sender.tokens = allowed, egress.NewTokens(allowed, "", logFetched(h.client.log), nil)
				stop = h.work()
				if name == "token_url" { // there is no token endpoint at the other end, but it is asked now
					h.await(sent[0], ledger.Retrying, 3*time.Minute)
				} else {
					h.awaitAll(3 * time.Minute)
					h.check()
				}
				stop()
			})
		})
	}
}

// TestInsideNamesDoNotExist: neither what a partner reads, nor when it is tried again, nor what counts against it tells a name that leads
// inside from one that does not exist.
func TestInsideNamesDoNotExist(t *testing.T) {
	outcomes := map[string]verdict.Judgement{}
	for name, inside := range map[string]bool{"inside": true, "nowhere": false} {
		err := &egress.Error{Reason: egress.DNS, Phase: egress.PhaseDNS, Detail: "the host name does not exist or has no address", Inside: inside}
		j := verdict.Judge(payloads.AnyResponse, verdict.Outcome{Err: err}, time.Now())
		if j.Blame().Breaker() != "down" || j.RetryAfter != 0 || runOf(j, false) != ledger.RunCounts || !j.Unconnected || j.Verdict != verdict.Retry || j.Reason != "dns" {
			t.Errorf("%s: breaker %q, run %q, %+v", name, j.Blame().Breaker(), runOf(j, false), j)
		}
		outcomes[name] = j
	}
	in, out := outcomes["inside"], outcomes["nowhere"]
	if in.Inside = false; in != out {
		t.Errorf("inside is judged %+v, nowhere %+v", in, out)
	}

	names := egresstest.NewNameServer(t, func(name string, _ int) []string {
		if name == "inside.example" {
			return []string{"127.0.0.1"}
		}
		return nil
	})
	server := redistest.Start(t)
	h := furnish(t, server.Client(), egress.Config{Resolver: names.Resolver()}, newPartner(t))
	h.redis = server
	h.work()
	seen := map[string][]string{}
	for _, host := range []string{"inside.example", "nowhere.example"} {
		cb, err := h.registry.Create(t.Context(), acme, fmt.Appendf(nil, `{"callback_type": "payment_proof", "destination": {"url": "https://%s/"}, "retry": {"initial_interval": "1h"}}`, host))
		h.must(err)
		h.partner.knows(cb)
	}
	for _, d := range h.send(proof("p-1")).Deliveries {
		h.await(d.DeliveryID, ledger.Retrying, 30*time.Second)
		partners, err := h.client.Delivery(t.Context(), acme, d.DeliveryID)
		h.must(err)
		operators, err := h.client.Delivery(Unmasked(t.Context()), acme, d.DeliveryID)
		h.must(err)
		host := map[int64]string{1: "inside", 2: "nowhere"}[d.CallbackID]
		for _, d := range []*Delivery{partners, operators} {
			a := d.Attempts[0]
			if !strings.HasPrefix(d.Summary, "Attempt 1: "+a.Detail) {
				t.Errorf("the summary is %q", d.Summary)
			}
			seen[host] = append(seen[host], string(a.Verdict)+" "+string(a.Reason)+" "+a.Detail)
		}
		health, err := h.client.Health(Unmasked(t.Context()), acme, d.CallbackID)
		h.must(err)
		seen[host] = append(seen[host], string(health[0].LastFailure.Reason))
	}
	const nowhere = "retry dns the host name does not exist or has no address; check the callback's URL and the name's DNS records"
	if seen["inside"][0] != nowhere || seen["nowhere"][0] != nowhere || seen["nowhere"][1] != nowhere {
		t.Errorf("partners read %q of a name that leads inside, and %q of one that does not exist", seen["inside"][0], seen["nowhere"][0])
	}
	if truth := seen["inside"][1]; !strings.HasPrefix(truth, "retry blocked_address the host's address is not one that may be called") || seen["inside"][2] != "blocked_address" {
		t.Errorf("operators read %q", seen["inside"])
	}
	for _, task := range h.retries() {
		if strings.Contains(task.LastErr, "callback 1") != strings.HasPrefix(task.LastErr, "blocked_address") {
			t.Errorf("asynq's UI shows %q", task.LastErr)
		}
	}
}

// TestTheProxyIsNotThePartner: what our own proxy refuses costs the delivery no attempt of its schedule and the callback nothing, is tried again
// ever more slowly, and counts as an outage of ours.
func TestTheProxyIsNotThePartner(t *testing.T) {
	retry := registry.Retry{InitialInterval: 5 * time.Second, Multiplier: 2.5, MaxInterval: 12 * time.Hour, MaxAttempts: 1}
	err := &egress.Error{Reason: egress.EgressProxy, Phase: egress.PhaseConnect, Detail: "the egress proxy refused the connection (it answered 407)"}
	for number, least := range map[int]time.Duration{1: 4 * time.Second, 2: 10 * time.Second, 5: 2 * time.Minute, 15: 9 * time.Hour, 1000: 9 * time.Hour} {
		a := claim{attempt: attempt{
			ref: ledger.Ref{Company: acme, Event: "e", Callback: 1}, callback: &registry.Callback{Retry: retry}, number: number, begun: time.Now(),
		}}
		s := sent{Judgement: verdict.Judge(payloads.AnyResponse, verdict.Outcome{Err: err}, time.Now())}
		d := a.settle(s, a.rule(s.Judgement, false), runOf(s.Judgement, false))
		if f := d.record; f.Result != ledger.ResultRetry || f.Spent != 0 || f.Delay < least || f.Delay > 15*time.Hour || f.Breaker != "" || f.Run != "" {
			t.Errorf("attempt %d: outcome %v, %v attempts spent, again in %s, breaker %q, run %q", number, f.Result, f.Spent, f.Delay, f.Breaker, f.Run)
		}
		if !strings.Contains(d.written.Detail(), "407); this is for the operator to mend") {
			t.Error(d.written.Detail())
		}
	}
	o := &outage{log: testLog(t)}
	for _, reason := range []Reason{"", verdict.ReasonEgressProxy} {
		for _, host := range []string{"a", "b", "c", "d"} {
			cb := &registry.Callback{Destination: registry.Destination{URL: "https://" + host + "/"}}
			(&claim{attempt: attempt{callback: cb}}).inOutage(t.Context(), sent{at: time.Now(), Judgement: verdict.Judgement{Reason: reason, Unconnected: reason != ""}}, o)
		}
	}
	if !o.under(t.Context()) {
		t.Error("a proxy that lets nothing through is no outage of ours")
	}
}
