package bench

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"golang.org/x/sync/errgroup"
)

const (
	startTimeout = 30 * time.Second // of a process on a machine with other work; usually a third of a second
	startPoll    = 5 * time.Millisecond
	portTries    = 5 // another process may take the port between asking the kernel for it and binding it
	// connections is how many idle ones senders keep, more than there are senders.
	connections = 256
	// registering is how many callbacks are registered at a time.
	registering = 8
)

// A site is one installation with its receiver, for one scenario.
type site struct {
	cfg *Config
	dir string // of our own installation's files

	redis       *child   // nil: an installation of others
	serves      []*child // of our own: its processes, the API first
	rdb         *redis.Client
	fromClients map[string]bool // the commands that only clients send to Redis; see usage

	server   string // URL of the API
	header   http.Header
	client   *http.Client
	receiver *receiver
	began    map[string]bool // the companies there are
}

// newSite is a site where nothing runs yet. The caller closes it.
func newSite(c *Config) *site {
	return &site{
		cfg: c, server: strings.TrimSuffix(c.Server, "/"), began: map[string]bool{},
		client: &http.Client{Transport: &http.Transport{MaxIdleConns: connections, MaxIdleConnsPerHost: connections, TLSClientConfig: c.TLS}},
	}
}

// open starts an installation with a binary, or finds the one of Config.Server. Should a process of it end by itself, fail is told why.
func (s *site) open(ctx context.Context, fail context.CancelCauseFunc, subject Binary) (err error) {
	if s.receiver, err = receive(ctx, s.cfg.ReceiverListen, s.cfg.ReceiverURL); err != nil {
		return err
	}
	key := s.cfg.Key
	if subject.Number > 0 {
		if key, err = s.start(ctx, fail, subject.Path); err != nil {
			return err
		}
	}
	s.header = http.Header{"Authorization": {"Bearer " + key}, "Content-Type": {"application/json"}}
	return nil
}

// start starts Redis and the program, and makes an operator's key.
func (s *site) start(ctx context.Context, fail context.CancelCauseFunc, path string) (key string, err error) {
	if s.dir, err = os.MkdirTemp("", "ringback-bench"); err != nil {
		return "", err
	}
	if s.redis, err = startRedis(ctx, s.dir, fail); err != nil {
		return "", err
	}
	s.rdb = redisClient(s.redis.addr)
	env := []string{"RINGBACK_REDIS=redis://" + s.redis.addr, "RINGBACK_KEYSET_FILE=" + filepath.Join(s.dir, "keyset.json"), "RINGBACK_EGRESS_ALLOW=127.0.0.0/8"}
	roles := []string{"api,worker"}
	if s.cfg.Apart {
		roles = []string{"api", "worker"}
	}
	for i, role := range roles {
		address, err := s.serve(ctx, env, fail, path, role)
		if err != nil {
			return "", err
		}
		if i == 0 {
			s.server = "http://" + address
		}
	}
	key, err = ask(ctx, path, env, "keys", "create", "--role", "operator")
	return strings.TrimSpace(key), err
}

