package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/registry/redistest"
)

// TestCommandLineEndToEnd runs an installation as it stands in production, a process for the API and one for the work, over a real
// Redis, with `ringback listen` as the partner's server in a third. It registers callbacks by flags and by files, sends samples, and
// looks at what the partner got and what is said about it. TestContracts has the contracts in full, TestNoSecretGetsOut the secrets.
func TestCommandLineEndToEnd(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t)
	shared := []string{"RINGBACK_REDIS=" + rdb.URL(), "RINGBACK_KEYSET_FILE=" + filepath.Join(t.TempDir(), "new", "keyset.json")}
	api := start(t, shared, "serve", "--roles", "api", "--listen", "127.0.0.1:0", "--egress-allow", "127.0.0.0/8")
	api.await(`made a new keyset: back it up`)
	server := "http://" + address(api)
	worker := start(t, shared, "serve", "--roles", "worker", "--listen", "127.0.0.1:0", "--egress-allow", "127.0.0.0/8")
	workerURL := "http://" + address(worker)

	operator := strings.TrimSpace(ringback(t, shared, "keys", "create", "--role", "operator"))
	partnerKey := strings.TrimSpace(ringback(t, shared, "keys", "create", "--role", "partner", "--company", "ba9bcNKc"))
	producerKey := strings.TrimSpace(ringback(t, shared, "keys", "create", "--role", "producer", "--company", "ba9bcNKc"))
	partner := []string{"RINGBACK_SERVER=" + server, "RINGBACK_COMPANY=ba9bcNKc", "RINGBACK_KEY=" + partnerKey}
	producer := slices.Concat(partner, []string{"RINGBACK_KEY=" + producerKey})

	// The receiver's port has to be known before its secrets are: it starts without them, and again with them.
	first := startPlain(t, nil, "listen", "--listen", "127.0.0.1:0")
	receiver := first.await(`Listening on http://([^\s:]+:\d+):`)[1]
	first.end(syscall.SIGINT)

	var secrets []string
	for _, args := range [][]string{
		{"--type", "wallet_item_install", "--campaign-token", "r3zhm8", "--url", "http://" + receiver + "/wallet/in"},
		{"--file", writeFile(t, fmt.Sprintf(`{"callback_type": "wallet_item_remove", "retry": {"initial_interval": "1s"},
			"destination": {"url": "http://%s/wallet/out?a=%%2F&b"}}`, receiver))},
		{"--file", writeFile(t, fmt.Sprintf(`{"callback_type": "payment_proof", "auth": {"type": "bearer", "token": "t0ken"}, "headers": {"X-Mine": "1"},
			"destination": {"url": "http://%s/payments"}}`, receiver))},
		{"--type", "wallet_item_install", "--campaign-token", "another", "--url", "http://" + receiver + "/never"},
	} {
		secrets = append(secrets, strings.TrimSpace(ringback(t, partner, append([]string{"callbacks", "create"}, args...)...)))
	}
	listener := start(t, []string{"RINGBACK_SECRET=" + strings.Join(secrets, ",")}, "listen", "--listen", receiver, "-o", "json", "--respond", "200,503,204")
	listener.await(`Listening on`)

	names := []string{"wallet_item_install", "wallet_item_remove", "payment_proof"}
	want := map[string]string{"wallet_item_install": "/wallet/in", "wallet_item_remove": "/wallet/out?a=%2F&b", "payment_proof": "/payments"}
	for _, name := range names {
		file := sample(name)
		ringback(t, producer, "events", "send", "--type", name, "--payload", file, "--event-id", "e:"+name)

		sent, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got := awaitReceived(t, listener, name, "1")
		if got.Signature != "verified" || got.Method != http.MethodPost || got.Path != want[name] || got.EventID != "e:"+name {
			t.Errorf("%s arrived as %+v", name, got)
		}
		sent = bytes.TrimSpace(sent)
		if got.Bytes != len(sent) {
			t.Errorf("%s was sent as %d bytes, and arrived as %d", name, len(sent), got.Bytes)
		}
		var compact bytes.Buffer // as a line of JSON has it
		if err := json.Compact(&compact, sent); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(compact.String(), string(got.Body)); diff != "" {
			t.Errorf("%s did not arrive as it was sent (-sent +got):\n%s", name, diff)
		}
	}

	// The second request was answered 503: it came again under the same id, signed anew.
	again := awaitReceived(t, listener, "wallet_item_remove", "2")
	if before := awaitReceived(t, listener, "wallet_item_remove", "1"); again.DeliveryID != before.DeliveryID || again.Signature != "verified" {
		t.Errorf("the second attempt was %+v, the first %+v", again, before)
	}
	explained := ringback(t, producer, "events", "get", "e:wallet_item_install")
	for _, part := range []string{`callback 1 \(wallet_item_install\): matched`, `callback 4 \(wallet_item_install\): not matched`} {
		if !regexp.MustCompile(part).MatchString(explained) {
			t.Errorf("the explanation lacks %s:\n%s", part, explained)
		}
	}
	if strings.Contains(listener.said.String(), "/never") {
		t.Error("a callback for another campaign was called")
	}

	// A worker shows its health and metrics, and nothing else.
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 200, "/companies/ba9bcNKc/deliveries": 404} {
		if status, _ := get(t, workerURL+path, operator); status != want {
			t.Errorf("worker %s: %d, want %d", path, status, want)
		}
	}
	for _, p := range []*process{worker, api, listener} {
		if code := p.end(syscall.SIGTERM); code != exitOK {
			t.Errorf("%s: SIGTERM: exit %d, want 0:\n%s", p.name, code, p.said)
		}
	}
}

