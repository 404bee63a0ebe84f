package httpapi

import (
	"fmt"
	"strings"
	"testing"
)

// asynq's UI shows which delivery a task is about, and nothing of what it carries.
func TestMonitoringShowsNoPayloads(t *testing.T) {
	h := newHouse(t)
	h.register("acme")
	h.send("acme", "e1") // no worker: its task stays
	var all strings.Builder
	for _, lane := range h.client.Queues() {
		all.Write(h.call("viewer", "GET", fmt.Sprintf("/monitoring/api/queues/%s/pending_tasks", lane), "").body)
	}
	if got := all.String(); !strings.Contains(got, "dlv_") || strings.Contains(got, "wallet_campaign") || strings.Contains(got, token) {
		t.Errorf("the UI shows: %s", got)
	}
}
