package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestPartnersPageFetches runs the page's loop against a real Ringback: it handles what there was and what comes, once, and it is delivered by that.
func TestPartnersPageFetches(t *testing.T) {
	t.Parallel()
	mustHave(t, "python3")
	server := startPlain(t, nil, "dev", "--listen", "127.0.0.1:0").await(`API +(http://\S+)`)[1]
	env := []string{"RINGBACK_SERVER=" + server, "RINGBACK_KEY=dev", "RINGBACK_COMPANY=acme"}
	var made struct {
		URL string `json:"url"`
	}
	if err := json.Unmarshal([]byte(ringback(t, env, "callbacks", "create", "--type", "payment_*", "--pull", "-o", "json")), &made); err != nil {
		t.Fatal(err)
	}
	send := func(id string) {
		ringback(t, env, "events", "send", "--type", "payment_proof", "--payload", sample("payment_proof"), "--event-id", id)
	}
	send("before")
	file := filepath.Join(t.TempDir(), "fetch.py")
	if err := os.WriteFile(file, []byte(snippet(t, page(t, partnersPage), "fetch.py")), 0o600); err != nil {
		t.Fatal(err)
	}
	address := made.URL
	if strings.HasPrefix(address, "/") {
		address = server + address
	}
	cmd := exec.Command("python3", file)
	cmd.Env = append(cmd.Environ(), "RINGBACK_KEY=dev", "CALLBACK="+address)
	loop := launch(t, cmd)
	first := loop.await(`handled (dlv_[\w-]+) \{"requestId`)[1]
	send("after")
	loop.await(`handled ` + first + `(?s:.*)handled dlv_`)
	send("last") // once it is handled, the one before is acknowledged
	loop.await(`(?s:(handled .*){3})`)
	if n := strings.Count(loop.said.String(), "handled "+first); n != 1 {
		t.Errorf("the delivery was handled %d times:\n%s", n, loop.said)
	}
	if list := ringback(t, env, "deliveries", "list", "--state", "delivered", "-o", "json"); strings.Count(list, `"acknowledged"`) < 2 {
		t.Errorf("Ringback does not say delivered:\n%s", list)
	}
}
