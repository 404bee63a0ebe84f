package registry_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

const (
	ownSecret  = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" // 24 bytes
	nextSecret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	textSecret = "It's a Secret to Everybody, canary-text"
)

// signed is a registration in a header style and with a secret; empty ones are not given.
func signed(style, secret string) string {
	doc := map[string]any{"callback_type": "payment_proof", "destination": map[string]string{"url": "https://partner.example/"}}
	if style != "" {
		doc["header_style"] = style
	}
	if secret != "" {
		doc["secret"] = secret
	}
	text, _ := json.Marshal(doc)
	return string(text)
}

// TestOwnSecret: which secrets may be brought, and that they sign as they are and are shown nowhere.
func TestOwnSecret(t *testing.T) {
	h := newHouse(t)
	bare := strings.TrimPrefix(ownSecret, "whsec_")
	tests := []struct{ style, secret, kept, fault string }{
		{"", ownSecret, ownSecret, ""},
		{"", bare, ownSecret, ""},
		{"standard", ownSecret, ownSecret, ""},
		{"svix", bare, ownSecret, ""},
		{"svix", "whsec_" + strings.Repeat("A", 88), "", "holds 24 to 64 bytes, this one 66"},
		{"svix", "whsec_" + strings.Repeat("A", 28), "", "holds 24 to 64 bytes, this one 21"},
		{"standard", textSecret, "", "or that base64 alone"},
		{"standard", "whsk_" + bare, "", "asymmetric"},
		{"standard", "***", "", "must be the secret itself"},
		{"github", textSecret, textSecret, ""},
		{"stripe", textSecret, textSecret, ""},
		{"stripe", ownSecret, ownSecret, ""},
		{"stripe", bare, bare, ""}, // the text is the key
		{"stripe", "whsec_not base64 at all!", "whsec_not base64 at all!", ""},
		{"github", strings.Repeat("ñ", 16), strings.Repeat("ñ", 16), ""},
		{"github", strings.Repeat("x", 256), strings.Repeat("x", 256), ""},
		{"github", strings.Repeat("x", 15), "", "has 16 to 256 characters, this one 15"},
		{"github", strings.Repeat("x", 257), "", "has 16 to 256 characters, this one 257"},
		{"stripe", textSecret + "\n", "", "begins or ends in a space or line break"},
		{"stripe", "two lines of\n" + textSecret, "", "control character"},
		{"mailgun", ownSecret, "", "must be standard, svix, github or stripe"},
	}
	for _, tt := range tests {
		cb, err := h.Create(t.Context(), "acme", []byte(signed(tt.style, tt.secret)))
		if tt.fault != "" {
			if err == nil || !strings.Contains(err.Error(), tt.fault) || strings.Contains(err.Error(), tt.secret) && len(tt.secret) > 3 {
				t.Errorf("%s, %q: %v, want %q", tt.style, tt.secret, err, tt.fault)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s, %q: %v", tt.style, tt.secret, err)
			continue
		}
		stored := h.neighbour().get("acme", cb.ID)
		if live := stored.LiveSecrets(time.Now()); len(live) != 1 || live[0].Reveal() != tt.kept {
			t.Errorf("%s, %q signs otherwise", tt.style, tt.secret)
		}
		for name, shown := range map[string]any{"the creation": cb.WithSecret(), "a look": stored} {
			doc := document(t, shown)
			if _, there := doc["secret"]; there || strings.Contains(fmt.Sprint(doc), tt.kept) {
				t.Errorf("%s shows a secret that was brought", name)
			}
			style := map[string]any{"": nil, "standard": nil}
			if want, ok := style[tt.style]; ok && doc["header_style"] != want || !ok && doc["header_style"] != tt.style {
				t.Errorf("%s shows header_style %v of %q", name, doc["header_style"], tt.style)
			}
		}
	}
	for _, e := range h.trail("acme") {
		if !slices.Contains(e.Changes, registry.AuditChange{Field: "secret", New: registry.Masked}) {
			t.Errorf("the trail does not say that a secret was brought: %v", e)
		}
	}
	for _, text := range []string{h.log.String(), h.dump(), fmt.Sprint(h.trail("acme"))} {
		if strings.Contains(text, "canary-text") || strings.Contains(text, bare) {
			t.Error("a secret is in the log, in Redis or in the trail")
		}
	}
}

// TestAnotherSecret: a patch replaces all secrets at once, and a rotation lets those before sign for a while.
func TestAnotherSecret(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	cb := h.create("acme", signed("svix", ownSecret))
	live := func(at time.Time) (texts []string) {
		for _, s := range h.get("acme", cb.ID).LiveSecrets(at) {
			texts = append(texts, s.Reveal())
		}
		return texts
	}
	wants := func(what string, want ...string) {
		t.Helper()
		if got := live(time.Now()); !slices.Equal(got, want) {
			t.Errorf("%s: %d secrets sign, or others than those %d", what, len(got), len(want))
		}
	}
	for range 2 { // the second repeats the first, whose answer was lost
		rotated, err := h.RotateSecretTo(ctx, "acme", cb.ID, nextSecret, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if _, shown := document(t, rotated.WithSecret())["secret"]; shown {
			t.Error("a rotation shows the secret that it was given")
		}
		wants("a rotation", nextSecret, ownSecret)
	}
	if later := live(time.Now().Add(2 * time.Hour)); !slices.Equal(later, []string{nextSecret}) {
		t.Error("the secret before does not end")
	}
	if _, err := h.RotateSecretTo(ctx, "acme", cb.ID, ownSecret, time.Hour); err != nil {
		t.Fatal(err)
	}
	wants("back to the one before", ownSecret, nextSecret)
	if _, err := h.RotateSecretTo(ctx, "acme", cb.ID, textSecret, 0); err == nil || !strings.Contains(err.Error(), "body.secret cannot sign") {
		t.Errorf("svix takes any text: %v", err)
	}

	lines := len(h.trail("acme"))
	patch := func(text string) *registry.Callback {
		t.Helper()
		cb, err := h.Patch(ctx, "acme", cb.ID, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return cb
	}
	patch(`{"secret":"***"}`)
	patch(`{"secret":"` + ownSecret + `"}`)
	wants("a patch with the same secret", ownSecret, nextSecret)
	if len(h.trail("acme")) != lines {
		t.Error("a patch that changes nothing is told of")
	}
	changed := patch(`{"secret":"` + nextSecret + `"}`)
	wants("a patch", nextSecret)
	if _, shown := document(t, changed)["secret"]; shown {
		t.Error("a patch shows a secret")
	}
	if last := h.trail("acme")[lines]; !slices.Equal(last.Changes, []registry.AuditChange{{Field: "secret", Old: registry.Masked, New: registry.Masked}}) {
		t.Errorf("the trail says %+v", last.Changes)
	}
	if _, err := h.Patch(ctx, "acme", cb.ID, []byte(`{"secret":null}`)); err == nil || !strings.Contains(err.Error(), "body.secret cannot be taken away") {
		t.Errorf("a secret is taken away: %v", err)
	}
}

// TestOneSignature: where a request carries one signature, no two secrets sign.
func TestOneSignature(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	cb := h.create("acme", signed("github", textSecret))
	for _, own := range []string{"", ownSecret} {
		if _, err := h.RotateSecretTo(ctx, "acme", cb.ID, own, time.Hour); err == nil || !strings.Contains(err.Error(), `body.overlap must be "0s": header_style github carries one signature`) {
			t.Errorf("a rotation with an overlap: %v", err)
		}
	}
	if cb, err := h.RotateSecretTo(ctx, "acme", cb.ID, ownSecret, 0); err != nil || len(cb.LiveSecrets(time.Now())) != 1 {
		t.Errorf("a rotation without one: %v", err)
	}
	other := h.create("acme", signed("stripe", textSecret))
	if _, err := h.RotateSecret(ctx, "acme", other.ID, time.Hour); err != nil {
		t.Fatal(err)
	}
	_, err := h.Patch(ctx, "acme", other.ID, []byte(`{"header_style":"github"}`))
	if err == nil || !strings.Contains(err.Error(), "body.header_style (github) carries one signature, and an earlier secret signs until") {
		t.Errorf("github with two secrets: %v", err)
	}
	if _, err := h.RotateSecret(ctx, "acme", other.ID, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Patch(ctx, "acme", other.ID, []byte(`{"header_style":"github"}`)); err != nil {
		t.Errorf("github with one: %v", err)
	}
}

// TestAnotherStyle: a secret that is a text signs in the styles that take text. One of the form whsec_ signs in all.
func TestAnotherStyle(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	cb := h.create("acme", signed("stripe", textSecret))
	for _, style := range []string{`"svix"`, `"standard"`, "null"} {
		if _, err := h.Patch(ctx, "acme", cb.ID, []byte(`{"header_style":`+style+`}`)); err == nil || !strings.Contains(err.Error(), "give such a secret along with it") {
			t.Errorf("%s with a text for a secret: %v", style, err)
		}
	}
	if _, err := h.Patch(ctx, "acme", cb.ID, []byte(`{"header_style":null,"secret":"`+ownSecret+`"}`)); err != nil {
		t.Fatal(err)
	}
	for _, style := range payloads.HeaderStyles() {
		cb, err := h.Patch(ctx, "acme", cb.ID, []byte(`{"header_style":"`+string(style)+`"}`))
		if err != nil || len(cb.Secrets) != 1 || cb.Secrets[0].Secret.Reveal() != ownSecret {
			t.Errorf("%s: %v", style, err)
		}
	}
	for _, name := range []string{"svix-id", "Svix-Timestamp", "SVIX_SIGNATURE", "X-Hub-Signature-256", "x-github-event", "X-GitHub-Delivery", "stripe-signature"} {
		_, err := h.Create(ctx, "acme", []byte(`{"callback_type":"*","destination":{"url":"https://x.example"},"headers":{"`+name+`":"canary"}}`))
		if err == nil || !strings.Contains(err.Error(), "body.headers."+name+" may not be set: it is where a signature travels") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestStylesAndOlderProcesses: while a process lives that would sign otherwise, no callback gets a style; a secret alone, which it knows, is taken.
func TestStylesAndOlderProcesses(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	styled := h.create("acme", signed("svix", ownSecret))
	end := h.beside(5)
	defer func() { _ = end(ctx) }()
	later := h.neighbour()
	before := h.dump()
	if _, err := later.Create(ctx, "acme", []byte(signed("svix", ownSecret))); !isOld(err) || !strings.Contains(err.Error(), "header_style") {
		t.Errorf("a style: %v", err)
	}
	if h.dump() != before {
		t.Error("what was refused is written")
	}
	if _, err := later.Patch(ctx, "acme", styled.ID, []byte(`{"description":"d"}`)); err != nil {
		t.Errorf("a patch that does not touch the style: %v", err)
	}
	if _, err := later.Patch(ctx, "acme", styled.ID, []byte(`{"header_style":"stripe"}`)); err != nil {
		t.Errorf("another style, of a callback that such a process does not open: %v", err)
	}
	for _, style := range []string{"", "standard"} {
		if _, err := later.Create(ctx, "acme", []byte(signed(style, ownSecret))); err != nil {
			t.Errorf("a secret alone: %v", err)
		}
	}
	if _, err := later.Patch(ctx, "acme", styled.ID, []byte(`{"header_style":null}`)); err != nil {
		t.Errorf("back to standard: %v", err)
	}
}
