package main

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/ringback/ringback/dispatcher/httpapi"
)

// deskOnly keeps strangers' web pages out of dev, whose key everybody knows. A page that somebody at the desk looks at may call any address, and
// may have its own name point here (DNS rebinding). So a request must name this machine, or the address that dev listens on. A request that
// changes something must not come from another site's page.
func deskOnly(listen string, next http.Handler) http.Handler {
	sameOrigin := http.NewCrossOriginProtection()
	sameOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		httpapi.Problem(w, http.StatusForbidden, "this was sent from another site's page, and ringback dev takes it from its own only")
	}))
	next = sameOrigin.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		if !isDesk(r.Host, listen, local) {
			httpapi.Problem(w, http.StatusForbidden, "ringback dev answers to localhost, 127.0.0.1 and what --listen names, and this came for another Host: call it by one of those")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isDesk reports whether host, as a request names it, is this machine: by a name of loopback, by the address that it came in at, or by
// what --listen says.
func isDesk(host, listen string, local net.Addr) bool {
	name := hostname(host)
	if name == "localhost" || strings.HasSuffix(name, ".localhost") || name != "" && name == hostname(listen) {
		return true
	}
	addr, err := netip.ParseAddr(name)
	if err != nil {
		return false
	}
	tcp, ok := local.(*net.TCPAddr)
	return addr.IsLoopback() || ok && tcp.AddrPort().Addr().Unmap() == addr.Unmap()
}

// hostname is a host without port, brackets, the final dot and upper case.
func hostname(hostport string) string {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
