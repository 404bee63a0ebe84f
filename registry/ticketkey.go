package registry

import (
	"crypto/hmac"
	"crypto/sha256"
)

// ticketContext keeps the MACs of tickets apart from any others.
const ticketContext = "ringback ticket 1\x00"

// A TicketKey is the key of a callback's tickets. It hides itself when it is printed.
type TicketKey []byte

// String hides the key.
func (TicketKey) String() string { return "***" }

// GoString hides the key.
func (TicketKey) GoString() string { return "***" }

// mac proves what a ticket says.
func (k TicketKey) mac(plain []byte) []byte {
	h := hmac.New(sha256.New, k)
	h.Write([]byte(ticketContext))
	h.Write(plain)
	return h.Sum(nil)
}
