package faults

import (
	"bufio"
	"bytes"
	"crypto/sha1" // how Redis names scripts
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/lua"
)

// A tap is a proxy before Redis that understands which script a command runs, and strikes at one of them: what no general proxy can.
// It names our scripts as their files in dispatcher/lua, and asynq's "enqueue", "dequeue" and "done" with "asynq " before.
type tap struct {
	t        testing.TB
	upstream string
	listener net.Listener

	mu      sync.Mutex
	scripts map[string]string // name by SHA-1
	strikes []*strike
	seen    map[string]int
	conns   map[net.Conn]bool
	wg      sync.WaitGroup
}

// A strike breaks the connection of the one command it waits for.
type strike struct {
	script string
	nth    int    // counts from 1, from when the strike was armed
	before bool   // the command does not reach Redis; else Redis carries it out, and its reply is lost
	silent bool   // the connection stays open, and nothing comes: until the client's patience ends
	act    func() // runs while the command, or its reply, is held
	done   chan struct{}
}

// newTap listens on a port of its own.
func newTap(t testing.TB, upstream string) *tap {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{t: t, upstream: upstream, listener: listener, scripts: lua.Names(), seen: make(map[string]int), conns: make(map[net.Conn]bool)}
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *tap) addr() string { return p.listener.Addr().String() }

func sha(script []byte) string {
	sum := sha1.Sum(script)
	return hex.EncodeToString(sum[:])
}

// strikes arms one.
func (p *tap) strike(s strike) *strike {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.done = make(chan struct{})
	p.strikes = append(p.strikes, &s)
	return &s
}

// pending reports whether the strike has yet to be made.
func (s *strike) pending() bool {
	select {
	case <-s.done:
		return false
	default:
		return true
	}
}

// await waits until the strike has been made.
func (p *tap) await(s *strike, within time.Duration) {
	p.t.Helper()
	within = atLeast(within)
	select {
	case <-s.done:
	case <-time.After(within):
		p.mu.Lock()
		defer p.mu.Unlock()
		p.t.Fatalf("no strike at %s within %s; scripts seen: %v", s.script, within, p.seen)
	}
}

func (p *tap) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	for c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *tap) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.upstream)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.conns[client], p.conns[server] = true, true
		p.mu.Unlock()
		link := &link{tap: p, client: client, server: server}
		p.wg.Go(link.commands)
		p.wg.Go(link.replies)
	}
}

// A link is one connection through the tap.
type link struct {
	tap            *tap
	client, server net.Conn

	mu     sync.Mutex
	script string // of the command that Redis has
	dead   bool   // a silent strike fell: nothing comes through any more
}

func (l *link) close() {
	_, _ = l.client.Close(), l.server.Close()
	l.tap.mu.Lock()
	defer l.tap.mu.Unlock()
	delete(l.tap.conns, l.client)
	delete(l.tap.conns, l.server)
}

// commands passes on what the client says, one command at a time.
func (l *link) commands() {
	defer l.close()
	in := bufio.NewReader(l.client)
	for {
		raw, args, err := readCommand(in)
		if err != nil {
			return
		}
		script := l.tap.nameOf(args)
		if s := l.tap.due(script, true, nil); s != nil {
			s.fall(l)
			continue
		}
		l.mu.Lock()
		l.script = script
		dead := l.dead
		l.mu.Unlock()
		if dead {
			continue
		}
		if _, err := l.server.Write(raw); err != nil {
			return
		}
	}
}

// replies passes on what Redis answers.
func (l *link) replies() {
	defer l.close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := l.server.Read(buffer)
		if err != nil {
			return
		}
		l.mu.Lock()
		script := l.script
		l.script = ""
		dead := l.dead
		l.mu.Unlock()
		if s := l.tap.due(script, false, buffer[:n]); s != nil {
			s.fall(l)
			continue
		}
		if dead {
			continue
		}
		if _, err := l.client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// fall does what the strike is to do.
func (s *strike) fall(l *link) {
	if s.act != nil {
		s.act()
	}
	if s.silent {
		l.mu.Lock()
		l.dead = true
		l.mu.Unlock()
	} else {
		l.close()
	}
	close(s.done)
}

// due is the strike that this command or reply is for. A reply that says no (an error, no task) is none.
func (p *tap) due(script string, before bool, reply []byte) *strike {
	if script == "" || !before && (bytes.HasPrefix(reply, []byte("-")) || bytes.HasPrefix(reply, []byte("$-1"))) {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if before {
		p.seen[script]++
	}
	for i, s := range p.strikes {
		if s.script == script && s.before == before {
			if s.nth--; s.nth <= 0 {
				p.strikes = append(p.strikes[:i:i], p.strikes[i+1:]...)
				return s
			}
			return nil
		}
	}
	return nil
}

// nameOf says which script a command runs, "" if it is none that has a name. asynq's are learnt when they are first run, by their text.
func (p *tap) nameOf(args [][]byte) string {
	if len(args) < 2 {
		return ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch strings.ToLower(string(args[0])) {
	case "evalsha":
		return p.scripts[string(args[1])]
	case "eval":
		id := sha(args[1])
		if name, ok := p.scripts[id]; ok {
			return name
		}
		text := string(args[1])
		switch {
		case strings.Contains(text, `"RPOPLPUSH"`):
			p.scripts[id] = "asynq dequeue"
		case strings.Contains(text, `"pending_since", ARGV[3]`) && strings.Contains(text, `"LPUSH", KEYS[2]`):
			p.scripts[id] = "asynq enqueue"
		case strings.Contains(text, `"DEL", KEYS[3]`) && strings.Contains(text, `"INCR", KEYS[4]`):
			p.scripts[id] = "asynq done"
		}
		return p.scripts[id]
	}
	return ""
}

// readCommand reads one command as clients write them: an array of strings.
func readCommand(in *bufio.Reader) (raw []byte, args [][]byte, err error) {
	number := func(kind byte) (int, error) {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return 0, err
		}
		raw = append(raw, line...)
		if line[0] != kind {
			return 0, fmt.Errorf("a command with %q in it", line)
		}
		return strconv.Atoi(strings.TrimSpace(string(line[1:])))
	}
	n, err := number('*')
	if err != nil {
		return nil, nil, err
	}
	for range n {
		size, err := number('$')
		if err != nil {
			return nil, nil, err
		}
		value := make([]byte, size+2)
		if _, err := io.ReadFull(in, value); err != nil {
			return nil, nil, err
		}
		raw = append(raw, value...)
		args = append(args, value[:size])
	}
	return raw, args, nil
}
