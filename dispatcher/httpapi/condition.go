package httpapi

import (
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/registry"
)

// ifMatch is the header by which something is changed only if it is as the caller knows it. Empty: there is none, and it is changed however it is.
type ifMatch string

// Resolve implements [huma.Resolver]: it reads all lines of the header, of which huma has read the first. A comma stands before each, so that a header that names
// nothing is one, too.
func (m *ifMatch) Resolve(ctx huma.Context) []error {
	*m = ""
	ctx.EachHeader(func(name, value string) {
		if name == "If-Match" {
			*m += "," + ifMatch(value)
		}
	})
	return nil
}

// conditions are what the header asks for. What is not there has no ETag, and matches nothing.
func (m ifMatch) conditions() []registry.Condition {
	if m == "" {
		return nil
	}
	return []registry.Condition{func(etag string) bool { return etag != "" && m.names(etag) }}
}

// names reports whether the header names a tag, or is a *, which stands alone. A weak tag matches nothing (RFC 9110, section 13.1.1).
func (m ifMatch) names(tag string) bool {
	if strings.Trim(string(m), ", ") == "*" {
		return true
	}
	for named := range strings.SplitSeq(string(m), ",") {
		if strings.TrimSpace(named) == tag {
			return true
		}
	}
	return false
}