// serve starts a process of the program with some roles, and returns its address.
func (s *site) serve(ctx context.Context, env []string, fail context.CancelCauseFunc, path, roles string) (address string, err error) {
	log := filepath.Join(s.dir, strings.ReplaceAll(roles, ",", "-")+".log")
	c, err := launch(ctx, "ringback serve", log, env, fail, path, "serve", "--roles", roles, "--listen", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	s.serves = append(s.serves, c)
	ready := regexp.MustCompile(`"msg":"ready","address":"([^"]+)"`)
	err = c.await(ctx, func() error {
		match := ready.FindStringSubmatch(c.said())
		if match == nil {
			return errors.New("it does not say that it is ready")
		}
		address = match[1]
		return nil
	})
	return address, err
}

// close ends what open started, and leaves nothing behind that it can take away.
func (s *site) close(ctx context.Context) {
	if s.redis == nil {
		s.eraseCompanies(ctx)
	}
	for _, c := range s.serves {
		c.end()
	}
	if s.redis != nil {
		s.redis.end()
	}
	if s.rdb != nil {
		_ = s.rdb.Close()
	}
	if s.receiver != nil {
		s.receiver.close()
	}
	s.client.CloseIdleConnections()
	if s.dir != "" {
		_ = os.RemoveAll(s.dir)
	}
}

// eraseCompanies takes back what a scenario left in an installation of others.
func (s *site) eraseCompanies(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
	defer cancel()
	for company := range s.began {
		if err := s.call(ctx, http.MethodDelete, "/companies/"+company+"?confirm="+company, nil, nil); err != nil {
			s.cfg.say("company %s is still there, erase it: %v", company, err)
		}
	}
}

// company is the name of a company of this site's own.
func (s *site) company(name string) string {
	name = s.receiver.name + "-" + name
	s.began[name] = true
	return name
}

// call asks the API for something and decodes the answer. What is not a 2xx is an error.
func (s *site) call(ctx context.Context, method, path string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	status, answer, err := s.send(ctx, method, path, s.header, text)
	switch {
	case err != nil:
		return err
	case status/100 != 2:
		return &statusError{method + " " + path, status, string(answer[:min(len(answer), 500)])}
	case into == nil:
		return nil
	}
	return json.Unmarshal(answer, into)
}

// A statusError is an answer of the API that is no success.
type statusError struct {
	what   string
	status int
	answer string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s was answered %d: %s", e.what, e.status, e.answer)
}

// send sends one request and reads the answer whole.
func (s *site) send(ctx context.Context, method, path string, header http.Header, body []byte) (status int, answer []byte, err error) {
	return exchange(ctx, s.client, method, s.server+path, header, body)
}

// exchange sends one request and reads the answer whole. It shares header with others that send.
func exchange(ctx context.Context, client *http.Client, method, url string, header http.Header, body []byte) (status int, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header = header
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

// register registers callbacks of a company, from the number first on. A callback's number is the path that it is called at, and other than its id,
// which the answer is. change adds to the registration.
func (s *site) register(ctx context.Context, company string, first, n int, change map[string]any) ([]int64, error) {
	ids := make([]int64, n)
	var group errgroup.Group
	group.SetLimit(registering)
	for i := range n {
		group.Go(func() (err error) {
			ids[i], err = s.registerOne(ctx, company, first+i, change)
			return err
		})
	}
	return ids, group.Wait()
}

func (s *site) registerOne(ctx context.Context, company string, number int, change map[string]any) (id int64, err error) {
	body := map[string]any{"callback_type": eventType, "destination": map[string]string{"url": s.receiver.url + "/" + strconv.Itoa(number)}}
	maps.Copy(body, change)
	var callback struct {
		ID     int64  `json:"callback_id"`
		Secret string `json:"secret"`
	}
	if err := s.call(ctx, http.MethodPost, "/companies/"+company+"/config/callbacks", body, &callback); err != nil {
		return 0, fmt.Errorf("registering a callback: %w", err)
	}
	return callback.ID, s.receiver.know(number, callback.Secret)
}

// A child is a process of our own, which says what it has to say into a file.
type child struct {
	name  string
	addr  string // where it listens, if startRedis started it
	cmd   *exec.Cmd
	log   string
	ended chan struct{}
}

// launch starts a process. ctx ends it, and its end by itself is told to fail.
func launch(ctx context.Context, name, log string, env []string, fail context.CancelCauseFunc, path string, args ...string) (*child, error) {
	file, err := os.Create(log) //nolint:gosec // in a folder that this process made
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // the child has its own
	cmd := command(ctx, path, env, args...)
	cmd.Stdout, cmd.Stderr = file, file
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	c := &child{name: name, cmd: cmd, log: log, ended: make(chan struct{})}
	go func() {
		err := cmd.Wait()
		fail(fmt.Errorf("%s ended (%w), saying: %s", name, cmp.Or(err, errors.New("exit code 0")), c.said()))
		close(c.ended)
	}()
	return c, nil
}

// command is a program with no settings but those of env.
func command(ctx context.Context, path string, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path, args...) //nolint:gosec // the user's own choice of a program
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(pair string) bool {
		return strings.HasPrefix(pair, "RINGBACK_") || strings.HasPrefix(pair, "OTEL_")
	}), env...)
	return cmd
}

// ask runs a program to its end and returns what it prints.
func ask(ctx context.Context, path string, env []string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var complaint bytes.Buffer
	cmd := command(ctx, path, env, args...)
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", path, strings.Join(args, " "), err, &complaint)
	}
	return string(out), nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// said is the end of what the child has written.
func (c *child) said() string {
	text, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}

// await asks again and again until the child is ready.
func (c *child) await(ctx context.Context, ready func() error) error {
	late := time.After(startTimeout)
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.ended:
			return fmt.Errorf("%s ended before it was ready, saying: %s", c.name, c.said())
		case <-late:
			return fmt.Errorf("%s is not ready after %s (%w), and says: %s", c.name, startTimeout, err, c.said())
		case <-time.After(startPoll):
		}
	}
}

// end kills the child and waits for it: nothing that it holds is wanted any more.
func (c *child) end() {
	_ = c.cmd.Process.Kill()
	<-c.ended
}

// startRedis starts a Redis on a port that the kernel chose, with its append-only file in dir, synced every second.
func startRedis(ctx context.Context, dir string, fail context.CancelCauseFunc) (c *child, err error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if path, err = exec.LookPath("valkey-server"); err != nil {
			return nil, errors.New("neither redis-server nor valkey-server is in PATH: install one")
		}
	}
	for range portTries {
		if c, err = startRedisAt(ctx, path, dir, fail); err == nil {
			return c, nil
		}
	}
	return nil, err
}

func startRedisAt(ctx context.Context, path, dir string, fail context.CancelCauseFunc) (*child, error) {
	addr, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	var ready atomic.Bool // before that its end is no failure: there are other ports
	c, err := launch(ctx, "Redis", filepath.Join(dir, "redis.log"), nil, func(cause error) {
		if ready.Load() {
			fail(cause)
		}
	}, path, "--port", port, "--bind", host, "--dir", dir, "--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--daemonize", "no")
	if err != nil {
		return nil, err
	}
	c.addr = addr
	rdb := redisClient(addr)
	defer func() { _ = rdb.Close() }()
	err = c.await(ctx, func() error {
		info := rdb.InfoMap(ctx, "server")
		if pid := info.Item("Server", "process_id"); info.Err() == nil && pid != strconv.Itoa(c.pid()) {
			return fmt.Errorf("port %s is another process's", port)
		}
		return info.Err()
	})
	if err != nil {
		c.end()
		return nil, err
	}
	ready.Store(true)
	return c, nil
}

func freeAddress(ctx context.Context) (string, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

func redisClient(addr string) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: addr, Protocol: 2, DisableIdentity: true, DialerRetries: 1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}
