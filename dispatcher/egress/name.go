package egress

import (
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// CheckAllowName returns nil if name may stand in [Config.AllowNames]. Otherwise it returns an error whose text follows on the name.
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

// ErrNameNotAllowed says that a URL is sound, but that its host name is one of an internal network that the operator did not allow.
var ErrNameNotAllowed = errors.New("has the host name of an internal network: use one that is reachable from outside (" + mayAllowName + ")")

// internalSuffixes are the endings of names that only an internal network answers for. They come from RFC 6761, 6762, 7686 and 9476, from ICANN
// (.internal), Kubernetes and Consul, and from common use without anybody's leave. .arpa is there for addresses turned round, and for RFC 8375's
// home.arpa.
var internalSuffixes = []string{
	".local", ".localdomain", ".internal", ".intranet", ".lan", ".corp", ".home", ".private", ".arpa", ".svc", ".consul", ".onion", ".alt",
}

// metadataNames lead to a cloud's credentials; nothing opens them.
var metadataNames = []string{"metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal", "metadata.azure.internal"}

// isInternal reports whether name can only mean a host of an internal network.
func isInternal(name string) bool {
	if !strings.Contains(name, ".") || slices.Contains(metadataNames, name) {
		return true
	}
	return slices.ContainsFunc(internalSuffixes, func(suffix string) bool { return strings.HasSuffix(name, suffix) })
}

// checkName refuses a name that cannot be a host's in DNS, and the spellings of an address that some resolvers take (2130706433, 0x7f.1, 127.1).
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

// asciiHost maps an international host name to the name that is looked up. Much of Unicode maps to plain letters, digits and dots (ⓛ, １, 。) or
// to nothing at all, so all judgements of a host must be about the result.
func asciiHost(host string) (string, error) {
	mapped, err := idna.Lookup.ToASCII(host)
	if err != nil || !utf8.ValidString(host) { // idna takes stray bytes for U+FFFD
		return "", errors.New("has an international host name that IDNA does not allow: write the xn-- form of the name that is registered")
	}
	return mapped, nil
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c >= utf8.RuneSelf })
}
