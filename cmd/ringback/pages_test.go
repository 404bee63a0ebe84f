package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/format"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/redistest"
)

// The pages of deploy that tell people what to type. What they show is run here, as the README's is in TestReadme.
const (
	partnersPage  = "deploy/PARTNERS.md"
	operatorsPage = "deploy/OPERATORS.md"
)

// allPages are they and the contracts'.
func allPages() []string { return append([]string{partnersPage, operatorsPage}, contractPages...) }

func page(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// fence is the first line of a block, with what it says about itself.
var fence = regexp.MustCompile("(?ms)^```(\\w+)([^\n]*)\n(.*?)^```$")

// snippet is the block that a page calls file=name.
func snippet(t *testing.T, text, name string) string {
	t.Helper()
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		if m[2] == " file="+name {
			return m[3]
		}
	}
	t.Fatalf("the page has no block file=%s", name)
	return ""
}

// rows are the rows of the page's table whose header begins with the column first, each as its cells.
func rows(t *testing.T, text, first string) [][]string {
	t.Helper()
	_, table, ok := strings.Cut(text, "\n| "+first+" |")
	if !ok {
		t.Fatalf("the page has no table with the first column %q", first)
	}
	var out [][]string
	for line := range strings.Lines(table) {
		line = strings.TrimSpace(line)
		if len(out) > 0 && line == "" {
			break
		}
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		var cells []string
		for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
			cells = append(cells, strings.TrimSpace(cell))
		}
		out = append(out, cells)
	}
	return out
}

// TestPagesShowOnlyWhatIsRun: each block is for a terminal, or a file that a test of its own runs, or a picture of a request whose
// headers another one compares; and every command that is named exists.
func TestPagesShowOnlyWhatIsRun(t *testing.T) {
	t.Parallel()
	for _, name := range allPages() {
		text := page(t, name)
		files := []string{"hook.go", "receiver.go", "receiver.mjs", "receiver.py", "inbox.sql", "request.http", "filter.json", "template.json", "fetch.py"}
		files = append(files, "verify.go", "verify.mjs", "verify.py", "verify.php", "verify.ru", "Verify.java") // the console's tests run them
		if slices.Contains(contractPages, name) {
			files = filesInUse(text)
		}
		for _, m := range fence.FindAllStringSubmatch(text, -1) {
			file, isFile := strings.CutPrefix(m[2], " file=")
			if !strings.HasPrefix(m[2], " terminal=") && !slices.Contains(files, file) && m[1] != "mermaid" || isFile && file == "" {
				t.Errorf("%s: nothing runs this block:\n%s", name, m[0])
			}
		}
		app := newCLI(strings.NewReader(""), io.Discard, io.Discard)
		for _, m := range regexp.MustCompile("(?m)(?:^|[`(] ?)ringback ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?").FindAllStringSubmatch(text, -1) {
			command := findCommand(app.Commands, m[1])
			if command != nil && len(command.Subcommands) > 0 && m[2] != "" {
				command = findCommand(command.Subcommands, m[2])
			}
			if command == nil {
				t.Errorf("%s names `ringback %s`, which is no command", name, strings.TrimSpace(m[1]+" "+m[2]))
			}
		}
	}
}

// TestPagesLeadSomewhere: a link to a file or a heading of this repository finds it.
func TestPagesLeadSomewhere(t *testing.T) {
	t.Parallel()
	for _, name := range append(allPages(), "README.md") {
		for _, m := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(page(t, name), -1) {
			path, heading, _ := strings.Cut(m[1], "#")
			if strings.Contains(path, "://") {
				continue
			}
			target := name
			if path != "" {
				target = filepath.Join(filepath.Dir(name), path)
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s links to %s: %v", name, m[1], err)
			} else if heading != "" && !slices.Contains(headings(page(t, target)), heading) {
				t.Errorf("%s links to %s, and %s has no such heading", name, m[1], target)
			}
		}
	}
}

// headings are the anchors of a page's headings, as forges make them.
func headings(text string) []string {
	var anchors []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		plain := regexp.MustCompile(`[^\w -]`).ReplaceAllString(strings.ToLower(m[1]), "")
		anchors = append(anchors, strings.ReplaceAll(plain, " ", "-"))
	}
	return anchors
}

