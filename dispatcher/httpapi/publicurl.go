package httpapi

import (
	"errors"
	"net/url"
	"strings"
)

// errPublicURL says what an installation's address has to look like.
var errPublicURL = errors.New("must be the scheme and host that people reach this installation at, such as https://ringback.example.com")

// PublicURL checks the address that people reach an installation's pages at, and returns it without a slash at its end. It has no path: the pages'
// cookies and links are for the whole host.
func PublicURL(text string) (string, error) {
	u, err := url.Parse(strings.TrimSuffix(text, "/"))
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(text, "#") {
		return "", errPublicURL // the address itself is not repeated: it may hold a password
	}
	return u.String(), nil
}
