package egress

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"code.dny.dev/ssrf"
)

// publicPorts are the ports a public address may be reached on: HTTP, HTTPS and the usual second HTTPS.
// Anything else is more likely somebody's mail, database or admin port than a webhook receiver.
var publicPorts = []uint16{80, 443, 8443}

// azureHost is the address at which Azure's host agent gives credentials to every virtual machine. It lies in a public range, so no registry
// lists it.
var azureHost = netip.MustParsePrefix("168.63.129.16/32")

// errBlocked is the cause of every refusal by the guard. It is the same for all rules: partners are not told which it was.
var errBlocked = errors.New("egress: address not allowed")

// errInside is the errBlocked of a name: every address of it was refused.
var errInside = fmt.Errorf("the name leads inside: %w", errBlocked)

// guard decides which names may be called and which addresses may be connected to. But for panicked it is immutable after newGuard.
type guard struct {
	allow, deny []netip.Prefix
	names       []string // of internal networks that may be called: "name", ".suffix", "."
	ports       []uint16
	public      *ssrf.Guardian
	panicked    atomic.Pointer[func(ctx context.Context, cause any)] // nil: see Client.Contain
}

func newGuard(cfg Config, ports []uint16) (*guard, error) {
	allow, err := normalise("Allow", cfg.Allow)
	if err != nil {
		return nil, err
	}
	deny, err := normalise("Deny", cfg.Deny)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, given := range cfg.AllowNames {
		name, err := normaliseName(given)
		if err != nil {
			return nil, fmt.Errorf("egress: AllowNames: %q %w", given, err)
		}
		names = append(names, name)
	}
	public := ssrf.New(ssrf.WithPorts(ports...), ssrf.WithDeniedV4Prefixes(azureHost))
	return &guard{allow: allow, deny: deny, names: names, ports: ports, public: public}, nil
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

// check returns nil if a connection to an address may be opened, and errBlocked otherwise. An explicit Deny wins over Allow, and Allow over the
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

// allowsName reports whether the operator allowed a name of an internal network expressly.
func (g *guard) allowsName(name string) bool {
	if slices.Contains(metadataNames, name) {
		return false
	}
	return slices.ContainsFunc(g.names, func(allowed string) bool {
		return allowed == "." || name == allowed || strings.HasPrefix(allowed, ".") && strings.HasSuffix(name, allowed)
	})
}

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// checkTarget is the policy for a well-formed URL: may this host be registered, and with this port?
func (g *guard) checkTarget(t target) error {
	switch {
	case t.addr.IsValid():
		if g.allows(t.addr) {
			return nil
		}
		return errors.New("may not have an address as its host: use a host name (" + mayAllowAddresses + ")")
	case t.name == "localhost" || strings.HasSuffix(t.name, ".localhost"):
		if g.allows(netip.AddrFrom4([4]byte{127, 0, 0, 1})) {
			return nil
		}
		return errors.New("may not lead to localhost: use a host name that is reachable from outside (" + mayAllowLoopback + ")")
	case isInternal(t.name):
		if g.allowsName(t.name) {
			return nil
		}
		return ErrNameNotAllowed
	case !slices.Contains(g.ports, t.port):
		return errors.New("has a port that is not allowed: use 443, 8443 or 80")
	}
	return nil
}
