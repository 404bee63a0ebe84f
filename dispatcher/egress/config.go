package egress

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"net/url"
	"time"
)

// DefaultTimeout bounds a request whose [Request.Timeout] is zero: a registration's default in the HTTP API.
const DefaultTimeout = 15 * time.Second

// DefaultMaxTimeout bounds every request unless [Config.MaxTimeout] says otherwise: the longest timeout the HTTP API lets a registration ask for.
const DefaultMaxTimeout = 60 * time.Second

// Config is what [New] needs. The zero value is the strict production setting: public addresses only.
type Config struct {
	// Allow lists addresses that may be reached although they are private, loopback or otherwise special, and on any port.
	// A prefix of IPv4-mapped addresses (::ffff:10.0.0.0/104) means the IPv4 prefix. Nil: none.
	Allow []netip.Prefix

	// Deny lists addresses that may not be reached although they are public: the operator's own ranges, for example.
	// It wins over Allow. Nil: none beyond the IANA special-purpose registries and the Azure host address 168.63.129.16.
	Deny []netip.Prefix

	// AllowNames lists names of internal networks that may be called all the same: "receiver" is that name, ".corp.internal" every name below it,
	// "." every name. The address that such a name leads to is still judged by Allow. Names of cloud metadata services are always refused. Nil: none.
	AllowNames []string

	// Resolver looks names up. Nil: Go's own resolver, which can be cancelled and occupies no thread while a name server is silent.
	// Names are looked up rooted (with a dot at their end), so that no search list applies. But localhost, and the names of internal networks that
	// AllowNames lets through, are looked up as this machine looks up all others. A resolver with PreferGo false does not find rooted names in
	// /etc/hosts.
	Resolver *net.Resolver

	// Proxy is an HTTP proxy that takes CONNECT, through which every connection goes: http or https, a host, perhaps a port, user and password.
	// Names are looked up and addresses judged before the proxy hears of them. If the proxy refuses, the request fails with [EgressProxy].
	// HTTP_PROXY and its kin are never read. Nil: none.
	Proxy *url.URL

	// MaxTimeout is the longest a request may take, body included. Longer request timeouts are cut to it. Zero: [DefaultMaxTimeout].
	MaxTimeout time.Duration

	// TLS holds what differs from the standard: RootCAs for private authorities, Certificates for partners that ask for one.
	// It is copied. InsecureSkipVerify, a ServerName, a MinVersion or MaxVersion below TLS 1.2 are refused. Nil: the system's roots, TLS 1.2 or later.
	TLS *tls.Config

	// Dial replaces the dialer and with it THE WHOLE ADDRESS GUARD. It exists for tests inside a testing/synctest bubble, where connections are
	// pipes. A production wiring leaves it nil. CheckURL's policy stays in force.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}
