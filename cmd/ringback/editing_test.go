package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	pagetool "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// TestFormsThatComeBackInABrowser sends forms that come back, with a real browser: with script and without.
func TestFormsThatComeBackInABrowser(t *testing.T) {
	b, s := openBrowser(t), newScene(t)
	for name, axe := range map[string]string{"with script": axeCore(t), "without script": ""} {
		open := func(t *testing.T) *tab {
			tb := b.open(t, s.server)
			tell(tb, pagetool.SetBypassCSP, pagetool.SetBypassCSPParams{Enabled: true}) // for axe
			tell(tb, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: axe == ""})
			return tb
		}
		t.Run("two at a callback, "+name, func(t *testing.T) {
			mine, theirs := open(t), open(t)
			mine.comeIn(s)
			theirs.logIn("dev")
			s.editTogether(t, mine, theirs, axe)
		})
		t.Run("a secret, "+name, func(t *testing.T) {
			tb := open(t)
			tb.comeIn(s)
			tb.typesASecretAgain(s, axe)
		})
	}
}

// editTogether has a partner and an operator edit the same callback at the same time.
func (s *scene) editTogether(t *testing.T, mine, theirs *tab, axe string) {
	t.Helper()
	of := fmt.Sprintf("/companies/acme/callbacks/%d", s.good)
	edit := func(url string) {
		t.Helper()
		theirs.visit("/console" + of + "/edit")
		theirs.refill("e-url", s.partner+url)
		theirs.refill("e-description", "theirs, "+url)
		theirs.press("Save")
		theirs.wants(".note", "is changed")
	}
	mine.visit("/portal" + of + "/edit")
	mine.refill("e-description", "mine")
	edit("/well?first")
	if status := mine.press("Save"); status != http.StatusPreconditionFailed {
		t.Errorf("the form that was overtaken: %d", status)
	}
	mine.wants(".note", "Somebody changed this callback meanwhile", "Nothing is saved yet", "URL", "Description")
	mine.wants("#e-description-changed", "It is now theirs, /well?first.")
	mine.wants("#e-url-changed", "is now what stands here")
	mine.wantsFocus("", "alert")
	if typed, theirs := mine.value("e-description"), mine.value("e-url"); typed != "mine" || !strings.HasSuffix(theirs, "/well?first") {
		t.Errorf("the form has %q and %q", typed, theirs)
	}
	mine.comesBack("a form that was overtaken", axe)

	edit("/well?second")
	mine.press("Save")
	mine.wants("#e-url-changed", "is now what stands here") // somebody was faster once more
	mine.press("Save")
	mine.wants(".note", "is changed")
	var cb struct {
		Description string
		Destination struct{ URL string }
	}
	s.get(t, fmt.Sprintf("/companies/acme/config/callbacks/%d", s.good), &cb)
	if cb.Description != "mine" || !strings.HasSuffix(cb.Destination.URL, "/well?second") {
		t.Errorf("the callback is %+v", cb)
	}

	mine.visit("/portal" + of + "/edit")
	mine.refill("e-description", "not needed any more")
	edit("/well")
	mine.press("Save")
	mine.press("begin anew with what is there now")
	if now := mine.value("e-description"); now != "theirs, /well" {
		t.Errorf("what is there now is %q", now)
	}
	mine.wantsPeace()
	theirs.wantsPeace()
}

// typesASecretAgain is a partner who registers a callback with a secret of his own, and has to mend something else first.
func (tb *tab) typesASecretAgain(s *scene, axe string) {
	tb.t.Helper()
	const own = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	tb.visit("/portal/companies/acme/new")
	tb.fill("e-type", "payment_proof")
	tb.fill("e-url", s.partner+"/well")
	for _, part := range []string{"More", "Signature"} {
		tb.must(chromedp.Do(tb.ctx, chromedp.Click(chromedp.Search(fmt.Sprintf(`//summary[normalize-space()=%q]`, part)))))
	}
	tb.fill("e-timeout", "soon")
	tb.fill("e-secret", own)
	tb.press("Register")
	tb.wants("#e-secret-fault", "Type it again")
	tb.wantsFocus("e-timeout", "")
	if left := tb.value("e-secret"); left != "" || strings.Contains(tb.text("html"), own) {
		tb.t.Errorf("the page has the secret: %q", left)
	}
	tb.comesBack("a form that has to be mended", axe)

	tb.refill("e-timeout", "20s")
	tb.press("Register")
	tb.wants("#e-secret-fault", "Is empty, and a secret was typed here before")
	tb.wantsFocus("e-secret", "")
	tb.comesBack("a form that lacks a secret", axe)
	tb.fill("e-secret", own)
	tb.press("Register")
	tb.wants(".note", "signed with the secret that you gave")
	tb.wantsPeace()
}

// comesBack checks that everybody can use the page that a form led to, on every screen. Without axe-core nothing is checked: it takes script.
func (tb *tab) comesBack(name, axe string) {
	tb.t.Helper()
	if axe == "" {
		return
	}
	tb.accessible(name, axe)
	tb.fitsHere(name)
	tb.size(1280, 900)
}

// value is what a field holds.
func (tb *tab) value(id string) string {
	tb.t.Helper()
	return find[string](tb, fmt.Sprintf(`document.getElementById(%q).value`, id))
}

// wantsFocus waits until something has the focus, by its id and its role: a page has it once it is drawn.
func (tb *tab) wantsFocus(id, role string) {
	tb.t.Helper()
	for deadline := time.After(patience); ; {
		at := find[string](tb, `document.activeElement.id + "|" + (document.activeElement.getAttribute("role") ?? "")`)
		if at == id+"|"+role {
			return
		}
		select {
		case <-deadline:
			tb.t.Fatalf("%s has the focus, not %s|%s", at, id, role)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
