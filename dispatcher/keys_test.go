package dispatcher

import (
	"strings"
	"testing"

	"github.com/ringback/ringback/payloads"
)

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
