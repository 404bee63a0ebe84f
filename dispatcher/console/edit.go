package console

import (
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/ringback/ringback/dispatcher/client"
)

// A callbackForm is a callback as a form has it, as it was sent, so that it can be mended.
type callbackForm struct {
	New, Pull bool // Pull: nothing is sent, so nothing is asked about requests
	Act       *act
	Back      string
	Other     string   // the form for a callback that is fetched; empty: it is this one, or none
	Types     []string // that there are
	Parts     []fieldset
	Try       fieldset
	Tried     *client.DryRunResult // what an event would meet; nil: nobody asked
	Trouble   *trouble

	Version, Prints string              // of the callback that it is filled from; empty: it is a new one
	Meanwhile       *meanwhile          // what somebody changed of that; nil: nothing
	Changed         map[string]*changed // by setting

	block string // the name that the match has in a registration
	told  bool   // that the secret is forgotten
}

// samples are the fields of what a callback is tried on.
var samples = []setting{
	{name: "sample_type", id: "e-sample-type", label: "Type of the event", kind: ofText, path: []string{"event_type"}, sample: "the callback’s"},
	{name: "sample", id: "e-sample", label: "Payload", kind: ofJSON, path: []string{"payload"}, hint: "Empty: the example of its type."},
}

// shows reports whether the form has a setting.
func (f *callbackForm) shows(s setting) bool {
	return (f.New || !s.atFirst) && (!f.Pull || !s.requests)
}

// sent reads the form as it was sent. What it did not have is as it was: an older version of the form has fewer fields.
func (v *visit) sent(f *callbackForm, had map[string]string) map[string]string {
	given := map[string]string{}
	for _, s := range slices.Concat(settings, samples) {
		given[s.name] = sentText(had[s.name])
		if texts := v.r.PostForm[s.name]; f.shows(s) && len(texts) > 0 {
			given[s.name] = sentText(texts[len(texts)-1]) // a box that is not ticked sends what stands before it
		}
	}
	return given
}

// fill fills the form in, and says what was wrong with it.
func (v *visit) fill(f *callbackForm, given map[string]string, cause error) (status int, err error) {
	var list client.TypeList
	if err := v.get(&list, nil, "callback-types"); err != nil {
		return 0, err
	}
	for _, t := range list.CallbackTypes {
		f.Types = append(f.Types, t.Name)
		if f.Tried != nil && t.Name == f.Tried.EventType && given["sample"] == "" {
			given["sample"] = indented(t.Example)
		}
	}
	if status = http.StatusOK; f.Meanwhile != nil && f.Tried == nil {
		status = http.StatusPreconditionFailed
	}
	var faults []client.FieldErr
	if cause != nil {
		t := troubleOf(cause)
		if t.Status == http.StatusNotFound || t.Status >= http.StatusInternalServerError || t.Status == http.StatusUnauthorized {
			return 0, cause
		}
		if refused, ok := errors.AsType[*client.APIError](cause); ok {
			faults = refused.Errors
		}
		f.Trouble, status = &t, t.Status
	}
	v.lay(f, given, faults)
	if len(v.embed) == 0 && f.Tried == nil { // what was tried is gone to
		f.focus()
	}
	return status, nil
}

// focus has the first thing to look at take the focus.
func (f *callbackForm) focus() {
	if f.Meanwhile != nil {
		f.Meanwhile.Focus = true
		return
	}
	for _, set := range append(slices.Clone(f.Parts), f.Try) {
		if focused(set.Fields) {
			return
		}
	}
	if f.Trouble != nil {
		f.Trouble.Focus = true
	}
}

// lay makes the fields of a form. A part is open if something of it is set or wrong.
func (v *visit) lay(f *callbackForm, given map[string]string, faults []client.FieldErr) {
	marks := marked(slices.Concat(settings, samples), faults, f.block)
	next := 0
	laid := func(p part) fieldset {
		set := fieldset{Summary: p.summary, Open: p.summary == "More" && !f.New}
		for _, s := range p.settings {
			at := s.field(given[s.name])
			at.Faults, at.Changed = marks[next], f.Changed[s.name]
			at = v.retyped(s, at, f.told)
			if next++; !f.shows(s) {
				continue
			}
			set.Fields = append(set.Fields, at)
			set.Open = set.Open || at.Faults != nil || at.Changed != nil || given[s.name] != unset[s.name]
		}
		return set
	}
	for _, p := range parts {
		if set := laid(p); set.Fields != nil {
			f.Parts = append(f.Parts, set)
		}
	}
	f.Try = laid(part{"Try it first", samples})
	f.Try.Open = f.Try.Open || f.Tried != nil
}

// try asks what an event would meet at a callback, which is a registration or a patch of one. Nothing is sent, and nothing is kept.
func (v *visit) try(callback map[string]any, given map[string]string, segments ...string) (*client.DryRunResult, error) {
	q := map[string]any{"callback": callback}
	for _, s := range samples {
		if given[s.name] == "" {
			continue
		}
		value, err := s.value(given[s.name])
		if err != nil {
			return nil, misread(s.fault(err.Error()))
		}
		s.put(q, value)
	}
	result := &client.DryRunResult{}
	err := v.post(result, q, append(segments, "dry-run")...)
	if err == nil {
		return result, nil
	}
	if refused, ok := errors.AsType[*client.APIError](err); ok { // a form has no callback around its fields
		refused.Detail = strings.ReplaceAll(refused.Detail, "body.callback.", "body.")
		for i := range refused.Errors {
			refused.Errors[i].Location = strings.Replace(refused.Errors[i].Location, "body.callback.", "body.", 1)
		}
	}
	return nil, err
}

