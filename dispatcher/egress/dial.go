package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
)

// dialer returns the guarded dialer. A nil resolver means Go's own.
//
// A host with several addresses is blocked only if all of them are: errInside. The dialer reports the verdict on its first address. If that
// is "blocked" while another address was allowed and failed, the allowed one is asked again, to learn its own error.
func (g *guard) dialer(resolver *net.Resolver) dialFunc {
	if resolver == nil {
		resolver = &net.Resolver{PreferGo: true}
	}
	d := &net.Dialer{Timeout: connectTimeout, Resolver: resolver, ControlContext: g.control}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		seen := new(passed)
		conn, err := d.DialContext(context.WithValue(ctx, passedKey{}, seen), network, net.JoinHostPort(lookupName(host), port))
		if err == nil || !errors.Is(err, errBlocked) {
			return conn, err
		}
		if allowed := seen.last(); allowed != "" {
			return d.DialContext(ctx, network, allowed)
		}
		if !isAddress(host) {
			return nil, errInside
		}
		return nil, err
	}
}

// control judges an address. The dialer calls it once per address, after the socket exists and before it connects: so no other address is
// connected to. If the dialer races two kinds of address, it calls control in goroutines of its own.
func (g *guard) control(ctx context.Context, network, address string, _ syscall.RawConn) error {
	return g.contain(ctx, func() error { return g.judge(ctx, network, address) })
}

// judge notes that the lookup is over, and returns nil if the address may be connected to.
func (g *guard) judge(ctx context.Context, network, address string) error {
	traceFrom(ctx).lookedUp()
	if network != "tcp4" && network != "tcp6" {
		return errBlocked
	}
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return errBlocked
	}
	if err := g.check(to); err != nil {
		return err
	}
	if seen, ok := ctx.Value(passedKey{}).(*passed); ok {
		seen.add(address)
	}
	return nil
}

// passed remembers the last address that judge let through during one dial. Happy eyeballs calls control from two goroutines.
type passed struct {
	mu   sync.Mutex
	addr string
}

type passedKey struct{}

func (p *passed) add(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addr = addr
}

func (p *passed) last() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addr
}

// lookupName is the name under which the resolver looks for host: the rooted one, so that the resolver tries nothing else. Otherwise it may
// try the suffixes of its search list first, and on Kubernetes partner.example leads to partner.example.svc.cluster.local. An address is itself.
//
// localhost and the names of internal networks stay as they are. They belong to the operator, and may exist by search list alone. Besides,
// /etc/hosts has a single label only without its dot.
func lookupName(host string) string {
	name := strings.TrimSuffix(host, ".")
	if isAddress(host) || isInternal(strings.ToLower(name)) {
		return name
	}
	return name + "."
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// errPanicked is the error of a dial that panicked.
var errPanicked = errors.New("egress: a fault in Ringback itself kept it from opening a connection")

// contain runs do. If somebody wants to hear of panics, it turns do's panic into an error.
func (g *guard) contain(ctx context.Context, do func() error) (err error) {
	if panicked := g.panicked.Load(); panicked != nil {
		defer func() {
			if cause := recover(); cause != nil {
				(*panicked)(ctx, cause)
				err = errPanicked
			}
		}()
	}
	return do()
}

// contained returns dial inside contain.
func (g *guard) contained(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
		err = g.contain(ctx, func() (err error) {
			conn, err = dial(ctx, network, addr)
			return err
		})
		return conn, err
	}
}
