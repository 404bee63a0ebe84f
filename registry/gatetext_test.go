package registry

import (
	"strings"
	"testing"
)

// TestADeletedGateBeginsWithItsStatus: scripts that hold deliveries back read no more of it than its beginning. Only Go writes it.
func TestADeletedGateBeginsWithItsStatus(t *testing.T) {
	if text := (Gate{Status: Deleted, Reason: "why"}).String(); !strings.HasPrefix(text, `{"status":"deleted"`) {
		t.Error(text)
	}
}
