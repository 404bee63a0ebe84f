package registry

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ringback/ringback/payloads"
)

// applyPatch applies a merge patch (RFC 7396) to the JSON of cb, and returns the
// callback that comes of it. cb is not changed. checkURL is [Config.CheckURL]. If the
// patch does not fit, the error says what does not.
func applyPatch(types *payloads.Catalogue, checkURL func(string) error, cb *Callback, mergePatch []byte) (*Callback, error) {
	if err := checkJSON(mergePatch); err != nil {
		return nil, err
	}
	patch, ok := parseAny(mergePatch).(map[string]any)
	if !ok {
		return nil, invalid("body", "must be an object with the members to change", nil)
	}
	if err := dropReadOnly(cb, patch); err != nil {
		return nil, err
	}
	if secret, given := patch["secret"]; given && secret == nil {
		return nil, invalid("body.secret", "cannot be taken away, for requests are always signed: give another, or have the callback's /secret make one", nil)
	}
	adoptNames(cb, patch)
	dropCertificateFacts(patch)
	dropShownKeys(patch)

	doc, err := cb.editable()
	if err != nil {
		return nil, err
	}
	whole := merge(parseAny(doc), patch)
	keepWhole(cb, whole, patch, mergePatch)
	merged, err := json.Marshal(whole)
	if err != nil {
		return nil, fmt.Errorf("registry: merge a patch: %w", err)
	}
	next, err := decode(types, checkURL, merged, cb)
	if err != nil {
		return nil, err
	}
	next.Company, next.ID, next.CreatedAt = cb.Company, cb.ID, cb.CreatedAt
	if !next.StartDateGiven {
		next.StartDate = cb.CreatedAt
	}
	return next, nil
}

// dropReadOnly removes the members from a patch that only repeat the callback: clients
// send back what they got. If a member would change the unchangeable, it is refused.
func dropReadOnly(cb *Callback, patch map[string]any) error {
	shown, err := cb.render("")
	if err != nil {
		return err
	}
	current, _ := parseAny(shown).(map[string]any)
	var fields []payloads.FieldError
	for _, name := range slices.Sorted(maps.Keys(readOnly)) {
		value, given := patch[name]
		if !given {
			continue
		}
		delete(patch, name)
		if old, ok := current[name]; !ok || !sameValue(old, value) {
			fields = append(fields, payloads.FieldError{Location: "body." + name, Message: "cannot be changed" + readOnly[name]})
		}
	}
	for _, name := range health {
		delete(patch, name)
	}
	if !cb.StartDateGiven && sameValue(current["start_date"], patch["start_date"]) {
		delete(patch, "start_date")
	}
	if len(fields) > 0 {
		return &payloads.InvalidError{Fields: fields}
	}
	return nil
}

// adoptNames spells names in a patch as the callback does. Two names mean the same if
// one is the alias of callback_type, or a header's name in another letter case.
func adoptNames(cb *Callback, patch map[string]any) {
	if alias := patch["event_type"]; alias != nil && patch["callback_type"] == nil {
		delete(patch, "event_type")
		patch["callback_type"] = alias
	}
	headers, _ := patch["headers"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		for known := range cb.Headers {
			if _, both := headers[known]; !both && strings.EqualFold(known, name) {
				headers[known] = headers[name]
				delete(headers, name)
			}
		}
	}
}

// merge is MergePatch of RFC 7396.
func merge(target, patch any) any {
	members, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	result, ok := target.(map[string]any)
	if !ok {
		result = map[string]any{}
	}
	for name, value := range members {
		if value == nil {
			delete(result, name)
		} else {
			result[name] = merge(result[name], value)
		}
	}
	return result
}

// sameValue reports whether two JSON scalars are the same, times by the instant.
func sameValue(a, b any) bool {
	switch a := a.(type) {
	case string:
		b, ok := b.(string)
		if !ok || a == b {
			return ok
		}
		at, errA := time.Parse(time.RFC3339, a)
		bt, errB := time.Parse(time.RFC3339, b)
		return errA == nil && errB == nil && at.Equal(bt)
	case json.Number:
		return a == b
	default:
		return false
	}
}
