package console

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/ringback/ringback/dispatcher/client"
)

// A callbackForm is a callback as a form has it, as it was sent, so that it can be mended.
type callbackForm struct {
	Pull     bool // nothing is sent, so nothing is asked about requests
	Act      *act
	Back     string
	New      bool
	Types    []string // that there are
	Settings map[string]string
	Methods  []choice
	Media    []choice
	Success  []choice
	Trouble  *trouble
}

// A setting is a field of the form, with the member of a registration that it stands for.
type setting struct {
	name string
	path []string // of the member
	json bool     // its text is JSON, such as a number
	drop bool     // if it is emptied, all that its path begins with goes
}

// settings are the fields of the form, but for the match. All else of a callback is set elsewhere, and stays as it is.
var settings = []setting{
	{name: "callback_type", path: []string{"callback_type"}},
	{name: "url", path: []string{"destination", "url"}},
	{name: "method", path: []string{"destination", "method"}},
	{name: "content_type", path: []string{"destination", "content_type"}},
	{name: "description", path: []string{"description"}},
	{name: "success", path: []string{"success"}},
	{name: "timeout", path: []string{"timeout"}},
	{name: "max_attempts", path: []string{"retry", "max_attempts"}, json: true},
	{name: "per_second", path: []string{"rate_limit", "per_second"}, json: true, drop: true},
}

// settingsOf are a callback's, as the form has them.
func settingsOf(cb *client.Callback) map[string]string {
	of := map[string]string{
		"callback_type": cb.CallbackType, "url": cb.Destination.URL, "method": cb.Destination.Method, "content_type": cb.Destination.ContentType,
		"description": cb.Description, "success": cb.Success, "timeout": cb.Timeout.String(), "max_attempts": strconv.Itoa(cb.Retry.MaxAttempts), "match": matchText(cb.Match),
	}
	if cb.RateLimit != nil {
		of["per_second"] = strconv.FormatFloat(cb.RateLimit.PerSecond, 'g', -1, 64)
	}
	return of
}

// matchText is what narrows a match, a line for each attribute.
func matchText(match map[string]string) string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(match)) {
		lines = append(lines, name+"="+match[name])
	}
	return strings.Join(lines, "\n")
}

// matchIn reads such lines.
func matchIn(text string) (map[string]any, error) {
	match := map[string]any{}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			return nil, &client.APIError{Status: http.StatusUnprocessableEntity, Detail: "the form cannot be read", Errors: []client.FieldErr{
				{Location: "match", Message: "must have a line for each attribute, such as campaign_token=r3zhm8"},
			}}
		}
		match[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	return match, nil
}

// formOf reads the form as it was sent.
func (v *visit) formOf() map[string]string {
	given := map[string]string{}
	for _, name := range append([]string{"match"}, names()...) {
		given[name] = sentText(v.r.PostForm.Get(name))
	}
	return given
}

// sentText is a text as a form gives it back, whatever it was: browsers end lines with CR LF.
func sentText(text string) string { return strings.TrimSpace(strings.ReplaceAll(text, "\r\n", "\n")) }

func names() []string {
	var all []string
	for _, s := range settings {
		all = append(all, s.name)
	}
	return all
}

// patchOf is the merge patch that leads from what a callback has to what the form says. It names what differs, and nothing else, so that what others change
// meanwhile stays. block is the name of the block that the callback's match has; "": it has none.
func patchOf(had, given map[string]string, block string) (map[string]any, error) {
	patch := map[string]any{}
	for _, s := range settings {
		if given[s.name] != sentText(had[s.name]) {
			s.set(patch, given[s.name])
		}
	}
	typed := given["callback_type"]
	if given["match"] == sentText(had["match"]) && typed == had["callback_type"] {
		return patch, nil
	}
	match, err := matchIn(given["match"])
	if err != nil {
		return nil, err
	}
	was, err := matchIn(had["match"])
	if err != nil {
		return nil, err
	}
	if block != "" {
		patch[block] = nil
	}
	if len(match) == 0 {
		return patch, nil
	}
	if typed == had["callback_type"] && block != "" {
		typed = block
	}
	for name := range was {
		if _, stays := match[name]; !stays && typed == block {
			match[name] = nil
		}
	}
	patch[typed] = match
	return patch, nil
}

// set puts what the form says of a setting into a patch. Nothing is the default.
func (s setting) set(patch map[string]any, text string) {
	var value any = text
	if s.json && json.Valid([]byte(text)) {
		value = json.RawMessage(text)
	}
	if text == "" {
		value = nil
	}
	path := s.path
	if text == "" && s.drop {
		path = path[:1]
	}
	for _, name := range path[:len(path)-1] {
		inner, ok := patch[name].(map[string]any)
		if !ok {
			inner = map[string]any{}
			patch[name] = inner
		}
		patch = inner
	}
	patch[path[len(path)-1]] = value
}

