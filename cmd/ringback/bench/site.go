package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
)

// registering is how many callbacks are registered at a time.
const registering = 8

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

// open starts an installation with a binary, or finds the one of Config.Server. If a process of it ends by itself, fail is told why.
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

// send sends one request and reads the answer whole.
func (s *site) send(ctx context.Context, method, path string, header http.Header, body []byte) (status int, answer []byte, err error) {
	return exchange(ctx, s.client, method, s.server+path, header, body)
}

// register registers callbacks of a company, from the number first on. A callback's number is the path that it is called at. The
// answer is their ids, which the server chose. change adds to the registration.
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
