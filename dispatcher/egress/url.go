package egress

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// maxURLLen bounds a registered URL, in bytes: browsers, proxies and log lines take that much without trouble.
const maxURLLen = 2048

// target is a URL taken apart: scheme + "://" + authority + path + ("?" + query). No byte is changed, but for an international host.
type target struct {
	scheme    string // lower case
	authority string // host[:port] as written, an international name in its xn-- form: the Host header, and what is dialled
	name      string // the host in lower case without brackets and trailing dot
	addr      netip.Addr
	port      uint16
	path      string // as written, and may be empty
	query     string
	hasQuery  bool
}

// parseTarget takes raw apart. It refuses a URL that is malformed or could not be sent as written. The rules are ours and not net/url's, which
// repairs, decodes and re-encodes. A fuzz test holds that the two agree on all URLs that both accept.
func parseTarget(raw string) (target, error) {
	if raw == "" {
		return target{}, errors.New("is missing: give the URL to call, like https://partner.example/hook")
	}
	if len(raw) > maxURLLen {
		return target{}, fmt.Errorf("is longer than %d bytes: shorten it", maxURLLen)
	}
	if strings.ContainsFunc(raw, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
		return target{}, errUnprintable
	}
	if strings.Contains(raw, "#") {
		return target{}, errors.New("may not have a fragment: remove the # and what follows")
	}
	scheme, rest, found := strings.Cut(raw, "://")
	t := target{scheme: strings.ToLower(scheme)}
	if !found || t.scheme != "https" && t.scheme != "http" {
		return target{}, errors.New("must be absolute: begin it with https:// or http://")
	}
	t.authority = rest
	if end := strings.IndexAny(rest, "/?"); end >= 0 {
		t.authority = rest[:end]
		t.path, t.query, t.hasQuery = strings.Cut(rest[end:], "?")
		if !isASCII(rest[end:]) {
			return target{}, errUnprintable
		}
	}
	if err := t.parseAuthority(); err != nil {
		return target{}, err
	}
	return t, t.checkPath()
}

var errUnprintable = errors.New("may only hold printable ASCII characters outside its host name: percent-encode others, as UTF-8")

// parseAuthority sets name, addr and port, and authority to its ASCII form.
func (t *target) parseAuthority() error {
	if strings.Contains(t.authority, "@") {
		return errors.New("may not hold a user name or password: use the auth field")
	}
	host, port, err := t.splitPort()
	if err != nil {
		return err
	}
	t.port = port
	if !isASCII(host) {
		mapped, err := asciiHost(host)
		if err != nil {
			return err
		}
		host, t.authority = mapped, mapped+t.authority[len(host):]
	}
	if host == "" {
		return errors.New("has no host: write https://partner.example/hook")
	}
	if strings.HasPrefix(host, "[") {
		addr, err := netip.ParseAddr(strings.TrimSuffix(host[1:], "]"))
		if err != nil || !addr.Is6() || addr.Zone() != "" || !strings.HasSuffix(host, "]") {
			return errors.New("has a malformed IPv6 address as its host: use a host name")
		}
		t.addr = addr
		return nil
	}
	if addr, err := netip.ParseAddr(host); err == nil && addr.Is4() {
		t.addr = addr
		return nil
	}
	t.name = strings.ToLower(strings.TrimSuffix(host, "."))
	return checkName(t.name)
}

// splitPort splits the authority into host and port. If no port is given, it is the scheme's.
func (t *target) splitPort() (host string, port uint16, err error) {
	colon := strings.LastIndexByte(t.authority, ':')
	if colon < 0 || strings.HasSuffix(t.authority, "]") {
		if t.scheme == "https" {
			return t.authority, 443, nil
		}
		return t.authority, 80, nil
	}
	digits := t.authority[colon+1:]
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || n == 0 || digits[0] == '0' || digits[0] == '+' {
		return "", 0, errors.New("has a malformed port: write it like :8443 or leave it out")
	}
	return t.authority[:colon], uint16(n), nil
}

// checkPath refuses a path that is malformed or would be re-encoded on its way to the wire.
func (t *target) checkPath() error {
	for i := range len(t.path) {
		if t.path[i] == '%' && (i+2 >= len(t.path) || !isHex(t.path[i+1]) || !isHex(t.path[i+2])) {
			return errors.New("has a % in its path without two hex digits after it: write %25 for a literal %")
		}
	}
	if u := t.url(); u.Opaque == "" && u.EscapedPath() != t.path {
		return errors.New("begins its path with // and holds characters there that must be percent-encoded: encode them, or use a single slash")
	}
	return nil
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// WireURL returns a URL as its receiver sees it: an international host in its xn-- form, / for an empty path, and all else byte for byte. The error is one of
// [Client.CheckURL].
func WireURL(raw string) (string, error) {
	t, err := parseTarget(raw)
	if err != nil {
		return "", err
	}
	target := cmp.Or(t.path, "/")
	if t.hasQuery {
		target += "?" + t.query
	}
	return t.scheme + "://" + t.authority + target, nil
}

// host returns the authority without a port.
func (t *target) host() string {
	colon := strings.LastIndexByte(t.authority, ':')
	if colon < 0 || strings.HasSuffix(t.authority, "]") {
		return t.authority
	}
	return t.authority[:colon]
}

// url returns t as net/http sends it unchanged. Opaque goes out as it is, but net/http would take one that begins with // for an absolute URL.
// Such a path goes through Path and RawPath, and checkPath made sure that it comes out the same. An empty path is sent as /, as HTTP demands.
func (t *target) url() *url.URL {
	u := &url.URL{Scheme: t.scheme, Host: t.authority, RawQuery: t.query, ForceQuery: t.hasQuery}
	if !strings.HasPrefix(t.path, "//") {
		u.Opaque = t.path
		return u
	}
	if path, err := url.PathUnescape(t.path); err == nil {
		u.Path, u.RawPath = path, t.path
	}
	return u
}
