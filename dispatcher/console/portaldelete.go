package console

import "net/http"

// deleteCallbackPage asks whether to delete a callback, and does it.
func deleteCallbackPage(v *visit) error {
	company, id, here := v.at()
	var cause error
	if v.r.Method == http.MethodPost {
		if cause = v.change(http.MethodDelete, v.formVersion(), nil, nil, "companies", company, "config", "callbacks", id); cause == nil {
			return v.seen("Callback "+id+" is deleted.", "companies", company)
		}
		if !overtaken(cause) {
			return cause
		}
	}
	cb, version, err := v.versionOf()
	if err != nil {
		return err
	}
	if cause != nil {
		cause = decideAgain(cb, "Nothing was done. Look at what it is now, and decide again.")
	}
	c := confirmation{
		Says: []string{waiting(v, cb), "What waits for it is cancelled, and events reach it no more. Its secret is gone: a callback that is registered anew has another one."},
		Act:  v.act("Delete callback "+id, "danger", append(here, "delete")...), Back: v.path(here...), Facts: v.facts(company, cb),
	}
	return v.again(c.asVersion(version), sheet{title: "Delete callback " + id + "?", company: company, crumbs: v.above(company, link{v.path(here...), "callback " + id})}, cause)
}
