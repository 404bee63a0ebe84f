package dispatcher

import (
	"strings"
	"testing"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
)

func FuzzDeliveryID(f *testing.F) {
	f.Add("acme", "evt_1", int64(1))
	f.Add("a.b-c_d", "order:2026.11:7", int64(1)<<40)
	f.Fuzz(func(t *testing.T, company, event string, callback int64) {
		if !payloads.ValidCompany(company) || !payloads.ValidEventID(event) || callback < 1 || callback >= 1<<62 {
			return
		}
		r := ledger.Ref{Company: company, Event: event, Callback: callback}
		id := r.DeliveryID()
		if strings.ContainsAny(id, "./ ~:") {
			t.Errorf("%s holds what an id must not", id)
		}
		back, ok := ledger.ParseDeliveryID(company, id)
		if !ok || back != r {
			t.Errorf("%s reads as %+v, %t", id, back, ok)
		}
		if _, ok := ledger.ParseDeliveryID(company+"x", id); ok {
			t.Errorf("%s is another company's too", id)
		}
		if back, ok := ledger.ParseMember(company, r.Member()); !ok || back != r {
			t.Errorf("%s reads as %+v", r.Member(), back)
		}
	})
}

func FuzzParseDeliveryID(f *testing.F) {
	f.Add("dlv_AQ")
	f.Fuzz(func(t *testing.T, id string) {
		if r, ok := ledger.ParseDeliveryID("acme", id); ok && r.DeliveryID() != id {
			t.Errorf("%s is read as %s", id, r.DeliveryID())
		}
	})
}