// TestPartnersPageAtTheDesk is a developer with two terminals and a `ringback dev`, whose second callback leads to a login page.
func TestPartnersPageAtTheDesk(t *testing.T) {
	t.Parallel()
	login := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, "<!DOCTYPE html><title>Sign in</title>")
	}))
	t.Cleanup(login.Close)
	server := startPlain(t, nil, "dev", "--listen", "127.0.0.1:0").await(`API +(http://\S+)`)[1]
	followPage(t, page(t, partnersPage), map[string]string{
		"8080": port(t, strings.TrimPrefix(server, "http://")), "9000": freePort(t), "9001": port(t, strings.TrimPrefix(login.URL, "http://")), "3000": "3000",
	})
}

// TestOperatorsPage is an operator with three terminals and a Redis: it makes the user with the least rights, runs Ringback as that
// user, backs up, restores beside it, and then does as that user what the page does not show. In the end Redis has refused nothing
// but what it should.
func TestOperatorsPage(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	ports := map[string]string{"6379": port(t, redis.Addr())}
	for _, usual := range []string{"6380", "8080", "8081", "9000"} {
		ports[usual] = freePort(t)
	}
	d := followPage(t, page(t, operatorsPage), ports)
	key, err := os.ReadFile(filepath.Join(d.dir, "operator.key"))
	if err != nil {
		t.Fatal(err)
	}
	secret, err := os.ReadFile(filepath.Join(d.dir, "webhook.secret"))
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"RINGBACK_SERVER=http://127.0.0.1:" + ports["8080"], "RINGBACK_KEY=" + strings.TrimSpace(string(key)), "RINGBACK_COMPANY=acme"}

	// Both sides hold the event, and send it under the same id.
	listener := startPlain(t, []string{"RINGBACK_SECRET=" + strings.TrimSpace(string(secret))}, "listen", "--listen", "127.0.0.1:"+ports["9000"], "--quiet")
	listener.await(`(?s)(dlv_\S+)  verified.*(dlv_\S+)  verified`)
	ids := regexp.MustCompile(`(dlv_\S+)  verified`).FindAllStringSubmatch(listener.said.String(), -1)
	if ids[0][1] != ids[1][1] {
		t.Errorf("the restored side sends %s, and the other %s", ids[0][1], ids[1][1])
	}

	payment := []string{"--type", "payment_proof", "--payload", sample("payment_proof")}
	awaitAttempt(t, env, "before", 1)
	ringback(t, env, "deliveries", "replay", ids[0][1])
	listener.await(`attempt [3-9]`)
	ringback(t, env, "callbacks", "pause", "1")
	ringback(t, env, append([]string{"events", "send", "--event-id", "held"}, payment...)...)
	held := regexp.MustCompile(`dlv_[\w-]+`).FindString(ringback(t, env, "deliveries", "list", "--state", "held"))
	ringback(t, env, "deliveries", "cancel", held)
	ringback(t, env, append([]string{"events", "send", "--event-id", "skipped"}, payment...)...)
	ringback(t, env, "callbacks", "resume", "1", "--skip-held")
	ringback(t, env, "callbacks", "delete", "1", "--yes")
	for _, path := range []string{"/metrics", "/monitoring/api/queues", "/monitoring/api/servers", "/monitoring/api/redis_info", "/monitoring/api/queue_stats", "/monitoring/api/queues/ringback-0/retry_tasks"} {
		if status, body := get(t, env[0][len("RINGBACK_SERVER="):]+path, strings.TrimSpace(string(key))); status != http.StatusOK {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}

	_, live := get(t, env[0][len("RINGBACK_SERVER="):]+"/metrics", strings.TrimSpace(string(key)))
	for _, name := range regexp.MustCompile(`ringback_[a-z_]+`).FindAllString(page(t, operatorsPage), -1) {
		if !strings.Contains(live, "# TYPE "+name) {
			t.Errorf("the page names the metric %s, which there is not", name)
		}
	}

	admin := redis.Client()
	refused, err := admin.ACLLog(t.Context(), 100).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range refused {
		t.Errorf("the user of the page needed more: %+v", *entry)
	}
	address, err := os.ReadFile(filepath.Join(d.dir, "redis.url"))
	if err != nil {
		t.Fatal(err)
	}
	opts, err := goredis.ParseURL(strings.TrimSpace(string(address)))
	if err != nil {
		t.Fatal(err)
	}
	user := goredis.NewClient(opts)
	t.Cleanup(func() { _ = user.Close() })
	for _, beyond := range []string{"FLUSHALL", "FLUSHDB", "KEYS *", "CONFIG GET requirepass", "CONFIG SET appendonly no", "SHUTDOWN", "ACL LIST", "SCRIPT FLUSH", "MONITOR", "SCAN 0", "GET another:key", "SET another:key x", "REPLICAOF NO ONE", "SAVE"} {
		var args []any
		for word := range strings.FieldsSeq(beyond) {
			args = append(args, word)
		}
		if err := user.Do(t.Context(), args...).Err(); err == nil || !strings.HasPrefix(err.Error(), "NOPERM") {
			t.Errorf("%s as the user of the page: %v, want NOPERM", beyond, err)
		}
	}
	for _, name := range []string{"2", "3"} {
		d.terminal(name).press(syscall.SIGTERM)
	}
	d.terminal("2").await(`"msg":"stopped"`)
}

