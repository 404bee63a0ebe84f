package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"code.dny.dev/ssrf"
)

// publicPorts are the ports a public address may be reached on: HTTP, HTTPS and the usual second HTTPS.
// Anything else is more likely somebody's mail, database or admin port than a webhook receiver.
var publicPorts = []uint16{80, 443, 8443}

// azureHost is where Azure's host agent answers every virtual machine with credentials. It lies in a public range, so no registry lists it.
var azureHost = netip.MustParsePrefix("168.63.129.16/32")

// errBlocked is the cause of every refusal by the guard, whatever the rule: partners are not told which.
var errBlocked = errors.New("egress: address not allowed")

// guard decides which addresses may be connected to. It is immutable after newGuard.
type guard struct {
	allow, deny []netip.Prefix
	ports       []uint16
	public      *ssrf.Guardian
}

func newGuard(allow, deny []netip.Prefix, ports []uint16) (*guard, error) {
	allow, err := normalise("Allow", allow)
	if err != nil {
		return nil, err
	}
	deny, err = normalise("Deny", deny)
	if err != nil {
		return nil, err
	}
	public := ssrf.New(ssrf.WithPorts(ports...), ssrf.WithDeniedV4Prefixes(azureHost))
	return &guard{allow: allow, deny: deny, ports: ports, public: public}, nil
}

// normalise returns the prefixes masked, with IPv4-mapped ones as the IPv4 they mean.
func normalise(field string, prefixes []netip.Prefix) ([]netip.Prefix, error) {
	out := make([]netip.Prefix, 0, len(prefixes))
	for i, p := range prefixes {
		switch {
		case !p.IsValid():
			return nil, fmt.Errorf("egress: %s[%d] is not a valid prefix: write it like 10.0.0.0/8", field, i)
		case p.Addr().Is4In6() && p.Bits() < 96:
			return nil, fmt.Errorf("egress: %s[%d] reaches beyond the IPv4-mapped addresses: write the IPv4 prefix instead", field, i)
		case p.Addr().Is4In6():
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// check returns nil if a connection to to may be opened, errBlocked otherwise. An explicit Deny wins over Allow, and Allow over the
// built-in rules: global unicast addresses outside the IANA special-purpose registries, on publicPorts.
func (g *guard) check(to netip.AddrPort) error {
	addr := to.Addr().Unmap()
	if addr.Zone() != "" || contains(g.deny, addr) {
		return errBlocked
	}
	if contains(g.allow, addr) {
		return nil
	}
	if err := g.public.SafeAddrPort(netip.AddrPortFrom(addr, to.Port())); err != nil {
		return errBlocked
	}
	return nil
}

// allows reports whether the operator allowed addr expressly, and with it every port.
func (g *guard) allows(addr netip.Addr) bool {
	addr = addr.Unmap()
	return addr.Zone() == "" && contains(g.allow, addr) && !contains(g.deny, addr)
}

// allowsInside reports whether anything but loopback is allowed expressly: then names of an internal network make sense.
func (g *guard) allowsInside() bool {
	for _, p := range g.allow {
		if !p.Addr().IsLoopback() {
			return true
		}
	}
	return false
}

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// control is called by the dialer after the socket exists and before it connects, once per address: what it judges is what is connected to.
func (g *guard) control(ctx context.Context, network, address string, _ syscall.RawConn) error {
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

// dialFunc opens a connection, like [net.Dialer.DialContext].
type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// dialer returns the guarded dialer. A nil resolver means Go's own.
//
// A host with several addresses is blocked only if all of them are. If the dialer's verdict is "blocked" because it reports its first address
// while another one was allowed and failed, the allowed one is asked again, to learn what it says.
func (g *guard) dialer(resolver *net.Resolver) dialFunc {
	if resolver == nil {
		resolver = &net.Resolver{PreferGo: true}
	}
	d := &net.Dialer{Timeout: connectTimeout, Resolver: resolver, ControlContext: g.control}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		seen := new(passed)
		conn, err := d.DialContext(context.WithValue(ctx, passedKey{}, seen), network, addr)
		if err == nil || !errors.Is(err, errBlocked) {
			return conn, err
		}
		if allowed := seen.last(); allowed != "" {
			return d.DialContext(ctx, network, allowed)
		}
		return nil, err
	}
}
