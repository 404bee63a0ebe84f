package console

import (
	"net/http"
	"strconv"
	"time"

	"github.com/ringback/ringback/dispatcher/client"
)

// A shownSecret is a signing secret, this once.
type shownSecret struct {
	*client.Callback
	Here       string // the callback's page
	Test, Code string
	Until      time.Time // until then requests are signed with the secrets before, too; zero: there are none
}

// showSecret shows the secret of a callback that was just made, or that has a new one.
func (v *visit) showSecret(company string, cb *client.Callback, title string) error {
	here := []string{"companies", company, "callbacks", strconv.FormatInt(cb.CallbackID, 10)}
	page := shownSecret{Callback: cb, Here: v.path(here...), Test: v.path(append(here, "test")...), Code: v.path("verification")}
	if cb.SecretOverlapUntil.After(v.now) {
		page.Until = cb.SecretOverlapUntil
	}
	return v.show(sheet{template: "secret", title: title, company: company, crumbs: v.above(company, link{page.Here, "callback " + here[3]}), main: page})
}

// rotateSecretPage asks how long the secret before goes on signing, gives a callback a new one, and shows it.
func rotateSecretPage(v *visit) error {
	company, id, here := v.at()
	if v.r.Method == http.MethodPost {
		var cb client.Callback
		if err := v.post(&cb, map[string]string{"overlap": v.r.PostForm.Get("overlap")}, "companies", company, "config", "callbacks", id, "secret"); err != nil {
			return err
		}
		return v.showSecret(company, &cb, "Callback "+id+" has a new secret")
	}
	cb, err := v.callbackOf()
	if err != nil {
		return err
	}
	c := confirmation{
		Says: []string{"Callback " + id + " gets a new signing secret, which is shown once. So that you have time to bring it to every place that verifies signatures, requests are signed with the secret before, too, for a while."},
		Act:  v.act("Make a new secret", "primary", append(here, "secret")...), Back: v.path(here...), Facts: v.facts(company, cb), Legend: "The secret before goes on signing",
		Choices: []choice{{"overlap", "24h", "for a day", true}, {"overlap", "168h", "for a week", false}, {"overlap", "1h", "for an hour", false}, {"overlap", "0s", "no more: somebody else knows it", false}},
	}
	if cb.HeaderStyle == "github" { // it carries one signature
		c.Says = []string{"Callback " + id + " gets a new signing secret, which is shown once. Its requests carry one signature, as GitHub's do, so the secret before ends at once: what is sent until your service has the new one is refused, and comes again."}
		c.Choices = []choice{{"overlap", "0s", "no more", true}}
	}
	if cb.SecretOverlapUntil.After(v.now) {
		c.Says = append(c.Says, "At the moment a secret before signs, too, until "+cb.SecretOverlapUntil.UTC().Format(time.RFC3339)+".")
	}
	return v.show(sheet{template: "confirm", title: "A new secret for callback " + id + "?", company: company, crumbs: v.above(company, link{v.path(here...), "callback " + id}), main: c})
}
