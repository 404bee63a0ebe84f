package main

import (
	"cmp"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/client"
)

// tlsNames are the members of --tls. All but the last are PEM.
var tlsNames = []string{"client_certificate", "client_key", "ca", "server_name"}

// tlsFlag reads --tls. What it does not name stays as it is, and none takes all of it back.
func tlsFlag(c *cli.Context) (value any, given bool, err error) {
	_, parts, err := settingOf(c, "tls", noSetting)
	if err != nil || parts == nil {
		return nil, c.IsSet("tls"), err
	}
	unlike := always(usagef("--tls takes %s, each as NAME=VALUE, or none", strings.Join(tlsNames, ", ")))
	members, err := membersOf("tls", atNames(parts, tlsNames), tlsNames, unlike, func(name, source string) (any, error) {
		switch {
		case source == "":
			return nil, nil //nolint:nilnil // it is taken back
		case name == "server_name":
			return source, nil
		}
		return pemFrom(c, name, source)
	})
	return members, err == nil, err
}

// pemFrom reads PEM from where source says. PEM has lines, which no command line holds.
func pemFrom(c *cli.Context, name, source string) (string, error) {
	switch {
	case strings.HasPrefix(source, fromVariable):
		variable := strings.TrimPrefix(source, fromVariable)
		if text := os.Getenv(variable); text != "" {
			return text, nil
		}
		return "", usagef("--tls %s: the environment variable %s is not set", name, printable(variable))
	case strings.HasPrefix(source, fromFile):
		text, err := wholeText(c, strings.TrimPrefix(source, fromFile))
		if err != nil {
			return "", usagef("--tls %s: %v", name, err)
		}
		return string(text), nil
	}
	return "", usagef("--tls %s=… says where the PEM is: @FILE, @- for stdin, or env:VARIABLE", name)
}

// tlsPairs show who a callback's requests are in the TLS handshake, and whom they trust.
func tlsPairs(t *client.TLS, now time.Time) [][2]string {
	t = cmp.Or(t, new(client.TLS))
	certificate, trusts := "", ""
	if t.ClientCertificate != "" {
		certificate = t.Subject + ", of " + t.Issuer + "; " + t.Expiry(now) + "; SHA-256 " + t.Fingerprint
	}
	if t.CA != "" {
		trusts = "the callback's own authorities alone"
	}
	return [][2]string{{"client certificate", certificate}, {"trusts", trusts}, {"server name", t.ServerName}}
}
