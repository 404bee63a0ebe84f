package console

import (
	"net/url"
)

// livePage passes on a company's deliveries as they happen, for the script of a page that lists them. The answer is the API's own, bit by bit: it
// ends as the API's does.
func livePage(v *visit) error {
	query := url.Values{}
	for _, name := range []string{"callback_id", "event_type"} {
		if value := v.r.URL.Query().Get(name); value != "" {
			query.Set(name, value)
		}
	}
	r, err := request(v.r.Context(), v.r, question{method: v.r.Method, path: route("companies", v.r.PathValue("company"), "deliveries", "stream"), query: query})
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "text/event-stream")
	if at := v.r.Header.Get("Last-Event-ID"); at != "" {
		r.Header.Set("Last-Event-ID", at)
	}
	v.api.ServeHTTP(v.w, r)
	return nil
}
