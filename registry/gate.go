package registry

import (
	"encoding/json"
	"fmt"
	"time"
)

// Gate says why a callback's deliveries are held. It is stored as JSON under
// [GateKey]. If that key is absent, the gate is open.
type Gate struct {
	Status Status    `json:"status"`           // Paused, Disabled, Unverified, Pulled or Deleted
	Reason string    `json:"reason,omitempty"` // a short word, such as gone
	At     time.Time `json:"at"`

	// Then is the gate that an Unverified one leaves behind when the endpoint
	// has answered its challenge, and a Paused one when it is resumed. Nil: an open
	// one.
	Then *Gate `json:"then,omitempty"`
}

// Shown is the status that a callback behind the gate has.
func (g Gate) Shown() Status {
	if g.Status == Pulled {
		return Enabled
	}
	return g.Status
}

// String is the gate as it is stored.
func (g Gate) String() string {
	text, err := json.Marshal(g)
	if err != nil { // a year beyond 9999
		return fmt.Sprintf(`{"status":%q}`, g.Status)
	}
	return string(text)
}

// ParseGate reads the value of [GateKey]. The empty string stands for an absent key,
// and is an open gate: one with the status Enabled.
func ParseGate(stored string) (Gate, error) {
	if stored == "" {
		return Gate{Status: Enabled}, nil
	}
	var g Gate
	if err := json.Unmarshal([]byte(stored), &g); err != nil {
		return Gate{}, fmt.Errorf("registry: a gate is not readable: %w", err)
	}
	switch g.Status {
	case Paused, Disabled, Unverified, Pulled, Deleted:
		return g, nil
	default:
		return Gate{}, fmt.Errorf("registry: a gate has the unknown status %.32q", g.Status)
	}
}

// setGate fills in the status from a stored gate.
func (cb *Callback) setGate(stored string) error {
	gate, err := ParseGate(stored)
	if err != nil {
		return fmt.Errorf("%v: %w", cb, err)
	}
	cb.Status, cb.StatusAt, cb.DisabledReason, cb.UnverifiedReason = gate.Shown(), gate.At, "", ""
	switch gate.Status {
	case Pulled:
		cb.StatusAt = time.Time{}
	case Disabled:
		cb.DisabledReason = gate.Reason
	case Unverified:
		cb.UnverifiedReason = gate.Reason
	}
	return nil
}
