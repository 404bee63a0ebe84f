package registry

import (
	"maps"
	"slices"
	"strings"
)

// settable are the members that a client may give, in the order in which people are
// told of them. Beside them there may be a block that is named after the type.
var settable = []string{
	"callback_type", "destination", "description", "start_date", "headers", "auth", "tls", "success", "trace", "timeout", "retry", "rate_limit", "filter", "template",
	"header_style", "secret", "envelope", "body", "batch", "signature", "ordering",
}

// aliasOfType is the deprecated alias of callback_type.
const aliasOfType = "event_type"

// readOnly are the members of an answer that a client may only send back unchanged,
// each with what to do instead of changing it.
var readOnly = map[string]string{
	"callback_id":       "",
	"url":               ": the URL to call is destination.url",
	"created_at":        "",
	"updated_at":        "",
	"status":            ": use the callback's /pause and /resume",
	"status_at":         "",
	"disabled_reason":   ": use the callback's /resume to enable it",
	"unverified_reason": ": use the callback's /verify to have it challenged",
}

// health are members of an answer that tell what the deliveries do at that
// moment, whose the callback is in lists over all companies, and how long earlier secrets sign. They come from elsewhere, and in a patch they are passed over.
var health = []string{"pending", "held", "oldest_waiting_at", "dead", "last_success_at", "last_failure", "last_token_failure", "consecutive_failures", "breaker", "paused_until", "company", "secret_overlap_until"}

// memberNames are all members that a registration has, or an answer shows. No new
// callback type has such a name: a block of it could not be told from the member.
//
// A type may have been stored before its name became a member. It stays, and may be
// changed. In a registration for that type the name stands for the block. So callbacks
// of it keep their match, and cannot have the member.
func memberNames() []string {
	return slices.Concat(settable, []string{aliasOfType}, slices.Collect(maps.Keys(readOnly)), health)
}

// settableInWords names the members that a registration may have, for people.
func settableInWords() string {
	last := len(settable) - 1
	return settable[0] + ", a block named after the type, " + strings.Join(settable[1:last], ", ") + " and " + settable[last]
}