// TestOperatorsPageMemory measures what the page says an event takes.
func TestOperatorsPageMemory(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	env := []string{"RINGBACK_REDIS=" + redis.URL(), "RINGBACK_KEYSET_FILE=" + filepath.Join(t.TempDir(), "keyset.json")}
	cmd := exec.Command(plainRingback(t), "serve", "--listen", "127.0.0.1:0", "--egress-allow", "127.0.0.0/8")
	cmd.Env = append(os.Environ(), env...)
	server := "http://" + address(launch(t, cmd))
	key := strings.TrimSpace(ringback(t, env, "keys", "create", "--role", "operator"))
	partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	t.Cleanup(partner.Close)
	table := rows(t, page(t, operatorsPage), "per event, payload of 500 bytes, one delivery")
	for i, company := range []string{"held", "delivered"} {
		env := append(env, "RINGBACK_SERVER="+server, "RINGBACK_KEY="+key, "RINGBACK_COMPANY="+company)
		ringback(t, env, "callbacks", "create", "--type", "payment_proof", "--url", partner.URL)
		if company == "held" {
			ringback(t, env, "callbacks", "pause", "1")
		}
		const warm, n = 400, 5000
		sendMany(t, server, key, company, warm)
		before := usedMemory(t, redis.Client(), company, warm)
		sendMany(t, server, key, company, n)
		measured := (usedMemory(t, redis.Client(), company, warm+n) - before) / n
		var said int64
		if _, err := fmt.Sscan(table[i][1], &said); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d bytes an event, the page says %d", company, measured, said)
		if measured < said*3/4 || measured > said*5/4 {
			t.Errorf("%s: %d bytes an event, the page says %d", company, measured, said)
		}
	}
}

// sendMany sends n events whose payload has 500 bytes.
func sendMany(t *testing.T, server, key, company string, n int) {
	t.Helper()
	payload := `{"requestId":"x","totalCfdi":"$1","status":"OK","voucherEffect":""}`
	payload = strings.Replace(payload, `:""`, `:"`+strings.Repeat("n", 500-len(payload))+`"`, 1)
	body := `{"event_type":"payment_proof","payload":` + payload + `}`
	for ; n > 0; n -= 200 {
		lines := strings.Repeat(body+"\n", min(n, 200))
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server+"/companies/"+company+"/events/batch", strings.NewReader(lines))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+key)
		req.Header.Set("Content-Type", "application/x-ndjson")
		if status, _, answer := send(t, req); status != http.StatusOK || strings.Count(string(answer), `"status":202`) != min(n, 200) {
			t.Fatalf("%d %.300s", status, answer)
		}
	}
}

// usedMemory is Redis's used_memory once n events of the company stand where they are to stay: none of them is due.
func usedMemory(t *testing.T, rdb *goredis.Client, company string, n int64) int64 {
	t.Helper()
	deadline := time.After(patience)
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		due, errDue := rdb.ZCard(t.Context(), "{"+company+"}:due").Result()
		known, errKnown := rdb.XLen(t.Context(), "{"+company+"}:log").Result()
		if err := errors.Join(errDue, errKnown); err != nil {
			t.Fatal(err)
		}
		if due == 0 && known == n {
			break
		}
		select {
		case <-look.C:
		case <-deadline:
			t.Fatalf("%d of %s are due, %d known", due, company, known)
		}
	}
	text, err := rdb.Info(t.Context(), "memory").Result()
	if err != nil {
		t.Fatal(err)
	}
	used, err := strconv.ParseInt(parseInfo(text)["used_memory"], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return used
}

