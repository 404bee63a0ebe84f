package egresstest

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// A NameServer answers from a function, over UDP on a loopback address.
type NameServer struct {
	conn net.PacketConn
	wg   sync.WaitGroup
	mu   sync.Mutex
	seen map[string]int // questions by name and type
}

// NewNameServer starts a server on a port of its own that ends with the test. It answers each A or AAAA question with the addresses of
// answer that fit. ask counts the questions of that type for that name, from 1. A nil answer is NXDOMAIN; one that is an empty slice, no
// record; "cname NAME" an alias of NAME.
func NewNameServer(t testing.TB, answer func(name string, ask int) []string) *NameServer {
	t.Helper()
	return newNameServerAt(t, "127.0.0.1:0", answer)
}

func newNameServerAt(t testing.TB, addr string, answer func(name string, ask int) []string) *NameServer {
	t.Helper()
	conn, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &NameServer{conn: conn, seen: map[string]int{}}
	s.wg.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply := s.reply(buf[:n], answer); reply != nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	})
	t.Cleanup(func() {
		_ = conn.Close()
		s.wg.Wait()
	})
	return s
}

// Resolver is Go's own, asking this server.
func (s *NameServer) Resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", s.conn.LocalAddr().String())
	}}
}

// Asked are the names that were asked for, in lower case without the last dot, and forgets them.
func (s *NameServer) Asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for question := range s.seen {
		if name, ok := strings.CutSuffix(question, " "+dnsmessage.TypeA.String()); ok {
			names = append(names, name)
		}
	}
	clear(s.seen)
	return names
}

func (s *NameServer) reply(query []byte, answer func(string, int) []string) []byte {
	var p dnsmessage.Parser
	header, err := p.Start(query)
	if err != nil {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	s.mu.Lock()
	s.seen[name+" "+q.Type.String()]++
	ask := s.seen[name+" "+q.Type.String()]
	s.mu.Unlock()
	answers := answer(name, ask)
	msg := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: header.ID, Response: true, Authoritative: true, RecursionAvailable: true},
		Questions: []dnsmessage.Question{q},
	}
	if answers == nil {
		msg.RCode = dnsmessage.RCodeNameError
	}
	owner := q.Name
	add := func(typ dnsmessage.Type, body dnsmessage.ResourceBody) {
		msg.Answers = append(msg.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: owner, Type: typ, Class: q.Class}, Body: body})
	}
	for _, a := range answers {
		if alias, ok := strings.CutPrefix(a, "cname "); ok {
			next := dnsmessage.MustNewName(alias + ".")
			add(dnsmessage.TypeCNAME, &dnsmessage.CNAMEResource{CNAME: next})
			owner = next
			continue
		}
		addr := netip.MustParseAddr(a)
		switch {
		case addr.Is4() && q.Type == dnsmessage.TypeA:
			add(q.Type, &dnsmessage.AResource{A: addr.As4()})
		case addr.Is6() && q.Type == dnsmessage.TypeAAAA:
			add(q.Type, &dnsmessage.AAAAResource{AAAA: addr.As16()})
		}
	}
	out, err := msg.Pack()
	if err != nil {
		return nil
	}
	return out
}
