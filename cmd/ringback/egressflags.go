package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/egress"
)

// egressFlags say where serve may deliver, and doctor connect.
func egressFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "egress-allow", Usage: "deliver to this private `CIDR` too, on any port (repeatable)", EnvVars: []string{"RINGBACK_EGRESS_ALLOW"}},
		&cli.StringSliceFlag{Name: "egress-deny", Usage: "never deliver to this public `CIDR` (repeatable)", EnvVars: []string{"RINGBACK_EGRESS_DENY"}},
		&cli.StringSliceFlag{
			Name: "egress-allow-name", Usage: "let callbacks have the internal host `NAME`, or each below .SUFFIX (repeatable); . is every name. Its address needs --egress-allow as well",
			EnvVars: []string{"RINGBACK_EGRESS_ALLOW_NAME"},
		},
		&cli.StringFlag{Name: "egress-proxy", Usage: "connect through the HTTP proxy at `URL`, with CONNECT; HTTP_PROXY is never read", EnvVars: []string{"RINGBACK_EGRESS_PROXY"}},
		&cli.StringFlag{Name: "egress-ca", Usage: "trust the authorities in this PEM `FILE`, too, beside the system's", EnvVars: []string{"RINGBACK_EGRESS_CA"}},
	}
}

// egressConfig is what those flags say.
func egressConfig(c *cli.Context) (cfg egress.Config, err error) {
	if cfg.Allow, err = prefixes("egress-allow", c.StringSlice("egress-allow")); err != nil {
		return cfg, err
	}
	if cfg.Deny, err = prefixes("egress-deny", c.StringSlice("egress-deny")); err != nil {
		return cfg, err
	}
	cfg.AllowNames = commaSeparated(c.StringSlice("egress-allow-name"))
	for _, name := range cfg.AllowNames {
		if err := egress.CheckAllowName(name); err != nil {
			return cfg, usagef("--egress-allow-name: %q %v", name, err)
		}
	}
	if raw := c.String("egress-proxy"); raw != "" {
		if cfg.Proxy, err = url.Parse(raw); err != nil {
			return cfg, usagef("--egress-proxy is no URL: write it like http://proxy.internal:4750") // the error would quote a password
		}
		if _, err := egress.New(egress.Config{Proxy: cfg.Proxy}); err != nil {
			return cfg, usagef("--egress-proxy %s", strings.TrimPrefix(err.Error(), "egress: Proxy "))
		}
	}
	if file := c.String("egress-ca"); file != "" {
		roots, err := authorities(file)
		if err != nil {
			return cfg, usagef("--egress-ca %s: %v", file, err)
		}
		cfg.TLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return cfg, nil
}

// authorities are the system's and those in a file of certificates in PEM.
func authorities(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file) //nolint:gosec // the operator's own choice of a file
	if err != nil {
		return nil, errors.Unwrap(err) // without its name, which the caller has
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("the system's own authorities cannot be read: %w", err)
	}
	found := 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("holds a %s: only certificates belong there", block.Type)
		}
		found++
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d cannot be read: %w", found, err)
		}
		if !certificate.IsCA {
			return nil, fmt.Errorf("certificate %d is not one of an authority (CA:TRUE)", found)
		}
		roots.AddCert(certificate)
	}
	if found == 0 {
		return nil, errors.New("holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")
	}
	return roots, nil
}

// prefixes parses CIDRs; a single address is the CIDR of itself.
func prefixes(flag string, values []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, v := range commaSeparated(values) {
		p, err := netip.ParsePrefix(v)
		if err != nil {
			addr, addrErr := netip.ParseAddr(v)
			if addrErr != nil {
				return nil, usagef("--%s: %q is not a CIDR such as 10.0.0.0/8", flag, v)
			}
			p = netip.PrefixFrom(addr, addr.BitLen())
		}
		if p != p.Masked() {
			return nil, usagef("--%s: %s has bits beyond its length; did you mean %s?", flag, v, p.Masked())
		}
		out = append(out, p)
	}
	return out, nil
}

// privateDestinations are what dev allows, and serve only on request: loopback, RFC 1918 and RFC 4193, under any name.
var privateDestinations = egress.Config{
	Allow: []netip.Prefix{
		netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"),
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
		netip.MustParsePrefix("fc00::/7"),
	},
	AllowNames: []string{"."},
}
