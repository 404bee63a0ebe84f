package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher/egress"
)

// egressTimeout bounds one connection of --egress-check.
const egressTimeout = 5 * time.Second

// metadataService is where clouds give credentials to whoever asks from one of their machines.
var metadataService = netip.MustParseAddrPort("169.254.169.254:80")

// checkProxy asks the proxy for an address that Ringback's own guard never lets through. A proxy that lets it through is no second wall.
func checkProxy(ctx context.Context, cfg egress.Config) finding {
	ctx, cancel := context.WithTimeout(ctx, egressTimeout)
	defer cancel()
	f := finding{Check: "egress proxy", Level: levelOK}
	switch refused, err := egress.TryProxy(ctx, cfg, metadataService); {
	case err == nil:
		f.Level, f.Found = levelWarn, "the proxy lets connections to 169.254.169.254 through, where clouds keep credentials: only Ringback itself refuses them"
		f.Cure = "let the proxy deny link-local, private and loopback addresses (smokescreen does by itself)"
	case errors.Is(err, egress.ErrProxyTried):
		f.Level, f.Found = levelWarn, fmt.Sprintf("the proxy does not refuse connections to 169.254.169.254, where clouds keep credentials: nothing was there this time (%s)", strings.TrimPrefix(err.Error(), "egress: "))
		f.Cure = "let the proxy deny link-local, private and loopback addresses (smokescreen does by itself)"
	case refused:
		f.Found = fmt.Sprintf("a connection to 169.254.169.254 is not let through (%s)", strings.TrimPrefix(err.Error(), "egress: "))
	case errors.Is(err, context.DeadlineExceeded):
		f.Level, f.Found = levelWarn, fmt.Sprintf("the proxy did not say within %s whether it lets connections to 169.254.169.254 through", egressTimeout)
		f.Cure = "let the proxy deny link-local, private and loopback addresses (smokescreen does by itself)"
	default:
		host, port := hostPort(cfg.Proxy)
		f.Level, f.Found = levelFault, fmt.Sprintf("%s: %s", net.JoinHostPort(host, port), strings.TrimPrefix(oneLine(err.Error()), "egress: "))
		f.Cure = "nc -vz " + host + " " + port + " # then see that the proxy runs, and speaks HTTP and CONNECT"
	}
	return f
}

// proxySettings are where other programs find their proxy. Ringback reads none of them: a person who sets them seldom means a dispatcher of webhooks.
var proxySettings = []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"}

// examineEgress connects to each URL as a delivery would.
func (d *diagnosis) examineEgress(ctx context.Context, door *egress.Client, proxied bool, urls []string) {
	if len(urls) == 0 {
		d.add(finding{
			Check: "egress", Level: levelWarn, Found: "whether deliveries get out was not checked",
			Cure: "ringback doctor --egress-check https://HOST/ # a partner's URL",
		})
	}
	for _, raw := range urls {
		d.add(checkEgress(ctx, door, raw))
	}
	for _, name := range proxySettings {
		if os.Getenv(name) != "" && !proxied {
			d.add(finding{
				Check: "proxy", Level: levelWarn, Found: name + " is set, and Ringback does not use it: deliveries go out directly",
				Cure: "ringback serve --egress-proxy URL # or open the firewall for this machine, ports 443, 8443 and 80",
			})
			break
		}
	}
}

// checkEgress connects to raw's host through the guard that every delivery passes. The path of raw is not shown: it may hold a secret.
func checkEgress(ctx context.Context, door *egress.Client, raw string) finding {
	f := finding{Check: "egress", Level: levelFault}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		f.Found, f.Cure = "the URL of --egress-check is none", "write it like https://partner.example/"
		return f
	}
	if err := door.CheckURL(raw); err != nil {
		f.Found, f.Cure = fmt.Sprintf("%s: the URL %v", u.Host, err), allowance(ctx, u.Hostname())
		if errors.Is(err, egress.ErrNameNotAllowed) {
			f.Cure = "ringback serve --egress-allow-name " + u.Hostname() + " # if that host is one of yours"
		}
		return f
	}
	took, err := connect(ctx, door, raw)
	if err == nil {
		f.Level, f.Found = levelOK, fmt.Sprintf("%s: connected in %s", u.Host, took.Round(10*time.Microsecond))
		return f
	}
	f.Found = fmt.Sprintf("%s: %v", u.Host, err)
	trouble, ok := errors.AsType[*egress.Error](err)
	if !ok {
		return f
	}
	if trouble.Inside { // whoever runs doctor may know
		known := *trouble
		known.Reason, known.Detail = egress.Unmask(trouble.Reason, trouble.Detail)
		trouble, f.Found = &known, fmt.Sprintf("%s: %v", u.Host, &known)
	}
	host, port := hostPort(u)
	switch trouble.Reason {
	case egress.DNS:
		f.Cure = "getent hosts " + host + " # then look at /etc/resolv.conf: no name server knew the name, or none answered"
	case egress.BlockedAddress:
		f.Cure = allowance(ctx, host)
	case egress.EgressProxy:
		f.Cure = "let the proxy connect to that host; its log says why it did not"
	case egress.TLS:
		f.Cure = "openssl s_client -connect " + net.JoinHostPort(host, port) + " -servername " + host + " </dev/null # if others fail too: update-ca-certificates"
	default:
		f.Cure = "nc -vz " + host + " " + port + " # if other hosts fail too: open the firewall for this machine"
	}
	return f
}

// connect opens the connection that a request to raw would use, TLS included. It gives the request up before any of it is sent: a hook hears of
// the connection, cancels, and holds the connection back until Do has returned. The error is an *egress.Error.
func connect(ctx context.Context, door *egress.Client, raw string) (time.Duration, error) {
	begun, arrived, over := time.Now(), make(chan time.Duration, 1), make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	hold := func(err error) {
		if err != nil {
			return
		}
		select {
		case arrived <- time.Since(begun):
			cancel()
		default: // the second of two addresses that are tried side by side
		}
		<-over
	}
	hooks := &httptrace.ClientTrace{ConnectDone: func(_, _ string, err error) { hold(err) }}
	if strings.HasPrefix(strings.ToLower(raw), "https:") {
		hooks = &httptrace.ClientTrace{TLSHandshakeDone: func(_ tls.ConnectionState, err error) { hold(err) }}
	}
	_, err := door.Do(httptrace.WithClientTrace(ctx, hooks), egress.Request{URL: raw, Timeout: egressTimeout})
	close(over)
	select {
	case took := <-arrived:
		return took, nil
	default:
		return 0, err
	}
}

// hostPort is where a request to u goes.
func hostPort(u *url.URL) (host, port string) {
	port = u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[strings.ToLower(u.Scheme)]
	}
	return u.Hostname(), port
}

// allowance is the flag that lets deliveries reach a host that the guard keeps them from.
func allowance(ctx context.Context, host string) string {
	ctx, cancel := context.WithTimeout(ctx, egressTimeout)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(addrs) == 0 {
		return "ringback serve --egress-allow CIDR # if that host is one of yours"
	}
	addr := addrs[0].Unmap()
	return fmt.Sprintf("ringback serve --egress-allow %s # if that host is one of yours", netip.PrefixFrom(addr, addr.BitLen()))
}
