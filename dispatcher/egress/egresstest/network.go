package egresstest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// ports are where the network's listeners are: those that a request may use, and those of services that must not be reached.
var ports = []uint16{80, 443, 8443, 22, 6379, 8080, 9000}

// SearchList are the suffixes that the network's resolver tries (resolv.conf, with ndots:5), as in a pod on Kubernetes. Below them any name
// leads to Cluster; Pod is a name of its own there.
var SearchList = []string{"prod.svc.cluster.local", "svc.cluster.local", "cluster.local"}

// Addresses inside: of the services of the cluster, and of the name receiver, which /etc/hosts has.
const (
	Cluster  = "10.96.0.10"
	Receiver = "10.1.2.3"
)

// hosts is the network's /etc/hosts.
const hosts = "127.0.0.1 localhost loopback.hosts.example\n::1 localhost\n" + Receiver + " receiver\n" + partnerAddr + " outside.hosts.example\n"

// A Network has all addresses there are, and counts who comes.
type Network struct {
	Names *NameServer // on 127.0.0.1:53, where resolv.conf says

	t         testing.TB
	outer     []netip.Addr
	listeners []net.Listener
	mu        sync.Mutex
	inside    []string // where connections arrived that no request may reach
	outside   int      // how many arrived elsewhere
	probes    map[string]chan struct{}
}

// Enter runs the calling test anew in a network namespace of its own, where it returns a [Network]. Outside it reports what became of the
// test in there, and returns nil: then return. It takes Linux, and root or user namespaces; elsewhere the test is skipped, and fails if CI is true.
func Enter(t *testing.T) *Network {
	t.Helper()
	if os.Getenv(marker) != t.Name() {
		if err := reenter(t); err != nil {
			text := fmt.Sprintf("no network namespace can be made here, so what is inside cannot be tried: %v", err)
			if os.Getenv("CI") == "true" {
				t.Fatal(text)
			}
			t.Skip(text)
		}
		return nil
	}
	dir := t.TempDir()
	resolv := "nameserver 127.0.0.1\nsearch " + strings.Join(SearchList, " ") + "\noptions ndots:5 timeout:1 attempts:1\n"
	for file, content := range map[string]string{"/etc/hosts": hosts, "/etc/resolv.conf": resolv, "/etc/nsswitch.conf": "hosts: files dns\n"} {
		cover(t, dir, file, content)
	}
	routeEverything(t)
	n := &Network{t: t, probes: map[string]chan struct{}{}}
	for _, addr := range Outer {
		n.outer = append(n.outer, netip.MustParseAddr(addr).Unmap())
	}
	n.Names = newNameServerAt(t, "127.0.0.1:53", answer)
	n.listen()
	return n
}

// answer is what the network's name server knows.
func answer(name string, ask int) []string {
	switch {
	case name == Partner:
		return []string{partnerAddr}
	case name == RebindName && ask%2 == 0:
		return []string{"127.0.0.1"}
	case name == RebindName:
		return []string{partnerAddr}
	case slices.ContainsFunc(SearchList, func(suffix string) bool { return strings.HasSuffix(name, "."+suffix) }):
		return []string{Cluster}
	case name == "vault.service.consul":
		return []string{Cluster}
	}
	return Names[name]
}

// listen opens the listeners. What arrives outside is answered: 204, or what path and query ask for, /302?LOCATION.
func (n *Network) listen() {
	n.t.Helper()
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/")); err == nil {
			w.Header().Set("Location", r.URL.RawQuery)
			w.WriteHeader(status)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})}
	var wg sync.WaitGroup
	for _, port := range ports {
		l, err := (&net.ListenConfig{}).Listen(n.t.Context(), "tcp", ":"+strconv.Itoa(int(port)))
		if err != nil {
			n.t.Fatal(err)
		}
		n.listeners = append(n.listeners, l)
		wg.Go(func() { _ = server.Serve(&watched{l, n}) })
	}
	n.t.Cleanup(func() {
		_ = server.Close()
		wg.Wait()
	})
}

// watched counts what arrives.
type watched struct {
	net.Listener
	network *Network
}

// Accept implements net.Listener.
func (w *watched) Accept() (net.Conn, error) {
	conn, err := w.Listener.Accept()
	if err == nil {
		w.network.arrived(conn)
	}
	return conn, err
}

func (n *Network) arrived(conn net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if probe := n.probes[conn.RemoteAddr().String()]; probe != nil {
		close(probe)
		delete(n.probes, conn.RemoteAddr().String()) // the port may come again
		return
	}
	to := netip.MustParseAddrPort(conn.LocalAddr().String())
	if slices.Contains(n.outer, to.Addr().Unmap()) && slices.Contains(ports[:3], to.Port()) {
		n.outside++
		return
	}
	n.inside = append(n.inside, to.String())
}

// Arrivals tells where connections arrived that no request may reach, and how many arrived elsewhere, since it was last called.
func (n *Network) Arrivals() (inside []string, outside int) {
	n.t.Helper()
	for _, l := range n.listeners { // what came before a connection of our own has been counted once that has
		if err := n.probe(l.Addr().(*net.TCPAddr).Port); err != nil {
			n.t.Fatal(err)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	inside, outside = n.inside, n.outside
	n.inside, n.outside = nil, 0
	return inside, outside
}

func (n *Network) probe(port int) error {
	ctx, cancel := context.WithTimeout(n.t.Context(), 10*time.Second)
	defer cancel()
	seen := make(chan struct{})
	n.mu.Lock() // so that nobody counts it before it is known
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err == nil {
		n.probes[conn.LocalAddr().String()] = seen
	}
	n.mu.Unlock()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	select {
	case <-seen:
		return nil
	case <-ctx.Done():
		return errors.Join(errors.New("the listener does not accept"), ctx.Err())
	}
}