// followPage pastes a page's blocks into terminals, in an empty folder, and waits for what the page shows. Ports are replaced as
// ports says, for the usual ones may be taken.
func followPage(t *testing.T, text string, ports map[string]string) *desk {
	t.Helper()
	d := newPlace(t, "RINGBACK_SERVER=http://127.0.0.1:"+ports["8080"], "RINGBACK_RECEIVER_LISTEN=127.0.0.1:"+ports["9000"])
	text = withPorts(t, text, ports)
	d.writeFiles(text)
	d.follow(text)
	return d
}

// newPlace is a desk in an empty folder.
func newPlace(t *testing.T, env ...string) *desk {
	t.Helper()
	env = slices.Concat(os.Environ(), []string{"XDG_CONFIG_HOME=" + t.TempDir(), "PATH=" + plainPath(t)}, env)
	return &desk{t: t, dir: t.TempDir(), env: env, terminals: map[string]*terminal{}}
}

// withPorts is the page with other ports.
func withPorts(t *testing.T, text string, ports map[string]string) string {
	t.Helper()
	return regexp.MustCompile(`(127\.0\.0\.1:|--port |\.listen\()\d+`).ReplaceAllStringFunc(text, func(addr string) string {
		end := strings.LastIndexAny(addr, ": (") + 1
		other, ok := ports[addr[end:]]
		if !ok {
			t.Fatalf("the page names %s, which this test does not know", addr)
		}
		return addr[:end] + other
	})
}

// writeFiles writes the files that a page shows.
func (d *desk) writeFiles(text string) {
	d.t.Helper()
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		if name, ok := strings.CutPrefix(m[2], " file="); ok {
			d.write(name, m[3])
		}
	}
}

// follow pastes a page's blocks and waits for what it shows.
func (d *desk) follow(text string) {
	d.t.Helper()
	// Where a command is meant to fail, the page says so, and the terminal makes sure.
	text = regexp.MustCompile("(?ms)^(```sh terminal=\\d) fails\n(.*?)^```$").ReplaceAllString(text, "$1\n$2[ $$? = 1 ]\n```")
	for _, step := range parseReadme(d.t, fence.ReplaceAllStringFunc(text, onlyTerminals)) {
		terminal := d.terminal(step.terminal)
		switch step.kind {
		case "sh":
			terminal.paste(step.text)
		case "text":
			terminal.shows(step.text)
		case "Ctrl-C":
			terminal.interrupt()
		}
	}
}

// onlyTerminals drops a block that is not for a terminal: another test runs it.
func onlyTerminals(block string) string {
	if first, _, _ := strings.Cut(block, "\n"); !strings.Contains(first, " terminal=") {
		return ""
	}
	return block
}

// A receiverKit is one of the page's receivers, and how its file is made to run in the folder where it is.
type receiverKit struct {
	file string
	run  func(t *testing.T, file string) *exec.Cmd
}

