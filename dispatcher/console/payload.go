package console

import (
	"bytes"
	"net/http"
	"unicode/utf8"
)

// maxShown is how long a payload may be that a page shows: longer ones are files.
const maxShown = 32 << 10

// A payload is what an event was sent with, as a page shows it.
type payload struct {
	Text string // empty: it is too long, or no text
	Size int
	Gone string // why there is none
	File string // where it is a file
}

// payloadOf asks for an event's payload, for those who may see it.
func (v *visit) payloadOf(company, event string) (*payload, error) {
	p := &payload{File: v.path("companies", company, "events", event, "payload")}
	got, err := v.raw("companies", company, "events", event, "payload")
	switch t := troubleOf(err); {
	case err != nil && (t.Status == http.StatusGone || t.Status == http.StatusNotFound):
		p.Gone, p.File = t.Says, ""
		return p, nil
	case err != nil && t.Status == http.StatusForbidden:
		return nil, nil //nolint:nilnil // there is nothing to show to this caller, and that is no error
	case err != nil:
		return nil, err
	}
	b := got.body.Bytes()
	p.Size = len(b)
	if len(b) <= maxShown && utf8.Valid(b) {
		p.Text = string(bytes.TrimSpace(b))
	}
	return p, nil
}

// payloadPage passes an event's payload on, as a file.
func payloadPage(v *visit) error {
	company, event := v.r.PathValue("company"), v.r.PathValue("event")
	got, err := v.raw("companies", company, "events", event, "payload")
	if err != nil {
		return err
	}
	for _, name := range []string{"Content-Type", "Content-Disposition", "Repr-Digest"} {
		v.w.Header()[name] = got.header[name]
	}
	_, _ = v.w.Write(got.body.Bytes())
	return nil
}
