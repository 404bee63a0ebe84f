package httpapi

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// What changes a callback's settings does so by If-Match only if they are as the caller knows them. Every answer that shows a callback names them.
func TestIfMatch(t *testing.T) {
	h := newHouse(t)
	registered := h.call("partner", "POST", "/companies/acme/config/callbacks", `{"callback_type":"payment_proof","destination":{"url":"https://partner.example/hook"},"signature":{"ed25519":true}}`).want(http.StatusCreated)
	at, tag := registered.header.Get("Location"), registered.header.Get("ETag")
	still := func(verb, path, body string) {
		t.Helper()
		if a := h.call("partner", verb, path, body).want(http.StatusOK); a.header.Get("ETag") != tag || !strings.HasPrefix(tag, `"`) {
			t.Errorf("%s %s: ETag %s, not %s", verb, path, a.header.Get("ETag"), tag)
		}
	}
	still("GET", at, "")
	still("PATCH", at, `{}`)
	still("POST", at+"/pause", "") // what is no setting changes no tag
	still("POST", at+"/resume", "")

	before := h.snapshot("acme")
	for verb, paths := range map[string][]string{"PATCH": {at}, "DELETE": {at}, "POST": {at + "/secret", at + "/signing-key"}} {
		for _, path := range paths {
			for _, other := range []string{`"1"`, "W/" + tag, strings.Trim(tag, `"`), "x", `"1", "2"`} {
				body := ""
				if verb == "PATCH" {
					body = `{"description":"mine"}`
				}
				if p := h.call("partner", verb, path, body, header{"If-Match": other}).wantProblem(http.StatusPreconditionFailed); !strings.Contains(p.Detail, "changed meanwhile") {
					t.Errorf("%s %s: %s", verb, path, p.Detail)
				}
			}
		}
	}
	h.wantUnchanged("acme", before)

	moves := func(verb, path, body, names string) {
		t.Helper()
		a := h.call("partner", verb, path, body, header{"If-Match": names}).want(http.StatusOK)
		if a.header.Get("ETag") == tag {
			t.Errorf("%s %s changed a setting, and the tag is still %s", verb, path, tag)
		}
		tag = a.header.Get("ETag")
		still("GET", at, "")
	}
	moves("PATCH", at, `{"description":"mine"}`, tag)
	moves("PATCH", at, `{"description":"mine, again"}`, `"1", `+tag)
	moves("PATCH", at, `{"description":"anybody's"}`, "*")
	moves("POST", at+"/secret", `{"overlap":"1h"}`, tag)
	moves("POST", at+"/signing-key", "", tag)
	h.call("partner", "DELETE", at, "", header{"If-Match": tag}).want(http.StatusNoContent)
	h.call("partner", "PATCH", at, `{}`, header{"If-Match": "*"}).wantProblem(http.StatusNotFound)
	h.call("partner", "DELETE", at, "", header{"If-Match": tag}).wantProblem(http.StatusNotFound)
}

// A callback type is replaced and deleted by If-Match only if it is as the caller knows it, and one that is not there is not made.
func TestIfMatchOfTypes(t *testing.T) {
	h := newHouse(t)
	const at = "/callback-types/order.placed"
	match := func(tag string) header { return header{"If-Match": tag} }
	refused := func(verb, body, tag string) {
		t.Helper()
		if p := h.call("operator", verb, at, body, match(tag)).wantProblem(http.StatusPreconditionFailed); !strings.Contains(p.Detail, "changed meanwhile") {
			t.Errorf("%s with %s: %s", verb, tag, p.Detail)
		}
	}
	refused("PUT", `{"description":"mine"}`, `"1"`)
	refused("PUT", `{"description":"mine"}`, "*")
	h.call("operator", "GET", at, "").wantProblem(http.StatusNotFound)

	first := h.call("operator", "PUT", at, `{"description": "first", "schema": { "type": "object" }}`).want(http.StatusCreated).header.Get("ETag")
	again := h.call("operator", "GET", at, "").want(http.StatusOK)
	if tag := again.header.Get("ETag"); tag != first || !strings.HasPrefix(tag, `"`) {
		t.Errorf("it was put as %s, and is shown as %s", first, tag)
	}
	if tag := h.call("operator", "PUT", at, string(again.body), match(first)).want(http.StatusOK).header.Get("ETag"); tag != first {
		t.Errorf("as it was, it is %s, not %s", tag, first)
	}
	second := h.call("operator", "PUT", at, `{"description":"second"}`, match(`"1", `+first)).want(http.StatusOK).header.Get("ETag")
	if second == first {
		t.Error("another description, and the same tag")
	}
	refused("PUT", `{"description":"third"}`, first)
	refused("PUT", `{"description":"third"}`, "W/"+second)
	if tag := h.call("operator", "GET", at, "").want(http.StatusOK).header.Get("ETag"); tag != second {
		t.Errorf("refused, it is %s, not %s", tag, second)
	}
	refused("DELETE", "", first)
	h.call("operator", "DELETE", at, "", match(second)).want(http.StatusNoContent)
	refused("PUT", `{"description":"back"}`, second)
	if tag := h.call("operator", "GET", "/callback-types/payment_proof", "").want(http.StatusOK).header.Get("ETag"); tag == "" || tag == second {
		t.Errorf("one that Ringback comes with: %q", tag)
	}
}

// A header If-Match is a list, in one line or several. One that names nothing matches nothing: whoever sends it means a condition. A * counts alone only.
func TestIfMatchIsAList(t *testing.T) {
	h := newHouse(t)
	registered := h.call("partner", "POST", "/companies/acme/config/callbacks", hook).want(http.StatusCreated)
	at, tag := registered.header.Get("Location"), registered.header.Get("ETag")
	patch := func(lines ...string) int {
		r := httptest.NewRequestWithContext(t.Context(), "PATCH", at, strings.NewReader(`{}`))
		r.Header["Authorization"], r.Header["Content-Type"], r.Header["If-Match"] = []string{"Bearer " + h.keys["partner"]}, []string{"application/json"}, lines
		return h.do(r).status
	}
	for _, tt := range []struct {
		lines []string
		want  int
	}{
		{nil, http.StatusOK},
		{[]string{tag}, http.StatusOK},
		{[]string{`"1"`, tag}, http.StatusOK},
		{[]string{"", tag}, http.StatusOK},
		{[]string{`"1" ,, ` + tag + ","}, http.StatusOK},
		{[]string{" * "}, http.StatusOK},
		{[]string{""}, http.StatusPreconditionFailed},
		{[]string{" ,"}, http.StatusPreconditionFailed},
		{[]string{"", `"1"`}, http.StatusPreconditionFailed},
		{[]string{`"1", *`}, http.StatusPreconditionFailed},
		{[]string{`"a,*,b"`}, http.StatusPreconditionFailed},
		{[]string{`"1"`, "W/" + tag}, http.StatusPreconditionFailed},
	} {
		if got := patch(tt.lines...); got != tt.want {
			t.Errorf("%q: %d, want %d", tt.lines, got, tt.want)
		}
	}
}
