package httpapi

import (
	"net/http"
	"strings"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// ifMatch is the header by which something is changed only if it is as the caller knows it. Empty: it is changed however it is.
type ifMatch string

// errChanged and errTypeChanged refuse a change of what is no longer as the caller knows it.
var (
	errChanged     = &refusal{status: http.StatusPreconditionFailed, detail: "the callback was changed meanwhile, and its ETag is none that If-Match names: get it as it is now, and decide again"}
	errTypeChanged = &refusal{status: http.StatusPreconditionFailed, detail: "the callback type is not there, or was changed meanwhile, and its ETag is none that If-Match names: get it as it is now, and decide again"}
)

// conditions are what the header asks for.
func (m ifMatch) conditions() []registry.Condition {
	if m == "" {
		return nil
	}
	return []registry.Condition{func(cb *registry.Callback) error {
		if m.names(cb.ETag()) {
			return nil
		}
		return errChanged
	}}
}

// typeConditions are conditions for a callback type. What is not there matches nothing.
func (m ifMatch) typeConditions() []registry.TypeCondition {
	if m == "" {
		return nil
	}
	return []registry.TypeCondition{func(t *payloads.Type) bool { return t != nil && m.names(registry.TypeETag(t)) }}
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
