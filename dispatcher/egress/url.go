package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// maxURLLen bounds a registered URL, in bytes: what browsers, proxies and log lines take without trouble.
const maxURLLen = 2048

// CheckURL says whether a callback may be registered with this URL: nil, or an error whose text tells the partner what to write instead.
// The text never repeats the URL.
//
// It looks no name up: where a name leads is judged on every connection. It wants
//
//   - an absolute http or https URL of at most 2048 bytes, without user info, fragment or whitespace, and in printable ASCII but for the host;
//   - no literal address as its host, unless [Config.Allow] covers it. localhost counts as 127.0.0.1;
//   - no host name of an internal network (.internal, .local, .svc and the like, a name without a dot), unless [Config.AllowNames] lets it
//     through; the error is then [ErrNameNotAllowed]. An international name is judged, and looked up, as the xn-- form that IDNA (UTS 46)
//     maps it to;
//   - port 80, 443 or 8443, unless the host is such an allowed one;
//   - a path that [Client.Do] can put on the wire byte for byte.
func (c *Client) CheckURL(raw string) error {
	t, err := parseTarget(raw)
	if err != nil {
		return err
	}
	return c.guard.checkTarget(t)
}

// target is a URL taken apart without changing a byte, but for an international host: scheme + "://" + authority + path + ("?" + query).
type target struct {
	scheme    string // lower case
	authority string // host[:port] as written, an international name in its xn-- form: the Host header, and what is dialled
	name      string // the host in lower case without brackets and trailing dot
	addr      netip.Addr
	port      uint16
	path      string // as written; may be empty
	query     string
	hasQuery  bool
}

// parseTarget takes raw apart and refuses what is malformed or could not be sent as written. The rules are ours and not net/url's, which
// repairs, decodes and re-encodes; a fuzz test holds that the two agree on what both accept.
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

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c >= utf8.RuneSelf })
}

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

// asciiHost maps an international host name to what is looked up. Much of Unicode maps to plain letters, digits and dots (ⓛ, １, 。) or to
// nothing at all, so whatever judges a host must see only what comes out of here.
func asciiHost(host string) (string, error) {
	mapped, err := idna.Lookup.ToASCII(host)
	if err != nil || !utf8.ValidString(host) { // idna takes stray bytes for U+FFFD
		return "", errors.New("has an international host name that IDNA does not allow: write the xn-- form of the name that is registered")
	}
	return mapped, nil
}

// splitPort splits the authority into host and port; the scheme's port if none is given.
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

// checkName refuses what is no host name in DNS, and the spellings of an address that some resolvers take (2130706433, 0x7f.1, 127.1).
func checkName(name string) error {
	if len(name) > 253 {
		return errors.New("has a malformed host name: it is longer than 253 characters")
	}
	last := ""
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || strings.Trim(label, nameChars) != "" {
			return errors.New("has a malformed host name: use letters, digits, hyphens and single dots, like partner.example")
		}
		last = label
	}
	if strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x") && strings.Trim(last[2:], "0123456789abcdef") == "" {
		return errors.New("may not have a number as its host: use a host name")
	}
	return nil
}

// nameChars are the characters of a host name in lower case. The underscore is not one by RFC 1123, but real hosts have it.
const nameChars = "abcdefghijklmnopqrstuvwxyz0123456789-_"

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

// host returns the authority without a port.
func (t *target) host() string {
	colon := strings.LastIndexByte(t.authority, ':')
	if colon < 0 || strings.HasSuffix(t.authority, "]") {
		return t.authority
	}
	return t.authority[:colon]
}

// url returns t as net/http sends it unchanged. Opaque goes out as it is, except that one beginning with // would be taken for an
// absolute URL; such a path goes through Path and RawPath, which checkPath made sure come out the same. An empty path is sent as /, as HTTP demands.
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

// ErrNameNotAllowed says that a URL is sound, but that its host name is one of an internal network that the operator did not allow.
var ErrNameNotAllowed = errors.New("has the host name of an internal network: use one that is reachable from outside (an operator can allow the name)")

// internalSuffixes are the endings of names that only an internal network answers for: RFC 6761, 6762, 7686, 9476, ICANN's .internal, all of
// .arpa (addresses turned round, and RFC 8375's home.arpa), those of Kubernetes and Consul, and those in common use without anybody's leave.
var internalSuffixes = []string{
	".local", ".localdomain", ".internal", ".intranet", ".lan", ".corp", ".home", ".private", ".arpa", ".svc", ".consul", ".onion", ".alt",
}

// metadataNames lead to a cloud's credentials; nothing opens them.
var metadataNames = []string{"metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal", "metadata.azure.internal"}

// checkTarget is the policy for a well-formed URL: may this host be registered, and with this port?
func (g *guard) checkTarget(t target) error {
	switch {
	case t.addr.IsValid():
		if g.allows(t.addr) {
			return nil
		}
		return errors.New("may not have an address as its host: use a host name (an operator can allow addresses)")
	case t.name == "localhost" || strings.HasSuffix(t.name, ".localhost"):
		if g.allows(netip.AddrFrom4([4]byte{127, 0, 0, 1})) {
			return nil
		}
		return errors.New("may not lead to localhost: use a host name that is reachable from outside (an operator can allow local addresses)")
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

// isInternal reports whether name can only mean a host of an internal network.
func isInternal(name string) bool {
	if !strings.Contains(name, ".") || slices.Contains(metadataNames, name) {
		return true
	}
	return slices.ContainsFunc(internalSuffixes, func(suffix string) bool { return strings.HasSuffix(name, suffix) })
}