// TestPartnersPageReceivers runs each receiver as the page has it and registers it with a real Ringback: a genuine delivery is
// answered 204 and handled, the same one again is answered 204 and not handled, and one whose body was tampered with is refused.
func TestPartnersPageReceivers(t *testing.T) {
	t.Parallel()
	server := startPlain(t, nil, "dev", "--listen", "127.0.0.1:0").await(`API +(http://\S+)`)[1]
	for company, kit := range map[string]receiverKit{"ten": {"hook.go", goReceiver}, "go": {"receiver.go", goReceiver}, "node": {"receiver.mjs", nodeReceiver}, "python": {"receiver.py", pythonReceiver}} {
		t.Run(company, func(t *testing.T) {
			t.Parallel()
			dir, addr := t.TempDir(), "127.0.0.1:"+freePort(t)
			code := snippet(t, page(t, partnersPage), kit.file)
			if !strings.Contains(code, "9000") {
				t.Fatal("the receiver no longer listens on port 9000")
			}
			code = strings.ReplaceAll(code, "9000", port(t, addr))
			if err := os.WriteFile(filepath.Join(dir, kit.file), []byte(code), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := kit.run(t, filepath.Join(dir, kit.file))

			seen := &tap{to: &url.URL{Scheme: "http", Host: addr}}
			before := httptest.NewServer(seen)
			t.Cleanup(before.Close)
			env := []string{"RINGBACK_SERVER=" + server, "RINGBACK_KEY=dev", "RINGBACK_COMPANY=" + company}
			secret := strings.TrimSpace(ringback(t, env, "callbacks", "create", "--type", "payment_proof", "--url", before.URL+"/hook"))
			cmd.Dir, cmd.Env = dir, append(cmd.Environ(), "WEBHOOK_SECRET="+secret)
			receiver := launch(t, cmd)
			awaitListening(t, receiver, addr)

			ringback(t, env, "events", "send", "--type", "payment_proof", "--payload", sample("payment_proof"), "--event-id", "first")
			first := receiver.await(`handled (dlv_[\w-]+)`)[1]
			request, body := seen.first(t)
			for what, tt := range map[string]struct {
				body []byte
				want int
			}{"repeated": {body, http.StatusNoContent}, "tampered with": {bytes.Replace(body, []byte("1,962.36"), []byte("9,962.36"), 1), http.StatusUnauthorized}} {
				if got := again(t, addr, request, tt.body); got != tt.want {
					t.Errorf("the delivery %s was answered %d, want %d", what, got, tt.want)
				}
			}
			// The handling is in order, so once the next one is handled, nothing of this one is to come.
			ringback(t, env, "events", "send", "--type", "payment_proof", "--payload", sample("payment_proof"), "--event-id", "second")
			receiver.await(`handled ` + first + `(?s:.*)handled dlv_`)
			if n := strings.Count(receiver.said.String(), "handled "+first); n != 1 {
				t.Errorf("the delivery was handled %d times:\n%s", n, receiver.said)
			}
			if list := ringback(t, env, "deliveries", "list", "--state", "delivered", "-o", "json"); strings.Count(list, `"verdict": "delivered"`) != 2 {
				t.Errorf("Ringback does not say delivered:\n%s", list)
			}
			checkHeaderTable(t, request.Header)
			if company == "ten" {
				ringback(t, env, "callbacks", "update", "1", "--batch", "max_events=2,element=envelope")
				for _, id := range []string{"third", "fourth"} {
					ringback(t, env, "events", "send", "--type", "payment_proof", "--payload", sample("payment_proof"), "--event-id", id)
				}
				receiver.await(`(?:handled dlv_[\w-]+ (?s:.*?)){4}`)
			}
		})
	}
}

// goReceiver compiles the receiver with this module's own version of the library.
func goReceiver(t *testing.T, file string) *exec.Cmd {
	t.Helper()
	code, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if formatted, err := format.Source(code); err != nil || !bytes.Equal(formatted, code) {
		t.Errorf("gofmt would write %s otherwise (%v)", filepath.Base(file), err)
	}
	binary := strings.TrimSuffix(file, ".go")
	build := exec.Command("go", "build", "-o", binary, file)
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return exec.Command(binary)
}

// mustHave skips what cannot be run without a program. CI has to have it.
func mustHave(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("CI has no %s: install it", program)
		}
		t.Skipf("there is no %s on this machine", program)
	}
}

// nodeReceiver installs the package as the page says.
func nodeReceiver(t *testing.T, file string) *exec.Cmd {
	t.Helper()
	mustHave(t, "npm")
	install := regexp.MustCompile("`npm (install) (standardwebhooks@[0-9.]+)`").FindStringSubmatch(page(t, partnersPage))
	if install == nil {
		t.Fatal("the page no longer says which version to npm install")
	}
	cmd := exec.Command("npm", install[1], "--no-audit", "--no-fund", "--prefer-offline", install[2])
	cmd.Dir = filepath.Dir(file)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return exec.Command("node", file)
}

// pythonReceiver takes the installed library or else its source, which lies beside the Go one in the same module.
func pythonReceiver(t *testing.T, file string) *exec.Cmd {
	t.Helper()
	mustHave(t, "python3")
	cmd := exec.Command("python3", file)
	if exec.Command("python3", "-c", "import standardwebhooks").Run() == nil {
		return cmd
	}
	list := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/standard-webhooks/standard-webhooks/libraries")
	list.Dir = root
	module, err := list.Output()
	if err != nil {
		t.Fatalf("%s: %v", list, err)
	}
	cmd.Env = append(cmd.Environ(), "PYTHONPATH="+filepath.Join(strings.TrimSpace(string(module)), "python"), "PYTHONDONTWRITEBYTECODE=1")
	return cmd
}

// A tap passes requests on, and keeps a copy of each.
type tap struct {
	to *url.URL

	mu   sync.Mutex
	seen []tapped
}

type tapped struct {
	request *http.Request
	body    []byte
}

