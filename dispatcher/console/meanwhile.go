package console

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher/client"
)

// The names of two hidden fields. One holds the version of the callback that the form was filled from, the other a print of each setting.
const (
	versionField = "version"
	printsField  = "prints"
)

// formVersion is the version that the form was filled from. A form of a version before has none.
func (v *visit) formVersion() string { return v.r.PostForm.Get(versionField) }

// overtaken reports whether the API has not done something because somebody changed the callback meanwhile.
func overtaken(err error) bool {
	e, ok := errors.AsType[*client.APIError](err)
	return ok && e.Status == http.StatusPreconditionFailed
}

// overtook says that somebody changed a callback while another had a form about it.
func overtook(cb *client.Callback, more string) string {
	return "Somebody changed this callback meanwhile, at " + cb.UpdatedAt.UTC().Format(time.RFC3339) + ". " + more
}

// decideAgain is the error of a question about a callback that somebody changed meanwhile.
func decideAgain(cb *client.Callback, more string) error {
	return &client.APIError{Status: http.StatusPreconditionFailed, Detail: overtook(cb, more)}
}

// A meanwhile is what somebody changed while another had the form.
type meanwhile struct {
	Says  string
	Links []link // to the fields
	Anew  string // where the form is filled in with what is there now
	Focus bool
}

// A changed is how a setting was changed while somebody had the form, as its field says it.
type changed struct {
	Says string
	Text string // what is there now, where that has lines; empty: the sentence has it
}

// printOf tells a setting's text from another one.
func printOf(text string) string {
	sum := sha256.Sum256([]byte(sentText(text)))
	return base64.RawURLEncoding.EncodeToString(sum[:9])
}

// prints are those of all settings. By them it is known later what somebody changed, and whether it was who has the form or another.
func prints(of map[string]string) string {
	all := url.Values{}
	for _, s := range settings {
		all.Set(s.name, printOf(of[s.name]))
	}
	return all.Encode()
}

// changed says how a setting was changed. typed reports whether whoever has the form changed it, too.
func (s setting) changed(now, sent string, typed bool) *changed {
	lines := func(text string) bool { return strings.Contains(text, "\n") }
	switch {
	case typed && lines(now):
		return &changed{"Somebody changed this meanwhile. What is there now stands below.", now}
	case typed:
		return &changed{"Somebody changed this meanwhile. It is now " + s.words(now) + ".", ""}
	case lines(sent):
		return &changed{"Somebody changed this meanwhile, to what stands here.", ""}
	}
	return &changed{"Somebody changed this meanwhile. It was " + s.words(sent) + ", and is now what stands here.", ""}
}

// words are what a text of one line says of a setting.
func (s setting) words(text string) string {
	at := slices.IndexFunc(s.options, func(o option) bool { return o.value == text })
	switch {
	case s.kind == ofFlag, s.kind == ofPart:
		if text == "" {
			return "off"
		}
		return "on"
	case at >= 0:
		return "“" + s.options[at].label + "”"
	case text == "":
		return "empty"
	case strings.Contains(text, "`"):
		return "“" + text + "”"
	}
	return "`" + text + "`"
}
