package httpapi

import (
	"strings"

	"github.com/ringback/ringback/registry"
)

// ifMatch is the header by which something is changed only if it is as the caller knows it. Empty: it is changed however it is.
type ifMatch string

// conditions are what the header asks for. What is not there has no ETag, and matches nothing.
func (m ifMatch) conditions() []registry.Condition {
	if m == "" {
		return nil
	}
	return []registry.Condition{func(etag string) bool { return etag != "" && m.names(etag) }}
}

// names reports whether the header names a tag. A weak tag matches nothing (RFC 9110, section 13.1.1).
func (m ifMatch) names(tag string) bool {
	for named := range strings.SplitSeq(string(m), ",") {
		if named = strings.TrimSpace(named); named == "*" || named == tag {
			return true
		}
	}
	return false
}