func (p *tap) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	p.seen = append(p.seen, tapped{r.Clone(r.Context()), body})
	p.mu.Unlock()
	r.Body = io.NopCloser(bytes.NewReader(body))
	(&httputil.ReverseProxy{Rewrite: func(pr *httputil.ProxyRequest) { pr.SetURL(p.to) }}).ServeHTTP(w, r)
}

func (p *tap) first(t *testing.T) (*http.Request, []byte) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.seen) == 0 {
		t.Fatal("no request came by")
	}
	return p.seen[0].request, p.seen[0].body
}

// again sends a request once more, with this body, and returns the status of the answer.
func again(t *testing.T, addr string, as *http.Request, body []byte) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, as.Method, "http://"+addr+as.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = as.Header.Clone()
	status, _, _ := send(t, req)
	return status
}

// awaitListening waits until somebody answers at addr.
func awaitListening(t *testing.T, p *process, addr string) {
	t.Helper()
	deadline := time.After(patience)
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		if resp, err := http.Get("http://" + addr + "/"); err == nil {
			_ = resp.Body.Close()
			return
		}
		select {
		case <-look.C:
		case <-p.done:
			t.Fatalf("%s ended:\n%s", p.name, p.said)
		case <-deadline:
			t.Fatalf("%s never listened:\n%s", p.name, p.said)
		}
	}
}

// checkHeaderTable compares the page's table and its picture of a request with a request that came.
func checkHeaderTable(t *testing.T, got http.Header) {
	t.Helper()
	text := page(t, partnersPage)
	var named []string
	for _, row := range rows(t, text, "header") {
		name := strings.Trim(row[0], "`")
		named = append(named, name)
		if optional := name == "Authorization" || name == "Traceparent" || name == "Ringback-Replay" || name == "Ringback-Sequence"; got.Get(name) == "" && !optional {
			t.Errorf("the page says that %s is sent, and it is not", name)
		}
	}
	for name := range got {
		plain := []string{"User-Agent", "Content-Length", "Accept-Encoding"}
		if !slices.Contains(plain, name) && !slices.Contains(named, name) {
			t.Errorf("%s is sent, and the page does not say so", name)
		}
	}
	picture, _, _ := strings.Cut(snippet(t, text, "request.http"), "\n\n")
	for line := range strings.Lines(picture) {
		if name, _, isHeader := strings.Cut(line, ": "); isHeader && name != "Host" && got.Get(name) == "" {
			t.Errorf("the page's request has %s, and a real one has not", name)
		}
	}
}

// TestPartnersPageInbox runs the page's SQL in SQLite, which takes it as PostgreSQL does: a delivery is kept once.
func TestPartnersPageInbox(t *testing.T) {
	t.Parallel()
	mustHave(t, "python3")
	cmd := exec.Command("python3", "-c", `
import sqlite3, sys
statements = [s for s in sys.stdin.read().split(";") if s.strip()]
db = sqlite3.connect(":memory:")
create, insert, select, update = statements
db.execute(create)
row = {"webhook_id": "dlv_1", "event_type": "payment_proof", "body": "{}"}
print(db.execute(insert, row).rowcount, db.execute(insert, row).rowcount, db.execute(select).fetchall(), db.execute(update, row).rowcount, db.execute(select).fetchall())`)
	cmd.Stdin = strings.NewReader(snippet(t, page(t, partnersPage), "inbox.sql"))
	out, err := cmd.CombinedOutput()
	if want := "1 0 [('dlv_1', 'payment_proof', '{}')] 1 []\n"; err != nil || string(out) != want {
		t.Errorf("%v, got %swant %s", err, out, want)
	}
}

// TestPartnersPageSchedule computes the table of the default schedule.
func TestPartnersPageSchedule(t *testing.T) {
	t.Parallel()
	var want [][]string
	wait, since := registry.DefaultInitialInterval, time.Duration(0)
	for n := 1; n <= registry.DefaultMaxAttempts; n++ {
		if n == 1 {
			want = append(want, []string{"1", "", "", "", ""})
			continue
		}
		since += wait
		want = append(want, []string{fmt.Sprint(n), inWords(wait), inWords(since), inWords(since * 8 / 10), inWords(since * 12 / 10)})
		wait = min(time.Duration(float64(wait)*registry.DefaultMultiplier), registry.DefaultMaxInterval)
	}
	got := rows(t, page(t, partnersPage), "attempt")
	if len(got) != len(want) {
		t.Errorf("the table has %d rows, want %d", len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		if !slices.Equal(got[i], want[i]) {
			t.Errorf("the table says\n| %s |, want\n| %s |", strings.Join(got[i], " | "), strings.Join(want[i], " | "))
		}
	}
}

// inWords is a duration in two units at most.
func inWords(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d.Round(time.Second)/time.Second)
	case d < time.Hour:
		d = d.Round(time.Second)
		return fmt.Sprintf("%d min %02d s", d/time.Minute, d%time.Minute/time.Second)
	default:
		d = d.Round(time.Minute)
		return fmt.Sprintf("%d h %02d min", d/time.Hour, d%time.Hour/time.Minute)
	}
}

