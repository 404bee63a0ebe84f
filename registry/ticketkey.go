package registry

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"log/slog"
)

// ticketContext keeps the MACs of tickets apart from any others.
const ticketContext = "ringback ticket 1\x00"

// hiddenKey is what is shown of a key.
const hiddenKey = "***"

// A TicketKey is the key of a callback's tickets. It hides itself wherever it is printed or written as JSON.
type TicketKey []byte

// String gives "***".
func (TicketKey) String() string { return hiddenKey }

// Format gives "***" for every verb, %d and %#v included.
func (TicketKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(hiddenKey)) }

// LogValue gives "***".
func (TicketKey) LogValue() slog.Value { return slog.StringValue(hiddenKey) }

// MarshalText gives "***", in JSON too.
func (TicketKey) MarshalText() ([]byte, error) { return []byte(hiddenKey), nil }

// mac proves what a ticket says.
func (k TicketKey) mac(plain []byte) []byte {
	h := hmac.New(sha256.New, k)
	h.Write([]byte(ticketContext))
	h.Write(plain)
	return h.Sum(nil)
}
