package registry_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/redistest"
)

// reached is a registry of the house whose installation has an address, or none.
func (h *house) reached(url string) *registry.Registry {
	h.t.Helper()
	r, err := registry.New(registry.Config{Redis: h.redis, Catalogue: payloads.Builtin(), Keyset: h.keyset, PublicURL: url})
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

const thinBody = `{"callback_type":"payment_proof","body":"thin","destination":{"url":"https://x.example/"}}`

// TestThinBodiesNeedAnAddress, and processes that know them. One that has no address of its own goes on with the address that the callback was registered with.
func TestThinBodiesNeedAnAddress(t *testing.T) {
	h := openHouse(t, redistest.Start(t), newKeyset(t))
	ctx, bare := t.Context(), h.reached("")
	if _, err := bare.Create(ctx, "acme", []byte(thinBody)); err == nil || !strings.Contains(err.Error(), "--public-url") {
		t.Errorf("without an address: %v", err)
	}
	end := h.beside(5)
	for _, field := range []string{`"body":"thin"`, `"envelope":"cloudevents-binary"`} {
		body := strings.Replace(thinBody, `"body":"thin"`, field, 1)
		if _, err := h.reached("https://ringback.example.com").Create(ctx, "acme", []byte(body)); !isOld(err) {
			t.Errorf("%s beside a process of level 5: %v", field, err)
		}
	}
	if err := end(ctx); err != nil {
		t.Fatal(err)
	}
	reached := h.reached("https://ringback.example.com")
	cb, err := reached.Create(ctx, "acme", []byte(thinBody))
	if err != nil {
		t.Fatal(err)
	}
	if cb, err = bare.Patch(ctx, "acme", cb.ID, []byte(`{"description":"d"}`)); err != nil || bare.PublicURL(cb) != "https://ringback.example.com" {
		t.Errorf("%v, %v", cb, err)
	}
	if shown, err := cb.MarshalJSON(); err != nil || strings.Contains(string(shown), "ringback.example.com") || !strings.Contains(string(shown), `"body":"thin"`) {
		t.Errorf("%s, %v", shown, err)
	}
	for _, s := range cb.Secrets {
		text, err := json.Marshal(s.TicketKey)
		said := fmt.Sprintf("%v %+v %#v %s %d %x %q %s", s.TicketKey, s, s, s.TicketKey, s.TicketKey, s.TicketKey, s.TicketKey, text)
		if key := []byte(s.TicketKey); err != nil || len(key) != 32 || strings.Contains(said, fmt.Sprint(key[0])+" ") || strings.Contains(said, fmt.Sprintf("%x", key)) ||
			strings.Contains(said, base64.StdEncoding.EncodeToString(key)) || string(text) != `"***"` {
			t.Errorf("a key shows itself: %s", said)
		}
	}
	if cb, err = bare.Patch(ctx, "acme", cb.ID, []byte(`{"body":null}`)); err != nil || cb.Body != registry.BodyFull {
		t.Errorf("%v, %v", cb, err)
	}
}

// TestTickets: a ticket says what it is for, holds for that and nothing else, and lasts as it is written.
func TestTickets(t *testing.T) {
	h := openHouse(t, redistest.Start(t), newKeyset(t))
	r := h.reached("https://ringback.example.com")
	var made []*registry.Callback
	for range 2 {
		cb, err := r.Create(t.Context(), "acme", []byte(thinBody))
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, cb)
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	want := registry.Ticket{Company: "acme", Callback: made[0].ID, Event: strings.Repeat("e", 128), Accepted: now, Expires: now.Add(time.Hour)}
	text := made[0].Ticket(want)
	if made[0].Ticket(want) != text || len(text) > 512 {
		t.Errorf("%d: %s", len(text), text)
	}
	p, ok := registry.ParseTicket(text)
	if !ok || p.Ticket != want || !made[0].Made(p, now) || made[1].Made(p, now) {
		t.Errorf("%+v", p.Ticket)
	}
	stored, err := r.Get(t.Context(), "acme", made[0].ID) // its key is kept
	if err != nil || !stored.Made(p, now) {
		t.Errorf("%v, %v", stored, err)
	}
	if stored.Secrets[0].ExpiresAt = now.Add(time.Minute); !stored.Made(p, now.Add(time.Minute-1)) || stored.Made(p, now.Add(time.Minute)) {
		t.Error("it does not end with its secret")
	}
	for _, change := range []func(*registry.PresentedTicket){
		func(p *registry.PresentedTicket) { p.Event = "other" }, func(p *registry.PresentedTicket) { p.Test = true },
		func(p *registry.PresentedTicket) { p.Accepted = p.Accepted.Add(time.Millisecond) },
		func(p *registry.PresentedTicket) { p.Expires = p.Expires.Add(time.Hour) },
		func(p *registry.PresentedTicket) { p.Callback = made[1].ID }, func(p *registry.PresentedTicket) { p.Company = "other" },
	} {
		forged := p
		change(&forged)
		if made[0].Made(forged, now) || made[1].Made(forged, now) {
			t.Errorf("%+v holds", forged.Ticket)
		}
	}
	for _, tt := range []struct{ after, ends time.Duration }{
		{0, 7}, {4 * 24 * time.Hour, 7}, {4*24*time.Hour + 1, 14}, {11 * 24 * time.Hour, 14}, {100 * 24 * time.Hour, 105},
	} {
		if got := registry.TicketEnd(now, now.Add(tt.after)).Sub(now); got != tt.ends*24*time.Hour {
			t.Errorf("made %s after the acceptance, it ends %s after it", tt.after, got)
		}
	}
}

// FuzzParseTicket: no text breaks it, and none passes for a ticket that was not made.
func FuzzParseTicket(f *testing.F) {
	cb := &registry.Callback{Company: "acme", ID: 7, Secrets: []registry.SigningSecret{{TicketKey: make(registry.TicketKey, 32)}}}
	at := time.UnixMilli(1_770_000_000_000).UTC()
	good := cb.Ticket(registry.Ticket{Event: "e-1", Accepted: at, Expires: at.Add(time.Hour)})
	f.Add(good)
	f.Add("AWUO")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		p, ok := registry.ParseTicket(text)
		if made := ok && cb.Made(p, at); made && cb.Ticket(p.Ticket) != text {
			t.Errorf("%s holds, and would be written %s", text, cb.Ticket(p.Ticket))
		}
	})
}
