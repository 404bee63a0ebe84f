package registry

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestAGateBeginsWithItsStatus: scripts that hold deliveries back read no more of a gate than its beginning.
func TestAGateBeginsWithItsStatus(t *testing.T) {
	for _, status := range []Status{Paused, Disabled, Unverified, Deleted} {
		text, err := json.Marshal(Gate{Status: status, Reason: "why"})
		if err != nil || !strings.HasPrefix(string(text), `{"status":"`+string(status)+`"`) {
			t.Errorf("%s, %v", text, err)
		}
	}
}