// TestServeNeedsTheSameKeyset: a second process with another keyset could not read what the first registered.
func TestServeNeedsTheSameKeyset(t *testing.T) {
	t.Parallel()
	env := []string{"RINGBACK_REDIS=" + redistest.Start(t).URL(), "RINGBACK_LISTEN=127.0.0.1:0"}
	file := filepath.Join(t.TempDir(), "keyset.json")
	first := startPlain(t, env, "serve", "--keyset-file", file)
	address(first)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("keyset file: %v, %v, want mode 0600", info.Mode(), err)
	}
	_, stderr, code := try(t, env, "serve", "--keyset-file", filepath.Join(t.TempDir(), "other.json"))
	if code != exitConfig || !strings.Contains(stderr, "keyset") {
		t.Errorf("another keyset: exit %d: %s", code, stderr)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	same := startPlain(t, append(env, "RINGBACK_KEYSET="+string(text)), "serve", "--keyset-file", "/nowhere/at/all")
	address(same)
}

// TestServeRefusesWhatWouldLoseEvents: the reasons are judged in TestJudgeRedis; here, that serve asks.
func TestServeRefusesWhatWouldLoseEvents(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
	_, stderr, code := try(t, nil, "serve", "--redis", redis.URL(), "--keyset-file", filepath.Join(t.TempDir(), "k.json"), "--listen", "127.0.0.1:0")
	if code != exitConfig || !strings.Contains(stderr, "noeviction") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// TestServeMakesNoSecondKeyset: where Redis was written with one that is not there, nothing is made that somebody might back up.
func TestServeMakesNoSecondKeyset(t *testing.T) {
	t.Parallel()
	url, folder := redistest.Start(t).URL(), t.TempDir()
	serve := startPlain(t, []string{"RINGBACK_REDIS=" + url, "RINGBACK_LISTEN=127.0.0.1:0", "RINGBACK_KEYSET_FILE=" + filepath.Join(folder, "right.json")}, "serve")
	address(serve)
	if code := serve.end(syscall.SIGHUP); code != exitOK {
		t.Fatalf("exit %d:\n%s", code, serve.said)
	}
	wrong := filepath.Join(folder, "wrong.json")
	serve = startPlain(t, []string{"RINGBACK_REDIS=" + url, "RINGBACK_LISTEN=127.0.0.1:0", "RINGBACK_KEYSET_FILE=" + wrong}, "serve")
	serve.await(`there is no keyset at .*--keyset-file or RINGBACK_KEYSET`)
	if _, err := os.Stat(wrong); err == nil {
		t.Error("a second keyset was made")
	}
}

// TestServeVerifiesDestinations: with --verify-destinations on, nothing goes to an endpoint that has not answered its challenge; listen answers.
func TestServeVerifiesDestinations(t *testing.T) {
	t.Parallel()
	redis := "RINGBACK_REDIS=" + redistest.Start(t).URL()
	key := strings.TrimSpace(ringback(t, []string{redis}, "keys", "create", "--role", "operator", "--company", "*"))
	server := "http://" + address(start(t, []string{redis, "RINGBACK_LISTEN=127.0.0.1:0"}, "serve", "--egress-allow", "127.0.0.0/8", "--verify-destinations", "on",
		"--keyset-file", filepath.Join(t.TempDir(), "keyset.json")))
	env := []string{"RINGBACK_SERVER=" + server, "RINGBACK_KEY=" + key, "RINGBACK_COMPANY=acme"}
	_, stderr, code := try(t, env, "callbacks", "create", "--type", "payment_proof", "--url", "http://127.0.0.1:1/")
	if code != exitOK || !strings.Contains(stderr, "callback 1 is unverified") || !strings.Contains(stderr, "(refused); `ringback callbacks verify 1` tries again") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if stdout, _, code := try(t, env, "callbacks", "verify", "1"); code != exitFailure || !strings.HasPrefix(stdout, "the connection was refused") || !strings.Contains(stdout, "unverified") {
		t.Errorf("exit %d: %s", code, stdout)
	}
	ringback(t, env, "events", "send", "--type", "payment_proof", "--payload", sample("payment_proof"), "--event-id", "one")
	if said := ringback(t, env, "events", "get", "one"); !strings.Contains(said, "has not proved since") {
		t.Errorf("explained as %s", said)
	}
	listener := startPlain(t, nil, "listen", "--listen", "127.0.0.1:0", "--quiet")
	receiver := listener.await(`(http://\S+):`)[1]
	if said := ringback(t, env, "callbacks", "update", "1", "--url", receiver); !regexp.MustCompile(`status +enabled`).MatchString(said) {
		t.Errorf("moved to a listener, it is\n%s", said)
	}
	listener.await(`payment_proof  attempt 1`)
	if said := ringback(t, env, "callbacks", "verify", "1"); !strings.Contains(said, "it allows this sender, by the handshake") {
		t.Errorf("verified again: %s", said)
	}
}

// TestTheEndIsAnnounced: /readyz says no before the listener closes, so that a load balancer can look elsewhere.
func TestTheEndIsAnnounced(t *testing.T) {
	t.Parallel()
	serve := start(t, []string{"RINGBACK_REDIS=" + redistest.Start(t).URL(), "RINGBACK_LISTEN=127.0.0.1:0", "RINGBACK_KEYSET_FILE=" + filepath.Join(t.TempDir(), "keyset.json")}, "serve")
	server := "http://" + address(serve)
	if status, text := get(t, server+"/readyz", ""); status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	if err := serve.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	serve.await(`shutting down`)
	if status, text := get(t, server+"/readyz", ""); status != http.StatusServiceUnavailable {
		t.Errorf("after SIGTERM: %d %s", status, text)
	}
	serve.await(`"?msg"?[=:]"?stopped`)
}

// TestDevOnARealRedisTakesItsKeyAway: the well-known key must not outlive the process that brought it.
func TestDevOnARealRedisTakesItsKeyAway(t *testing.T) {
	t.Parallel()
	url := redistest.Start(t).URL()
	env := []string{"RINGBACK_REDIS=" + url, "RINGBACK_DEV_KEYSET_FILE=" + filepath.Join(t.TempDir(), "keyset.json"), "RINGBACK_DEV_KEY=mine", "RINGBACK_DEV_REDIS=" + url}
	dev := start(t, env, "dev", "--listen", "127.0.0.1:0")
	server := dev.await(`API +(http://\S+)`)[1]
	dev.await(`msg=ready`)
	if status, _ := get(t, server+"/callback-types", "mine"); status != http.StatusOK {
		t.Errorf("the dev key: %d", status)
	}
	if keys := ringback(t, env, "keys", "list"); !strings.Contains(keys, devKeyID) {
		t.Errorf("while it runs: %s", keys)
	}
	if code := dev.end(syscall.SIGINT); code != exitOK {
		t.Errorf("exit %d:\n%s", code, dev.said)
	}
	if keys := ringback(t, env, "keys", "list"); strings.Contains(keys, devKeyID) {
		t.Errorf("afterwards: %s", keys)
	}
}

// TestTheEndIsOrderly: the first signal lets an attempt under way finish, a second one ends the process at once.
func TestTheEndIsOrderly(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		first   syscall.Signal
		signals int
	}{{"one signal", syscall.SIGTERM, 1}, {"a hangup", syscall.SIGHUP, 1}, {"two signals", syscall.SIGHUP, 2}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			called, release := make(chan struct{}), make(chan struct{})
			partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				close(called)
				<-release
				w.WriteHeader(http.StatusNoContent)
			}))
			t.Cleanup(partner.Close)
			finish := sync.OnceFunc(func() { close(release) })
			t.Cleanup(finish)

			dev := start(t, nil, "dev", "--listen", "127.0.0.1:0")
			env := []string{"RINGBACK_SERVER=" + dev.await(`API +(http://\S+)`)[1], "RINGBACK_KEY=dev", "RINGBACK_COMPANY=acme"}
			dev.await(`msg=ready`)
			ringback(t, env, "callbacks", "create", "--type", "payment_proof", "--url", partner.URL)
			ringback(t, env, "events", "send", "--type", "payment_proof", "--payload", sample("payment_proof"))
			<-called
			if err := dev.cmd.Process.Signal(tt.first); err != nil {
				t.Fatal(err)
			}
			dev.await(`msg="shutting down`)
			if tt.signals == 2 {
				if code := dev.end(syscall.SIGTERM); code != -1 || strings.Contains(dev.said.String(), "verdict=") {
					t.Errorf("exit %d, want the signal's own end:\n%s", code, dev.said)
				}
				return
			}
			finish()
			dev.await(`verdict=delivered`)
			<-dev.done
			if code := dev.cmd.ProcessState.ExitCode(); code != exitOK {
				t.Errorf("exit %d, want 0:\n%s", code, dev.said)
			}
		})
	}
}

// address is where a `ringback serve` listens.
func address(p *process) string {
	p.t.Helper()
	return p.await(`"msg":"ready","address":"([^"]+)"`)[1]
}

// awaitReceived waits for a request that `ringback listen -o json` printed.
func awaitReceived(t *testing.T, p *process, eventType, attempt string) received {
	t.Helper()
	line := p.await(`(?m)^\{.*"event_type":"` + eventType + `".*"attempt":"` + attempt + `".*\}$`)[0]
	var got received
	if err := json.Unmarshal([]byte(line), &got); err != nil {
		t.Fatal(err)
	}
	return got
}

func get(t *testing.T, url, key string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	status, _, body = send(t, req)
	return status, body
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "registration.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
