package verdict

import (
	"net/http"
	"testing"

	"github.com/ringback/ringback/dispatcher/egress"
)

// TestBlame is the table of what follows from a failure, over every reason, and with an answer's status if there is one.
func TestBlame(t *testing.T) {
	for _, tc := range []struct {
		reason                Reason
		status                int
		blame                 Blame
		health, breaker, host string
		counts, spends, sight bool
	}{
		{"status_404", 404, BlamePartner, "bad", "bad", "up", true, true, true},
		{"status_500", 500, BlamePartner, "bad", "bad", "up", true, true, true},
		{"status_302", 302, BlamePartner, "bad", "bad", "up", true, true, true},
		{"status_410", 410, BlamePartner, "bad", "bad", "up", true, true, true},
		{ReasonGone, 410, BlamePartner, "bad", "bad", "up", true, true, true},
		{ReasonWrongContentType, 200, BlamePartner, "bad", "bad", "up", true, true, true},
		{ReasonMalformedAnswer, 200, BlamePartner, "bad", "bad", "up", true, true, true},
		{ReasonChallengeFailed, 200, BlamePartner, "bad", "bad", "up", true, true, true},
		{ReasonTimeout, 200, BlamePartner, "bad", "bad", "up", true, true, true}, // in the middle of a decision's answer
		{Reason(egress.BadResponse), 0, BlamePartner, "bad", "bad", "up", true, true, true},

		{ReasonAllFailed, 200, BlamePartner, "bad", "bad", "up", true, true, true},
		{ReasonSomeFailed, 200, BlameElements, "bad", "", "up", false, true, true},

		{"status_429", 429, BlameLoad, "bad", "bad", "down", true, true, true},
		{"status_503", 503, BlameLoad, "bad", "bad", "down", true, true, true},

		{ReasonTimeout, 0, BlameSilence, "bad", "down", "down", true, true, true},
		{Reason(egress.DNS), 0, BlameSilence, "bad", "down", "down", true, true, true},
		{Reason(egress.Refused), 0, BlameSilence, "bad", "down", "down", true, true, true},
		{Reason(egress.Reset), 0, BlameSilence, "bad", "down", "down", true, true, true},
		{Reason(egress.Unreachable), 0, BlameSilence, "bad", "down", "down", true, true, true},
		{Reason(egress.TLS), 0, BlameSilence, "bad", "down", "down", true, true, true},
		{Reason(egress.ConnectionClosed), 0, BlameSilence, "bad", "down", "down", true, true, true},
		{Reason(egress.Network), 0, BlameSilence, "bad", "down", "down", true, true, true},
		{Reason(egress.BadRequest), 0, BlameSilence, "bad", "down", "down", true, true, true},
		{"novel", 0, BlameSilence, "bad", "down", "down", true, true, true},

		{ReasonOAuthToken, 0, BlameTokenServer, "token", "", "", false, true, true},
		{ReasonBlockedAddress, 0, BlameRegistration, "bad", "", "", false, true, false},
		{ReasonEncodeFailed, 0, BlameRegistration, "bad", "", "", false, true, false},
		{ReasonEgressProxy, 0, BlameWayOut, "", "", "", false, false, true},
		{ReasonNameNotAllowed, 0, BlameGate, "", "", "", false, false, false},
		{ReasonUnverified, 0, BlameGate, "", "", "", false, false, false},
		{ReasonUnknown, 0, BlameUnknown, "", "", "", false, false, false},
	} {
		for _, v := range []Verdict{Retry, Dead, Gone} {
			b := Judgement{Verdict: v, Reason: tc.reason, Status: tc.status}.Blame()
			if b != tc.blame {
				t.Errorf("%s, %s %d: the blame is on %s, want %s", v, tc.reason, tc.status, b, tc.blame)
			}
			if b.Health() != tc.health || b.Breaker() != tc.breaker || b.Host() != tc.host {
				t.Errorf("%s, %s %d: health %q, breaker %q, host %q; want %q, %q, %q", v, tc.reason, tc.status, b.Health(), b.Breaker(), b.Host(), tc.health, tc.breaker, tc.host)
			}
			if b.Counts() != tc.counts || b.Spends() != tc.spends || b.Sight() != tc.sight {
				t.Errorf("%s, %s %d: counts %t, spends %t, a sight %t; want %t, %t, %t", v, tc.reason, tc.status, b.Counts(), b.Spends(), b.Sight(), tc.counts, tc.spends, tc.sight)
			}
		}
	}
}

// TestADeliveryIsNobodysFault whatever status the callback's rule takes for a success.
func TestADeliveryIsNobodysFault(t *testing.T) {
	for _, status := range []int{200, 204, 410, 429, 500, 503} {
		b := Judgement{Verdict: Delivered, Status: status}.Blame()
		if b != BlameNobody || b.Health() != "" || b.Breaker() != "" || b.Host() != "up" || b.Counts() || !b.Spends() || !b.Sight() {
			t.Errorf("%d: the blame is on %s, health %q, breaker %q, host %q", status, b, b.Health(), b.Breaker(), b.Host())
		}
	}
}

func TestUnconnected(t *testing.T) {
	want := map[egress.Reason]bool{egress.DNS: true, egress.Refused: true, egress.Unreachable: true, egress.Network: true, egress.EgressProxy: true}
	for reason := range networkAdvice {
		for _, phase := range []string{"", egress.PhaseDNS, egress.PhaseConnect, egress.PhaseTLS, egress.PhaseWrite, egress.PhaseWait} {
			want := want[reason] || reason == egress.Timeout && (phase == egress.PhaseDNS || phase == egress.PhaseConnect)
			if got := JudgeError(&egress.Error{Reason: reason, Phase: phase}).Unconnected; got != want {
				t.Errorf("%s in phase %q: %t", reason, phase, got)
			}
		}
	}
	if JudgeError(http.ErrHandlerTimeout).Unconnected {
		t.Error("of an unknown error nobody knows how far it got")
	}
}