// TestPartnersPageAnswers gives every answer of the table, one callback each, and compares what follows.
func TestPartnersPageAnswers(t *testing.T) {
	t.Parallel()
	partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var status int
		_, _ = fmt.Sscan(r.URL.Query().Get("status"), &status)
		for _, name := range []string{"Content-Type", "Retry-After"} {
			if value := r.URL.Query().Get(name); value != "" {
				w.Header().Set(name, value)
			}
		}
		if status == 0 {
			panic(http.ErrAbortHandler) // no answer
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(partner.Close)
	env := []string{"RINGBACK_SERVER=" + startPlain(t, nil, "dev", "--listen", "127.0.0.1:0").await(`API +(http://\S+)`)[1], "RINGBACK_KEY=dev", "RINGBACK_COMPANY=acme"}

	type answer struct{ text, query, verdict string }
	var answers []answer
	for _, row := range rows(t, page(t, partnersPage), "your answer") {
		verdict := map[string]string{"delivered": "delivered", "tried again": "retry", "given up": "gone"}[regexp.MustCompile(`^(delivered|tried again|given up)`).FindString(row[1])]
		if verdict == "" {
			t.Errorf("what follows %s? the page says %q", row[0], row[1])
		}
		query := ""
		switch {
		case strings.Contains(row[0], "application/json"):
			query = "&Content-Type=" + url.QueryEscape("application/json; charset=utf-8")
		case strings.Contains(row[0], "any other type"):
			query = "&Content-Type=text/html"
		case strings.Contains(row[0], "Retry-After"):
			query = "&Retry-After=3600"
		}
		statuses := regexp.MustCompile(`\b[1-5]\d\d\b`).FindAllString(row[0], -1)
		if len(statuses) == 0 {
			statuses = []string{"0"}
		}
		for _, status := range statuses {
			answers = append(answers, answer{row[0], "?status=" + status + query, verdict})
		}
	}
	if len(answers) < 15 {
		t.Errorf("only %d answers were found in the table", len(answers))
	}
	for _, a := range answers {
		ringback(t, env, "callbacks", "create", "--type", "payment_proof", "--url", partner.URL+"/hook"+a.query)
	}
	ringback(t, env, "events", "send", "--type", "payment_proof", "--payload", sample("payment_proof"), "--event-id", "all")
	for i, a := range answers {
		first := awaitAttempt(t, env, "all", i+1)
		if first.Verdict != a.verdict {
			t.Errorf("%s (%s): the page says %s, and Ringback %s (%s)", a.text, a.query, a.verdict, first.Verdict, first.Detail)
		}
		if asked := strings.Contains(first.Detail, "Retry-After asks to wait 1h"); asked != strings.Contains(a.query, "Retry-After") {
			t.Errorf("%s: %s", a.text, first.Detail)
		}
	}
	if gone := ringback(t, env, "callbacks", "list", "--status", "disabled"); strings.Count(gone, "\n") != 2 || !strings.Contains(gone, "status=410") {
		t.Errorf("410 disables the callback, and no other answer does:\n%s", gone)
	}
}

type firstAttempt struct {
	Verdict string `json:"verdict"`
	Detail  string `json:"detail"`
}

// awaitAttempt waits for the first attempt of an event to a callback.
func awaitAttempt(t *testing.T, env []string, event string, callback int) firstAttempt {
	t.Helper()
	deadline := time.After(patience)
	for {
		var explained struct {
			Callbacks []struct {
				Delivery struct {
					Attempts []firstAttempt `json:"attempts"`
				} `json:"delivery"`
			} `json:"callbacks"`
		}
		text := ringback(t, env, "events", "get", event, "--callback", fmt.Sprint(callback), "-o", "json")
		if err := json.Unmarshal([]byte(text), &explained); err != nil {
			t.Fatal(err)
		}
		if len(explained.Callbacks) == 1 && len(explained.Callbacks[0].Delivery.Attempts) > 0 {
			return explained.Callbacks[0].Delivery.Attempts[0]
		}
		select {
		case <-deadline:
			t.Fatalf("no attempt to callback %d:\n%s", callback, text)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// TestDeployNamesKnownSettings: a variable that is misspelt in a unit or a container is one that nobody reads.
func TestDeployNamesKnownSettings(t *testing.T) {
	t.Parallel()
	known := map[string]bool{"RINGBACK_KEYSET": true, "RINGBACK_DEV_KEY": true}
	var collect func([]cli.Flag, []*cli.Command)
	collect = func(flags []cli.Flag, commands []*cli.Command) {
		for _, f := range flags {
			if doc, ok := f.(cli.DocGenerationFlag); ok && len(doc.GetEnvVars()) > 0 {
				known[doc.GetEnvVars()[0]] = true
			}
		}
		for _, c := range commands {
			collect(c.Flags, c.Subcommands)
		}
	}
	app := newCLI(strings.NewReader(""), io.Discard, io.Discard)
	collect(app.Flags, app.Commands)
	for _, name := range append(allPages(), "deploy/Dockerfile", "deploy/compose.yaml", "deploy/ringback.service") {
		for _, variable := range regexp.MustCompile(`RINGBACK_[A-Z_]+`).FindAllString(page(t, name), -1) {
			if !known[variable] {
				t.Errorf("%s names %s, which nothing reads", name, variable)
			}
		}
	}
}

// TestRedisConf starts a Redis on deploy/redis.conf, as the container of deploy/compose.yaml does: it starts, and keeps its promises.
func TestRedisConf(t *testing.T) {
	t.Parallel()
	conf, err := filepath.Abs(filepath.Join(root, "deploy", "redis.conf"))
	if err != nil {
		t.Fatal(err)
	}
	free := freePort(t)
	launch(t, exec.Command(redistest.Binary(t), conf, "--port", free, "--bind", "127.0.0.1", "--dir", t.TempDir())).await(`Ready to accept connections`)
	rdb := goredis.NewClient(&goredis.Options{Addr: "127.0.0.1:" + free})
	t.Cleanup(func() { _ = rdb.Close() })
	for _, row := range rows(t, page(t, operatorsPage), "setting") {
		for _, m := range regexp.MustCompile("`([a-z-]+)[^`]*`").FindAllStringSubmatch(row[0], -1) {
			if !regexp.MustCompile(`(?m)^(# )?` + m[1] + ` `).MatchString(page(t, "deploy/redis.conf")) {
				t.Errorf("the page explains %s, which is not in redis.conf", m[1])
			}
		}
	}
	for name, want := range map[string]string{"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"} {
		if got, err := rdb.ConfigGet(t.Context(), name).Result(); err != nil || got[name] != want {
			t.Errorf("%s is %s (%v), want %s", name, got[name], err, want)
		}
	}
}

// TestPartnersPageNarrows: the page's filter holds and fails as the page says, and its template makes the body that the page's payload would.
func TestPartnersPageNarrows(t *testing.T) {
	t.Parallel()
	text := page(t, "deploy/PARTNERS.md")
	var narrow struct{ Filter, Template json.RawMessage }
	for _, name := range []string{"filter.json", "template.json"} {
		if err := json.Unmarshal([]byte(snippet(t, text, name)), &narrow); err != nil {
			t.Fatal(err)
		}
	}
	filter, err := payloads.ParseFilter(narrow.Filter, "filter")
	if err != nil {
		t.Fatal(err)
	}
	for payload, want := range map[string]bool{
		`{"status": "paid", "amount": {"value": 100}}`:                             true,
		`{"status": "open", "amount": {"value": 100}}`:                             false,
		`{"status": "paid", "amount": {"value": 99.99}}`:                           false,
		`{"status": "paid", "amount": {"value": 100}, "customer": {"test": true}}`: false,
	} {
		if got := filter.Holds(payloads.ReadDocument([]byte(payload))); got != want {
			t.Errorf("%s: %t", payload, got)
		}
	}
	template, err := payloads.ParseTemplate(narrow.Template, "template")
	if err != nil {
		t.Fatal(err)
	}
	body, err := template.Apply([]byte(`{"customer": {"id": 17}}`))
	if want := `{"id":17,"level":"none","kind":"customer"}`; err != nil || string(body) != want {
		t.Errorf("%s, %v; want %s", body, err, want)
	}
}