// newCallbackPage asks what to register, and registers it.
func newCallbackPage(v *visit) error {
	company := v.r.PathValue("company")
	api := []string{"companies", company, "config", "callbacks"}
	f := callbackForm{New: true, Act: v.act("Register", "primary", "companies", company, "new"), Back: v.path("companies", company)}
	if f.Pull = v.r.URL.Query().Has("pull") || v.r.PostForm.Has("pull"); !f.Pull {
		f.Other = f.Act.Href + "?pull"
	}
	given := maps.Clone(unset)
	given["callback_type"] = v.r.URL.Query().Get("type")
	var cause error
	if v.r.Method == http.MethodPost {
		given = v.sent(&f, unset)
		var made client.Callback
		var body map[string]any
		body, cause = patchOf(unset, given, "")
		if cause == nil && f.Pull {
			body["destination"] = map[string]bool{"pull": true}
		}
		switch {
		case cause != nil:
		case v.tries():
			f.Tried, cause = v.try(body, given, api...)
		default:
			if cause = v.forgotten(settingOf("secret")); cause != nil {
				f.told = true
				break
			}
			if cause = v.post(&made, body, api...); cause == nil {
				return v.registered(company, &made)
			}
		}
	}
	f.block = given["callback_type"]
	status, err := v.fill(&f, given, cause)
	if err != nil {
		return err
	}
	title := "Register a callback"
	if f.Pull {
		title = "Register a callback that you fetch from"
	}
	return v.show(sheet{template: "edit", status: status, title: title, company: company, crumbs: v.above(company), main: f})
}

// registered leads on from a callback's registration. A secret that was made is shown.
func (v *visit) registered(company string, made *client.Callback) error {
	id := strconv.FormatInt(made.CallbackID, 10)
	said := "Callback " + id + " is registered."
	switch {
	case made.Destination.Pull:
		return v.seen(said+" What is for it waits until you fetch it.", "companies", company, "callbacks", id)
	case made.Secret == "":
		return v.seen(said+" Its requests are signed with the secret that you gave. A test says whether it works.", "companies", company, "callbacks", id)
	}
	return v.showSecret(company, made, strings.TrimSuffix(said, "."))
}

// editCallbackPage asks what to change of a callback, and changes it.
func editCallbackPage(v *visit) error {
	company, id, here := v.at()
	api := []string{"companies", company, "config", "callbacks", id}
	cb, version, err := v.versionOf()
	if err != nil {
		return err
	}
	f := callbackForm{Version: version, Pull: cb.Destination.Pull, Act: v.act("Save", "primary", append(here, "edit")...), Back: v.path(here...)}
	had := settingsOf(cb)
	f.Prints = prints(had)
	given := had
	var cause error
	if v.r.Method == http.MethodPost {
		given = v.sent(&f, had)
		v.overtake(&f, cb, had, given)
		var patch map[string]any
		patch, cause = patchOf(had, given, cb.MatchBlock)
		switch {
		case cause != nil:
		case v.tries():
			f.Tried, cause = v.try(patch, given, api...)
		case f.Meanwhile != nil: // whoever sent it sees that first
		default:
			if cause = v.change(http.MethodPatch, version, nil, patch, api...); cause == nil {
				return v.changed(cb, here)
			}
			if overtaken(cause) { // since this page asked
				return editCallbackPage(v)
			}
		}
	}
	if f.block = given["callback_type"]; cb.MatchBlock != "" && given["callback_type"] == cb.CallbackType {
		f.block = cb.MatchBlock
	}
	status, err := v.fill(&f, given, cause)
	if err != nil {
		return err
	}
	return v.show(sheet{template: "edit", status: status, title: "Edit callback " + id, company: company, crumbs: v.above(company, link{v.path(here...), "callback " + id}), main: f})
}

// overtake notes what somebody changed since the form was filled from the callback. What whoever sent it has not touched becomes what is there now.
func (v *visit) overtake(f *callbackForm, cb *client.Callback, had, given map[string]string) {
	if v.formVersion() == "" || v.formVersion() == f.Version {
		return
	}
	were, _ := url.ParseQuery(v.r.PostForm.Get(printsField)) // what cannot be read tells nothing apart, and all that differs was changed
	m := meanwhile{Anew: f.Act.Href}
	f.Changed = map[string]*changed{}
	for _, s := range settings {
		now, sent, was := sentText(had[s.name]), given[s.name], were.Get(s.name)
		if !f.shows(s) || now == sent || was == printOf(now) {
			continue
		}
		f.Changed[s.name] = s.changed(now, sent, was != printOf(sent))
		if was == printOf(sent) {
			given[s.name] = now
		}
		m.Links = append(m.Links, link{"#" + s.id, strings.TrimSuffix(s.label, " (optional)")})
	}
	if m.Links == nil {
		return // whatever was changed is none of the form's, and stays
	}
	m.Says = overtook(cb, "Nothing is saved yet. What you changed stands here as you typed it, and all else as it is now.")
	f.Meanwhile = &m
}

// changed leads on from a change of a callback.
func (v *visit) changed(cb *client.Callback, here []string) error {
	said := "Callback " + strconv.FormatInt(cb.CallbackID, 10) + " is changed."
	if !cb.Destination.Pull {
		said += " A test says whether it works."
	}
	return v.seen(said, here...)
}