// form is a callback's form, with what it is filled in with.
func (v *visit) form(given map[string]string, f callbackForm, cause error) (callbackForm, int, error) {
	var list client.TypeList
	if err := v.get(&list, nil, "callback-types"); err != nil {
		return f, 0, err
	}
	for _, t := range list.CallbackTypes {
		f.Types = append(f.Types, t.Name)
	}
	f.Settings = given
	one := func(name string, values ...string) (choices []choice) {
		for _, value := range values {
			label := value
			if value == "" {
				label = "as its type says"
			}
			choices = append(choices, choice{name, value, strings.ReplaceAll(label, "_", " "), given[name] == value})
		}
		return choices
	}
	f.Methods = one("method", http.MethodPost, http.MethodPut, http.MethodPatch)
	f.Media = one("content_type", "application/json", "application/x-www-form-urlencoded")
	f.Success = one("success", "", "json_200_or_204", "any_2xx", "any_response")
	if cause == nil {
		return f, http.StatusOK, nil
	}
	t := troubleOf(cause)
	if t.Status == http.StatusNotFound || t.Status >= http.StatusInternalServerError || t.Status == http.StatusUnauthorized {
		return f, 0, cause
	}
	f.Trouble = &t
	return f, t.Status, nil
}

// newCallbackPage asks what to register, and registers it.
func newCallbackPage(v *visit) error {
	company := v.r.PathValue("company")
	given := map[string]string{"method": http.MethodPost, "content_type": "application/json", "callback_type": v.r.URL.Query().Get("type")}
	var cause error
	if v.r.Method == http.MethodPost {
		given = v.formOf()
		var made client.Callback
		var body map[string]any
		if body, cause = patchOf(nil, given, ""); cause == nil {
			cause = v.post(&made, body, "companies", company, "config", "callbacks")
		}
		if cause == nil {
			return v.showSecret(company, &made, "Callback "+strconv.FormatInt(made.CallbackID, 10)+" is registered")
		}
	}
	f, status, err := v.form(given, callbackForm{
		New: true, Act: v.act("Register", "primary", "companies", company, "new"), Back: v.path("companies", company),
	}, cause)
	if err != nil {
		return err
	}
	return v.show(sheet{template: "edit", status: status, title: "Register a callback", company: company, crumbs: v.above(company), main: f})
}

// editCallbackPage asks what to change of a callback, and changes it.
func editCallbackPage(v *visit) error {
	company, id, here := v.at()
	cb, err := v.callbackOf()
	if err != nil {
		return err
	}
	had := settingsOf(cb)
	given := had
	var cause error
	if v.r.Method == http.MethodPost {
		given = v.formOf()
		if cb.Destination.Pull {
			keepOfRequests(given, had)
		}
		var patch map[string]any
		if patch, cause = patchOf(had, given, cb.MatchBlock); cause == nil {
			cause = v.patch(nil, patch, "companies", company, "config", "callbacks", id)
		}
		if cause == nil {
			said := "Callback " + id + " is changed. A test says whether it works."
			if cb.Destination.Pull {
				said = "Callback " + id + " is changed."
			}
			return v.seen(said, here...)
		}
	}
	f, status, err := v.form(given, callbackForm{Pull: cb.Destination.Pull, Act: v.act("Save", "primary", append(here, "edit")...), Back: v.path(here...)}, cause)
	if err != nil {
		return err
	}
	return v.show(sheet{template: "edit", status: status, title: "Edit callback " + id, company: company, crumbs: v.above(company, link{v.path(here...), "callback " + id}), main: f})
}

// deleteCallbackPage asks whether to delete a callback, and does it.
func deleteCallbackPage(v *visit) error {
	company, id, here := v.at()
	if v.r.Method == http.MethodPost {
		if err := v.delete("companies", company, "config", "callbacks", id); err != nil {
			return err
		}
		return v.seen("Callback "+id+" is deleted.", "companies", company)
	}
	cb, err := v.callbackOf()
	if err != nil {
		return err
	}
	return v.show(sheet{template: "confirm", title: "Delete callback " + id + "?", company: company, crumbs: v.above(company, link{v.path(here...), "callback " + id}), main: confirmation{
		Says: []string{waiting(v, cb), "What waits for it is cancelled, and events reach it no more. Its secret is gone: a callback that is registered anew has another one."},
		Act:  v.act("Delete callback "+id, "danger", append(here, "delete")...), Back: v.path(here...), Facts: v.facts(company, cb),
	}})
}
