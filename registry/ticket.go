package registry

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"time"

	"github.com/ringback/ringback/payloads"
)

// A Ticket is the secret part of the address in a thin body. It lets whoever has it read the payload of one delivery, or of one test, for a time, and
// nothing else. Nothing of it is stored: it says what it is for, and a MAC proves that Ringback made it.
//
// The key of that MAC is random, of the callback, and goes with a signing secret: it is made with it and ends with it. So a ticket ends with its callback,
// and when the secret is rotated and the overlap is over. Who knows the signing secret cannot make one.
type Ticket struct {
	Company  string
	Callback int64
	Event    string    // the event's id; of a test, the type whose example was sent
	Test     bool      // it is of a test
	Accepted time.Time // the event: its id may be used anew once it was erased
	Expires  time.Time
}

const (
	ticketVersion = 1
	ticketMACLen  = sha256.Size
	maxTicketLen  = 512 // that of the longest names has 350

	// A ticket ends so long after its event's acceptance, or twice as long, and so on: the first of those times that is ticketLeast away. So the attempts of a
	// delivery whose schedule is the default have the same, and one that was held for long has one that is still good.
	ticketPeriod = 7 * 24 * time.Hour
	ticketLeast  = 3 * 24 * time.Hour
)

// TicketEnd is when a ticket ends that is made at now for an event that was accepted then.
func TicketEnd(accepted, now time.Time) time.Time {
	end := accepted.Add(ticketPeriod)
	if least := now.Add(ticketLeast); end.Before(least) {
		end = end.Add((least.Sub(end) + ticketPeriod - 1) / ticketPeriod * ticketPeriod)
	}
	return end
}

// giveTicketKey makes sure that the newest signing secret of a callback with a thin body has a key for tickets. A secret that the callback had before, when it
// was before or, as nil, not there, keeps its key.
func (cb *Callback) giveTicketKey(before *Callback) {
	if len(cb.Secrets) == 0 || len(cb.Secrets[0].TicketKey) > 0 {
		return
	}
	var key TicketKey
	if before != nil {
		for _, s := range before.Secrets {
			if s.Secret.Equal(cb.Secrets[0].Secret) {
				key = s.TicketKey
			}
		}
	}
	if len(key) == 0 {
		key = make(TicketKey, 32)
		_, _ = rand.Read(key) // it never fails
	}
	cb.Secrets = slices.Clone(cb.Secrets)
	cb.Secrets[0].TicketKey = key
}

// Ticket returns the text of a ticket of this callback; empty: its body was never thin with its newest signing secret. The same ticket has the same text until the secret is rotated.
func (cb *Callback) Ticket(t Ticket) string {
	if len(cb.Secrets) == 0 || len(cb.Secrets[0].TicketKey) == 0 {
		return ""
	}
	t.Company, t.Callback = cb.Company, cb.ID
	plain := t.plain()
	return base64.RawURLEncoding.EncodeToString(append(plain, cb.Secrets[0].TicketKey.mac(plain)...))
}

// plain is what the MAC is of.
func (t Ticket) plain() []byte {
	kind := byte('e')
	if t.Test {
		kind = 't'
	}
	plain := make([]byte, 0, maxTicketLen)
	plain = append(plain, ticketVersion, kind)
	for _, n := range []int64{t.Callback, t.Accepted.UnixMilli(), t.Expires.UnixMilli()} {
		plain = binary.AppendVarint(plain, n)
	}
	plain = append(plain, byte(len(t.Company))) //nolint:gosec // a company's name has 64 bytes at most
	return append(append(plain, t.Company...), t.Event...)
}

// A PresentedTicket is one that somebody shows, and nobody has checked; see [Callback.Made].
type PresentedTicket struct {
	Ticket

	sum []byte
}

// ParseTicket takes a ticket's text apart. It says nothing about whether Ringback made it.
func ParseTicket(text string) (p PresentedTicket, ok bool) {
	if len(text) > maxTicketLen {
		return p, false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) < 2+ticketMACLen || raw[0] != ticketVersion || raw[1] != 'e' && raw[1] != 't' {
		return p, false
	}
	p.Test, p.sum = raw[1] == 't', raw[len(raw)-ticketMACLen:]
	rest := raw[2 : len(raw)-ticketMACLen]
	var numbers [3]int64
	for i := range numbers {
		n, size := binary.Varint(rest)
		if size <= 0 {
			return p, false
		}
		numbers[i], rest = n, rest[size:]
	}
	if len(rest) == 0 || len(rest) <= int(rest[0]) {
		return p, false
	}
	end := 1 + int(rest[0])
	p.Callback, p.Accepted, p.Expires = numbers[0], time.UnixMilli(numbers[1]).UTC(), time.UnixMilli(numbers[2]).UTC()
	p.Company, p.Event = string(rest[1:end]), string(rest[end:])
	return p, p.Callback > 0 && payloads.ValidCompany(p.Company) && payloads.ValidEventID(p.Event)
}

// Made reports whether the callback's tickets are such, at now. It takes as long for each that is not.
func (cb *Callback) Made(p PresentedTicket, now time.Time) bool {
	if p.Company != cb.Company || p.Callback != cb.ID {
		return false
	}
	made, plain := false, p.plain()
	for _, s := range cb.Secrets {
		if len(s.TicketKey) > 0 && (s.ExpiresAt.IsZero() || now.Before(s.ExpiresAt)) && hmac.Equal(p.sum, s.TicketKey.mac(plain)) {
			made = true
		}
	}
	return made
}
