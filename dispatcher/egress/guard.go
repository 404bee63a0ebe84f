package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
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

// errInside is the errBlocked of a name: every address of it was refused.
var errInside = fmt.Errorf("the name leads inside: %w", errBlocked)

// guard decides which addresses may be connected to. It is immutable after newGuard.
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

// CheckAllowName says whether name may stand in [Config.AllowNames]: nil, or an error whose text follows on the name.
func CheckAllowName(name string) error {
	_, err := normaliseName(name)
	return err
}

// normaliseName returns the name, or the suffix, in lower case and ASCII, without the dot of the root at its end.
func normaliseName(given string) (string, error) {
	if given == "." {
		return given, nil
	}
	bare, below := strings.CutPrefix(given, ".")
	name := bare
	if !isASCII(bare) {
		mapped, err := asciiHost(bare)
		if err != nil {
			return "", err
		}
		name = mapped
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if err := checkName(name); err != nil {
		return "", err
	}
	if slices.Contains(metadataNames, name) {
		return "", errors.New("is the name of a cloud's metadata service, which is never called")
	}
	if below {
		name = "." + name
	}
	return name, nil
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

// control is called by the dialer after the socket exists and before it connects, once per address: what it judges is what is connected to.
// A dialer that races two kinds of address calls it in goroutines of its own.
func (g *guard) control(ctx context.Context, network, address string, _ syscall.RawConn) error {
	return g.contain(ctx, func() error { return g.judge(ctx, network, address) })
}

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

// dialFunc opens a connection, like [net.Dialer.DialContext].
type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// dialer returns the guarded dialer. A nil resolver means Go's own.
//
// A host with several addresses is blocked only if all of them are: errInside. If the dialer's verdict is "blocked" because it reports its
// first address while another one was allowed and failed, the allowed one is asked again, to learn what it says.
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

// lookupName is what the resolver is asked for to find host: the rooted name, so that it tries nothing but that. Otherwise a resolver may
// try the suffixes of its search list first, and on Kubernetes partner.example leads to partner.example.svc.cluster.local. An address is itself.
//
// localhost and the names of internal networks stay as they are. They belong to the operator, who may have made them by search list, and
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
