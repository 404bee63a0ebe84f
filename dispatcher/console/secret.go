package console

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/ringback/ringback/dispatcher/client"
)

// A shownSecret is a signing secret, this once.
type shownSecret struct {
	*client.Callback
	Here       string    // the callback's page
	Test, Code string    // no code: not here
	Until      time.Time // until then requests are signed with the secrets before, too; zero: there are none
}

// showSecret shows the secret of a callback that was just made, or that has a new one.
func (v *visit) showSecret(company string, cb *client.Callback, title string) error {
	here := []string{"companies", company, "callbacks", strconv.FormatInt(cb.CallbackID, 10)}
	page := shownSecret{Callback: cb, Here: v.path(here...), Test: v.path(append(here, "test")...)}
	if v.partners {
		page.Code = v.path("verification")
	}
	if cb.SecretOverlapUntil.After(v.now) {
		page.Until = cb.SecretOverlapUntil
	}
	return v.show(sheet{template: "secret", title: title, company: company, crumbs: v.above(company, link{page.Here, "callback " + here[3]}), main: page})
}

// ownSecret is the field of a secret that the receiver has already.
var ownSecret = setting{name: "secret", id: "secret-own", label: "A secret of your own (optional)", kind: ofSecret, path: []string{"secret"}, hint: "One that your receiver has already. It is on no page again. Empty: one is made, and shown once."}

// rotateSecretPage asks for a secret and how long the one before goes on signing, gives the callback the one, or a new one, and shows that.
func rotateSecretPage(v *visit) error {
	company, id, here := v.at()
	var cause error
	told := false
	if v.r.Method == http.MethodPost {
		body := map[string]string{"overlap": v.r.PostForm.Get("overlap")}
		if own := sentText(v.r.PostForm.Get("secret")); own != "" {
			body["secret"] = own
		}
		var made client.Callback
		if cause = v.forgotten(ownSecret); cause != nil {
			told = true
		} else {
			cause = v.change(http.MethodPost, v.formVersion(), &made, body, "companies", company, "config", "callbacks", id, "secret")
		}
		switch {
		case cause == nil && body["secret"] != "":
			return v.seen("Callback "+id+" has the secret that you gave.", here...)
		case cause == nil:
			return v.showSecret(company, &made, "Callback "+id+" has a new secret")
		}
	}
	cb, version, err := v.versionOf()
	if err != nil {
		return err
	}
	if overtaken(cause) {
		cause = decideAgain(cb, "Nothing was done. It may have a new secret already, which yours would replace: decide again.")
	}
	own := ownSecret.field("")
	if refused, ok := errors.AsType[*client.APIError](cause); ok {
		own.Faults = marked([]setting{ownSecret}, refused.Errors, "")[0]
	}
	own = v.retyped(ownSecret, own, told)
	c := confirmation{
		Says: []string{"Callback " + id + " gets a new signing secret, which is shown once. So that you have time to bring it to every place that verifies signatures, requests are signed with the secret before, too, for a while."},
		Act:  v.act("Make a new secret", "primary", append(here, "secret")...), Back: v.path(here...), Facts: v.facts(company, cb), Legend: "The secret before goes on signing", Fields: []field{own},
		Choices: []choice{{"overlap", "24h", "for a day", true}, {"overlap", "168h", "for a week", false}, {"overlap", "1h", "for an hour", false}, {"overlap", "0s", "no more: somebody else knows it", false}},
	}
	if cb.HeaderStyle == "github" { // it carries one signature
		c.Says = []string{"Callback " + id + " gets a new signing secret, which is shown once. Its requests carry one signature, as GitHub's do, so the secret before ends at once: what is sent until your service has the new one is refused, and comes again."}
		c.Choices = []choice{{"overlap", "0s", "no more", true}}
	}
	c.Choices = v.chosen(c.Choices)
	if cb.SecretOverlapUntil.After(v.now) {
		c.Says = append(c.Says, "At the moment a secret before signs, too, until "+cb.SecretOverlapUntil.UTC().Format(time.RFC3339)+".")
	}
	return v.again(c.asVersion(version), sheet{title: "A new secret for callback " + id + "?", company: company, crumbs: v.above(company, link{v.path(here...), "callback " + id})}, cause)
}

// keyTimes are the fields of how a new key takes the place of the one before.
var keyTimes = []setting{
	{name: "announce", id: "key-announce", label: "The new key is published before it signs", kind: ofOne, path: []string{"announce"}, options: []option{
		{"24h", "for a day"},
		{"168h", "for a week"},
		{"6m", "for six minutes, the shortest that there is"},
	}},
	{name: "overlap", id: "key-overlap", label: "Then the key before signs along", kind: ofOne, path: []string{"overlap"}, options: []option{
		{"24h", "for a day"},
		{"168h", "for a week"},
		{"1h", "for an hour"},
		{"0s", "no more"},
	}},
}

// rotateKeyPage asks how a new signing key takes the place of the one before, and has it announced.
func rotateKeyPage(v *visit) error {
	company, id, here := v.at()
	body := map[string]string{"announce": "24h", "overlap": "24h"}
	var cause error
	if v.r.Method == http.MethodPost {
		for _, s := range keyTimes {
			body[s.name] = sentText(v.r.PostForm.Get(s.name))
		}
		var made client.Callback
		if cause = v.change(http.MethodPost, v.formVersion(), &made, body, "companies", company, "config", "callbacks", id, "signing-key"); cause == nil {
			said := "Callback " + id + " has a new key."
			if s := made.Signature; s != nil && len(s.Keys) > 0 {
				said = "Callback " + id + " has a new key, which signs from " + s.Keys[0].SignsFrom.UTC().Format(time.RFC3339) + " on."
			}
			return v.seen(said, here...)
		}
	}
	cb, version, err := v.versionOf()
	if err != nil {
		return err
	}
	if overtaken(cause) {
		cause = decideAgain(cb, "Nothing was done. It may have a new key already: decide again.")
	}
	c := confirmation{
		Says: []string{
			"Callback " + id + " gets a new key pair. Its public half is in the company’s key set at once, and signs nothing yet, so that nobody meets a signature by a key that is unknown.",
			"Then it signs along with the key before, and then that is retired. There is one new key at a time.",
		},
		Act: v.act("Announce a new key", "primary", append(here, "signing-key")...), Back: v.path(here...), Facts: v.facts(company, cb),
	}
	var faults []client.FieldErr
	if refused, ok := errors.AsType[*client.APIError](cause); ok {
		faults = refused.Errors
	}
	marks := marked(keyTimes, faults, "")
	for i, s := range keyTimes {
		f := s.field(body[s.name])
		f.Faults = marks[i]
		c.Fields = append(c.Fields, f)
	}
	return v.again(c.asVersion(version), sheet{title: "A new key for callback " + id + "?", company: company, crumbs: v.above(company, link{v.path(here...), "callback " + id})}, cause)
}
