package registry

// readOnly are the members of an answer that a client may only send back unchanged,
// each with what to do instead of changing it.
var readOnly = map[string]string{ //nolint:gosec // names of members, one of which is "secret"
	"callback_id":       "",
	"url":               ": the URL to call is destination.url",
	"created_at":        "",
	"updated_at":        "",
	"status":            ": use the callback's /pause and /resume",
	"status_at":         "",
	"disabled_reason":   ": use the callback's /resume to enable it",
	"unverified_reason": ": use the callback's /verify to have it challenged",
	"secret":            ": it is made on creation, and anew by the callback's /secret",
}

// health are members of an answer that tell what the deliveries do at that
// moment. They come from elsewhere, and in a patch they are passed over.
var health = []string{"pending", "held", "oldest_waiting_at", "dead", "last_success_at", "last_failure", "last_token_failure", "consecutive_failures", "breaker", "paused_until"}

// memberNames are the members that a registration has, or an answer shows.
func memberNames() []string {
	names := []string{
		"callback_type", "event_type", "destination", "description", "start_date", "headers", "auth", "success", "trace", "timeout", "retry",
	}
	for name := range readOnly {
		names = append(names, name)
	}
	return append(names, health...)
}
